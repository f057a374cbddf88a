"""Evidence that is altered in any place, or made by whoever wants to deceive, is refused and by nothing but a check."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmesh_ledger import LedgerError
from agentmesh_ledger.anchor.contract import CHECKPOINT, SETTLEMENT
from agentmesh_ledger.anchor.evidence import MAX_EVIDENCE, MAX_NODES, Anchored, verify_evidence
from agentmesh_ledger.anchor.keccak import keccak256
from agentmesh_ledger.anchor.rlp import Item, encode, encode_integer
from agentmesh_ledger.anchor.trie import prove_trie
from agentmesh_ledger.jcs import JsonValue, canonical, parse

ORIGIN = "agentmesh.local/desk"
LINK = hashlib.sha256(ORIGIN.encode()).digest()
ROOT = hashlib.sha256(b"root").digest()
SENDER = bytes(12) + b"\x22" * 20
OURS = b"\x11" * 20
SIZE = 5


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


SAID = word(SIZE) + ROOT


def log(*topics: Item, address: bytes = OURS, data: Item = SAID) -> tuple[Item, ...]:
    return address, topics or (CHECKPOINT, SENDER, LINK), data


def receipt(
    *logs: Item, kind: int = 2, status: bytes = b"\x01", bloom: bytes = bytes(256), more: Sequence[Item] = ()
) -> bytes:
    data = encode((status, b"\x52\x08", bloom, tuple(logs), *more))
    return bytes((kind,)) + data if kind else data


def header(receipts_root: bytes, *more: Item, **fields: Item) -> tuple[Item, ...]:
    named: dict[str, Item] = {
        "parent": b"\1" * 32,
        "ommers": b"\2" * 32,
        "miner": b"\3" * 20,
        "state": b"\4" * 32,
        "transactions": b"\5" * 32,
        "receipts": receipts_root,
        "bloom": bytes(256),
        "difficulty": b"",
        "number": b"\x01\x00",
        "limit": b"\x01\xc9\xc3\x80",
        "used": b"\x52\x08",
        "time": b"\x6b\x0c\x53\xe4",
        "extra": b"beaverbuild",
        "mix": b"\6" * 32,
        "nonce": bytes(8),
    }
    assert set(fields) <= set(named)
    return (*(named | fields).values(), *more)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def forged(
    data: bytes, *more: Item, count: int = 3, index: int = 1, place: int = 0, **fields: Item
) -> dict[str, Any]:
    """Evidence of a block of the forger's own, in which `data` is the receipt at `index`."""
    others = {encode(encode_integer(each)): receipt(more=()) for each in range(count)}
    key = encode(encode_integer(index))
    root, nodes = prove_trie(others | {key: data}, key)
    return {
        "type": "evm-receipt",
        "chain": 1,
        "header": b64(encode(header(root, *more, **fields))),
        "index": index,
        "nodes": [b64(each) for each in nodes],
        "log": place,
    }


def verified(evidence: JsonValue, **other: Any) -> Anchored:
    return verify_evidence(evidence, **{"origin": ORIGIN, "size": SIZE, "root": ROOT} | other)


def refused(evidence: JsonValue, why: str = "", **other: Any) -> None:
    with pytest.raises(LedgerError) as caught:
        verified(evidence, **other)
    assert caught.value.reason == "anchor" and why in str(caught.value)


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 0x64, 0x7E, 0x7F])
def test_receipts_of_every_type_prove_it(kind: int) -> None:
    found = verified(forged(receipt(log(), kind=kind)), contract="0x" + OURS.hex())
    assert (found.sender, found.block, found.time) == ("0x" + "22" * 20, 256, 0x6B0C53E4)


def test_a_receipt_of_a_rollups_deposit_may_have_more_fields() -> None:
    assert verified(forged(receipt(log(), kind=0x7E, more=(b"\1", b"\1"))))
    refused(forged(receipt(log(), kind=0, more=(b"\1",))), "5 fields")
    refused(forged(receipt(log(), kind=0x7E, more=(b"\1",) * 5)), "9 fields")


@pytest.mark.parametrize("status", [b"", b"\x02", b"\x00", b"\x01\x01", b"\7" * 32])
def test_a_transaction_that_did_not_succeed_proves_nothing(status: bytes) -> None:
    refused(forged(receipt(log(), status=status)), "failed")
    refused(forged(receipt(log(), status=status, kind=0)), "failed")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x02", "ends before"),
        (b"\x80", "not a list"),
        (b"\x02\x80", "not a list"),
        (b"\x00" + receipt(log(), kind=0), "behind an RLP item"),
        (b"\x02" + receipt(log()), "behind an RLP item"),
        (receipt(log()) + b"\0", "behind an RLP item"),
        (receipt(log(), bloom=bytes(255)), "256 bytes"),
        (b"\x02" + encode((b"\x01", b"\x00\x01", bytes(256), ())), "not a number"),
        (b"\x02" + encode((b"\x01", b"\x01", bytes(256))), "3 fields"),
        (b"\x02" + encode((b"\x01", b"\x01", bytes(256), b"")), "not a list"),
        (b"\x02" + encode(((), b"\x01", bytes(256), ())), "not bytes"),
        (b"\x02\xb8\x01\x80", "shortest form"),
    ],
)
def test_what_is_no_receipt_proves_nothing(data: bytes, why: str) -> None:
    refused(forged(data), why)


@pytest.mark.parametrize(
    ("logged", "why"),
    [
        (log(keccak256(b"Checkpoint(address,bytes32,uint256,bytes32)"), SENDER, LINK), "another event"),
        (log(b"", SENDER, LINK), "32 bytes"),
        (log(CHECKPOINT), "not its form"),
        (log(CHECKPOINT, SENDER), "not its form"),
        (log(CHECKPOINT, SENDER, LINK, LINK), "not its form"),
        (log(CHECKPOINT, b"\x01" + SENDER[1:], LINK), "not its form"),
        (log(CHECKPOINT, SENDER, LINK[:31]), "32 bytes"),
        (log(CHECKPOINT, SENDER, ()), "32 bytes"),
        (log(CHECKPOINT, SENDER, bytes(32)), "another origin"),
        (log(SETTLEMENT, SENDER, LINK), "no checkpoint"),
        (log(data=word(SIZE) + ROOT + bytes(32)), "not its form"),
        (log(data=word(SIZE) + ROOT[:31]), "not its form"),
        (log(data=b""), "not its form"),
        (log(data=()), "not bytes"),
        (log(data=word(2**64 + SIZE) + ROOT), "not its form"),
        (log(data=word(2**255 + SIZE) + ROOT), "not its form"),
        (log(data=word(SIZE + 1) + ROOT), "another size"),
        (log(data=word(SIZE) + LINK), "another root"),
        (log(address=OURS[:19]), "20 bytes"),
        (log(address=OURS + b"\0"), "20 bytes"),
        ((OURS, (CHECKPOINT, SENDER, LINK)), "2 fields"),
        ((*log(), b""), "4 fields"),
        ((OURS, b"", word(SIZE) + ROOT), "not a list"),
        ((OURS, (), word(SIZE) + ROOT), "another event"),
        (b"", "not a list"),
    ],
)
def test_what_is_no_event_of_this_checkpoint_proves_nothing(logged: Item, why: str) -> None:
    refused(forged(receipt(logged)), why)


def test_size_0_proves_nothing() -> None:
    refused(forged(receipt(log(data=word(0) + ROOT))), "another size", size=0)


def test_only_the_log_at_its_position_counts() -> None:
    other = log(keccak256(b"Transfer(address,address,uint256)"), SENDER, SENDER, data=word(7))
    data = receipt(other, log(), ((), ()), kind=2)
    assert verified(forged(data, place=1))
    refused(forged(data, place=0), "another event")
    refused(forged(data, place=2), "2 fields")
    refused(forged(data, place=3), "has 3 logs")
    refused(forged(data, place=2**32), "has 3 logs")
    refused(forged(data, place=-1), "not a number")


def test_a_log_of_another_contract_counts_only_where_none_is_named() -> None:
    evidence = forged(receipt(log(address=b"\x12" * 20)))
    assert verified(evidence).contract == "0x" + "12" * 20
    refused(evidence, "another contract", contract="0x" + OURS.hex())


def test_a_settlement_is_that_of_the_same_contract_sender_origin_and_size() -> None:
    balances = b"\x77" * 32

    def settled(**other: Any) -> tuple[Item, ...]:
        topics = (SETTLEMENT, other.get("sender", SENDER), other.get("origin", LINK))
        data = word(other.get("size", SIZE)) + other.get("balances", balances)
        return log(*topics, data=data, address=other.get("address", OURS))

    assert verified(forged(receipt(log(), settled()))).settlement == balances
    assert verified(forged(receipt(settled(), log()), place=1)).settlement == balances
    assert verified(forged(receipt(log(), settled(), settled()))).settlement == balances
    for other in (
        {"address": b"\x12" * 20},
        {"sender": bytes(12) + b"\x23" * 20},
        {"origin": ROOT},
        {"size": SIZE + 1},
    ):
        assert verified(forged(receipt(log(), settled(**other)))).settlement is None
        assert verified(forged(receipt(log(), settled(**other), settled()))).settlement == balances
    refused(forged(receipt(log(), settled(), settled(balances=ROOT))), "two roots of balances")
    # Another contract's rubbish beside it is not ours to judge; the same contract's is.
    rubbish = log(SETTLEMENT, address=b"\x12" * 20, data=b"")
    assert verified(forged(receipt(log(), rubbish))).settlement is None
    refused(forged(receipt(log(), log(SETTLEMENT, data=b""))), "not its form")


@pytest.mark.parametrize("more", range(16))
def test_later_fields_of_a_header_are_hashed_and_not_read(more: int) -> None:
    added = (
        b"\x07",
        b"\7" * 32,
        b"",
        b"",
        b"\7" * 32,
        b"\7" * 32,
        b"\7" * 32,
        b"\x09",
        *(b"\1" for _ in range(8)),
    )
    evidence = forged(receipt(log()), *added[:more])
    found = verified(evidence)
    data = base64.b64decode(evidence["header"])
    assert found.block_hash == "0x" + keccak256(data).hex() and found.block == 256


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"parent": b"\1" * 31}, "parentHash"),
        ({"ommers": ()}, "sha3Uncles"),
        ({"miner": b"\1" * 32}, "miner"),
        ({"state": b""}, "stateRoot"),
        ({"receipts": b"\1" * 31}, "receiptsRoot"),
        ({"receipts": b"\1" * 32}, "node 0 of the trie"),
        ({"bloom": b""}, "logsBloom"),
        ({"number": b"\0\1"}, "number"),
        ({"number": b"\1" * 9}, "number"),
        ({"number": b"\x20\0\0\0\0\0\0"}, "beyond 2^53-1"),
        ({"number": ()}, "number"),
        ({"time": b"\xff" * 8}, "beyond 2^53-1"),
        ({"time": b"\0"}, "timestamp"),
        ({"extra": ()}, "extraData"),
        ({"nonce": b""}, "nonce"),
        ({"mix": b""}, "mixHash"),
        ({"difficulty": b"\1" * 33}, "difficulty"),
    ],
)
def test_what_is_no_header_proves_nothing(fields: Mapping[str, Item], why: str) -> None:
    refused(forged(receipt(log()), **fields), why)


@pytest.mark.parametrize(
    ("items", "why"),
    [
        (header(b"\1" * 32)[:14], "14 fields"),
        (header(b"\1" * 32, *[b""] * 50), "65 fields"),
        (header(b"\1" * 32, ()), "not bytes"),
        ((), "0 fields"),
    ],
)
def test_headers_of_other_lengths_prove_nothing(items: tuple[Item, ...], why: str) -> None:
    refused(forged(receipt(log())) | {"header": b64(encode(items))}, why)


GOOD = forged(receipt(log(), log(SETTLEMENT, SENDER, LINK)), b"\x07", b"\7" * 32, count=140, index=130)
PIN = frozenset({verified(GOOD).block_hash})


@pytest.mark.parametrize(
    "change",
    [
        {"type": "evm"},
        {"type": None},
        {"type": "\x1b[31m"},
        {"type": ["evm-receipt"]},
        {"chain": -1},
        {"chain": True},
        {"chain": "1"},
        {"chain": 1.5},
        {"chain": 2**53},
        {"chain": None},
        {"header": ""},
        {"header": None},
        {"header": "wA="},
        {"header": GOOD["header"] + "\n"},
        {"header": GOOD["header"].replace("A", "B")},
        {"index": 129},
        {"index": 131},
        {"index": 0},
        {"index": -1},
        {"index": 130.0},
        {"index": 130.5},
        {"index": True},
        {"index": 2**40},
        {"index": None},
        {"log": True},
        {"log": "0"},
        {"log": None},
        {"nodes": []},
        {"nodes": {}},
        {"nodes": None},
        {"nodes": GOOD["nodes"][0]},
        {"nodes": [*GOOD["nodes"], 1]},
        {"nodes": [*GOOD["nodes"], ""]},
        {"nodes": [*GOOD["nodes"], b64(b"\xc0")]},
        {"nodes": GOOD["nodes"][:-1]},
        {"nodes": GOOD["nodes"][1:]},
        {"nodes": GOOD["nodes"][::-1]},
        {"nodes": [GOOD["nodes"][0], *GOOD["nodes"]]},
        {"nodes": [GOOD["nodes"][1], GOOD["nodes"][0], *GOOD["nodes"][2:]]},
        {"nodes": [GOOD["nodes"][0]] * (MAX_NODES + 1)},
        {"nodes": [each + "=" for each in GOOD["nodes"]]},
        {"more": 1},
        {"proof": ""},
    ],
)
def test_evidence_with_a_field_changed_is_refused(change: dict[str, Any]) -> None:
    assert len(GOOD["nodes"]) >= 3 and verified(GOOD, blocks=PIN).pinned
    refused(GOOD | change)


@pytest.mark.parametrize("field", sorted(GOOD))
def test_evidence_without_a_field_is_refused(field: str) -> None:
    refused({name: value for name, value in GOOD.items() if name != field})


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        7,
        1.5,
        "evm-receipt",
        [],
        {},
        [GOOD],
        {"a": {1: 2}},
        {"type": float("nan")},
        {"type": "\ud800"},
    ],
)
def test_what_is_no_evidence_is_refused(value: Any) -> None:
    refused(value)


@given(st.data())
def test_any_byte_changed_of_header_or_nodes_is_found(data: st.DataObject) -> None:
    fields = [("header", 0), *(("nodes", place) for place in range(len(GOOD["nodes"])))]
    name, place = data.draw(st.sampled_from(fields))
    old = base64.b64decode(GOOD["header"] if name == "header" else GOOD["nodes"][place])
    where = data.draw(st.integers(0, len(old) - 1))
    kind = data.draw(st.sampled_from(["changed", "dropped", "added"]))
    if kind == "changed":
        new = old[:where] + bytes((old[where] ^ data.draw(st.integers(1, 255)),)) + old[where + 1 :]
    else:
        new = old[:where] + old[where + 1 :] if kind == "dropped" else old[:where] + b"\x80" + old[where:]
    if name == "nodes":
        nodes = [*GOOD["nodes"][:place], b64(new), *GOOD["nodes"][place + 1 :]]
        refused(GOOD | {"nodes": nodes}, blocks=PIN)
        return
    # A header that still reads is another block's, and that block is not the one that was named.
    try:
        found = verified(GOOD | {"header": b64(new)}, blocks=PIN)
    except LedgerError as error:
        assert error.reason == "anchor"
    else:
        assert not found.pinned and found.block_hash not in PIN


@given(st.data())
def test_any_character_changed_of_its_json_is_found(data: st.DataObject) -> None:
    text = canonical(GOOD)
    where = data.draw(st.integers(0, len(text) - 1))
    new = text[:where] + bytes((text[where] ^ data.draw(st.integers(1, 127)),)) + text[where + 1 :]
    try:
        found = verified(parse(new), blocks=PIN)
    except LedgerError as error:
        assert error.reason in ("anchor", "canonical")
    else:
        # The chain's number stands in no header: whoever names the block knows it.
        assert not found.pinned or found.chain != 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=40).map(b64),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), JSON).map(lambda change: GOOD | change) | JSON)
@settings(suppress_health_check=[HealthCheck.filter_too_much])
def test_any_value_is_refused_with_one_error(value: Any) -> None:
    try:
        found = verified(value, blocks=PIN)
    except LedgerError as error:
        assert error.reason == "anchor"
    else:
        assert (found.size, found.root, found.pinned) == (SIZE, ROOT, True)


def test_large_evidence_ends_soon() -> None:
    started = time.monotonic()
    room = MAX_EVIDENCE // 4 * 3 - 4096
    # One long log beside ours, nearly as much as is read: a quarter of a second of hashing on an idle machine.
    large = forged(receipt(log(), log(LINK, data=bytes(room - 4096))), count=1, index=0)
    assert len(canonical(large)) > MAX_EVIDENCE * 9 // 10
    assert verified(large)
    refused(forged(receipt(log(), log(LINK, data=bytes(room + 4096))), count=1, index=0), "at most")
    many = forged(
        receipt(*[log(address=b"\x12" * 20)] * (room // 200), log()), count=1, index=0, place=room // 200
    )
    assert verified(many)
    # Lists of lists, of empty strings, and of a length that is not there.
    deep = b"\xc0"
    while len(deep) < room:
        length = encode_integer(len(deep))
        deep = (
            bytes((0xC0 + len(deep),)) if len(deep) < 56 else bytes((0xF7 + len(length),)) + length
        ) + deep
    for data in (
        deep,
        encode((b"",) * room),
        b"\xc0" * room,
        b"\xff" * room,
        b"\xfb\xff\xff\xff\xff" + bytes(room),
    ):
        refused(GOOD | {"header": b64(data)})
        refused(GOOD | {"nodes": [b64(data)]})
        refused(forged(data, count=1, index=0))
        refused(forged(receipt(log(), bloom=data), count=1, index=0))
    deeper: Any = []
    for _ in range(900):
        deeper = [deeper]
    refused(GOOD | {"nodes": deeper})
    assert time.monotonic() - started < 60
