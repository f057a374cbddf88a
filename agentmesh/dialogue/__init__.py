"""Dialogue patterns: who speaks when, and what each is asked. One file a pattern."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from agentmesh.dialogue.chain import chain
from agentmesh.dialogue.orchestrator import orchestrator
from agentmesh.dialogue.round_robin import round_robin
from agentmesh.dialogue.stage import Stage

Pattern: TypeAlias = Callable[[Stage, str], Awaitable[str]]
"""Takes the stage and the task, returns the dialogue's answer."""

PATTERNS: Mapping[str, Pattern] = {
    "chain": chain,
    "round_robin": round_robin,
    "orchestrator": orchestrator,
}

__all__ = ["PATTERNS", "Pattern", "Stage"]
