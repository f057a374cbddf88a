"""Message v1: what an agent signs, every field checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentmesh_ledger.affairs import AFFAIRS, require_affair
from agentmesh_ledger.affairs import LOG_DIALOGUE as LOG_DIALOGUE
from agentmesh_ledger.affairs import REGISTER as REGISTER
from agentmesh_ledger.encoding import decode_hash
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import AgentId, public_key
from agentmesh_ledger.jcs import MAX_INTEGER, JsonValue, canonical, parse
from agentmesh_ledger.text import has_controls, is_dialogue, is_origin, shown

VERSION: Final = 1
MAX_PARTS: Final = 64
MAX_TO: Final = 64
MAX_PART: Final = 8 * 1024 * 1024
MAX_CONTENT: Final = 16 * 1024 * 1024

_KIND: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}\Z")
# The hour is bounded here: a newer fromisoformat takes 24:00 for the next day.
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\Z")
_TOKEN: Final = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,63}"
_MEDIA: Final = re.compile(rf"{_TOKEN}/{_TOKEN}(; ?{_TOKEN}={_TOKEN}){{0,4}}\Z")
# fmt: off
_FIELDS: Final = frozenset({
    "author", "dialogue", "facts", "index", "kind", "log", "parts", "prev", "reply_to", "seq", "time", "to", "v",
})
# fmt: on


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a message says of one piece of content: `hash` is SHA-256(salt || bytes), `size` without salt."""

    name: str
    type: str
    size: int
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as signed. `prev` is the leaf hash of the entry before, `seq` its place in its dialogue."""

    log: str
    index: int
    prev: bytes
    author: AgentId
    to: tuple[AgentId, ...]
    dialogue: str
    seq: int
    kind: str
    reply_to: int | None
    time: str
    parts: tuple[Part, ...]
    facts: Mapping[str, JsonValue]

    def payload(self) -> bytes:
        """The canonical bytes that are signed (SPEC L-20)."""
        parts: list[JsonValue] = [
            {"hash": part.hash.hex(), "name": part.name, "size": part.size, "type": part.type}
            for part in self.parts
        ]
        return canonical(
            {
                "author": self.author,
                "dialogue": self.dialogue,
                "facts": self.facts,
                "index": self.index,
                "kind": self.kind,
                "log": self.log,
                "parts": parts,
                "prev": self.prev.hex(),
                "reply_to": self.reply_to,
                "seq": self.seq,
                "time": self.time,
                "to": list(self.to),
                "v": VERSION,
            }
        )


def parse_message(payload: bytes) -> Message:
    """The message of a payload's bytes (SPEC L-20 to L-29).

    Raises: LedgerError(canonical, message, identity).
    """
    value = parse(payload)
    if not isinstance(value, dict):
        raise LedgerError("message", "the payload is not an object")
    if set(value) != _FIELDS:
        odd = ", ".join(sorted(shown(key, 40) for key in set(value) ^ _FIELDS)[:5])
        raise LedgerError("message", f"the payload's fields are not those of message v1: {odd}")
    if value["v"] != VERSION or isinstance(value["v"], bool):
        raise LedgerError("message", "the payload is not of version 1")
    facts, to = value["facts"], value["to"]
    if not isinstance(facts, dict):
        raise LedgerError("message", "facts is not an object")
    if not isinstance(to, list) or len(to) > MAX_TO or len({str(each) for each in to}) != len(to):
        raise LedgerError("message", f"to is not a list of at most {MAX_TO} different agents")
    index, reply_to = _integer(value, "index"), value["reply_to"]
    if reply_to is not None and _integer(value, "reply_to") >= index:
        raise LedgerError("message", "reply_to names a message that is not before this one")
    message = Message(
        log=_text(value, "log"),
        index=index,
        prev=decode_hash(_text(value, "prev"), "message", "prev"),
        author=_agent(value["author"]),
        to=tuple(_agent(each) for each in to),
        dialogue=_text(value, "dialogue"),
        seq=_integer(value, "seq"),
        kind=_text(value, "kind"),
        reply_to=None if reply_to is None else _integer(value, "reply_to"),
        time=_text(value, "time"),
        parts=_parts(value["parts"]),
        facts=facts,
    )
    require_shapes(message)
    return message


def require_shapes(message: Message) -> None:
    """Refuses texts out of shape; the same rules for who writes and who reads (SPEC L-21 to L-28).

    Raises: LedgerError(message).
    """
    if not is_origin(message.log):
        raise LedgerError("message", f"{shown(message.log)!r} is not an origin")
    if not is_dialogue(message.dialogue):
        raise LedgerError(
            "message",
            f"{shown(message.dialogue)!r} is not a dialogue id",
            hint="Use letters, digits and . _ : - , at most 128, beginning with a letter or digit",
        )
    if not is_kind(message.kind):
        raise LedgerError("message", f"{shown(message.kind)!r} is not a kind of message")
    if not is_time(message.time):
        raise LedgerError("message", f"{shown(message.time)!r} is not a UTC time with milliseconds")
    if message.seq > message.index:
        raise LedgerError("message", "seq is greater than index")
    require_parts(message.parts)
    if message.kind in AFFAIRS:
        if message.dialogue != LOG_DIALOGUE or message.parts or message.to or message.reply_to is not None:
            raise LedgerError(
                "message", f"a message {message.kind} stands in the dialogue `log`, to nobody, without parts"
            )
        require_affair(message.kind, message.index, message.facts)


def require_parts(parts: Sequence[Part]) -> None:
    """Refuses parts out of bounds (SPEC L-27, L-28).

    Raises: LedgerError(message).
    """
    if len(parts) > MAX_PARTS:
        raise LedgerError("message", f"a message has more than {MAX_PARTS} parts")
    for part in parts:
        if not 0 < len(part.name) <= 128 or has_controls(part.name):
            raise LedgerError("message", f"{shown(part.name)!r} cannot name a part")
        if not is_media(part.type):
            raise LedgerError("message", f"{shown(part.type)!r} is not a media type")
        if part.size > MAX_PART:
            raise LedgerError("message", f"part {shown(part.name)!r} is larger than {MAX_PART} bytes")
    if sum(part.size for part in parts) > MAX_CONTENT:
        raise LedgerError("message", f"the parts together are larger than {MAX_CONTENT} bytes")
    if len({part.name for part in parts}) != len(parts) or len({part.hash for part in parts}) != len(parts):
        raise LedgerError("message", "two parts of a message have one name or one hash")


def is_kind(text: str) -> bool:
    """Whether the text may be a kind of message (SPEC L-24)."""
    return _KIND.match(text) is not None


def is_media(text: str) -> bool:
    """Whether the text is a media type as SPEC L-27 has it."""
    return _MEDIA.match(text) is not None


def is_time(text: str) -> bool:
    """Whether the text is a time that there is, in the one form of SPEC L-25."""
    if not _TIME.match(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _text(value: Mapping[str, JsonValue], key: str) -> str:
    item = value[key]
    if not isinstance(item, str):
        raise LedgerError("message", f"{key} is not a text")
    return item


def _integer(value: Mapping[str, JsonValue], key: str) -> int:
    item = value[key]
    if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item <= MAX_INTEGER:
        raise LedgerError("message", f"{key} is not a whole number")
    return item


def _agent(value: JsonValue) -> AgentId:
    if not isinstance(value, str):
        raise LedgerError("message", "an agent id is not a text")
    public_key(value)
    return AgentId(value)


def _parts(value: JsonValue) -> tuple[Part, ...]:
    if not isinstance(value, list) or len(value) > MAX_PARTS:
        raise LedgerError("message", f"parts is not a list of at most {MAX_PARTS}")
    found: list[Part] = []
    for item in value:
        if not isinstance(item, dict) or set(item) != {"hash", "name", "size", "type"}:
            raise LedgerError("message", "a part's fields are not hash, name, size and type")
        digest = decode_hash(_text(item, "hash"), "message", "a part's hash")
        found.append(
            Part(name=_text(item, "name"), type=_text(item, "type"), size=_integer(item, "size"), hash=digest)
        )
    return tuple(found)
