"""A dialogue ends: budgets of turns, tokens, tool calls and identical calls, each on by default.

Loops and silent endings are what users of agent runtimes complain of most, so every limit ends a dialogue with a
reason a machine can read. Seconds are kept by the runtime's cancel scope; the rest is counted here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from agentmesh.errors import RunError
from agentmesh.mesh import Limits
from agentmesh_ledger import JsonValue
from agentmesh_models import Usage

LimitReason: TypeAlias = Literal[
    "limit_turns",
    "limit_tokens",
    "limit_seconds",
    "limit_tool_calls",
    "limit_identical_calls",
    "limit_context",
]


class LimitReached(RunError):
    """A budget is spent: the dialogue closes with this reason and keeps what was said so far."""

    def __init__(self, reason: LimitReason, message: str) -> None:
        super().__init__(reason, message, hint="raise it under [dialogue.limits] in the mesh file")
        self.limit: LimitReason = reason


@dataclass(slots=True)
class Budget:
    """What one dialogue has spent. It is mutable, belongs to one dialogue, and remembers the first limit reached.

    A limit may be reached inside a peer's turn, whose exception an MCP server turns into a tool error; `check`
    raises it again once control is back with the dialogue. Turns may run side by side: what a reply has been granted
    counts as spent until it is there, so that no two replies are granted the same tokens.
    """

    limits: Limits
    turns: int = 0
    tokens: int = 0
    evaluated: int = 0
    reused: int = 0
    decode_seconds: float = 0.0
    tool_calls: int = 0
    reached: LimitReached | None = None
    _granted: int = 0
    _seen: Counter[str] = field(default_factory=Counter)

    def check(self) -> None:
        """Raise the limit that was reached earlier, if one was."""
        if self.reached is not None:
            raise self.reached

    def start_turn(self, agent: str) -> int:
        """Count a turn, and see that some tokens are left for it. Returns its number, from 1."""
        self.check()
        if self.turns >= self.limits.turns:
            self._end(
                "limit_turns", f"the dialogue's {self.limits.turns} turns are used up; {agent} would be next"
            )
        if self.tokens >= self.limits.tokens:
            self._end("limit_tokens", f"the dialogue's {self.limits.tokens} tokens are used up")
        self.turns += 1
        return self.turns

    @contextmanager
    def grant(self, wanted: int) -> Iterator[int]:
        """How many tokens a reply may have: `wanted`, or what is left of the dialogue's budget.

        They are held for it until the block is left.
        """
        self.check()
        left = self.limits.tokens - self.tokens - self._granted
        if left <= 0:
            self._end("limit_tokens", f"the dialogue's {self.limits.tokens} tokens are used up")
        granted = min(wanted, left)
        self._granted += granted
        try:
            yield granted
        finally:
            self._granted -= granted

    def spend(self, usage: Usage) -> None:
        """Count what a reply took."""
        self.tokens += usage.output_tokens
        # The last token of a reply is chosen and never evaluated.
        self.evaluated += usage.prompt_tokens - usage.reused_tokens + max(0, usage.output_tokens - 1)
        self.reused += usage.reused_tokens
        self.decode_seconds += usage.decode_seconds

    def context_full(self, agent: str, why: object) -> LimitReached:
        """The end for want of room in a model's context, to be raised."""
        self.reached = LimitReached("limit_context", f"{agent}: {why}")
        return self.reached

    def start_call(self, agent: str, tool: str, arguments: Mapping[str, JsonValue]) -> None:
        """Count a tool call, and refuse one that was made too often with the same arguments."""
        self.check()
        if self.tool_calls >= self.limits.tool_calls:
            self._end("limit_tool_calls", f"the dialogue's {self.limits.tool_calls} tool calls are used up")
        key = json.dumps([agent, tool, arguments], sort_keys=True)
        if self._seen[key] >= self.limits.identical_calls:
            self._end(
                "limit_identical_calls",
                f"{agent} called {tool} with the same arguments {self.limits.identical_calls} times",
            )
        self._seen[key] += 1
        self.tool_calls += 1

    def _end(self, reason: LimitReason, message: str) -> None:
        self.reached = LimitReached(reason, message)
        raise self.reached
