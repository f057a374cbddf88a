"""The shape that nearly every entry has, taken apart by patterns instead of a JSON parser: three times as fast.

Nothing is refused here. What does not have the shape gives None, and the strict parsers judge it and say what is
wrong. What has it is what they would have found: the patterns are written from SPEC sections 2, 3 and 6 and are
narrower than these, texts are printable ASCII without escapes, and tests hold both ways against one another.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, unhexlify
from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeAlias

from agentmesh_ledger.affairs import AFFAIRS
from agentmesh_ledger.encoding import strict64
from agentmesh_ledger.envelope import MAX_ENTRY, PAYLOAD_TYPE
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import public_key
from agentmesh_ledger.jcs import MAX_DEPTH, MAX_INTEGER, parse
from agentmesh_ledger.message import MAX_CONTENT, MAX_PART, MAX_PARTS, MAX_TO, is_kind, is_media, is_time
from agentmesh_ledger.text import is_dialogue, is_origin
from agentmesh_ledger.tree import MAX_PROOF

_N: Final = rb"(0|[1-9][0-9]{0,15})"
_PLAIN: Final = rb"[ !#-\[\]-~]"  # printable ASCII that JSON writes as itself
_TEXT: Final = rb'"([^"]*)"'  # looked at by the functions at the end, which remember what they have seen
_PART: Final = (
    rb'\{"hash":"([0-9a-f]{64})","name":' + _TEXT + rb',"size":' + _N + rb',"type":' + _TEXT + rb"\}"
)
_NAME: Final = re.compile(_PLAIN + rb"{1,128}")
_PARTS: Final = re.compile(_PART)
_HEAD: Final = re.compile(rb'\{"author":' + _TEXT + rb',"dialogue":' + _TEXT + rb',"facts":')
_TAIL: Final = re.compile(
    rb',"index":' + _N + rb',"kind":' + _TEXT + rb',"log":' + _TEXT + rb',"parts":\['
    rb"(?:" + _PART + rb"((?:,\{[^{}]*\})*))?"
    rb'\],"prev":"([0-9a-f]{64})","reply_to":(?:null|' + _N + rb'),"seq":' + _N + rb',"time":"'
    rb"((?!0000)[0-9]{4}-(?:0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    rb'T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z)","to":\[([^]]*)\],"v":1\}'
)
_ENTRY_HEAD: Final = b'{"payload":"'
_ENTRY_TAIL: Final = re.compile(
    rb'","payloadType":"'
    + re.escape(PAYLOAD_TYPE.encode())
    + rb'","signatures":\[\{"keyid":"('
    + _PLAIN
    + rb'*)","sig":"([A-Za-z0-9+/]{85}[AQgw]==)"\}\]\}'
)
_LINE_HEAD: Final = b'{"entry":"'
_SHOWN: Final = rb'"([0-9a-f]{64})":(?:("withheld")|\{"data":")'
_LINE_MIDDLE: Final = re.compile(rb'","index":' + _N + rb',"parts":\{(?:' + _SHOWN + rb")?")
_SHOWN_NEXT: Final = re.compile(_SHOWN)
_SHOWN_TAIL: Final = re.compile(rb'","salt":"([A-Za-z0-9+/]{21}[AQgw]==)","type":"(' + _PLAIN + rb'*)"\}')
# What stands behind the only part of a line without a proof, where content is shown.
_SHOWN_END: Final = re.compile(_SHOWN_TAIL.pattern + rb"\}\}")
_PROOF: Final = re.compile(rb'\},"proof":\[((?:"[0-9a-f]{64}")?(?:,"[0-9a-f]{64}")*)\]\}')

# Plain tuples: a named one costs as much to make as a pattern to match.
# A part as the message names it: hex hash, size, media type.
SwiftPart: TypeAlias = tuple[bytes, int, bytes]
# Content as a line shows it: hex hash, salt, data, media type; None where it is withheld.
SwiftShown: TypeAlias = tuple[bytes, bytes | None, bytes | None, bytes]
# An entry line: index, entry, content, proof.
SwiftLine: TypeAlias = tuple[int, bytes, tuple[SwiftShown, ...], tuple[bytes, ...] | None]
# A message: author, the author's key, dialogue, facts, index, kind, log, prev, seq, parts.
SwiftMessage: TypeAlias = tuple[str, bytes, str, bytes, int, str, str, bytes, int, tuple[SwiftPart, ...]]


def swift_line(line: bytes, *, proof: bool) -> SwiftLine | None:
    """The line without its line feed, where it has the common shape."""
    if line[:10] != _LINE_HEAD:
        return None
    end = line.find(b'"', 10)
    middle = _LINE_MIDDLE.match(line, end)
    if middle is None:
        return None
    number, first, withheld = middle.groups()
    index, at = int(number), middle.end()
    try:
        entry = strict64(line[10:end])
        shown: tuple[SwiftShown, ...] = ()
        if first is not None:
            if withheld is None and not proof:  # nearly always one part, and then the line ends
                end = line.find(b'"', at)
                last = _SHOWN_END.fullmatch(line, end)
                if last is not None and index <= MAX_INTEGER:
                    salt, media = last.groups()
                    only = (first, a2b_base64(salt), strict64(line[at:end]), media)
                    return index, entry, (only,), None
            shown, at = _shown(line, at, first, withheld is not None)
    except ValueError:
        return None
    if index > MAX_INTEGER:
        return None
    if not proof:
        return (index, entry, shown, None) if line[at:] == b"}}" else None
    found = _PROOF.fullmatch(line, at)
    if found is None:
        return None
    texts = found[1].split(b",") if found[1] else []
    # The pattern lets a first comma through where the first hash is missing.
    if len(texts) > MAX_PROOF or not all(texts):
        return None
    return index, entry, shown, tuple(unhexlify(each[1:-1]) for each in texts)


def _shown(line: bytes, at: int, digest: bytes, withheld: bool) -> tuple[tuple[SwiftShown, ...], int]:
    """The content of a line, from behind the first hash on, and where its closing brace stands.

    Raises: ValueError for any other shape.
    """
    found: list[SwiftShown] = []
    while True:
        if withheld:
            found.append((digest, None, None, b""))
        else:
            end = line.find(b'"', at)
            tail = _SHOWN_TAIL.match(line, end)
            if tail is None:
                raise ValueError("content")
            salt, media = tail.groups()
            found.append((digest, a2b_base64(salt), strict64(line[at:end]), media))
            at = tail.end()
        if line[at : at + 1] != b",":
            return tuple(found), at
        following = _SHOWN_NEXT.match(line, at + 1)
        if following is None or len(found) == MAX_PARTS or following[1] <= digest:
            raise ValueError("content")
        digest, withheld, at = following[1], following[2] is not None, following.end()


def swift_envelope(entry: bytes) -> tuple[bytes, bytes, bytes] | None:
    """The payload, the keyid and the signature of an entry of the common shape."""
    if entry[:12] != _ENTRY_HEAD or len(entry) > MAX_ENTRY:
        return None
    end = entry.find(b'"', 12)
    tail = _ENTRY_TAIL.fullmatch(entry, end) if end > 0 else None
    if tail is None:
        return None
    keyid, signature = tail.groups()
    try:
        return strict64(entry[12:end]), keyid, a2b_base64(signature)
    except ValueError:
        return None


def swift_message(payload: bytes) -> SwiftMessage | None:
    """What a payload of the common shape says. The log's own affairs never have it."""
    head = _HEAD.match(payload)
    # No text of JSON can hold these bytes, which have a bare quote, and after the facts they stand but once.
    at = payload.rfind(b',"index":')
    tail = _TAIL.fullmatch(payload, at) if at > 0 else None
    if head is None or tail is None:
        return None
    number, kind, log, digest, name, size, media, more, prev, reply_to, seq_, time, day, to = tail.groups()
    index, seq = int(number), int(seq_)
    if seq > index or index > MAX_INTEGER or (reply_to is not None and int(reply_to) >= index):
        return None
    if day > b"28" and not _is_date(time[:10]):
        return None
    author, dialogue = head.groups()
    parts: tuple[SwiftPart, ...] = ()
    try:
        if digest is not None:
            parts = (_part(digest, name, size, media),)
            if more:
                parts = _more_parts(parts[0], name, more)
        agent, key = _agent(author)
        if to:
            _require_agents(to)
        facts = payload[head.end() : at]
        if facts != b"{}":
            _require_facts(facts)
        return (
            agent,
            key,
            _dialogue(dialogue),
            facts,
            index,
            _kind(kind),
            _log(log),
            unhexlify(prev),
            seq,
            parts,
        )
    except (LedgerError, ValueError):
        return None


def _part(digest: bytes, name: bytes, size: bytes, media: bytes) -> SwiftPart:
    _require_part(name, media)
    number = int(size)
    if number > MAX_PART:
        raise ValueError("size")
    return digest, number, media


def _more_parts(first: SwiftPart, name: bytes, more: bytes) -> tuple[SwiftPart, ...]:
    found, names, at = [first], {name}, 0
    while at < len(more):
        one = _PARTS.match(more, at + 1)
        if one is None or len(found) == MAX_PARTS:
            raise ValueError("parts")
        found.append(_part(*one.groups()))
        names.add(one[2])
        at = one.end()
    if len(names) != len(found) or len({digest for digest, _, _ in found}) != len(found):
        raise ValueError("parts")
    if sum(size for _, size, _ in found) > MAX_CONTENT:
        raise ValueError("parts")
    return tuple(found)


def _require_facts(facts: bytes) -> None:
    """Facts are the one free JSON value of a message. A value that parses whole ends where its bytes end, so that
    the rest of the payload was cut at the right place."""
    # In the payload they stand one level down.
    if facts.count(b"{") + facts.count(b"[") >= MAX_DEPTH or not isinstance(parse(facts), dict):
        raise ValueError("facts")


# What is looked at below repeats from entry to entry.


@lru_cache(maxsize=1024)
def _require_agents(to: bytes) -> None:
    agents = to.split(b",")
    if len(agents) > MAX_TO or len(set(agents)) != len(agents):
        raise ValueError("to")
    for each in agents:
        if each[:1] != b'"' or each[-1:] != b'"':
            raise ValueError("to")
        _agent(each[1:-1])


@lru_cache(maxsize=64)
def _is_date(date: bytes) -> bool:
    return is_time(f"{date.decode()}T00:00:00.000Z")


@lru_cache(maxsize=4096)
def _agent(text: bytes) -> tuple[str, bytes]:
    author = text.decode("ascii")
    return author, public_key(author)


@lru_cache(maxsize=4096)
def _dialogue(text: bytes) -> str:
    return _held(text, is_dialogue)


@lru_cache(maxsize=1024)
def _kind(text: bytes) -> str:
    return _held(text, lambda kind: is_kind(kind) and kind not in AFFAIRS)


@lru_cache(maxsize=64)
def _log(text: bytes) -> str:
    return _held(text, lambda log: is_origin(log) and "\\" not in log)


@lru_cache(maxsize=1024)
def _require_part(name: bytes, media: bytes) -> None:
    if not _NAME.fullmatch(name) or not is_media(media.decode("ascii")):
        raise ValueError("part")


def _held(text: bytes, rule: Callable[[str], bool]) -> str:
    found = text.decode("ascii")
    if not rule(found):
        raise ValueError(found)
    return found
