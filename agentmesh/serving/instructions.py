"""How a mesh asks hosts to use it: the most important first, because hosts cut it."""

from __future__ import annotations

from typing import Final

from agentmesh.mesh import Mesh
from agentmesh.toolbox.results import one_line

MAX_INSTRUCTIONS: Final = 2_048
"""Claude Code cuts what is longer."""
_ABOUT: Final = 120


def mesh_instructions(mesh: Mesh, agents: tuple[str, ...]) -> str:
    """At most 2,048 characters; agents that do not fit are counted."""
    text = (
        f"{mesh.name} is a mesh of agents. Ask one of them with ask_<agent>; give the whole mesh a task with "
        "start_dialogue.\n"
        'When a result says state "running", the work goes on without you: call wait_dialogue with its dialogue id, again '
        'until the state is "ended". Nothing is lost when a call is cut off or times out: call wait_dialogue without an id '
        "to see what runs and what ended last, then with the id. stop_dialogue ends a dialogue early.\n"
        'A note "Only a part" means that a limit was reached or the dialogue was stopped: the answer is incomplete.\n'
        "Everything said is signed and recorded. verify_record tells whether the record is intact and, which is another "
        "matter, whether it is complete; it does not tell whether an answer is true. dialogue://{id} reads a dialogue, "
        "dialogue://{id}/transcript is the file for an auditor.\n"
    )
    lines = ["Agents:"]
    left = MAX_INSTRUCTIONS - len(text) - len(lines[0]) - 40
    for at, name in enumerate(agents):
        line = f"- {name}: {one_line(mesh.agents[name].about, limit=_ABOUT)}"
        left -= len(line) + 1
        if left < 0:
            lines.append(f"- and {len(agents) - at} more")
            break
        lines.append(line)
    return text + "\n".join(lines)
