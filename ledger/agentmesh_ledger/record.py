"""An entry as a reader gets it: the signed message, and the content that is still there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from agentmesh_ledger.affairs import AFFAIRS, ROTATE, require_consent
from agentmesh_ledger.envelope import unseal
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import JsonValue
from agentmesh_ledger.message import Message, Part, parse_message
from agentmesh_ledger.text import shown
from agentmesh_ledger.tree import LeafHash, leaf_hash

SALT_SIZE: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What opens a commitment: the salt and the bytes."""

    salt: bytes
    data: bytes

    def commitment(self) -> bytes:
        """SHA-256(salt || bytes) (SPEC L-28): without the salt a short text could be guessed from it."""
        return hashlib.sha256(self.salt + self.data).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class PartContent:
    """A part and its content; `data` is None where it is withheld or was erased."""

    name: str
    type: str
    size: int
    hash: bytes
    data: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An entry of the log whose signature, index and part commitments hold."""

    index: int
    entry: bytes
    leaf_hash: LeafHash
    message: Message
    parts: tuple[PartContent, ...]


class Outline(NamedTuple):
    """What the other entries need to know of a sound one. A plain tuple of plain values: it crosses processes.

    `place` is the entry's index; `withheld` counts parts without content; `facts` are there for the log's own affairs only.
    """

    place: int
    leaf_hash: bytes
    log: str
    prev: bytes
    author: str
    dialogue: str
    seq: int
    kind: str
    withheld: int
    facts: Mapping[str, JsonValue] | None


def outlined(record: Record) -> Outline:
    """The outline of a record."""
    message = record.message
    return Outline(
        record.index,
        record.leaf_hash,
        message.log,
        message.prev,
        message.author,
        message.dialogue,
        message.seq,
        message.kind,
        sum(part.data is None for part in record.parts),
        message.facts if message.kind in AFFAIRS else None,
    )


def open_entry(index: int, entry: bytes, openings: Mapping[bytes, Opening | None]) -> Record:
    """The record of an entry's bytes, with the openings by part hash; None means withheld.

    Checks all that an entry says of itself: canonical form, envelope, fields, index, signature and the
    commitments of the content given. Its place among the others is not looked at.

    Raises: LedgerError with `index` set.
    """
    try:
        envelope = unseal(entry)
        message = parse_message(envelope.payload)
        if message.index != index:
            raise LedgerError(
                "index",
                "the entry was signed for another index",
                expected=str(index),
                found=str(message.index),
            )
        envelope.require_signed(message.author)
        if message.kind == ROTATE:
            require_consent(message.log, message.author, message.facts)
        if openings.keys() - {part.hash for part in message.parts}:
            raise LedgerError("part", "there is content that the message does not speak of")
        parts = tuple(_content(part, openings.get(part.hash)) for part in message.parts)
    except LedgerError as error:
        error.locate(index=index)
        raise
    return Record(index=index, entry=entry, leaf_hash=leaf_hash(entry), message=message, parts=parts)


def _content(part: Part, opening: Opening | None) -> PartContent:
    if opening is not None:
        if len(opening.salt) != SALT_SIZE or len(opening.data) != part.size:
            raise LedgerError("part", f"part {shown(part.name)!r} has another size than was signed")
        if opening.commitment() != part.hash:
            raise LedgerError("part", f"the content of part {shown(part.name)!r} is not what was signed")
    data = None if opening is None else opening.data
    return PartContent(name=part.name, type=part.type, size=part.size, hash=part.hash, data=data)
