"""What a caller wants to say, before it has a place in the log."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

from agentmesh_ledger.affairs import AFFAIRS
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import AgentId
from agentmesh_ledger.jcs import MAX_INTEGER, JsonValue, canonical
from agentmesh_ledger.keys import AgentKey
from agentmesh_ledger.message import MAX_CONTENT, MAX_PART, MAX_PARTS, VERSION, parse_message
from agentmesh_ledger.record import SALT_SIZE
from agentmesh_ledger.swift import swift_message
from agentmesh_ledger.text import shown
from agentmesh_ledger.tree import LeafHash

_DRAWN: Final = 256
_TIME: Final = b',"time":"'
_SOME_TIME: Final = b"2000-01-01T00:00:00.000Z"


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


class _Salts:
    """Salts from the system's randomness, drawn many at a time.

    Each call to the system gives the interpreter's lock away, and a thread among many waits long to get it back.
    """

    def __init__(self) -> None:
        self._drawn: list[bytes] = []
        # A forked process would give out the same salts as its parent.
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._drawn.clear)

    def __call__(self) -> bytes:
        try:
            return self._drawn.pop()
        except IndexError:
            block = secrets.token_bytes(SALT_SIZE * _DRAWN)
            self._drawn.extend(block[at : at + SALT_SIZE] for at in range(SALT_SIZE, len(block), SALT_SIZE))
            return block[:SALT_SIZE]


_salt: Final = _Salts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Clock and randomness, so that a test can write the same log twice.

    `salt` must give 16 unpredictable bytes, never the same twice: a known salt makes short content guessable.
    """

    now: Callable[[], datetime] = _now
    salt: Callable[[], bytes] = _salt


class Prepared(NamedTuple):
    """A draft with its commitments, ready for a place: its payload but for index, prev, seq and time.

    Everything that does not depend on the place is done by whoever appends, before it waits for the log. `content`
    has hash, salt and bytes of each part.
    """

    author: AgentKey
    kind: str
    dialogue: str
    reply_to: int | None
    facts: Mapping[str, JsonValue]
    content: tuple[tuple[bytes, bytes, bytes], ...]
    pieces: tuple[bytes, bytes, bytes, bytes]

    def payload(self, *, index: int, prev: bytes, seq: int, time: bytes) -> bytes:
        """The canonical bytes of the message at its place (SPEC L-20)."""
        start, link, place, end = self.pieces
        return b"%b%d%b%b%b%d%b%b%b" % (
            start, index, link, prev.hex().encode(), place, seq, _TIME, time, end,
        )  # fmt: skip


def prepare(draft: Draft, ports: Ports, log: str) -> Prepared:
    """The draft with a commitment for each part, held to what every verifier will hold its message to.

    Raises: LedgerError(too_large, refused) before anything is written.
    """
    content = _committed(draft, ports) if draft.parts else ()
    facts = draft.facts
    try:
        if draft.facts or draft.kind in AFFAIRS or len(content) > 1:
            pieces = _pieces(draft, content, log)
            # Nothing unverifiable is ever signed: the last place there can be stands for the one it will get.
            # And what is signed counts, not what the caller may make of its mapping before the message has a place.
            facts = _require_sound(pieces) or {}
        else:
            pieces = _common_pieces(draft, content, log)
    except LedgerError as error:
        raise LedgerError(
            "refused", f"the message cannot be recorded: {error.message}", hint=error.hint
        ) from error
    return Prepared(draft.author, draft.kind, draft.dialogue, draft.reply_to, facts, content, pieces)


def _committed(draft: Draft, ports: Ports) -> tuple[tuple[bytes, bytes, bytes], ...]:
    """Hash, salt and bytes of each part."""
    if len(draft.parts) > MAX_PARTS:
        raise LedgerError("too_large", f"a message has at most {MAX_PARTS} parts")
    found: list[tuple[bytes, bytes, bytes]] = []
    total = 0
    for part in draft.parts:
        size = memoryview(part.data).nbytes  # of a buffer of numbers the length would count those
        if size > MAX_PART:
            raise LedgerError(
                "too_large",
                f"part {shown(part.name)!r} is too large",
                expected=f"at most {MAX_PART} bytes",
                found=str(size),
            )
        total += size
        data, salt = bytes(part.data), ports.salt()
        if len(salt) != SALT_SIZE:
            raise LedgerError("refused", f"a salt has {SALT_SIZE} bytes")
        found.append((hashlib.sha256(salt + data).digest(), salt, data))
    if total > MAX_CONTENT:
        raise LedgerError("too_large", f"the parts of a message have at most {MAX_CONTENT} bytes together")
    return tuple(found)


def _require_sound(pieces: tuple[bytes, bytes, bytes, bytes]) -> Mapping[str, JsonValue] | None:
    """Holds the message to the rules; the facts as they are signed, where they had to be read.

    Raises: LedgerError.
    """
    start, link, place, end = pieces
    payload = b"%b%d%b%b%b0%b%b%b" % (start, MAX_INTEGER, link, b"0" * 64, place, _TIME, _SOME_TIME, end)
    return None if swift_message(payload) is not None else parse_message(payload).facts


def _pieces(
    draft: Draft, content: Sequence[tuple[bytes, bytes, bytes]], log: str
) -> tuple[bytes, bytes, bytes, bytes]:
    """The payload's bytes around the fields that depend on the place; what they say is looked at by the caller."""
    facts = canonical({"facts": draft.facts})[1:-1].decode() if draft.facts else '"facts":{}'
    parts = ",".join(
        f'{{"hash":"{digest.hex()}","name":{_quoted(part.name)},"size":{len(data)},"type":{_quoted(part.type)}}}'
        for part, (digest, _, data) in zip(draft.parts, content, strict=True)
    )
    reply = "null" if draft.reply_to is None else canonical(draft.reply_to).decode()
    to = ",".join(_quoted(each) for each in draft.to)
    return (
        f'{{"author":{_quoted(draft.author.id)},"dialogue":{_quoted(draft.dialogue)},{facts},"index":'.encode(),
        f',"kind":{_quoted(draft.kind)},"log":{_quoted(log)},"parts":[{parts}],"prev":"'.encode(),
        f'","reply_to":{reply},"seq":'.encode(),
        f'","to":[{to}],"v":{VERSION}}}'.encode(),
    )


def _common_pieces(
    draft: Draft, content: Sequence[tuple[bytes, bytes, bytes]], log: str
) -> tuple[bytes, bytes, bytes, bytes]:
    """The same for a message without facts and with at most one part: all but three numbers of it repeat."""
    shape = (draft.parts[0].name, draft.parts[0].type) if content else None
    start, before, name, after, end = _skeleton(
        draft.author.id, draft.dialogue, draft.kind, tuple(draft.to), shape, log
    )
    reply = b"null"
    if draft.reply_to is not None:
        reply_to: object = draft.reply_to  # no checker may have seen the caller: 1.5 would be signed as 1
        if isinstance(reply_to, bool) or not isinstance(reply_to, int) or not 0 <= reply_to < MAX_INTEGER:
            raise LedgerError("message", "reply_to is not a whole number")
        reply = b"%d" % reply_to
    link = before
    if content:
        digest, _, data = content[0]
        link = b"%b%b%b%d%b" % (before, digest.hex().encode(), name, len(data), after)
    return start, link, b'","reply_to":%b,"seq":' % reply, end


@lru_cache(maxsize=4096)
def _skeleton(
    author: AgentId,
    dialogue: str,
    kind: str,
    to: tuple[AgentId, ...],
    shape: tuple[str, str] | None,
    log: str,
) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """The payload without facts around index, the part's hash and size, and prev; held to every rule once.

    A hash and a size within bounds make no sound message unsound, so that what was checked with one of each stands.
    Raises: LedgerError; nothing is kept of a refusal.
    """
    start = f'{{"author":{_quoted(author)},"dialogue":{_quoted(dialogue)},"facts":{{}},"index":'.encode()
    before = f',"kind":{_quoted(kind)},"log":{_quoted(log)},"parts":['.encode()
    name, after, link = b"", b"", b'],"prev":"'
    if shape is not None:
        before += b'{"hash":"'
        name = f'","name":{_quoted(shape[0])},"size":'.encode()
        after = f',"type":{_quoted(shape[1])}}}'.encode() + link
        whole = before + b"0" * 64 + name + b"0" + after
    else:
        before += link
        whole = before
    end = f'","to":[{",".join(_quoted(each) for each in to)}],"v":{VERSION}}}'.encode()
    _require_sound((start, whole, b'","reply_to":null,"seq":', end))
    return start, before, name, after, end


def _quoted(text: str) -> str:
    """The text as RFC 8785 writes it."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'  # nothing to escape, which is nearly always so
    return canonical(text).decode()


def timestamp(moment: datetime) -> str:
    """RFC 3339 UTC with milliseconds (SPEC L-25)."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
