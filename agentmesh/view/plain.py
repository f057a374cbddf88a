"""A dialogue as it runs, in plain lines: for logs, pipes and screens that cannot be redrawn."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from agentmesh.events import (
    Anchored,
    Compacted,
    Draft,
    Ended,
    Event,
    MessageAdded,
    Notice,
    Opened,
    Prompted,
    ToolCallAdded,
    ToolResultAdded,
    TurnStarted,
    Witnessed,
)
from agentmesh.view.text import arguments_text, clean, count, hanging, one_line

_INDENT = 4
_RESULT_WIDTH = 400
_NAME_WIDTH = 80
_HASH_WIDTH = 66


def plain_line(event: Event) -> str | None:
    """The line, or lines, of an event; None where it has none."""
    match event:
        case Opened():
            return (
                f"dialogue {clean(event.dialogue)} of {clean(event.mesh)}, recorded in {clean(event.ledger)}"
            )
        case MessageAdded():
            return f"[{event.index}] {speaker(event)}: {hanging(event.text, _INDENT)}{speed(event)}"
        case ToolCallAdded():
            call = f"{clean(event.server)}.{clean(event.tool)}({arguments_text(event.arguments)})"
            return f"[{event.index}] {clean(event.agent)} calls {call}"
        case ToolResultAdded():
            how = "fails" if event.is_error else "answers"
            tool = f"{clean(event.server)}.{clean(event.tool)}"
            return f"[{event.index}] {tool} {how} in {event.seconds:.2f} s: {one_line(event.text, _RESULT_WIDTH)}"
        case Compacted():
            return f"[{event.index}] {compaction(event)}"
        case Notice():
            return _note(event.text)
        case Witnessed():
            return witnessed(event)
        case Anchored():
            return anchored(event)
        case Ended() | TurnStarted() | Prompted() | Draft():
            return None


def _note(text: str) -> str:
    return f"note: {hanging(text, _INDENT)}"


def prompt_lines(event: Prompted) -> str:
    """What an agent reads, each message led by its role."""
    read = [f"{clean(role)}: {clean(content)}".replace("\n", "\n    ") for role, content in event.messages]
    return "\n  ".join([f"{clean(event.agent)} reads", *read])


def speaker(event: MessageAdded) -> str:
    """`front -> host`, or `host -> front (task)`."""
    to = f" -> {', '.join(clean(name) for name in event.to)}" if event.to else ""
    return f"{clean(event.agent)}{to}{' (task)' if event.kind == 'task' else ''}"


def speed(event: MessageAdded) -> str:
    """`  (12 tokens, 45/s)`; empty where no model made the message."""
    if not event.tokens:
        return ""
    rate = f", {event.tokens_per_second:.0f}/s" if event.tokens_per_second else ""
    return f"  ({event.tokens} tokens{rate})"


def compaction(event: Compacted) -> str:
    """What a model is no longer shown, and why, on one line."""
    size = "is too long"
    if event.needed and event.available:
        size = f"needs {event.needed:,} tokens of {event.available:,}"
    gone = count(len(event.dropped), "earlier turn")
    line = f"{clean(event.agent)}'s prompt {size}: its model is no longer shown {gone}"
    if event.summary:
        return f"{line}, but a summary: {one_line(event.summary, _RESULT_WIDTH)}"
    return f"{line} (no summary: {one_line(event.failed, _RESULT_WIDTH)})" if event.failed else line


def witnessed(event: Witnessed) -> str:
    """Who has cosigned, on one line, and who has not, a line each."""
    by = ", ".join(one_line(name, _NAME_WIDTH) for name in event.names) or "nobody"
    what = f"{count(event.size, 'entry', 'entries')} cosigned by {by}"
    needed = one_line(event.needed, _NAME_WIDTH)
    head = f"witnessed: {what}" if event.met else f"policy not met ({needed} needed): {what}"
    silent = [
        f"\n    not {one_line(name, _NAME_WIDTH)}: {one_line(why, _RESULT_WIDTH)}"
        for name, why in event.missing.items()
    ]
    return "".join([head, *silent])


def anchored(event: Anchored) -> str:
    """How far an anchor is, on one line."""
    if event.state in ("waiting", "blocked"):
        held = "waits" if event.state == "waiting" else "is blocked"
        return f"anchor {held}: {one_line(event.message, _RESULT_WIDTH)}"
    what = count(event.size or 0, "entry", "entries")
    tx = f", transaction {one_line(event.tx, _HASH_WIDTH)}" if event.tx else ""
    if event.block is None:
        return f"anchor sent: {what}{tx}"
    state = "anchored" if event.state == "recorded" else "anchor pending"
    return f"{state}: {what}, block {event.block}, {count(event.depth, 'block')} deep{tx}"


class PlainLines:
    """Writes each event as it comes; what agents read only where `prompts` asks for it."""

    def __init__(self, out: Callable[[str], None], *, prompts: bool = False) -> None:
        self._out = out
        self._prompts = prompts

    def __call__(self, event: Event) -> None:
        line = plain_line(event)
        if self._prompts and isinstance(event, Prompted):
            line = prompt_lines(event)
        if line is not None:
            self._out(line)


class QuietLines:
    """Writes nothing until it is left, and then only where witnesses or a chain have not seen the record to its end."""

    def __init__(self, out: Callable[[str], None]) -> None:
        self._out = out
        self._witnessed: Witnessed | None = None
        self._anchored: Anchored | None = None
        self._unseen: dict[str, None] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Witnessed):
            self._witnessed = event
        elif isinstance(event, Anchored):
            self._anchored = event
        elif isinstance(event, Notice) and event.unseen:
            self._unseen[event.text] = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._anchored is not None and self._anchored.state != "recorded":
            self._out(anchored(self._anchored))
        for text in self._unseen:
            self._out(_note(text))
        if self._witnessed is not None and not self._witnessed.met:
            self._out(witnessed(self._witnessed))
