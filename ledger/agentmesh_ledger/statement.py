"""A statement: what one side of an MCP exchange asked or answered, signed on its own (SPEC section 10).

It travels beside a request or a result as a DSSE envelope in one JSON object. It says by a digest what was asked or
answered, so that a kept statement and the content together show it to anybody, with no log and no server.
"""

from __future__ import annotations

import hashlib
import json
import re
from binascii import b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from agentmesh_ledger.encoding import decode64, decode_hash
from agentmesh_ledger.envelope import pae
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import AgentId, is_signed, public_key
from agentmesh_ledger.jcs import JsonValue, canonical, parse
from agentmesh_ledger.keys import AgentKey
from agentmesh_ledger.message import is_time
from agentmesh_ledger.text import has_controls, is_dialogue, shown

StatementType: TypeAlias = Literal["request", "result", "error"]

PAYLOAD_TYPE: Final = "application/vnd.agentmesh.statement.v1+json"
MAX_ENVELOPE: Final = 32_768
MAX_NAME: Final = 2_048
MAX_SUBJECT: Final = 200

_ENVELOPE: Final = (
    b'{"payload":"%b","payloadType":"'
    + PAYLOAD_TYPE.encode()
    + b'","signatures":[{"keyid":"%b","sig":"%b"}]}'
)
_METHOD: Final = re.compile(r"[A-Za-z0-9$_][A-Za-z0-9$_/.:-]{0,127}\Z")
_NONCE: Final = re.compile(r"[0-9a-f]{32}\Z")
_TYPES: Final[Mapping[str, StatementType]] = {"request": "request", "result": "result", "error": "error"}
# fmt: off
_FIELDS: Final = frozenset({
    "v", "type", "method", "name", "digest", "author", "subject", "audience", "dialogue", "nonce", "time",
})
# fmt: on


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What is signed. `request` is the digest of the envelope that is answered, None in a request itself.

    `audience` is empty where the other side's key is not known, `dialogue` where there is none.
    """

    type: StatementType
    method: str
    name: str
    digest: str
    author: AgentId
    subject: str
    audience: str
    dialogue: str
    nonce: str
    time: str
    request: str | None = None

    def payload(self) -> bytes:
        """The canonical bytes that are signed (SPEC L-101)."""
        request = b"" if self.request is None else b',"request":"%b"' % self.request.encode()
        # The canonical form, written out: only these three can have anything to escape.
        return b"".join(
            (
                b'{"audience":%b,"author":"%b"' % (_quoted(self.audience), self.author.encode()),
                b',"dialogue":"%b","digest":"%b"' % (self.dialogue.encode(), self.digest.encode()),
                b',"method":"%b","name":%b' % (self.method.encode(), _quoted(self.name)),
                b',"nonce":"%b"%b' % (self.nonce.encode(), request),
                b',"subject":%b,"time":"%b"' % (_quoted(self.subject), self.time.encode()),
                b',"type":"%b","v":1}' % self.type.encode(),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedStatement:
    """A statement under its author's signature. `envelope` is the canonical text of the object on the wire."""

    statement: Statement
    envelope: bytes
    wire: Mapping[str, JsonValue]

    @property
    def digest(self) -> str:
        """The hex SHA-256 of the envelope: what an answer names the request by (SPEC L-104)."""
        return hashlib.sha256(self.envelope).hexdigest()


def content_digest(nonce: str, content: bytes) -> str:
    """The digest of canonical content under a statement's nonce, which is its salt (SPEC L-103)."""
    return hashlib.sha256(bytes.fromhex(nonce) + content).hexdigest()


def seal_statement(key: AgentKey, statement: Statement) -> SealedStatement:
    """The statement under the key's signature.

    Raises: LedgerError(message) where a field is out of bounds, or the key is not the author's;
    LedgerError(canonical) where a text has no UTF-8 form.
    """
    if key.id != statement.author:
        raise LedgerError("message", "the statement names another author than the key")
    _require_shapes(statement)
    payload = statement.payload()
    return _sealed(statement, _text64(payload), key.id, _text64(key.sign(pae(PAYLOAD_TYPE, payload))))


def open_statement(envelope: bytes) -> SealedStatement:
    """The statement of an envelope's bytes, its signature checked (SPEC L-100 to L-105).

    Raises: LedgerError(canonical, envelope, message, identity, signature), and nothing else, whatever the bytes.
    """
    if len(envelope) > MAX_ENVELOPE + len(_ENVELOPE):
        raise LedgerError("envelope", f"the statement is longer than {MAX_ENVELOPE} bytes")
    return open_wire(parse(envelope))


def open_wire(value: object) -> SealedStatement:
    """The statement of the JSON object found on the wire, its signature checked.

    Raises: as `open_statement`, whatever the value.
    """
    payload, keyid, signature = _fields(value)
    signed = decode64(payload, "envelope", "the payload")
    raw = decode64(signature, "envelope", "the signature")
    statement = _parsed(signed)
    if keyid != statement.author:
        raise LedgerError("envelope", "the envelope's keyid is not the statement's author")
    if not is_signed(public_key(statement.author), pae(PAYLOAD_TYPE, signed), raw):
        raise LedgerError("signature", f"the signature is not that of {statement.author}")
    return _sealed(statement, payload, keyid, signature)


def _fields(value: object) -> tuple[str, str, str]:
    """Payload, keyid and signature as they stand. The size is bounded before anything is read: it is a stranger's."""
    if not isinstance(value, dict) or set(value) != {"payload", "payloadType", "signatures"}:
        raise LedgerError("envelope", "the statement is not a DSSE envelope")
    payload, signatures = value["payload"], value["signatures"]
    if value["payloadType"] != PAYLOAD_TYPE:
        raise LedgerError("envelope", f"the payload type is not {PAYLOAD_TYPE}")
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise LedgerError("envelope", "the statement has not exactly one signature")
    one = signatures[0]
    if not isinstance(one, dict) or set(one) != {"keyid", "sig"}:
        raise LedgerError("envelope", "the statement's signature is malformed")
    keyid, signature = one["keyid"], one["sig"]
    if not isinstance(payload, str) or not isinstance(keyid, str) or not isinstance(signature, str):
        raise LedgerError("envelope", "the envelope's fields are not texts")
    if len(payload) + len(keyid) + len(signature) > MAX_ENVELOPE:
        raise LedgerError("envelope", f"the statement is longer than {MAX_ENVELOPE} bytes")
    return payload, keyid, signature


def _parsed(payload: bytes) -> Statement:
    try:
        value: object = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise LedgerError("canonical", f"the statement is not JSON: {type(error).__name__}") from error
    if not isinstance(value, dict):
        raise LedgerError("message", "the statement is not an object")
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise LedgerError("message", "the statement's type is not request, result or error")
    if set(value) != (_FIELDS if kind == "request" else _FIELDS | {"request"}):
        raise LedgerError("message", f"the statement's fields are not those of a {kind}")
    if value["v"] != 1 or not isinstance(value["v"], int) or isinstance(value["v"], bool):
        raise LedgerError("message", "the statement is not of version 1")
    texts: dict[str, str] = {}
    for name, item in value.items():
        if name != "v":
            if not isinstance(item, str):
                raise LedgerError("message", f"the statement's {name} is not a text")
            texts[name] = item
    statement = Statement(
        type=_TYPES[kind],
        method=texts["method"],
        name=texts["name"],
        digest=texts["digest"],
        author=AgentId(texts["author"]),
        subject=texts["subject"],
        audience=texts["audience"],
        dialogue=texts["dialogue"],
        nonce=texts["nonce"],
        time=texts["time"],
        request=texts.get("request"),
    )
    _require_shapes(statement)
    # One text for one statement: white space, another order or a second field of one name would show here.
    if statement.payload() != payload:
        raise LedgerError("canonical", "the statement is not the canonical form of what it says")
    return statement


def _require_shapes(statement: Statement) -> None:
    """The same rules for who signs and who reads (SPEC L-102)."""
    public_key(statement.author)
    decode_hash(statement.digest, "message", "the statement's digest")
    if (statement.request is None) != (statement.type == "request"):
        raise LedgerError("message", "only an answer names the request")
    if statement.request:
        decode_hash(statement.request, "message", "the statement's request")
    if not _METHOD.match(statement.method):
        raise LedgerError("message", f"{shown(statement.method)!r} is not a method")
    if len(statement.name) > MAX_NAME:
        raise LedgerError("message", f"the name is longer than {MAX_NAME} characters")
    if not statement.subject or not _is_line(statement.subject):
        raise LedgerError("message", f"{shown(statement.subject)!r} cannot be a subject")
    if not _is_line(statement.audience):
        raise LedgerError("message", f"{shown(statement.audience)!r} cannot be an audience")
    if statement.dialogue and not is_dialogue(statement.dialogue):
        raise LedgerError("message", f"{shown(statement.dialogue)!r} is not a dialogue id")
    if not _NONCE.match(statement.nonce):
        raise LedgerError("message", "the nonce is not 32 lower-case hex digits")
    if not is_time(statement.time):
        raise LedgerError("message", f"{shown(statement.time)!r} is not a UTC time with milliseconds")


def _is_line(text: str) -> bool:
    return len(text) <= MAX_SUBJECT and (text.isascii() and text.isprintable() or not has_controls(text))


def _sealed(statement: Statement, payload: str, keyid: str, signature: str) -> SealedStatement:
    """Only of texts that were found to be an agent id and base64: there is nothing to escape in them."""
    return SealedStatement(
        statement=statement,
        envelope=_ENVELOPE % (payload.encode(), keyid.encode(), signature.encode()),
        wire={
            "payload": payload,
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": keyid, "sig": signature}],
        },
    )


def _quoted(text: str) -> bytes:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return b'"%b"' % text.encode()  # nearly always so
    return canonical(text)


def _text64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()
