"""A dialogue as it runs, in plain lines: for logs, pipes and screens that cannot be redrawn."""

from __future__ import annotations

from collections.abc import Callable

from agentmesh.events import (
    Draft,
    Ended,
    Event,
    MessageAdded,
    Notice,
    Opened,
    ToolCallAdded,
    ToolResultAdded,
    TurnStarted,
)
from agentmesh.view.text import arguments_text, clean, hanging, one_line

_INDENT = 4
_RESULT_WIDTH = 400


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
        case Notice():
            return f"note: {hanging(event.text, _INDENT)}"
        case Ended() | TurnStarted() | Draft():
            return None


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


class PlainLines:
    """Writes each event as it comes."""

    def __init__(self, out: Callable[[str], None]) -> None:
        self._out = out

    def __call__(self, event: Event) -> None:
        line = plain_line(event)
        if line is not None:
            self._out(line)
