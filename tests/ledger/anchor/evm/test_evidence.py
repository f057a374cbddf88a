"""A checkpoint in a block of a real node is proved by the block's header and the path to its receipt, and by nothing less."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest

from agentmesh_ledger import LedgerError
from agentmesh_ledger.anchor.evidence import Anchored, verify_evidence
from agentmesh_ledger.anchor.evm_header import write_header
from agentmesh_ledger.anchor.keccak import keccak256
from agentmesh_ledger.anchor.receipt import evidence_from_receipts, write_receipt
from agentmesh_ledger.jcs import JsonValue, canonical, parse

ORIGIN = "agentmesh.local/desk"
LINK = hashlib.sha256(ORIGIN.encode()).digest()
ROOT = hashlib.sha256(b"root").digest()
BALANCES = hashlib.sha256(b"balances").digest()
ANCHOR = "anchor(bytes32,uint64,bytes32)"
ANNOUNCE = "announce(bytes32,uint64,bytes32)"
SETTLED = "anchor_settled(bytes32,uint64,bytes32,bytes32)"
HEAD = "head(address,bytes32)"
ANVIL = 31337


def made(chain: Any, sent: str, size: int, **other: Any) -> dict[str, JsonValue]:
    """The evidence of a mined transaction, as the node's newest block gives it."""
    block, receipts = chain.block("latest")
    wanted = {"transaction": sent, "chain": ANVIL, "origin": ORIGIN, "size": size, "root": ROOT} | other
    return evidence_from_receipts(block, receipts, **wanted)


def verified(evidence: JsonValue, size: int, **other: Any) -> Anchored:
    return verify_evidence(evidence, **{"origin": ORIGIN, "size": size, "root": ROOT} | other)


def mixed(chain: Any, deployed: str, count: int) -> dict[str, int]:
    """A block of so many transactions of every type, some failing, and the sizes that the good ones announce."""
    fees: tuple[dict[str, Any], ...] = (
        {"type": "0x0", "gasPrice": "0x77359400"},
        {"type": "0x1", "gasPrice": "0x77359400", "accessList": [{"address": deployed, "storageKeys": []}]},
        {"type": "0x2", "maxFeePerGas": "0x77359400", "maxPriorityFeePerGas": "0x1"},
    )
    sent: dict[str, int] = {}
    for number in range(count):
        sender = chain.accounts[number % 7]
        base = {
            "from": sender,
            "to": deployed,
            "gas": "0xfffff" if count < 9 else "0x15f90",
            **fees[number % 3],
        }
        if number % 5 == 3:  # fails in the contract
            chain.send(base | {"data": chain.calldata(ANCHOR, LINK, 0, ROOT)})
        elif number % 11 == 7:  # no contract, no logs
            chain.send(base | {"to": chain.accounts[9], "value": "0x1"})
        else:
            data = chain.calldata(ANNOUNCE, LINK, number + 1, ROOT)
            sent[chain.send(base | {"data": data})] = number + 1
    chain.ask("evm_mine")
    return sent


@pytest.mark.parametrize("count", [1, 2, 20, 300])
def test_every_transaction_of_a_block_has_its_proof(chain: Any, deployed: str, count: int) -> None:
    sent = mixed(chain, deployed, count)
    block, receipts = chain.block("latest")
    assert len(receipts) == count
    assert {each["type"] for each in receipts} == {"0x0", "0x1", "0x2"} or count < 3
    places = {each["transactionHash"]: int(each["transactionIndex"], 16) for each in receipts}
    # In the large block: around where the keys get longer, and the last one.
    wanted = {0, 1, 2, 126, 127, 128, 129, 254, 255, 256, 257, 298, 299}
    proved = 0
    for each, size in sent.items():
        if count <= 20 or places[each] in wanted:
            evidence = made(chain, each, size, contract=deployed)
            assert (evidence["index"], evidence["log"]) == (places[each], 0)
            assert verified(evidence, size, contract=deployed).block_hash == block["hash"]
            proved += 1
    assert proved >= min(count, 8) * 2 // 3
    failed = [each for each in receipts if each["status"] == "0x0"]
    assert failed or count < 4
    for told in failed[:2]:
        with pytest.raises(LedgerError, match="failed") as caught:
            made(chain, told["transactionHash"], 1)
        assert caught.value.reason == "anchor"


def test_what_the_evidence_shows_is_what_the_block_says(chain: Any, deployed: str) -> None:
    mined = chain.mine(deployed, SETTLED, LINK, 5, ROOT, BALANCES, sender=chain.accounts[8])
    block, _ = chain.block("latest")
    evidence = made(chain, mined["transactionHash"], 5)
    found = verified(
        evidence, 5, blocks=frozenset({block["hash"].upper()}), contract=deployed.upper().replace("X", "x", 1)
    )
    assert (found.type, found.size, found.root, found.settlement) == ("evm-receipt", 5, ROOT, BALANCES)
    assert (found.block, found.block_hash) == (int(block["number"], 16), block["hash"])
    assert (found.time, found.chain) == (int(block["timestamp"], 16), ANVIL)
    assert (found.contract, found.sender, found.pinned) == (deployed, chain.accounts[8], True)
    assert "only larger sizes follow" in found.note
    # It is canonical JSON, and what comes back from it shows the same.
    assert verified(parse(canonical(evidence)), 5).block_hash == block["hash"]


def test_a_block_is_pinned_only_where_the_auditor_named_it(chain: Any, deployed: str) -> None:
    mined = chain.mine(deployed, ANNOUNCE, LINK, 6, ROOT)
    evidence = made(chain, mined["transactionHash"], 6)
    block = mined["blockHash"]
    for blocks in (frozenset(), frozenset({"0x" + "0" * 64}), frozenset({block[:-1]}), frozenset({""})):
        assert not verified(evidence, 6, blocks=blocks).pinned
    for blocks in (frozenset({block}), frozenset({block[2:], "0x00"})):
        assert verified(evidence, 6, blocks=blocks).pinned


def test_the_note_does_not_promise_what_nobody_knows(chain: Any, deployed: str) -> None:
    evidence = made(chain, chain.mine(deployed, ANNOUNCE, LINK, 7, ROOT)["transactionHash"], 7)
    assert "another of the same size" in verified(evidence, 7, contract=deployed).note
    anchored = made(chain, chain.mine(deployed, ANCHOR, LINK, 7, ROOT)["transactionHash"], 7)
    assert "not known" in verified(anchored, 7).note
    assert verified(anchored, 7).settlement is None


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"origin": "agentmesh.local/desk2"}, "another origin"),
        ({"size": 9}, "another size"),
        ({"size": 0}, "another size"),
        ({"root": BALANCES}, "another root"),
        ({"root": ROOT[:31]}, "another root"),
        ({"contract": "0x" + "1" * 40}, "another contract"),
        ({"contract": "desk"}, "another contract"),
        ({"contract": ""}, "another contract"),
    ],
)
def test_another_checkpoint_is_not_proved(chain: Any, deployed: str, other: dict[str, Any], why: str) -> None:
    evidence = made(chain, chain.mine(deployed, ANNOUNCE, LINK, 8, ROOT)["transactionHash"], 8)
    with pytest.raises(LedgerError, match=why) as caught:
        verified(evidence, **{"size": 8} | other)
    assert caught.value.reason == "anchor"


def test_a_contract_of_the_same_code_elsewhere_is_another(chain: Any, deployed: str) -> None:
    other = chain.deploy()
    evidence = made(chain, chain.mine(other, ANNOUNCE, LINK, 8, ROOT)["transactionHash"], 8)
    assert verified(evidence, 8, contract=other).contract == other
    assert verified(evidence, 8).contract == other
    with pytest.raises(LedgerError, match="another contract"):
        verified(evidence, 8, contract=deployed)


def test_whoever_repeats_it_first_does_not_take_the_place_of_the_sender(chain: Any, deployed: str) -> None:
    wanted = {"to": deployed, "data": chain.calldata(ANNOUNCE, LINK, 12, ROOT), "gas": "0x40000"}
    copied = chain.send(wanted | {"from": chain.accounts[6], "gasPrice": hex(90 * 10**9)})
    ours = chain.send(wanted | {"from": chain.accounts[5], "gasPrice": hex(20 * 10**9)})
    chain.ask("evm_mine")
    assert chain.receipt(copied)["transactionIndex"] == "0x0"
    assert verified(made(chain, ours, 12), 12).sender == chain.accounts[5]


HARDFORKS = ("byzantium", "istanbul", "berlin", "london", "paris", "shanghai", "cancun", "prague", "osaka")


@pytest.mark.parametrize("hardfork", HARDFORKS)
def test_headers_and_receipts_of_every_fork_are_read(
    anvil: Callable[..., AbstractContextManager[str]], node_at: Callable[[str], Any], hardfork: str
) -> None:
    with anvil("--no-mining", "--hardfork", hardfork) as url:
        chain = node_at(url)
        # Before Constantinople an EVM knows no shifts, which the contract needs; this one logs its calldata as it comes.
        # 0xa3 is LOG3: the topics are three words of the calldata, the data two.
        code = "60406060600037" + "604035602035600035" + "60406000a300"
        mined = chain.mined(
            {
                "from": chain.accounts[0],
                "data": "0x60"
                + f"{len(code) // 2:02x}"
                + "600c60003960"
                + f"{len(code) // 2:02x}"
                + "6000f3"
                + code,
                "gas": "0x100000",
                "gasPrice": hex(2 * 10**9),
            }
        )
        assert mined["status"] == "0x1"
        sender = bytes.fromhex(chain.accounts[0][2:]).rjust(32, b"\0")
        words = (
            keccak256(b"Announcement(address,bytes32,uint64,bytes32)"),
            sender,
            LINK,
            (3).to_bytes(32, "big"),
            ROOT,
        )
        sent = chain.mined(
            {
                "from": chain.accounts[0],
                "to": mined["contractAddress"],
                "data": "0x" + b"".join(words).hex(),
                "gas": "0x100000",
                "gasPrice": hex(2 * 10**9),
            }
        )
        block, _ = chain.block("latest")
        evidence = made(chain, sent["transactionHash"], 3)
        assert verified(evidence, 3).block_hash == block["hash"]
        assert ("baseFeePerGas" in block) == (HARDFORKS.index(hardfork) >= HARDFORKS.index("london"))
        assert ("requestsHash" in block) == (hardfork in ("prague", "osaka"))


def test_the_forms_of_web3_make_the_same_evidence(chain: Any, deployed: str) -> None:
    web3 = pytest.importorskip("web3", reason="the extra chain is not installed")
    mined = chain.mine(deployed, ANNOUNCE, LINK, 13, ROOT)
    client = web3.Web3(web3.HTTPProvider(chain.url))
    evidence = evidence_from_receipts(
        client.eth.get_block("latest"),
        client.eth.get_block_receipts("latest"),
        transaction=client.eth.get_block("latest")["transactions"][0],
        chain=ANVIL,
        origin=ORIGIN,
        size=13,
        root=ROOT,
    )
    assert evidence == made(chain, mined["transactionHash"], 13)


def block_of(chain: Any, deployed: str) -> tuple[dict[str, Any], Sequence[dict[str, Any]], str]:
    first = chain.send({"from": chain.accounts[1], "to": chain.accounts[9], "value": "0x1"})
    sent = chain.send(
        {
            "from": chain.accounts[2],
            "to": deployed,
            "data": chain.calldata(ANNOUNCE, LINK, 14, ROOT),
            "gas": "0x40000",
        }
    )
    chain.ask("evm_mine")
    block, receipts = chain.block("latest")
    assert {each["transactionHash"] for each in receipts} == {first, sent}
    return block, receipts, sent


def test_the_order_of_the_receipts_does_not_matter(chain: Any, deployed: str) -> None:
    block, receipts, sent = block_of(chain, deployed)
    wanted = {"transaction": sent, "chain": ANVIL, "origin": ORIGIN, "size": 14, "root": ROOT}
    once = evidence_from_receipts(block, receipts, **wanted)
    assert once == evidence_from_receipts(block, receipts[::-1], **wanted)
    # And the header's own bytes stand for the block.
    assert once == evidence_from_receipts(write_header(block), receipts, **wanted)


BROKEN: dict[str, Callable[[dict[str, Any], list[dict[str, Any]]], object]] = {
    "a field of the header": lambda block, _: block.update(timestamp=hex(int(block["timestamp"], 16) + 1)),
    "a header without a field": lambda block, _: block.pop("stateRoot"),
    "a header without a later field": lambda block, _: block.pop("blobGasUsed"),
    "a header with a field too many": lambda block, _: block.update(
        slotNumber="0x1", blockAccessListHash="0x" + "1" * 64
    ),
    "a number that is none": lambda block, _: block.update(number="0xzz"),
    "a negative number": lambda block, _: block.update(number=-1),
    "a number that is a word": lambda block, _: block.update(gasUsed=True),
    "a hash that is none": lambda block, _: block.update(hash=None),
    "a root that is too short": lambda block, _: block.update(stateRoot="0x12"),
    "half a byte": lambda block, _: block.update(extraData="0x1"),
    "a receipt missing": lambda _, receipts: receipts.pop(0),
    "no receipts": lambda _, receipts: receipts.clear(),
    "a receipt twice": lambda _, receipts: receipts.append(receipts[0]),
    "a receipt of another place": lambda _, receipts: receipts[0].update(transactionIndex="0x5"),
    "gas of a receipt": lambda _, receipts: receipts[0].update(cumulativeGasUsed="0x5209"),
    "a status": lambda _, receipts: receipts[0].update(status="0x0"),
    "a type": lambda _, receipts: receipts[0].update(type="0x1"),
    "a type that there is not": lambda _, receipts: receipts[0].update(type="0x80"),
    "no logs": lambda _, receipts: receipts[0].update(logs=None),
    "a log that is none": lambda _, receipts: receipts[0].update(logs=["x"]),
    "a log more": lambda _, receipts: receipts[0].update(
        logs=[{"address": "0x" + "1" * 40, "topics": [], "data": "0x"}]
    ),
    "topics that are none": lambda _, receipts: receipts[1]["logs"][0].update(topics=["0x1234"]),
    "a bloom": lambda _, receipts: receipts[0].update(logsBloom="0x" + "1" * 512),
    "no transaction hash": lambda _, receipts: receipts[0].pop("transactionHash"),
    "another transaction": lambda _, receipts: receipts[1].update(transactionHash="0x" + "1" * 64),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_node_that_does_not_add_up_is_not_believed(chain: Any, deployed: str, what: str) -> None:
    block, receipts, sent = block_of(chain, deployed)
    block, receipts = json.loads(json.dumps([block, list(receipts)]))
    receipts.sort(key=lambda each: each["transactionHash"] == sent)
    BROKEN[what](block, receipts)
    with pytest.raises(LedgerError) as caught:
        evidence_from_receipts(
            block, receipts, transaction=sent, chain=ANVIL, origin=ORIGIN, size=14, root=ROOT
        )
    assert caught.value.reason == "node"


def test_a_transaction_that_published_something_else_gives_no_evidence(chain: Any, deployed: str) -> None:
    block, receipts, sent = block_of(chain, deployed)
    other = next(each["transactionHash"] for each in receipts if each["transactionHash"] != sent)
    wanted: Mapping[str, Any] = {
        "transaction": sent,
        "chain": ANVIL,
        "origin": ORIGIN,
        "size": 14,
        "root": ROOT,
    }
    for changed in (
        {"transaction": other},
        {"size": 15},
        {"root": BALANCES},
        {"origin": "agentmesh.local/other"},
        {"contract": "0x" + "1" * 40},
    ):
        with pytest.raises(LedgerError, match="did not publish") as caught:
            evidence_from_receipts(block, receipts, **{**wanted, **changed})
        assert caught.value.reason == "anchor"


def test_receipts_before_byzantium_and_of_rollups_are_written_as_their_chains_do() -> None:
    library = pytest.importorskip("rlp", reason="the extra chain is not installed")
    told: dict[str, Any] = {"cumulativeGasUsed": "0x5208", "logsBloom": "0x" + "0" * 512, "logs": []}
    assert write_receipt(told | {"root": "0x" + "12" * 32}) == library.encode(
        [b"\x12" * 32, 0x5208, bytes(256), []]
    )
    deposit = {"status": "0x1", "type": "0x7e", "depositNonce": "0x10", "depositReceiptVersion": "0x1"}
    assert write_receipt(told | deposit) == b"\x7e" + library.encode([1, 0x5208, bytes(256), [], 16, 1])
