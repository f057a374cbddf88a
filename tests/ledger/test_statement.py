"""Statements: one form, bound to their author, and nothing but LedgerError for all else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from agentmesh_ledger import AgentKey, JsonValue, LedgerError
from agentmesh_ledger.encoding import encode64
from agentmesh_ledger.envelope import pae, seal
from agentmesh_ledger.identity import agent_id
from agentmesh_ledger.jcs import canonical
from agentmesh_ledger.statement import (
    MAX_ENVELOPE,
    MAX_NAME,
    PAYLOAD_TYPE,
    Statement,
    content_digest,
    open_statement,
    open_wire,
    seal_statement,
)


def agent(seed: int) -> AgentKey:
    key = SigningKey(bytes([seed]) * 32)
    return AgentKey(name=f"a{seed}", id=agent_id(bytes(key.verify_key)), _key=key)


ADA, BEN = agent(1), agent(2)
ASKED = Statement(
    type="request",
    method="tools/call",
    name="echo",
    digest="ab" * 32,
    author=ADA.id,
    subject="ada@example.org/desk",
    audience=BEN.id,
    dialogue="d1",
    nonce="cd" * 16,
    time="2026-11-24T08:00:00.000Z",
)
ANSWERED = replace(ASKED, type="result", author=BEN.id, audience=ADA.id, request="ef" * 32)


def fields(statement: Statement = ASKED) -> dict[str, Any]:
    found = json.loads(statement.payload())
    assert isinstance(found, dict)
    return found


def signed(
    payload: bytes, *, key: AgentKey = ADA, keyid: str | None = None, kind: str = PAYLOAD_TYPE
) -> dict[str, Any]:
    """An envelope of whatever bytes, under a signature that holds."""
    signature = encode64(key.sign(pae(kind, payload)))
    return {
        "payload": encode64(payload),
        "payloadType": kind,
        "signatures": [{"keyid": key.id if keyid is None else keyid, "sig": signature}],
    }


def refusal(value: Any) -> str:
    """Why it is refused, on the wire and as bytes alike."""
    with pytest.raises(LedgerError) as caught:
        open_wire(value)
    try:
        data = canonical(value)
    except LedgerError:
        return caught.value.reason
    with pytest.raises(LedgerError) as again:
        open_statement(data)
    assert again.value.reason == caught.value.reason
    return caught.value.reason


@pytest.mark.spec("L-100", "L-101", "L-104")
@pytest.mark.parametrize(
    "statement", [ASKED, ANSWERED, replace(ANSWERED, type="error", request="", dialogue="")]
)
def test_a_statement_reads_back_from_its_bytes_and_from_the_wire(statement: Statement) -> None:
    sealed = seal_statement(ADA if statement is ASKED else BEN, statement)
    assert open_statement(sealed.envelope) == open_wire(json.loads(sealed.envelope)) == sealed
    assert canonical(dict(sealed.wire)) == sealed.envelope
    assert sealed.digest == hashlib.sha256(sealed.envelope).hexdigest()
    # The object may be written with its members in any order, and its bytes stay the canonical ones.
    other = json.loads(json.dumps(dict(reversed(list(sealed.wire.items())))))
    assert open_wire(other).envelope == sealed.envelope


@pytest.mark.spec("L-103")
def test_the_digest_is_salted_by_the_nonce() -> None:
    content = canonical({"arguments": {"yes": True}})
    expected = hashlib.sha256(bytes.fromhex("cd" * 16) + content).hexdigest()
    assert content_digest("cd" * 16, content) == expected != content_digest("ce" * 16, content)


ENVELOPES: list[tuple[str, Any]] = [
    ("not an object", None),
    ("a text", "statement"),
    ("a list", []),
    ("empty", {}),
    ("one more field", signed(ASKED.payload()) | {"more": 1}),
    ("one field less", {"payload": "", "signatures": []}),
    ("a message's type", signed(ASKED.payload(), kind="application/vnd.agentmesh.message.v1+json")),
    ("a payload that is no text", signed(ASKED.payload()) | {"payload": 7}),
    ("a payload that is no base64", signed(ASKED.payload()) | {"payload": "%%%"}),
    ("no signature", signed(ASKED.payload()) | {"signatures": []}),
    ("two signatures", signed(ASKED.payload()) | {"signatures": signed(ASKED.payload())["signatures"] * 2}),
    ("a signature that is no object", signed(ASKED.payload()) | {"signatures": ["x"]}),
    (
        "a signature with one more field",
        signed(ASKED.payload()) | {"signatures": [{"keyid": "", "sig": "", "x": 1}]},
    ),
    (
        "a signature that is no text",
        signed(ASKED.payload()) | {"signatures": [{"keyid": ADA.id, "sig": None}]},
    ),
    ("another keyid", signed(ASKED.payload(), keyid=BEN.id)),
    ("an empty keyid", signed(ASKED.payload(), keyid="")),
]


@pytest.mark.spec("L-100", "L-101", "L-105")
@pytest.mark.parametrize(("what", "value"), ENVELOPES, ids=[each[0] for each in ENVELOPES])
def test_an_envelope_out_of_shape_is_refused(what: str, value: Any) -> None:
    assert refusal(value) == "envelope"


PAYLOADS: list[tuple[str, dict[str, Any], str]] = [
    ("one more field", fields() | {"more": ""}, "message"),
    ("a request that answers", fields() | {"request": ""}, "message"),
    ("an answer to nothing", {k: v for k, v in fields(ANSWERED).items() if k != "request"}, "message"),
    ("one field less", {k: v for k, v in fields().items() if k != "nonce"}, "message"),
    ("another version", fields() | {"v": 2}, "message"),
    ("a true version", fields() | {"v": True}, "message"),
    ("another type", fields() | {"type": "notification"}, "message"),
    ("a type that is no text", fields() | {"type": ["request"]}, "message"),
    ("a name that is no text", fields() | {"name": None}, "message"),
    ("a name too long", fields() | {"name": "x" * (MAX_NAME + 1)}, "message"),
    ("an author that is none", fields() | {"author": "ada"}, "identity"),
    ("a digest in upper case", fields() | {"digest": "AB" * 32}, "message"),
    ("a digest too short", fields() | {"digest": "ab" * 31}, "message"),
    ("a method with a space", fields() | {"method": "tools call"}, "message"),
    ("no method", fields() | {"method": ""}, "message"),
    ("no subject", fields() | {"subject": ""}, "message"),
    ("a subject with an escape", fields() | {"subject": "\x1b[2J"}, "message"),
    ("a subject too long", fields() | {"subject": "x" * 201}, "message"),
    ("an audience of two lines", fields() | {"audience": "a\nb"}, "message"),
    ("a dialogue with a slash", fields() | {"dialogue": "a/b"}, "message"),
    ("a nonce too short", fields() | {"nonce": "cd" * 15}, "message"),
    ("a nonce that is no hex", fields() | {"nonce": "xy" * 16}, "message"),
    ("a time in seconds", fields() | {"time": "2026-11-24T08:00:00Z"}, "message"),
    ("a day that is not", fields() | {"time": "2026-02-30T08:00:00.000Z"}, "message"),
    ("a request that is no hash", fields(ANSWERED) | {"request": "x"}, "message"),
]  # fmt: skip


@pytest.mark.spec("L-101", "L-102", "L-104", "L-105")
@pytest.mark.parametrize(("what", "value", "reason"), PAYLOADS, ids=[each[0] for each in PAYLOADS])
def test_a_payload_out_of_shape_is_refused_although_it_is_signed(
    what: str, value: dict[str, Any], reason: str
) -> None:
    author = BEN if value.get("author") == BEN.id else ADA
    assert refusal(signed(canonical(value), key=author, keyid=str(value.get("author")))) == reason


@pytest.mark.spec("L-100", "L-105")
def test_other_texts_of_the_same_values_are_refused() -> None:
    assert refusal(signed(json.dumps(fields()).encode())) == "canonical"
    assert refusal(signed(b"[" * 50_000)) in ("canonical", "envelope")
    assert refusal(signed(b"\xff")) == "canonical"
    sealed = seal_statement(ADA, ASKED)
    for data in (sealed.envelope + b"\n", b" " + sealed.envelope, sealed.envelope[:-1], b"", b"null"):
        with pytest.raises(LedgerError):
            open_statement(data)
    assert refusal(signed(ASKED.payload(), keyid="\ud800")) == "envelope"
    twice = ASKED.payload().replace(b'{"audience"', b'{"audience":"","audience"')
    assert refusal(signed(twice)) == "canonical"


@pytest.mark.spec("L-101", "L-105")
def test_a_signature_of_another_key_or_of_other_bytes_does_not_hold() -> None:
    forged = signed(ASKED.payload(), key=BEN, keyid=ADA.id)
    assert refusal(forged) == "signature"
    other = seal_statement(ADA, replace(ASKED, name="other")).wire
    mixed = dict(seal_statement(ADA, ASKED).wire) | {"signatures": other["signatures"]}
    assert refusal(mixed) == "signature"


@pytest.mark.spec("L-100")
def test_an_entry_of_a_log_is_no_statement_and_a_statement_signs_no_entry() -> None:
    """The payload type is under the signature: neither can be shown as the other."""
    entry = json.loads(seal(ADA, ASKED.payload()))
    assert refusal(entry) == "envelope"
    assert refusal(entry | {"payloadType": PAYLOAD_TYPE}) == "signature"


@pytest.mark.spec("L-100")
def test_a_large_value_is_refused_before_it_is_read() -> None:
    assert refusal(signed(b"x" * MAX_ENVELOPE)) == "envelope"
    assert (
        refusal(signed(ASKED.payload()) | {"signatures": [{"keyid": "x" * 10**7, "sig": ""}]}) == "envelope"
    )


@pytest.mark.spec("L-102")
@pytest.mark.parametrize(
    "change",
    [
        {"subject": ""},
        {"name": "x" * 3000},
        {"method": ""},
        {"dialogue": "/"},
        {"request": ""},
        {"author": BEN.id},
    ],
)
def test_what_no_reader_would_take_is_not_signed(change: dict[str, Any]) -> None:
    with pytest.raises(LedgerError) as caught:
        seal_statement(ADA, replace(ASKED, **change))
    assert caught.value.reason == "message"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(PAYLOAD_TYPE) | st.just(ADA.id),
    lambda each: st.lists(each, max_size=3)
    | st.dictionaries(st.text(max_size=5) | st.sampled_from(["payload", "payloadType", "signatures", "keyid", "sig"]), each, max_size=4),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.spec("L-105")
@given(json_values | st.fixed_dictionaries({
    "payload": json_values, "payloadType": st.just(PAYLOAD_TYPE) | json_values,
    "signatures": st.lists(st.fixed_dictionaries({"keyid": json_values, "sig": json_values}), max_size=2),
}))  # fmt: skip
def test_whatever_stands_on_the_wire_only_a_ledger_error_comes_of_it(value: JsonValue) -> None:
    with pytest.raises(LedgerError):
        open_wire(value)


@pytest.mark.spec("L-105")
@given(st.dictionaries(st.sampled_from(sorted(fields(ANSWERED))), json_values, max_size=3))
def test_whatever_a_signed_payload_says_only_a_ledger_error_comes_of_it(changes: dict[str, Any]) -> None:
    value = fields() | changes
    try:
        payload = canonical(value)
    except LedgerError:
        return
    try:
        assert json.loads(open_wire(signed(payload)).statement.payload()) == value
    except LedgerError:
        pass


@pytest.mark.spec("L-105")
@given(st.binary(max_size=400), st.integers(0, 400), st.integers(0, 255))
def test_whatever_the_bytes_only_a_ledger_error_comes_of_them(data: bytes, place: int, byte: int) -> None:
    with pytest.raises(LedgerError):
        open_statement(data)
    envelope = bytearray(seal_statement(ADA, ASKED).envelope)
    if envelope[place] != byte:
        envelope[place] = byte
        with pytest.raises(LedgerError):
            open_statement(bytes(envelope))
