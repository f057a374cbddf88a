"""Chain: each agent works on what the one before it said; the last one's words are the answer."""

from __future__ import annotations

from agentmesh.dialogue.stage import Stage
from agentmesh.prompt import Said


async def chain(stage: Stage, task: str) -> str:
    """Run the agents once, in order. Returns what the last one said."""
    order = stage.order()
    previous: Said | None = None
    for name, following in zip(order, (*order[1:], None), strict=True):
        to = (following,) if following else stage.everyone
        previous = await stage.speak(name, task=task, previous=previous, to=to)
    return previous.text if previous else ""
