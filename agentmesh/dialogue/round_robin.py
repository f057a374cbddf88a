"""Round robin: everybody speaks in turn, for a number of rounds; the last words are the answer."""

from __future__ import annotations

from agentmesh.dialogue.stage import Stage
from agentmesh.prompt import Said


async def round_robin(stage: Stage, task: str) -> str:
    """Let every agent speak `rounds` times. Returns what was said last."""
    order = stage.order()
    previous: Said | None = None
    for _ in range(stage.mesh.dialogue.rounds):
        for name in order:
            others = tuple(other for other in order if other != name)
            previous = await stage.speak(name, task=task, previous=previous, to=others or stage.everyone)
    return previous.text if previous else ""
