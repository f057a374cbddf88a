"""Orchestrator: one agent leads and asks its peers, each of which is a tool `ask_<agent>` served to it over MCP.

With `plan = "sentences"` code does the planning that a small model cannot: the task is put to the lead one sentence
at a time, each as a question of its own, and its answers, joined, are the dialogue's.
"""

from __future__ import annotations

import re

from agentmesh.dialogue.stage import Stage

# A sentence ends at . ? or ! before white space and a capital, digit, quote or bracket, so that "3.5 km" and "e.g. this"
# stay whole; titles before names are the common exception.
_END = re.compile(
    r"(?<=[.?!])(?<!\bMr\.)(?<!\bMs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bMrs\.)\s+(?=[\"'(\[]?[A-Z0-9])"
)


def sentences(task: str) -> tuple[str, ...]:
    """The sentences of a task, in order; lines are sentences of their own."""
    found = [part.strip() for line in task.splitlines() for part in _END.split(line)]
    return tuple(part for part in found if part)


async def orchestrator(stage: Stage, task: str) -> str:
    """Let the lead answer the task, or each of its sentences in turn. Returns the answers, joined."""
    lead = stage.mesh.dialogue.lead
    assert lead is not None, "the mesh file's checks demand a lead for this pattern"
    planned = stage.mesh.dialogue.plan == "sentences"
    steps = sentences(task) if planned else (task,)
    answers: list[str] = []
    for step in steps:
        said = await stage.speak(lead, task=step, previous=None, to=stage.everyone, alone=planned)
        answers.append(said.text)
    return " ".join(answers)
