"""The patterns and the strict parsers are of one mind: what the patterns accept the parsers read as the same."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_ledger import LedgerError
from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.encoding import decode64, encode64, strict64
from agentmesh_ledger.envelope import seal, unseal
from agentmesh_ledger.jcs import JsonValue, canonical
from agentmesh_ledger.judge import SOUND, Row, Terms, judge_lines, judge_rows, missing_row
from agentmesh_ledger.message import parse_message
from agentmesh_ledger.swift import swift_envelope, swift_line, swift_message
from agentmesh_ledger.transcript import parse_entry_line
from agentmesh_ledger.tree import leaf_hash

GOLDEN = Path(__file__).with_name("golden")


def agree_on_payload(payload: bytes) -> bool:
    """Whether the patterns accept; where they do, that the parser reads the same."""
    swift = swift_message(payload)
    if swift is None:
        return False
    author, _, dialogue, facts, index, kind, log, prev, seq, parts = swift
    message = parse_message(payload)
    assert (message.author, message.dialogue, message.index, message.kind) == (author, dialogue, index, kind)
    assert (message.log, message.prev, message.seq) == (log, prev, seq)
    assert canonical(message.facts) == facts
    assert [(part.hash.hex().encode(), part.size, part.type.encode()) for part in message.parts] == list(
        parts
    )
    return True


def agree_on_entry(entry: bytes) -> bool:
    swift = swift_envelope(entry)
    if swift is None:
        return False
    envelope = unseal(entry)
    assert (envelope.payload, envelope.keyid.encode(), envelope.signature) == swift
    return True


def agree_on_line(line: bytes, *, proof: bool) -> bool:
    swift = swift_line(line, proof=proof)
    if swift is None:
        return False
    strict = parse_entry_line(line, proof=proof)
    index, entry, content, hashes = swift
    assert (strict.index, strict.entry, strict.proof) == (index, entry, hashes)
    read = {}
    for digest, salt, data, media in content:
        key = bytes.fromhex(digest.decode())
        opening = strict.openings[key]
        assert (salt, data) == ((None, None) if opening is None else (opening.salt, opening.data))
        assert strict.types.get(key, "").encode() == media
        read[key] = opening
    assert read == strict.openings
    return True


def mutations(data: bytes, count: int, seed: int) -> list[bytes]:
    """Changed copies: bits, bytes of JSON's own, pieces cut, doubled and exchanged."""
    dice = random.Random(seed)  # repeatable on purpose
    found = []
    for _ in range(count):
        at, to = sorted(dice.randrange(len(data) + 1) for _ in range(2))
        end = min(len(data), at + dice.randrange(1, 9))
        found.append(
            dice.choice(
                [
                    data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :],
                    data[:at]
                    + dice.choice(b'"\\{}[],:0129 =AQgw+/\n\x7f').to_bytes(1, "big")
                    + data[end - 1 :],
                    data[:at] + data[end:],
                    data[:end] + data[at:],
                    data[:at] + data[to : to + 9] + data[at:to] + data[at : at + 9],
                ]
            )
        )
    return found


TEXTS = st.text(max_size=12) | st.sampled_from(
    ["log", "a b", 'say "hi"', "back\\slash", ',"index":3', "é", "\x7f", "{}"]
)
FACTS = st.dictionaries(
    TEXTS,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e6, 1e6) | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)
INDICES = st.integers(0, 40) | st.sampled_from([2**53 - 1, 2**53, 10**15, 10**16])
TIMES = st.sampled_from(
    [
        "2026-11-24T08:00:00.000Z",
        "2024-02-29T23:59:59.999Z",
        "2023-02-29T23:59:59.999Z",
        "2026-04-31T00:00:00.000Z",
        "0000-01-01T00:00:00.000Z",
        "0001-01-01T00:00:00.000Z",
        "2026-11-24T24:00:00.000Z",
        "2026-11-24T23:59:60.000Z",
        "2026-13-01T00:00:00.000Z",
    ]
)
PARTS = st.lists(
    st.fixed_dictionaries(
        {
            "hash": st.sampled_from(["ab" * 32, "cd" * 32, "0" * 64, "AB" * 32]),
            "name": st.text(min_size=1, max_size=6) | st.sampled_from(["text", "a{b", "a]b", "a b", "}"]),
            "size": st.integers(0, 9) | st.sampled_from([8 * 2**20, 8 * 2**20 + 1, 2**53]),
            "type": st.sampled_from(["text/plain", "a/b; c=d", "a/b;c=d; e=f", "text", "a/b;  c=d"]),
        }
    ),
    max_size=3,
)


@given(data=st.data())
def test_any_message_is_read_alike(forge_of, data: st.DataObject) -> None:
    forge = forge_of()
    agents = st.lists(st.sampled_from([forge.ada.id, forge.ben.id, "did:key:z6Mk", "x"]), max_size=3)
    fields: dict[str, JsonValue] = forge.payload(forge.ada, "say", "d1")
    for name, values in {
        "facts": FACTS,
        "index": INDICES,
        "seq": INDICES,
        "reply_to": st.none() | INDICES,
        "time": TIMES,
        "parts": PARTS,
        "to": agents,
        "kind": st.sampled_from(["say", "x.y-z_1", "erase", "key.register", "X", "a" * 65]),
        "dialogue": TEXTS.filter(bool),
        "log": TEXTS,
        "prev": st.sampled_from(["ab" * 32, "AB" * 32, "a" * 63]),
        "v": st.sampled_from([1, 1, 1, 2, True]),
    }.items():
        if data.draw(st.booleans()):
            fields[name] = data.draw(values)
    try:
        payload = canonical(fields)
    except LedgerError:
        return
    agree_on_payload(payload)


@pytest.mark.spec("L-01", "L-02", "L-20")
def test_the_common_shapes_are_taken_by_the_patterns(forge) -> None:
    shapes: list[dict[str, JsonValue]] = [
        {},
        {"facts": {"a": [1, {"index": 7}], "b": 0.5, ',"index":': ',"index":3'}},
        {"to": [forge.ada.id, forge.ben.id]},
        {"index": 2**53 - 1, "seq": 2**53 - 1, "reply_to": 7},
        {
            "parts": [
                {"hash": h * 32, "name": h, "size": 3, "type": "text/plain; charset=utf-8"}
                for h in ("ab", "0c")
            ]
        },
    ]
    plain = forge.payload(forge.ada, "say", "d1")
    for shape in shapes:
        assert agree_on_payload(canonical({**plain, **shape})), shape
    deep: JsonValue = 1
    for depth in range(1, 34):
        deep = [deep]
        fields = {**plain, "facts": {"a": deep}}
        text = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
        assert agree_on_payload(text) == (depth <= 30), depth


def seeds() -> list[tuple[bytes, bool]]:
    return [
        (line, name == "d1")
        for name in ("log", "d1")
        for line in (GOLDEN / f"v1-{name}.transcript.jsonl").read_bytes().split(b"\n")[1:-2]
    ]


@pytest.mark.spec("L-01", "L-03", "L-10", "L-52", "L-73")
def test_every_mutation_has_one_verdict_with_the_patterns_and_without() -> None:
    point = (GOLDEN / "v1-checkpoints.txt").read_text().split("agentmesh.local/desk\n")[-1].split("\n")
    checkpoint = Checkpoint(
        origin="agentmesh.local/desk", size=int(point[0]), root=base64.b64decode(point[1])
    )
    accepted = 0
    for seed, (line, proof) in enumerate(seeds()):
        value = json.loads(line)
        entry = base64.b64decode(value["entry"])
        payload = base64.b64decode(json.loads(entry)["payload"])
        lines = [line, *mutations(line, 250, seed)]
        for other in mutations(entry, 250, seed):
            agree_on_entry(other)
            lines.append(canonical({**value, "entry": encode64(other)}))
        for other in mutations(payload, 250, seed):
            agree_on_payload(other)
            envelope = {**json.loads(entry), "payload": encode64(other)}
            lines.append(canonical({**value, "entry": encode64(canonical(envelope))}))
        lines = [each for each in lines if b"\n" not in each]
        for each in lines:
            agree_on_line(each, proof=proof)
        swift, strict = (
            judge_lines(lines, Terms(checkpoint=checkpoint, proof=proof, swift=on)) for on in (True, False)
        )
        assert swift == strict
        accepted += sum(len(each) == SOUND for each in swift)
    assert accepted >= len(seeds())


@pytest.mark.spec("L-73")
def test_signed_oddities_have_one_verdict_too(forge) -> None:
    """Mutations under a good signature: what only the parsers stand between."""
    terms = [Terms(checkpoint=forge.checkpoint(), proof=False, swift=on) for on in (True, False)]
    forge.begin().say(forge.ada, "hi", facts={"a": [1, 2, {"b": None}]}, to=[forge.ben.id])
    (digest,) = forge.openings[2]
    payload, opening = unseal(forge.entries[2]).payload, forge.openings[2][digest]
    shown: JsonValue = {"data": encode64(opening.data), "salt": encode64(opening.salt), "type": "text/plain"}
    lines = []
    for other in [payload, *mutations(payload, 4000, 7)]:
        line: dict[str, JsonValue] = {"entry": encode64(seal(forge.ada, other)), "index": 2}
        lines.append(canonical({**line, "parts": {digest.hex(): shown}}))
    swift, strict = (judge_lines(lines, each) for each in terms)
    assert swift == strict and len(swift[0]) == SOUND


@given(text=st.binary(max_size=24) | st.from_regex(rb"[AQgwZ/=+]{0,12}", fullmatch=True))
@pytest.mark.spec("L-03")
def test_base64_is_read_only_in_the_form_it_is_written(text: bytes) -> None:
    try:
        data = base64.b64decode(text, validate=True)
        wanted = data if base64.b64encode(data) == text else None
    except ValueError:
        wanted = None
    try:
        found = strict64(text)
    except ValueError:
        found = None
    assert found == wanted
    if wanted is not None:
        assert decode64(text.decode(), "line", "x") == wanted


@pytest.mark.spec("L-91")
def test_rows_of_a_database_have_one_verdict_with_the_patterns_and_without(forge) -> None:
    forge.begin().say(forge.ada, "hi").say(forge.ben, "ho", facts={"a": 1}).add(forge.ada, "close", "d1")
    good: list[Row] = []
    for index, entry in enumerate(forge.entries):
        message = parse_message(unseal(entry).payload)
        content = [(digest, each.salt, each.data) for digest, each in forge.openings.get(index, {}).items()]
        columns = (leaf_hash(entry), message.dialogue, message.seq, message.kind, message.author)
        good.append((index, entry, *columns, content))
    rows = [*good, missing_row(3)]
    for row in good:
        index, entry, leaf, dialogue, seq, kind, author, content = row
        assert entry is not None
        rows += [
            (index + 1, entry, leaf, dialogue, seq, kind, author, content),
            (index, entry, bytes(32), dialogue, seq, kind, author, content),
            (index, entry, leaf, "d9", seq, kind, author, content),
            (index, entry, leaf, dialogue, seq + 1, kind, author, content),
            (index, entry, leaf, dialogue, seq, "task", author, content),
            (index, entry, leaf, dialogue, seq, kind, "x", content),
            (index, entry, leaf, dialogue, seq, kind, author, []),
            (index, entry, leaf, dialogue, seq, kind, author, [(bytes(32), bytes(16), b"x"), *content]),
            *((index, entry, leaf, dialogue, seq, kind, author, [(h, s, d + b"x")]) for h, s, d in content),
            *((index, entry, leaf, dialogue, seq, kind, author, [(h, s[1:], d)]) for h, s, d in content),
            *((index, entry, leaf, dialogue, seq, kind, author, [(h, bytes(16), d)]) for h, s, d in content),
            *(
                (index, other, leaf_hash(other), dialogue, seq, kind, author, content)
                for other in mutations(entry, 200, index)
            ),
        ]
    swift, strict = (
        judge_rows(rows, Terms(checkpoint=forge.checkpoint(), proof=False, swift=on)) for on in (True, False)
    )
    assert swift == strict
    assert sum(len(each) == SOUND for each in swift) >= 2 * len(good)
