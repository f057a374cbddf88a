"""What a caller wants to say, before it has a place in the log."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import AgentId
from agentmesh_ledger.jcs import JsonValue
from agentmesh_ledger.keys import AgentKey
from agentmesh_ledger.message import MAX_CONTENT, MAX_PART, MAX_PARTS, Message, Part
from agentmesh_ledger.record import SALT_SIZE, Opening
from agentmesh_ledger.text import shown
from agentmesh_ledger.tree import LeafHash


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftPart:
    """A piece of content: a name within the message, a media type, the bytes (at most 8 MiB)."""

    name: str
    type: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A message to be signed. `facts` are seen by every reader; `parts` can be withheld and erased."""

    author: AgentKey
    kind: str
    dialogue: str
    to: tuple[AgentId, ...] = ()
    reply_to: int | None = None
    parts: tuple[DraftPart, ...] = ()
    facts: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The entry stands at `index`, is durable, and is under a signed checkpoint of `size` entries."""

    index: int
    leaf_hash: LeafHash
    size: int


def _now() -> datetime:
    return datetime.now(UTC)


def _salt() -> bytes:
    return secrets.token_bytes(SALT_SIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Clock and randomness, so that a test can write the same log twice.

    `salt` must give 16 unpredictable bytes, never the same twice: a known salt makes short content guessable.
    """

    now: Callable[[], datetime] = _now
    salt: Callable[[], bytes] = _salt


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A draft with its commitments, ready for a place."""

    draft: Draft
    parts: tuple[Part, ...]
    openings: tuple[Opening, ...]

    def message(self, *, log: str, index: int, prev: bytes, seq: int, time: str) -> Message:
        """The message at its place."""
        draft = self.draft
        return Message(
            log=log,
            index=index,
            prev=prev,
            author=draft.author.id,
            to=draft.to,
            dialogue=draft.dialogue,
            seq=seq,
            kind=draft.kind,
            reply_to=draft.reply_to,
            time=time,
            parts=self.parts,
            facts=draft.facts,
        )


def prepare(draft: Draft, ports: Ports) -> Prepared:
    """The draft with a commitment for each part.

    Raises: LedgerError(too_large) before anything is hashed or written.
    """
    if len(draft.parts) > MAX_PARTS:
        raise LedgerError("too_large", f"a message has at most {MAX_PARTS} parts")
    for part in draft.parts:
        if len(part.data) > MAX_PART:
            raise LedgerError(
                "too_large",
                f"part {shown(part.name)!r} is too large",
                expected=f"at most {MAX_PART} bytes",
                found=str(len(part.data)),
            )
    if sum(len(part.data) for part in draft.parts) > MAX_CONTENT:
        raise LedgerError("too_large", f"the parts of a message have at most {MAX_CONTENT} bytes together")
    openings = tuple(Opening(salt=ports.salt(), data=bytes(part.data)) for part in draft.parts)
    parts = tuple(
        Part(name=part.name, type=part.type, size=len(part.data), hash=opening.commitment())
        for part, opening in zip(draft.parts, openings, strict=True)
    )
    return Prepared(draft=draft, parts=parts, openings=openings)


def timestamp(moment: datetime) -> str:
    """RFC 3339 UTC with milliseconds (SPEC L-25)."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
