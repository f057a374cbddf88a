"""A dialogue ends: budgets of turns, tokens, tool calls and identical calls, each on by default.

Loops and silent endings are what users of agent runtimes complain of most, so every limit ends a dialogue with a
reason a machine can read. Seconds are kept by the runtime's cancel scope; the rest is counted here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from agentmesh.errors import RunError
from agentmesh.mesh import Limits
from agentmesh_ledger import JsonValue

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
    raises it again once control is back with the dialogue.
    """

    limits: Limits
    turns: int = 0
    tokens: int = 0
    tool_calls: int = 0
    reached: LimitReached | None = None
    _seen: Counter[str] = field(default_factory=Counter)

    def check(self) -> None:
        """Raise the limit that was reached earlier, if one was."""
        if self.reached is not None:
            raise self.reached

    def start_turn(self, agent: str) -> None:
        """Count a turn, and see that some tokens are left for it."""
        self.check()
        if self.turns >= self.limits.turns:
            self._end(
                "limit_turns", f"the dialogue's {self.limits.turns} turns are used up; {agent} would be next"
            )
        if self.tokens >= self.limits.tokens:
            self._end("limit_tokens", f"the dialogue's {self.limits.tokens} tokens are used up")
        self.turns += 1

    def tokens_for(self, wanted: int) -> int:
        """How many tokens a reply may have: `wanted`, or what is left of the dialogue's budget."""
        left = self.limits.tokens - self.tokens
        if left <= 0:
            self._end("limit_tokens", f"the dialogue's {self.limits.tokens} tokens are used up")
        return min(wanted, left)

    def spend_tokens(self, count: int) -> None:
        """Count tokens that a model made."""
        self.tokens += count

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
