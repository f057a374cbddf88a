"""What a running dialogue tells whoever watches it.

A `Draft` is text still being generated: no one but a screen may use it. Every other event is told only
after the ledger has acknowledged the message it speaks of, so what is shown as said can be checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from agentmesh_ledger import JsonValue

EndReason: TypeAlias = Literal[
    "done",
    "limit_turns",
    "limit_tokens",
    "limit_seconds",
    "limit_tool_calls",
    "limit_identical_calls",
    "limit_context",
    "cancelled",
    "failed",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The dialogue exists in the ledger."""

    dialogue: str
    mesh: str
    task: str
    ledger: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStarted:
    """An agent begins to think; `text` of the drafts that follow is its own."""

    agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A piece of text as the model makes it. It may yet be thrown away."""

    agent: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageAdded:
    """An agent (or the person who gave the task) said something, and it is in the ledger at `index`."""

    index: int
    kind: Literal["task", "say"]
    agent: str
    to: tuple[str, ...]
    text: str
    tokens: int = 0
    tokens_per_second: float = 0.0
    facts: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallAdded:
    """An agent called a tool; recorded before the call went out. `tokens` is what its model made for it."""

    index: int
    agent: str
    server: str
    tool: str
    arguments: Mapping[str, JsonValue]
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResultAdded:
    """What the tool answered."""

    index: int
    agent: str
    server: str
    tool: str
    text: str
    is_error: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something a person should know that is no part of the record: a reconnect, a missing tool."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The dialogue is closed in the ledger, in the log `origin`. `messages` counts every ledger entry of the dialogue."""

    dialogue: str
    ledger: str
    origin: str
    reason: EndReason
    detail: str
    answer: str
    messages: int
    tool_calls: int
    tokens: int
    seconds: float


Event: TypeAlias = (
    Opened | TurnStarted | Draft | MessageAdded | ToolCallAdded | ToolResultAdded | Notice | Ended
)
Listener: TypeAlias = Callable[[Event], None]
