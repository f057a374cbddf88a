"""The contract keeps its rules on a real node, is what Vyper makes of its source, and costs what we say."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agentmesh_ledger import LedgerError
from agentmesh_ledger.anchor.chain_order import Head, head_after
from agentmesh_ledger.anchor.contract import ANNOUNCEMENT, CHECKPOINT, SETTLEMENT, contract
from agentmesh_ledger.anchor.keccak import keccak256

ANCHOR = "anchor(bytes32,uint64,bytes32)"
ANNOUNCE = "announce(bytes32,uint64,bytes32)"
SETTLED = "anchor_settled(bytes32,uint64,bytes32,bytes32)"
HEAD = "head(address,bytes32)"
# Every byte non-zero: the dearest calldata there is.
FULL = bytes(range(1, 33))
FULL_SIZE = 0x0102030405060708
_numbers = count()


@pytest.fixture
def origin() -> bytes:
    """A log that no other test has used."""
    return hashlib.sha256(f"agentmesh.local/{next(_numbers)}".encode()).digest()


def root(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def head(chain: Any, deployed: str, sender: str, origin: bytes) -> Head:
    told = chain.call(deployed, HEAD, bytes.fromhex(sender[2:]), origin)
    assert len(told) == 64
    return Head(size=int.from_bytes(told[:32], "big"), order=int.from_bytes(told[32:], "big"))


@pytest.mark.parametrize(
    ("file", "form"), [("abi.json", "abi"), ("bytecode.hex", "bytecode"), ("runtime.hex", "bytecode_runtime")]
)
def test_vyper_makes_the_files_of_the_source_again(file: str, form: str, tmp_path: Path) -> None:
    vyper = Path(sys.executable).with_name("vyper")
    if not vyper.exists():
        pytest.skip("vyper is not installed")
    package = files("agentmesh_ledger.anchor.contract")
    # Elsewhere and under another name: the bytes must not depend on where the source lies.
    source = tmp_path / "copied.vy"
    source.write_bytes(package.joinpath("checkpoints.vy").read_bytes())
    done = subprocess.run([vyper, "-f", form, source], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == package.joinpath(file).read_text()


def test_the_events_are_those_of_the_abi() -> None:
    events = {
        keccak256(f"{each['name']}({','.join(part['type'] for part in each['inputs'])})".encode())
        for each in json.loads(json.dumps(contract().abi))
        if each["type"] == "event"
    }
    assert events == {CHECKPOINT, ANNOUNCEMENT, SETTLEMENT}


def test_the_code_at_its_address_is_the_runtime_of_the_package(chain: Any, deployed: str) -> None:
    assert bytes.fromhex(chain.ask("eth_getCode", deployed, "latest")[2:]) == contract().runtime


def test_an_anchor_is_one_event_with_sender_origin_size_and_root(
    chain: Any, deployed: str, origin: bytes
) -> None:
    sender = chain.accounts[1]
    mined = chain.mine(deployed, ANCHOR, origin, 12, root(12), sender=sender)
    assert mined["status"] == "0x1"
    (logged,) = mined["logs"]
    assert logged["address"] == deployed
    assert [bytes.fromhex(each[2:]) for each in logged["topics"]] == [
        CHECKPOINT,
        bytes.fromhex(sender[2:]).rjust(32, b"\0"),
        origin,
    ]
    assert bytes.fromhex(logged["data"][2:]) == (12).to_bytes(32, "big") + root(12)


@pytest.mark.parametrize("size", [10, 9, 1, 0])
def test_only_a_larger_size_follows(chain: Any, deployed: str, origin: bytes, size: int) -> None:
    assert chain.mine(deployed, ANCHOR, origin, 10, root(10))["status"] == "0x1"
    before = head(chain, deployed, chain.accounts[0], origin)
    # Another root and the very same one: equal is refused either way.
    for other in (root(10), root(size + 100)):
        refused = chain.mine(deployed, ANCHOR, origin, size, other)
        assert (refused["status"], refused["logs"]) == ("0x0", [])
        with pytest.raises(RuntimeError, match="not larger than the last"):
            chain.call(deployed, ANCHOR, origin, size, other)
        assert chain.mine(deployed, SETTLED, origin, size, other, root(1))["status"] == "0x0"
    assert head(chain, deployed, chain.accounts[0], origin) == before
    assert chain.mine(deployed, ANCHOR, origin, 11, root(11))["status"] == "0x1"


def test_size_0_is_no_first_anchor(chain: Any, deployed: str, origin: bytes) -> None:
    assert chain.mine(deployed, ANCHOR, origin, 0, root(0))["status"] == "0x0"
    assert head(chain, deployed, chain.accounts[0], origin) == Head()


def test_the_largest_size_is_taken_and_a_larger_word_is_refused(
    chain: Any, deployed: str, origin: bytes
) -> None:
    for signature, rest in ((ANCHOR, ()), (ANNOUNCE, ()), (SETTLED, (root(2),))):
        assert chain.mine(deployed, signature, origin, 2**64, root(1), *rest)["status"] == "0x0"
    assert chain.mine(deployed, ANCHOR, origin, 2**64 - 1, root(1))["status"] == "0x1"
    told = head(chain, deployed, chain.accounts[0], origin)
    assert told == head_after([(2**64 - 1, root(1))]) and told.size == 2**64 - 1
    assert chain.mine(deployed, ANCHOR, origin, 2**64 - 1, root(2))["status"] == "0x0"


def test_each_sender_and_each_origin_goes_its_own_way(chain: Any, deployed: str, origin: bytes) -> None:
    one, two = chain.accounts[:2]
    other = hashlib.sha256(origin).digest()
    assert chain.mine(deployed, ANCHOR, origin, 100, root(1), sender=one)["status"] == "0x1"
    # A stranger who is ahead does not lock out the log's owner, nor one log another.
    assert chain.mine(deployed, ANCHOR, origin, 2**60, root(2), sender=two)["status"] == "0x1"
    assert chain.mine(deployed, ANCHOR, other, 5, root(3), sender=one)["status"] == "0x1"
    assert chain.mine(deployed, ANCHOR, origin, 101, root(4), sender=one)["status"] == "0x1"
    assert head(chain, deployed, one, origin) == head_after([(100, root(1)), (101, root(4))])
    assert head(chain, deployed, two, origin) == head_after([(2**60, root(2))])
    assert head(chain, deployed, one, other) == head_after([(5, root(3))])
    assert head(chain, deployed, two, other) == Head()


def events(chain: Any, deployed: str, sender: str, origin: bytes) -> Iterator[tuple[int, bytes]]:
    topics = ["0x" + CHECKPOINT.hex(), "0x" + sender[2:].rjust(64, "0"), "0x" + origin.hex()]
    for each in chain.ask("eth_getLogs", {"address": deployed, "topics": topics, "fromBlock": "0x0"}):
        data = bytes.fromhex(each["data"][2:])
        yield int.from_bytes(data[:32], "big"), data[32:]


def test_the_order_is_recomputed_from_the_events_of_anchors_alone(
    chain: Any, deployed: str, origin: bytes
) -> None:
    sender = chain.accounts[3]
    for number in range(1, 8):
        chain.mine(deployed, ANNOUNCE, origin, 20 * number, root(number), sender=sender)
        chain.mine(deployed, ANCHOR, origin, 3 * number, root(number), sender=sender)
        chain.mine(deployed, ANCHOR, origin, 3 * number - 1, root(99), sender=sender)
        chain.mine(deployed, SETTLED, origin, 3 * number + 1, root(7), root(1), sender=sender)
        found = list(events(chain, deployed, sender, origin))
        assert len(found) == 2 * number
        assert head_after(found) == head(chain, deployed, sender, origin)
    # And goes on from where an auditor left off.
    assert head_after(found[6:], head=head_after(found[:6])) == head_after(found)
    changed = [*found[:-2], (found[-2][0], root(55)), found[-1]]
    for other in (found[1:], found[:-1], found[:3] + found[4:], changed):
        assert head_after(other) != head_after(found)


@pytest.mark.parametrize(
    ("size", "data"), [(7, root(0)), (6, root(0)), (2**64, root(0)), (8, b"short"), (-1, root(0))]
)
def test_an_order_that_the_contract_would_refuse_is_no_order(size: int, data: bytes) -> None:
    with pytest.raises(LedgerError) as caught:
        head_after([(3, root(3)), (7, root(7)), (size, data)])
    assert caught.value.reason == "anchor"


def test_a_settlement_stands_beside_its_checkpoint(chain: Any, deployed: str, origin: bytes) -> None:
    mined = chain.mine(deployed, SETTLED, origin, 4, root(4), root(44), sender=chain.accounts[2])
    first, second = mined["logs"]
    assert first["topics"][0] == "0x" + CHECKPOINT.hex() and second["topics"][0] == "0x" + SETTLEMENT.hex()
    assert first["topics"][1:] == second["topics"][1:] and first["address"] == second["address"]
    assert bytes.fromhex(second["data"][2:]) == (4).to_bytes(32, "big") + root(44)
    assert head(chain, deployed, chain.accounts[2], origin) == head_after([(4, root(4))])


def test_an_announcement_is_an_event_of_its_own_and_keeps_nothing(
    chain: Any, deployed: str, origin: bytes
) -> None:
    for size in (9, 9, 3, 0):
        mined = chain.mine(deployed, ANNOUNCE, origin, size, root(size))
        (logged,) = mined["logs"]
        assert logged["topics"][0] == "0x" + ANNOUNCEMENT.hex()
        assert bytes.fromhex(logged["data"][2:]) == size.to_bytes(32, "big") + root(size)
    assert head(chain, deployed, chain.accounts[0], origin) == Head()


def test_money_and_unknown_calls_are_refused(chain: Any, deployed: str, origin: bytes) -> None:
    paid = {"from": chain.accounts[0], "to": deployed, "value": "0x1", "gas": "0x40000"}
    for data in (
        "0x",
        chain.calldata("owner()"),
        chain.calldata(ANCHOR, origin, 1, root(1)),
        chain.calldata(ANNOUNCE, origin, 1, root(1)),
        chain.calldata(SETTLED, origin, 1, root(1), root(1)),
    ):
        assert chain.mined(paid | {"data": data})["status"] == "0x0"
    for data in ("0x", chain.calldata("owner()"), chain.calldata(ANCHOR, origin, 1)):
        unpaid = {"from": chain.accounts[0], "to": deployed, "data": data, "gas": "0x40000"}
        assert chain.mined(unpaid)["status"] == "0x0"
    assert chain.ask("eth_getBalance", deployed, "latest") == "0x0"


def test_the_gas_is_bounded_whatever_the_bytes_are(chain: Any, deployed: str) -> None:
    sender = chain.accounts[4]
    full = bytes(255 for _ in range(32))
    announced, anchored, settled = [], [], []
    for origin in (FULL, full):
        first = int(chain.mine(deployed, ANCHOR, origin, 1, FULL, sender=sender)["gasUsed"], 16)
        assert 36_000 < first < 50_000  # a new slot costs 20,000 once
        for size, digest in ((2, root(2)), (1_000_000, full), (FULL_SIZE, FULL), (2**64 - 2, os.urandom(32))):
            announced.append(chain.mine(deployed, ANNOUNCE, origin, size, digest, sender=sender))
            anchored.append(chain.mine(deployed, ANCHOR, origin, size, digest, sender=sender))
        settled.append(chain.mine(deployed, SETTLED, origin, 2**64 - 1, full, full, sender=sender))
    assert all(each["status"] == "0x1" for each in (*announced, *anchored, *settled))
    most = [max(int(each["gasUsed"], 16) for each in found) for found in (announced, anchored, settled)]
    assert most[0] <= 25_000 and most[1] <= 36_000 and most[2] <= 36_000, most
