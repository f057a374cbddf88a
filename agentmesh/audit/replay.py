"""A dialogue again, from its record alone: each message with what was checked of it.

Hermetic: nothing runs, nothing is fetched. The record is verified whole first; only then is a message marked, since a
message that is sound by itself may still stand in a log that was cut or rearranged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agentmesh_ledger import AgentId, JsonValue, LedgerError, Record, TranscriptAudit, Verified
from agentmesh_ledger.source import is_database, is_ledger, opened, without_password
from agentmesh_ledger.store import LedgerAudit
from agentmesh_ledger.verify import require_origin


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedMessage:
    """A message as recorded. `check` is "verified", "withheld" (signed, but its content is not here), or the problem."""

    index: int
    dialogue: str
    kind: str
    author: AgentId
    author_name: str
    to: tuple[str, ...]
    text: str
    facts: Mapping[str, JsonValue]
    time: str
    check: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A replayed record: the messages, and the evidence or the failure of the whole."""

    messages: tuple[ReplayedMessage, ...]
    verified: Verified | None
    problem: LedgerError | None


def replay(source: Path | str, dialogue: str | None = None, *, origin: str | None = None) -> Replay:
    """Replay a ledger or a transcript, whole or one dialogue of it. `-` is a transcript on standard input.

    A ledger is a file or a database's URL; `origin` names the log where it holds several.

    A record that does not verify is replayed up to the message where it fails, each message so far marked as standing
    in a record that does not hold, and `problem` says why.

    Raises:
        LedgerError: there is no such file or dialogue, or it cannot be read at all.
    """
    records: list[Record] = []
    verified, problem = None, None
    try:
        verified = _read(source, origin, records)
    except LedgerError as error:
        if not error.is_check:
            raise
        problem = error
    names = _names(records)
    found = [record for record in records if dialogue is None or record.message.dialogue == dialogue]
    if not found and dialogue is not None and problem is None:
        raise LedgerError(
            "not_found", f"there is no dialogue {dialogue!r} in it", path=without_password(str(source))
        )
    note = None if problem is None else "in a record that does not verify"
    return Replay(
        messages=tuple(_message(record, names, note) for record in found),
        verified=verified,
        problem=problem,
    )


def _read(source: Path | str, origin: str | None, records: list[Record]) -> Verified:
    """Fill `records` as far as they are sound, so that a failure shows what stands before it."""
    if not is_database(str(source)):
        with opened(source) as stream:
            if not is_ledger(stream, source):
                written = TranscriptAudit(stream)
                _take(written, records)
                found = written.verified()
                require_origin(found, origin)
                return found
    stored = LedgerAudit(source, origin=origin)
    _take(stored, records)
    return stored.verified()


def _take(audit: Iterable[Record], records: list[Record]) -> None:
    """One by one, so that what came before a failure is kept."""
    for record in audit:
        records.append(record)


def _names(records: list[Record]) -> dict[AgentId, str]:
    names: dict[AgentId, str] = {}
    for record in records:
        message = record.message
        if message.kind == "key.register":
            names[message.author] = str(message.facts["name"])
        elif message.kind == "key.rotate" and message.author in names:
            names[AgentId(str(message.facts["new"]))] = names[message.author]
    return names


def _message(record: Record, names: Mapping[AgentId, str], note: str | None) -> ReplayedMessage:
    message = record.message
    withheld = any(part.data is None for part in record.parts)
    return ReplayedMessage(
        index=record.index,
        dialogue=message.dialogue,
        kind=message.kind,
        author=message.author,
        author_name=names.get(message.author, message.author),
        to=tuple(names.get(agent, agent) for agent in message.to),
        text=_text(record),
        facts=message.facts,
        time=message.time,
        check=note or ("withheld" if withheld else "verified"),
    )


def _text(record: Record) -> str:
    """What a person reads of a message: its text, a call's arguments, or nothing where it has neither."""
    for part in record.parts:
        if part.data is None:
            continue
        if part.type.startswith("text/plain"):
            return part.data.decode("utf-8", "replace")
        if part.name == "arguments":
            try:
                return json.dumps(json.loads(part.data), ensure_ascii=False)
            except (ValueError, RecursionError):  # a signed part may nest as deep as it likes
                return part.data.decode("utf-8", "replace")
    return ""
