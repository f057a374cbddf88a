"""A node that answers whatever it likes makes evidence that holds, or one of two errors, and nothing else."""

from __future__ import annotations

import copy
import hashlib
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_ledger import LedgerError
from agentmesh_ledger.anchor.contract import CHECKPOINT
from agentmesh_ledger.anchor.evidence import verify_evidence
from agentmesh_ledger.anchor.evm_header import write_header
from agentmesh_ledger.anchor.keccak import keccak256
from agentmesh_ledger.anchor.receipt import evidence_from_receipts, write_receipt
from agentmesh_ledger.anchor.rlp import encode, encode_integer
from agentmesh_ledger.anchor.trie import prove_trie

ORIGIN, SIZE, ROOT = "agentmesh.local/desk", 5, hashlib.sha256(b"root").digest()
LINK = hashlib.sha256(ORIGIN.encode()).digest()
OURS = 3  # the transaction in the block that published it
ABOUT: dict[str, Any] = {"origin": ORIGIN, "size": SIZE, "root": ROOT}


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


def told_receipt(place: int) -> dict[str, Any]:
    log = {
        "address": hexed(b"\x11" * 20),
        "topics": [hexed(CHECKPOINT), hexed(bytes(12) + b"\x22" * 20), hexed(LINK)],
        "data": hexed(SIZE.to_bytes(32, "big") + ROOT),
    }
    return {
        "transactionIndex": hex(place),
        "transactionHash": hexed(keccak256(place.to_bytes(4, "big"))),
        "type": hex(place % 3),
        "status": "0x1",
        "cumulativeGasUsed": hex(21_000 * (place + 1)),
        "logsBloom": hexed(bytes(256)),
        "logs": [log] if place == OURS else [],
    }


def told_block(receipts: list[dict[str, Any]]) -> dict[str, Any]:
    values = {
        encode(encode_integer(int(each["transactionIndex"], 16))): write_receipt(each) for each in receipts
    }
    root, _ = prove_trie(values, encode(b""))
    block: dict[str, Any] = {
        "parentHash": hexed(b"\1" * 32),
        "sha3Uncles": hexed(b"\2" * 32),
        "miner": hexed(b"\3" * 20),
        "stateRoot": hexed(b"\4" * 32),
        "transactionsRoot": hexed(b"\5" * 32),
        "receiptsRoot": hexed(root),
        "logsBloom": hexed(bytes(256)),
        "difficulty": "0x0",
        "number": "0x100",
        "gasLimit": "0x1c9c380",
        "gasUsed": "0x5208",
        "timestamp": "0x6b0c53e4",
        "extraData": "0x",
        "mixHash": hexed(b"\6" * 32),
        "nonce": hexed(bytes(8)),
    }
    numbers = {"difficulty", "number", "gasLimit", "gasUsed", "timestamp"}
    fields = [
        encode_integer(int(value, 16)) if name in numbers else bytes.fromhex(value[2:])
        for name, value in block.items()
    ]
    return {**block, "hash": hexed(keccak256(encode(fields)))}


RECEIPTS = [told_receipt(place) for place in range(5)]
BLOCK = told_block(RECEIPTS)
ASKED: dict[str, Any] = {"transaction": RECEIPTS[OURS]["transactionHash"], "chain": 1, **ABOUT}


def made(block: Any, receipts: Any) -> str | None:
    """Why no evidence could be made; None where some was, which then holds."""
    started = time.monotonic()
    try:
        evidence = evidence_from_receipts(block, receipts, **ASKED)
    except LedgerError as error:
        assert error.reason in ("node", "anchor")
        return str(error)
    finally:
        assert time.monotonic() - started < 20
    assert verify_evidence(evidence, **ABOUT).block == int(BLOCK["number"], 16)
    return None


def test_the_block_as_it_is_makes_evidence() -> None:
    assert made(BLOCK, RECEIPTS) is None
    assert made(BLOCK, list(reversed(RECEIPTS))) is None
    assert made(write_header(BLOCK), RECEIPTS) is None


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**300), 2**300)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=40)
    | st.binary(max_size=40).map(hexed)
    | st.integers(0, 2**260).map(hex)
    | st.sampled_from(["0x", "0x0", "", "0xzz", "0x" + "f" * 64, "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([*sorted(BLOCK), "baseFeePerGas", "withdrawalsRoot"]), ANY)
def test_any_field_of_the_block(name: str, value: Any) -> None:
    made({**BLOCK, name: value}, RECEIPTS)


@given(st.sampled_from(sorted(BLOCK)))
def test_a_block_without_a_field_makes_none(name: str) -> None:
    assert made({each: value for each, value in BLOCK.items() if each != name}, RECEIPTS)


@given(st.integers(0, 4), st.sampled_from([*sorted(RECEIPTS[0]), "root", "depositNonce"]), ANY)
def test_any_field_of_a_receipt(place: int, name: str, value: Any) -> None:
    receipts = copy.deepcopy(RECEIPTS)
    receipts[place][name] = value
    made(BLOCK, receipts)


@given(st.sampled_from(["address", "topics", "data"]), ANY)
def test_any_field_of_a_log(name: str, value: Any) -> None:
    receipts = copy.deepcopy(RECEIPTS)
    receipts[OURS]["logs"][0][name] = value
    made(BLOCK, receipts)


@given(st.lists(st.integers(0, 4), max_size=8))
def test_receipts_that_are_left_out_or_told_twice(places: list[int]) -> None:
    told = made(BLOCK, [RECEIPTS[place] for place in places])
    assert (told is None) == (sorted(places) == [0, 1, 2, 3, 4])


@pytest.mark.parametrize("count", [0, 2_000])
def test_a_block_of_other_receipts_makes_none(count: int) -> None:
    assert made(BLOCK, [told_receipt(place) for place in range(count)])
