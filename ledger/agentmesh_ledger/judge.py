"""What can be said of entries one by one, wherever that is done: in this process or in a worker.

An outcome is a plain tuple, so that it can cross a pipe: the ten fields of an `Outline` where the entry is sound by
itself, else the four of a failure: the error's fields, the index, the leaf hash, and what the entry says, as far as known.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, TypeAlias, cast

from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.envelope import PAYLOAD_TYPE, pae, unseal
from agentmesh_ledger.errors import LedgerError, Reason
from agentmesh_ledger.identity import is_signed
from agentmesh_ledger.message import parse_message
from agentmesh_ledger.record import SALT_SIZE, Opening, Outline, Record, open_entry, outlined
from agentmesh_ledger.run import Outcome, Run, run_of
from agentmesh_ledger.swift import (
    SwiftMessage,
    SwiftPart,
    SwiftShown,
    swift_envelope,
    swift_line,
    swift_message,
)
from agentmesh_ledger.text import shown
from agentmesh_ledger.transcript import EntryLine, parse_entry_line
from agentmesh_ledger.tree import leaf_hash, verify_inclusion

EntryRow: TypeAlias = tuple[int, bytes]  # index, entry: of a published log, whose content stays home
# index, entry (None where the row is missing), the columns leaf, dialogue, seq, kind, author, the content: hash, salt, data
Row: TypeAlias = tuple[int, bytes | None, bytes, str, int, str, str, list[tuple[bytes, bytes, bytes]]]
# Lines of a transcript with their line feeds, rows of a database, or entries of a published log.
Chunk: TypeAlias = bytes | list[Row] | list[EntryRow]
# The outcome if the signature holds: the key, what is signed, the signature.
_Prepared: TypeAlias = tuple[Outcome, bytes, bytes, bytes]
SOUND: Final = len(Outline._fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What every entry is held against: the checkpoint, and whether each brings a proof that it is in its tree."""

    checkpoint: Checkpoint
    proof: bool
    swift: bool = True  # False: only the strict parsers; for tests that hold the two against one another


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an entry is not sound, and what is known of it all the same."""

    error: LedgerError
    index: int | None
    leaf: bytes | None
    seen: Outline | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A chunk of `count` entries as it was judged: as a run, where they make one, and one by one, where that is asked for."""

    count: int
    run: Run | None
    outcomes: Callable[[], list[Outcome]]

    @classmethod
    def here(cls, outcomes: list[Outcome], terms: Terms) -> Judged:
        """A chunk that was judged in this process."""
        found = told(outcomes, terms)
        return cls(
            count=len(outcomes), run=None if isinstance(found, list) else found, outcomes=lambda: outcomes
        )

    @classmethod
    def elsewhere(cls, chunk: Chunk, terms: Terms, found: Run | list[Outcome]) -> Judged:
        """A chunk of which this was told. Should it be wanted one by one after all, it is judged once more."""
        if isinstance(found, list):
            return cls(count=len(found), run=None, outcomes=lambda: found)
        return cls(count=found.size, run=found, outcomes=lambda: judge_chunk(chunk, terms))


def judge_chunk(chunk: Chunk, terms: Terms) -> list[Outcome]:
    """The outcomes of a chunk's entries, here and now."""
    if isinstance(chunk, bytes):
        return judge_lines(chunk.split(b"\n")[:-1], terms)
    if chunk and len(chunk[0]) == 2:
        return judge_entries(chunk, terms)
    return judge_rows(cast(list[Row], chunk), terms)


def told(outcomes: list[Outcome], terms: Terms) -> Run | list[Outcome]:
    """The outcomes as shortly as they can be told. A dialogue's entries are chained to others than are shown."""
    return outcomes if terms.proof else run_of(outcomes) or outcomes


def judge_lines(lines: Sequence[bytes], terms: Terms) -> list[Outcome]:
    """The outcomes of entry lines of a transcript, given without their line feeds."""
    if not terms.swift:
        return [_strict_line(line, terms) for line in lines]
    # All signatures in a row: between other work the processor forgets half of what they need.
    prepared = [_swift(line, terms) for line in lines]
    return [
        each[0] if each is not None and is_signed(each[1], each[2], each[3]) else _strict_line(line, terms)
        for line, each in zip(lines, prepared, strict=True)
    ]


def judge_rows(rows: Sequence[Row], terms: Terms) -> list[Outcome]:
    """The outcomes of entries of a database: besides all else its columns say what its signed bytes say."""
    if not terms.swift:
        return [_strict_row(row) for row in rows]
    prepared = [_swift_row(row) for row in rows]
    return [
        each[0] if each is not None and is_signed(each[1], each[2], each[3]) else _strict_row(row)
        for row, each in zip(rows, prepared, strict=True)
    ]


def _strict_row(row: Row) -> Outcome:
    index, entry, leaf, dialogue, seq, kind, author, content = row
    if entry is None:
        return _failed(LedgerError("index", "the entry is missing", index=index), None, None)
    openings = {digest: Opening(salt=salt, data=data) for digest, salt, data in content}
    try:
        record = open_entry(index, entry, openings)
        require_columns(record, leaf, dialogue, seq, kind, author)
    except LedgerError as error:
        return _failed(error, index, entry)
    return tuple(outlined(record))


def judge_entries(rows: Sequence[EntryRow], terms: Terms) -> list[Outcome]:
    """The outcomes of entries that are shown without any of their content."""
    if not terms.swift:
        return [_strict_entry(index, entry) for index, entry in rows]
    prepared = [_swift_bare(index, entry) for index, entry in rows]
    return [
        each[0] if each is not None and is_signed(each[1], each[2], each[3]) else _strict_entry(index, entry)
        for (index, entry), each in zip(rows, prepared, strict=True)
    ]


def missing_row(index: int) -> Row:
    """What stands for an entry that a database has not."""
    return index, None, b"", "", 0, "", "", []


def verdict(outcome: Outcome) -> Outline | Failure:
    """An outcome as it is meant."""
    if len(outcome) == SOUND:
        return Outline._make(outcome)
    fields, index, leaf, seen = outcome
    reason, message, at, expected, found, hint = cast("tuple[str | int | None, ...]", fields)
    error = LedgerError(
        cast(Reason, reason),
        str(message),
        index=cast("int | None", at),
        expected=cast("str | None", expected),
        found=cast("str | None", found),
        hint=cast("str | None", hint),
    )
    return Failure(
        error=error,
        index=cast("int | None", index),
        leaf=cast("bytes | None", leaf),
        seen=None if seen is None else Outline._make(cast("tuple[object, ...]", seen)),
    )


def require_shown(line: EntryLine, record: Record) -> None:
    """Refuses a line that does not speak of exactly the parts of its message (SPEC L-53).

    Raises: LedgerError(part).
    """
    if line.openings.keys() != {part.hash for part in record.parts}:
        raise LedgerError("part", "the line does not speak of every part of the message", index=record.index)
    for part in record.parts:
        if line.types.get(part.hash, part.type) != part.type:
            raise LedgerError(
                "part",
                f"part {shown(part.name)!r} is shown with another media type",
                index=record.index,
                expected=part.type,
                found=shown(line.types[part.hash]),
            )


def require_columns(record: Record, leaf: bytes, dialogue: str, seq: int, kind: str, author: str) -> None:
    """Refuses columns of a row that do not say what its signed bytes say (SPEC L-91).

    Raises: LedgerError(store).
    """
    message = record.message
    derived = (record.leaf_hash, message.dialogue, message.seq, message.kind, message.author)
    if (leaf, dialogue, seq, kind, author) != derived:
        raise LedgerError(
            "store", "the entry's columns are not what its signed bytes say", index=record.index
        )


def _swift(line: bytes, terms: Terms) -> _Prepared | None:
    """What there is to say of a line of the common shape if its signature holds; None for any other, or an unsound one."""
    found = swift_line(line, proof=terms.proof)
    if found is None:
        return None
    index, entry, content, proof = found
    opened = _swift_entry(index, entry)
    if opened is None:
        return None
    message, payload, signature = opened
    author, key, dialogue, _, _, kind, log, prev, seq, parts = message
    withheld: int | None = 0
    if content or parts:
        withheld = _withheld(content, parts)
        if withheld is None:
            return None
    leaf = leaf_hash(entry)
    if proof is not None:
        try:
            verify_inclusion(index, terms.checkpoint.size, leaf, proof, terms.checkpoint.root)
        except LedgerError:
            return None
    outcome = (index, leaf, log, prev, author, dialogue, seq, kind, withheld, None)
    return outcome, key, pae(PAYLOAD_TYPE, payload), signature


def _swift_row(row: Row) -> _Prepared | None:
    """The same for a row of a database, which shows no media types, and nothing of withheld parts."""
    index, entry, leaf, own, place, sort, signer, content = row
    opened = None if entry is None else _swift_entry(index, entry)
    if opened is None or entry is None:
        return None
    message, payload, signature = opened
    author, key, dialogue, _, _, kind, log, prev, seq, parts = message
    if (own, place, sort, signer) != (dialogue, seq, kind, author) or leaf_hash(entry) != leaf:
        return None
    named = {unhexlify(digest): size for digest, size, _ in parts}
    if len({digest for digest, _, _ in content}) != len(content):
        return None
    for digest, salt, data in content:
        if named.get(digest) != len(data) or len(salt) != SALT_SIZE or sha256(salt + data).digest() != digest:
            return None
    outcome = (index, leaf, log, prev, author, dialogue, seq, kind, len(parts) - len(content), None)
    return outcome, key, pae(PAYLOAD_TYPE, payload), signature


def _swift_bare(index: int, entry: bytes) -> _Prepared | None:
    """The same for an entry that is shown without any of its content."""
    opened = _swift_entry(index, entry)
    if opened is None:
        return None
    message, payload, signature = opened
    author, key, dialogue, _, _, kind, log, prev, seq, parts = message
    outcome = (index, leaf_hash(entry), log, prev, author, dialogue, seq, kind, len(parts), None)
    return outcome, key, pae(PAYLOAD_TYPE, payload), signature


def _swift_entry(index: int, entry: bytes) -> tuple[SwiftMessage, bytes, bytes] | None:
    """The message, the payload and the signature, not yet verified, of an entry of the common shape at this index."""
    envelope = swift_envelope(entry)
    if envelope is None:
        return None
    payload, keyid, signature = envelope
    message = swift_message(payload)
    if message is None or message[4] != index or keyid != message[0].encode():
        return None
    return message, payload, signature


def _withheld(content: tuple[SwiftShown, ...], parts: tuple[SwiftPart, ...]) -> int | None:
    """How many of the parts are withheld, where the content is theirs; else None. Both name no hash twice."""
    if len(content) != len(parts):
        return None
    if len(parts) > 1:  # a line has them by hash, a message as it likes
        parts = tuple(sorted(parts))
    withheld = 0
    for (digest, salt, data, media), (named, size, kind) in zip(content, parts, strict=True):
        if digest != named:
            return None
        if salt is None or data is None:
            withheld += 1
        elif len(data) != size or media != kind or sha256(salt + data).digest() != unhexlify(digest):
            return None
    return withheld


def _strict_line(line: bytes, terms: Terms) -> Outcome:
    try:
        parsed = parse_entry_line(line, proof=terms.proof)
    except LedgerError as error:
        return _failed(error, None, None)
    try:
        record = open_entry(parsed.index, parsed.entry, parsed.openings)
        if parsed.proof is not None:
            size, root = terms.checkpoint.size, terms.checkpoint.root
            verify_inclusion(parsed.index, size, record.leaf_hash, parsed.proof, root)
        require_shown(parsed, record)
    except LedgerError as error:
        return _failed(error, parsed.index, parsed.entry)
    return tuple(outlined(record))


def _strict_entry(index: int, entry: bytes) -> Outcome:
    try:
        return tuple(outlined(open_entry(index, entry, {})))
    except LedgerError as error:
        return _failed(error, index, entry)


def _failed(error: LedgerError, index: int | None, entry: bytes | None) -> Outcome:
    fields = (error.reason, error.message, error.index, error.expected, error.found, error.hint)
    if index is None or entry is None:
        return fields, None, None, None
    return fields, index, leaf_hash(entry), _glimpsed(index, entry)


def _glimpsed(index: int, entry: bytes) -> tuple[object, ...] | None:
    """What an entry that failed says of itself, believed only to find the next fault."""
    try:
        message = parse_message(unseal(entry).payload)
    except LedgerError:
        return None
    if message.index != index:
        return None
    record = Record(index=index, entry=entry, leaf_hash=leaf_hash(entry), message=message, parts=())
    return tuple(outlined(record))
