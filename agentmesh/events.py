"""What a running dialogue tells whoever watches it.

A `Draft` is text still being generated: no one but a screen may use it. Every other event is told only
after the ledger has acknowledged the message it speaks of, so what is shown as said can be checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from agentmesh.mesh.spec import Overflow
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
    """An agent begins to think; `text` of the drafts that follow is its own.

    `turn` counts the dialogue's turns from 1 and is in all that the turn brings: turns may run side by side, even of
    one agent.
    """

    agent: str
    turn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompted:
    """What the model of `agent` is about to read: roles and contents. Shown to who asks for it; no part of the record."""

    agent: str
    messages: tuple[tuple[str, str], ...]
    turn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A piece of text as the model makes it. It may yet be thrown away.

    `reasoning`: what the model thinks before it answers, which no other agent will read.
    """

    agent: str
    text: str
    reasoning: bool = False
    turn: int = 0


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
    turn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallAdded:
    """An agent called a tool; recorded before the call went out. `tokens` is what its model made for it."""

    index: int
    agent: str
    server: str
    tool: str
    arguments: Mapping[str, JsonValue]
    tokens: int = 0
    turn: int = 0


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
    turn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """From here on the model of `agent` is not shown the messages at the ledger places `dropped`.

    `needed` and `available` are tokens, None where the engine did not say. `summary` stands in the dropped messages'
    place; where the rule asked for one and there is none, `failed` says why.
    """

    index: int
    agent: str
    rule: Overflow
    dropped: tuple[int, ...]
    needed: int | None
    available: int | None
    summary: str = ""
    failed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something a person should know that is no part of the record: a reconnect, a missing tool.

    `unseen`: because of it witnesses or a chain may not see the record to its end.
    """

    text: str
    unseen: bool = False


AnchorState: TypeAlias = Literal["pending", "waiting", "blocked", "recorded"]
"""Sent, and not deep enough yet; held up by a node or a fee, for a while; by what only a person can mend; in the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessed:
    """Witnesses have cosigned the log's first `size` entries, or not all of them did.

    `needed` is what the policy asks for, in words, `names` whose cosignatures hold; `missing` are the others, each with
    the reason.
    """

    size: int
    met: bool
    needed: str
    names: tuple[str, ...]
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchored:
    """How far the anchor of the log's first `size` entries is: `depth` counts the blocks on its own, that one included.

    `message` says it in words, and why where it is held up; then there may be no size yet.
    """

    state: AnchorState
    size: int | None = None
    tx: str | None = None
    block: int | None = None
    depth: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The dialogue is closed in the ledger, in the log `origin`. `messages` counts every ledger entry of the dialogue.

    `tokens` are those the models made, in `decode_seconds` summed over the replies: replies made side by side count
    each their own time. `evaluated_tokens` went through a model, prompts and replies; `reused_tokens` of the prompts
    did not have to, because they were still in memory.
    """

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
    evaluated_tokens: int = 0
    reused_tokens: int = 0
    decode_seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens made in a second of decoding; 0 where no model decoded."""
        return self.tokens / self.decode_seconds if self.decode_seconds > 0 else 0.0


Event: TypeAlias = (
    Opened
    | TurnStarted
    | Prompted
    | Draft
    | MessageAdded
    | ToolCallAdded
    | ToolResultAdded
    | Compacted
    | Notice
    | Witnessed
    | Anchored
    | Ended
)
Listener: TypeAlias = Callable[[Event], None]
