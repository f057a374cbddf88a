"""A dialogue as it runs, for programs: one event a line, each a JSON object with `event` first."""

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
from agentmesh.view.text import json_line


def as_json(event: Event) -> dict[str, object] | None:
    """The event as `run --json` prints it; None for what is no part of the record."""
    match event:
        case MessageAdded():
            return {
                "event": "message",
                "index": event.index,
                "kind": event.kind,
                "agent": event.agent,
                "to": list(event.to),
                "text": event.text,
                "tokens": event.tokens,
                "tokens_per_second": round(event.tokens_per_second, 1),
                "facts": dict(event.facts),
            }
        case ToolCallAdded():
            return {
                "event": "tool_call",
                "index": event.index,
                "agent": event.agent,
                "server": event.server,
                "tool": event.tool,
                "arguments": dict(event.arguments),
            }
        case ToolResultAdded():
            return {
                "event": "tool_result",
                "index": event.index,
                "agent": event.agent,
                "server": event.server,
                "tool": event.tool,
                "text": event.text,
                "error": event.is_error,
                "seconds": round(event.seconds, 6),
            }
        case Ended():
            return {
                "event": "end",
                "dialogue": event.dialogue,
                "ledger": event.ledger,
                "reason": event.reason,
                "detail": event.detail,
                "messages": event.messages,
                "tool_calls": event.tool_calls,
                "tokens": event.tokens,
                "seconds": round(event.seconds, 3),
                "answer": event.answer,
            }
        case Opened() | TurnStarted() | Draft() | Notice():
            return None


class JsonEvents:
    """Writes each event of the record as a line; notices go where people read."""

    def __init__(self, *, out: Callable[[str], None], notice: Callable[[str], None]) -> None:
        self._out = out
        self._notice = notice

    def __call__(self, event: Event) -> None:
        value = as_json(event)
        if value is not None:
            self._out(json_line(value))
        elif isinstance(event, Notice):
            self._notice(event.text)
