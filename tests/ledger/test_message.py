from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_ledger import JsonValue, LedgerError, Message, Part
from agentmesh_ledger.encoding import encode64
from agentmesh_ledger.envelope import MAX_ENTRY, PAYLOAD_TYPE, pae, seal, unseal
from agentmesh_ledger.jcs import canonical, parse
from agentmesh_ledger.message import parse_message
from agentmesh_ledger.record import Opening, open_entry

HASH = "ab" * 32
# fmt: off
FIELDS = (
    "author", "dialogue", "facts", "index", "kind", "log", "parts", "prev", "reply_to", "seq", "time", "to", "v",
)
# fmt: on


def part(**changes: JsonValue) -> dict[str, JsonValue]:
    return {"hash": HASH, "name": "text", "size": 3, "type": "text/plain", **changes}


@pytest.mark.spec("L-12")
def test_what_is_signed_is_the_dsse_pae() -> None:
    # The example of the DSSE protocol page.
    assert (
        pae("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("é", "ü".encode()) == "DSSEv1 2 é 2 ü".encode()


@pytest.mark.spec("L-10", "L-11", "L-20")
def test_an_entry_reads_back_to_its_message(forge) -> None:
    forge.begin().say(forge.ada, "hi", to=[forge.ben.id], reply_to=0, facts={"x": [1, 0.5, "é"]})
    record = open_entry(2, forge.entries[2], forge.openings[2])
    assert record.message.payload() == unseal(forge.entries[2]).payload
    assert record.parts[0].data == b"hi"
    assert record.message.facts == {"x": [1, 0.5, "é"]}


def broken_envelopes() -> list[tuple[str, dict[str, JsonValue]]]:
    sig: dict[str, JsonValue] = {"keyid": "k", "sig": encode64(b"s" * 64)}
    good: dict[str, JsonValue] = {"payload": "", "payloadType": PAYLOAD_TYPE, "signatures": [sig]}
    return [
        ("L-10", {**good, "extra": 1}),
        ("L-10", {"payload": "", "signatures": [sig]}),
        ("L-10", {**good, "payloadType": "application/json"}),
        ("L-10", {**good, "payload": 3}),
        ("L-10", {**good, "payload": "QQ"}),
        ("L-11", {**good, "signatures": []}),
        ("L-11", {**good, "signatures": [sig, sig]}),
        ("L-11", {**good, "signatures": sig}),
        ("L-11", {**good, "signatures": [{**sig, "more": 1}]}),
        ("L-11", {**good, "signatures": [{**sig, "sig": encode64(b"s" * 63)}]}),
        ("L-11", {**good, "signatures": [{**sig, "keyid": None}]}),
    ]


@pytest.mark.spec("L-10", "L-11")
@pytest.mark.parametrize("envelope", [each for _, each in broken_envelopes()])
def test_an_envelope_of_another_shape_is_refused(envelope: dict[str, JsonValue]) -> None:
    with pytest.raises(LedgerError) as caught:
        unseal(canonical(envelope))
    assert caught.value.reason == "envelope"


@pytest.mark.spec("L-10")
def test_an_entry_over_65535_bytes_is_neither_written_nor_read(forge) -> None:
    with pytest.raises(LedgerError) as caught:
        seal(forge.ada, b"x" * 49_000)
    assert caught.value.reason == "too_large"
    with pytest.raises(LedgerError) as caught:
        unseal(b"x" * (MAX_ENTRY + 1))
    assert caught.value.reason == "envelope"


@pytest.mark.spec("L-13")
def test_the_author_decides_whose_signature_it_must_be(forge) -> None:
    payload = canonical(forge.payload(forge.ada, "say", "d1"))
    with pytest.raises(LedgerError) as caught:
        open_entry(0, seal(forge.ben, payload), {})  # keyid and signature of ben, author ada
    assert caught.value.reason == "signature"
    envelope = parse(seal(forge.ben, payload))
    assert isinstance(envelope, dict)
    signature = envelope["signatures"]
    assert isinstance(signature, list) and isinstance(signature[0], dict)
    signature[0]["keyid"] = forge.ada.id
    with pytest.raises(LedgerError) as caught:
        open_entry(0, canonical(envelope), {})
    assert caught.value.reason == "signature"


BROKEN: list[tuple[str, dict[str, JsonValue]]] = [
    ("L-20", {"v": 2}),
    ("L-20", {"v": True}),
    ("L-20", {"extra": 1}),
    ("L-20", {"facts": []}),
    ("L-20", {"log": 1}),
    ("L-21", {"log": "a b"}),
    ("L-22", {"index": -1}),
    ("L-22", {"index": 1.5}),
    ("L-22", {"index": True}),
    ("L-22", {"index": "0"}),
    ("L-22", {"seq": 1}),
    ("L-22", {"reply_to": 0}),
    ("L-22", {"reply_to": -1}),
    ("L-22", {"reply_to": False}),
    ("L-03", {"prev": HASH.upper()}),
    ("L-05", {"author": "ada"}),
    ("L-05", {"to": ["did:key:z6Mk"]}),
    ("L-05", {"author": None}),
    ("L-23", {"to": "ada"}),
    ("L-24", {"dialogue": ""}),
    ("L-24", {"dialogue": "a b"}),
    ("L-24", {"dialogue": "a\n"}),
    ("L-24", {"dialogue": "x" * 129}),
    ("L-24", {"kind": "Say"}),
    ("L-24", {"kind": ""}),
    ("L-24", {"kind": "say\n"}),
    ("L-25", {"time": "2026-11-24T08:00:00Z"}),
    ("L-25", {"time": "2026-02-30T08:00:00.000Z"}),
    ("L-25", {"time": "2026-11-24T24:00:00.000Z"}),
    ("L-25", {"time": "2026-11-24T08:00:00.000+00:00"}),
    ("L-25", {"time": "2026-11-24T08:00:00.000Z\n"}),
    ("L-25", {"time": "٢٠٢٦-11-24T08:00:00.000Z"}),
    ("L-26", {"kind": "key.register", "facts": {"name": "ada"}}),
    ("L-26", {"kind": "key.register", "dialogue": "log", "facts": {}}),
    ("L-26", {"kind": "key.register", "dialogue": "log", "facts": {"name": "a\x1b"}}),
    ("L-26", {"kind": "key.register", "dialogue": "log", "facts": {"name": "x" * 65}}),
    ("L-26", {"kind": "key.register", "dialogue": "log", "facts": {"name": "a"}, "parts": [part()]}),
    ("L-27", {"parts": [part()] * 2}),
    ("L-27", {"parts": [part(), part(hash="cd" * 32)]}),
    ("L-27", {"parts": [part(name="")]}),
    ("L-27", {"parts": [part(name="a\x00")]}),
    ("L-27", {"parts": [part(name="x" * 129)]}),
    ("L-27", {"parts": [part(type="text")]}),
    ("L-27", {"parts": [part(type="text/plain\n")]}),
    ("L-27", {"parts": [part(more=1)]}),
    ("L-27", {"parts": ["x"]}),
    ("L-27", {"parts": {}}),
    ("L-27", {"parts": [part(name=str(n), hash=f"{n:064x}") for n in range(65)]}),
    ("L-22", {"parts": [part(size=-1)]}),
    ("L-29", {"parts": [part(size=8 * 1024 * 1024 + 1)]}),
    ("L-29", {"parts": [part(name=str(n), hash=f"{n:064x}", size=8 * 1024 * 1024) for n in range(3)]}),
]


@pytest.mark.spec("L-20", "L-21", "L-22", "L-24", "L-25", "L-26", "L-27", "L-29")
@pytest.mark.parametrize("changes", [changes for _, changes in BROKEN])
def test_a_payload_with_a_field_out_of_bounds_is_refused(forge, changes: dict[str, JsonValue]) -> None:
    payload = canonical({**forge.payload(forge.ada, "say", "d1"), **changes})
    with pytest.raises(LedgerError) as caught:
        parse_message(payload)
    assert caught.value.reason in ("message", "identity")


@pytest.mark.spec("L-23")
def test_to_names_each_agent_once_and_at_most_64(forge) -> None:
    for to in ([forge.ada.id] * 2, [forge.ada.id] * 65):
        with pytest.raises(LedgerError):
            parse_message(canonical({**forge.payload(forge.ada, "say", "d1"), "to": to}))


@pytest.mark.spec("L-20")
@pytest.mark.parametrize("field", FIELDS)
def test_no_field_may_be_missing(forge, field: str) -> None:
    fields = forge.payload(forge.ada, "say", "d1")
    del fields[field]
    with pytest.raises(LedgerError):
        parse_message(canonical(fields))


@pytest.mark.spec("L-28")
def test_a_commitment_opens_only_with_its_salt_and_bytes(forge) -> None:
    forge.begin().say(forge.ada, "yes")
    ((digest, opening),) = forge.openings[2].items()
    assert opening.commitment() == __import__("hashlib").sha256(opening.salt + b"yes").digest()
    for wrong in (
        Opening(salt=opening.salt, data=b"no!"),
        Opening(salt=b"\1" * 16, data=b"yes"),
        Opening(salt=opening.salt + b"y", data=b"es"),  # the same hash, cut elsewhere
        Opening(salt=opening.salt[:15], data=b"yes"),
    ):
        with pytest.raises(LedgerError) as caught:
            open_entry(2, forge.entries[2], {digest: wrong})
        assert caught.value.reason == "part" and caught.value.index == 2


@pytest.mark.spec("L-28")
def test_the_same_short_answer_never_has_the_same_commitment(keys, tmp_path) -> None:
    from agentmesh_ledger import Draft, DraftPart, Ledger

    vote = DraftPart(name="vote", type="text/plain", data=b"yes")
    with Ledger.open(tmp_path / "l.db", origin="o", keys=keys, create=True) as ledger:
        ledger.append(
            [Draft(author=keys.agent("a"), kind="say", dialogue="d", parts=(vote,)) for _ in range(20)]
        )
        hashes = {each.hash for record in ledger.read() for each in record.parts}
    assert len(hashes) == 20


names = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=20)


@pytest.mark.spec("L-20")
@given(
    st.integers(0, 2**53 - 1),
    names,
    st.dictionaries(
        st.text(st.characters(exclude_categories=("Cs",)), max_size=8), st.integers(-9, 9), max_size=4
    ),
    st.binary(min_size=32, max_size=32),
)
def test_a_message_reads_back(index: int, name: str, facts: dict[str, int], digest: bytes) -> None:
    from agentmesh_ledger import AgentId

    author = AgentId("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK")
    message = Message(
        log="o/p",
        index=index,
        prev=digest,
        author=author,
        to=(author,),
        dialogue="d.1:2-3_4",
        seq=index // 2,
        kind="some.kind",
        reply_to=None if index == 0 else index - 1,
        time="2026-11-24T08:00:00.123Z",
        parts=(Part(name=name, type="application/vnd.x+json; v=1", size=0, hash=digest),),
        facts=facts,
    )
    assert parse_message(message.payload()) == message


@given(st.binary(max_size=400))
def test_only_ledger_errors_escape_the_entry_parsers(data: bytes) -> None:
    for parse_it in (unseal, parse_message, lambda data: open_entry(0, data, {})):
        try:
            parse_it(data)
        except LedgerError:
            pass


fields = st.sampled_from(FIELDS)
junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**53 - 1)
    | st.text(max_size=8).filter(lambda t: t.isprintable()),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(fields, junk, max_size=4))
def test_only_ledger_errors_escape_a_payload_of_junk(changes: dict[str, JsonValue]) -> None:
    good: dict[str, JsonValue] = {
        "author": "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK",
        "dialogue": "d",
        "facts": {},
        "index": 0,
        "kind": "say",
        "log": "o",
        "parts": [],
        "prev": HASH,
        "reply_to": None,
        "seq": 0,
        "time": "2026-11-24T08:00:00.000Z",
        "to": [],
        "v": 1,
    }
    try:
        message = parse_message(canonical({**good, **changes}))
    except LedgerError:
        return
    assert message.payload() == canonical({**good, **changes})
