"""Dialogues out of a record: one of them in full, or the list of all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from agentmesh.view.text import clean, count, hanging, one_line

_INDENT = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One ledger entry as a reader sees it. `text` is None where its content is withheld; `check` is the verifier's
    mark, None where nobody looked."""

    index: int
    kind: str
    author: str
    to: tuple[str, ...] = ()
    time: str = ""
    text: str | None = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    check: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One dialogue in the list of a ledger. `closed` is the reason it ended with, None while it is open."""

    id: str
    opened: str
    messages: int
    participants: tuple[str, ...]
    closed: str | None


def entry_text(entry: Entry) -> str:
    """An entry for people: who, to whom, what; an entry that did not verify says so."""
    body = "(content withheld)" if entry.text is None else hanging(entry.text, _INDENT)
    head = f"[{entry.index}] {_mark(entry.check)}{_who(entry)}"
    return f"{head}: {body}" if body else head


def entry_json(entry: Entry) -> dict[str, object]:
    """An entry for programs."""
    value: dict[str, object] = {
        "index": entry.index,
        "kind": entry.kind,
        "agent": entry.author,
        "to": list(entry.to),
        "time": entry.time,
        "text": entry.text,
        "facts": dict(entry.facts),
    }
    return value if entry.check is None else value | {"check": entry.check}


def list_text(dialogues: Sequence[Listed]) -> str:
    """Dialogues as a table, one a line."""
    if not dialogues:
        return "no dialogues yet"
    rows = [
        (
            clean(each.id),
            moment(each.opened),
            count(each.messages, "message"),
            clean(each.closed) if each.closed else "open",
            one_line(", ".join(each.participants), 60),
        )
        for each in dialogues
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def list_json(dialogues: Iterable[Listed]) -> list[dict[str, object]]:
    """Dialogues for programs."""
    return [
        {
            "dialogue": each.id,
            "opened": each.opened,
            "messages": each.messages,
            "participants": list(each.participants),
            "closed": each.closed,
        }
        for each in dialogues
    ]


def moment(time: str) -> str:
    """A record's time (RFC 3339, UTC) as people of this machine's time zone write it; as it is where it is none."""
    try:
        at = datetime.fromisoformat(time)
    except ValueError:
        return clean(time)
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _mark(check: str | None) -> str:
    if check is None:
        return ""
    if check == "verified":
        return "ok  "
    if check == "withheld":
        return "ok (withheld)  "
    return f"NOT VERIFIED ({one_line(check, 200)})  "


def _who(entry: Entry) -> str:
    author, facts = clean(entry.author), entry.facts
    to = f" -> {', '.join(clean(name) for name in entry.to)}" if entry.to else ""
    tool = f"{_fact(facts, 'server')}.{_fact(facts, 'tool')}"
    match entry.kind:
        case "say":
            return f"{author}{to}"
        case "task":
            return f"{author}{to} (task)"
        case "call":
            return f"{author} calls {tool}"
        case "result":
            how = "fails" if facts.get("error") is True else "answers"
            return f"{tool} {how}{to}"
        case "open":
            return f"{author} opens the dialogue of {_fact(facts, 'mesh')}"
        case "close":
            return f"{author} closes the dialogue, {_fact(facts, 'reason')}"
        case "inference":
            tokens = _fact(facts, "output_tokens")
            return f"{author} inferred {tokens} tokens with model {_fact(facts, 'model')[:12]}"
        case "compaction":
            gone = facts.get("dropped")
            turns = count(len(gone), "earlier turn") if isinstance(gone, list) else "? turns"
            return f"{author} leaves {turns} out of the prompt ({_fact(facts, 'rule')})"
        case "usage":
            return f"{author} {_receipt(facts)}"
        case "key.register":
            return f"{author} registers a key"
        case kind:
            return f"{author}{to} ({clean(kind)})"


def _receipt(facts: Mapping[str, object]) -> str:
    """What a `usage` says; a receipt of bad shape is shown as far as it goes."""
    if "refused" in facts:
        return f"refuses a receipt ({_fact(facts, 'refused')})"
    found = facts.get("receipt")
    receipt = found if isinstance(found, Mapping) else {}
    price = f"{_fact(receipt, 'price')} micro-units ({_fact(receipt, 'unit')})"
    return f"records a receipt: {_fact(receipt, 'tokens')} tokens, {price}"


def _fact(facts: Mapping[str, object], name: str) -> str:
    value = facts.get(name)
    if value is None:
        return "?"
    return one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 80)
