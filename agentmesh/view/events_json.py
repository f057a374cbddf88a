"""A dialogue as it runs, for programs: one event a line, each a JSON object with `event` first."""

from __future__ import annotations

from collections.abc import Callable

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
from agentmesh.view.plain import witnessed
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
        case Compacted():
            return _compaction(event)
        case Witnessed():
            return {
                "event": "witnesses",
                "size": event.size,
                "met": event.met,
                "needed": event.needed,
                "names": list(event.names),
                "missing": dict(event.missing),
            }
        case Anchored():
            return {
                "event": "anchor",
                "state": event.state,
                "size": event.size,
                "block": event.block,
                "depth": event.depth,
                "tx": event.tx,
                "message": event.message,
            }
        case Ended():
            return _end(event)
        case Opened() | TurnStarted() | Prompted() | Draft() | Notice():
            return None


def _compaction(event: Compacted) -> dict[str, object]:
    return {
        "event": "compaction",
        "index": event.index,
        "agent": event.agent,
        "rule": event.rule,
        "dropped": list(event.dropped),
        "tokens_needed": event.needed,
        "tokens_available": event.available,
        "summary": event.summary,
        "failed": event.failed,
    }


def _end(event: Ended) -> dict[str, object]:
    return {
        "event": "end",
        "dialogue": event.dialogue,
        "ledger": event.ledger,
        "reason": event.reason,
        "detail": event.detail,
        "messages": event.messages,
        "tool_calls": event.tool_calls,
        "tokens": event.tokens,
        "tokens_per_second": round(event.tokens_per_second, 1),
        "evaluated_tokens": event.evaluated_tokens,
        "reused_tokens": event.reused_tokens,
        "seconds": round(event.seconds, 3),
        "answer": event.answer,
    }


def _prompt(event: Prompted) -> dict[str, object]:
    read = [{"role": role, "content": content} for role, content in event.messages]
    return {"event": "prompt", "agent": event.agent, "messages": read}


class JsonEvents:
    """Writes each event of the record as a line; notices go where people read. `prompts` adds what agents read."""

    def __init__(
        self, *, out: Callable[[str], None], notice: Callable[[str], None], prompts: bool = False
    ) -> None:
        self._out = out
        self._notice = notice
        self._prompts = prompts

    def __call__(self, event: Event) -> None:
        value = as_json(event)
        if self._prompts and isinstance(event, Prompted):
            value = _prompt(event)
        if value is not None:
            self._out(json_line(value))
            if isinstance(event, Witnessed) and not event.met:
                self._notice(witnessed(event))
        elif isinstance(event, Notice):
            self._notice(event.text)
