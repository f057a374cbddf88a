"""A log's checkpoints come onto a real chain, one at a time, and into the log."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from agentmesh_ledger import KeyStore, Ledger, LedgerError
from agentmesh_ledger.anchor.evidence import verify_evidence
from agentmesh_ledger.anchor.journal import Journal, journal_path
from agentmesh_ledger.anchor.progress import Every
from agentmesh_ledger.anchor.recording import EVIDENCE_TYPE

from .conftest import ORIGIN, Desk, Node, settle


def test_a_checkpoint_is_sent_waited_for_and_recorded_with_its_proof(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    size, root = desk.ledger.size, desk.ledger.root(desk.ledger.size)
    first = anchorer.step()
    assert (first.state, first.size, first.block) == ("pending", size, None)
    node.mine()
    second = anchorer.step()
    assert (second.state, second.depth) == ("pending", 1)
    node.mine(2)
    done = anchorer.step()
    assert (done.state, done.depth, done.tx) == ("recorded", 3, first.tx)
    (entry,) = desk.anchors()
    message = entry.message
    assert (entry.index, message.dialogue, message.author) == (done.entry, "log", desk.keys.agent("host").id)
    assert message.facts == {
        "type": "evm",
        "chain": 31337,
        "contract": desk.contract,
        "sender": desk.account.address,
        "size": size,
        "root": root.hex(),
        "block": done.block,
        "block_hash": node.ask("eth_getBlockByNumber", hex(done.block or 0), False)["hash"],
        "tx": first.tx,
    }
    (part,) = entry.parts
    assert (part.name, part.type) == ("evidence", EVIDENCE_TYPE) and part.data is not None
    shown = verify_evidence(
        json.loads(part.data), origin=ORIGIN, size=size, root=root, contract=desk.contract
    )
    assert (shown.block_hash, shown.sender) == (message.facts["block_hash"], desk.account.address)


def test_the_log_with_its_anchor_still_verifies(desk: Desk, node: Node) -> None:
    assert settle(desk.anchorer(), node).state == "recorded"
    assert desk.ledger.verify().entries == desk.ledger.size


def test_anchors_own_entries_are_no_reason_for_another(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    done = settle(anchorer, node)
    idle = anchorer.step()
    assert (idle.state, idle.size, idle.tx, idle.entry) == ("idle", done.size, done.tx, done.entry)
    assert anchorer.fresh() == 0
    desk.say()
    assert settle(anchorer, node).state == "recorded"
    assert desk.sizes() == [record.message.facts["size"] for record in desk.anchors()]
    assert len(node.mined(desk.account.address)) == 2


def test_an_empty_log_has_nothing_to_anchor(desk: Desk, node: Node) -> None:
    keys = KeyStore(desk.folder / "other" / "keys")
    journal = Journal(journal_path(keys, ORIGIN))
    with Ledger.open(":memory:", origin=ORIGIN, keys=keys, create=True) as empty:
        assert desk.anchorer(ledger=empty, journal=journal).step().state == "idle"


def test_a_push_takes_steps_until_what_the_log_held_is_recorded(desk: Desk, node: Node) -> None:
    node.ask("evm_setIntervalMining", 1)
    heard: list[str] = []
    done = desk.anchorer().push(within=60, told=lambda progress: heard.append(progress.state))
    assert done.state == "recorded" and (done.depth or 0) >= 3
    assert heard[0] == "pending" and heard[-1] == "recorded"
    assert desk.sizes() == [done.size]


def test_a_push_first_ends_what_is_under_way_and_then_takes_what_came_since(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    early = anchorer.step()
    desk.say(3)
    node.ask("evm_setIntervalMining", 1)
    done = anchorer.push(within=60)
    assert (early.size, done.size) == tuple(desk.sizes())
    assert [record.message.facts["tx"] for record in desk.anchors()] == [early.tx, done.tx]


def test_a_push_ends_when_its_time_is_over_or_it_is_stopped_and_loses_nothing(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    assert anchorer.push(within=0.05).state == "pending"
    assert anchorer.push(within=60, stopped=lambda: True).state == "pending"
    assert settle(anchorer, node).state == "recorded"
    assert len(node.mined(desk.account.address)) == 1


def test_an_anchor_is_due_after_so_many_messages(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    # The first message brought the registration of its author.
    assert anchorer.due(Every(messages=2)) and not anchorer.due(Every(messages=3))
    settle(anchorer, node)
    assert not anchorer.due(Every(messages=1))
    desk.say(2)
    assert anchorer.due(Every(messages=2)) and not anchorer.due(Every(messages=3))


def test_an_anchor_is_due_after_so_many_seconds_where_something_is_new(desk: Desk, node: Node) -> None:
    now = [1000.0]
    anchorer = desk.anchorer(clock=lambda: now[0])
    assert anchorer.due(Every(seconds=60))
    settle(anchorer, node)
    now[0] += 100
    assert not anchorer.due(Every(seconds=60))
    desk.say()
    assert anchorer.due(Every(seconds=60)) and not anchorer.due(Every(seconds=101))
    now[0] = 10.0
    assert anchorer.due(Every(seconds=60)), "a clock that was set back delays nothing"


def test_whether_one_is_due_needs_no_node(desk: Desk) -> None:
    anchorer = desk.anchorer("http://127.0.0.1:9")
    assert anchorer.due(Every(messages=1)) and anchorer.fresh(5) == 2 and not anchorer.pending()


def test_a_step_can_be_held_to_what_is_under_way(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    assert anchorer.step(start=False).state == "idle" and not anchorer.pending()
    anchorer.step()
    assert anchorer.pending()
    node.mine(3)
    assert anchorer.step(start=False).state == "recorded"


def test_the_root_of_balances_goes_beside_the_checkpoint(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    balances = bytes(range(32))
    anchorer.step(balances)
    node.mine(3)
    assert anchorer.step().state == "recorded"
    (entry,) = desk.anchors()
    data, facts = entry.parts[0].data, entry.message.facts
    assert data is not None
    shown = verify_evidence(
        json.loads(data), origin=ORIGIN, size=int(str(facts["size"])), root=bytes.fromhex(str(facts["root"]))
    )
    assert shown.settlement == balances


def test_balances_are_published_after_an_anchor_that_had_none(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    settle(anchorer, node)
    assert anchorer.step().state == "idle"
    anchorer.step(bytes(range(32)))
    node.mine(3)
    assert anchorer.step(bytes(range(32))).state == "recorded"
    for _ in range(2):  # once: what is published is no reason for another
        assert anchorer.step(bytes(range(32))).state == "idle"
        node.mine(3)
    assert len(node.mined(desk.account.address)) == 2
    assert desk.sizes() == [record.message.facts["size"] for record in desk.anchors()]


def test_a_push_that_finds_one_without_balances_under_way_publishes_them_behind_it(
    desk: Desk, node: Node
) -> None:
    anchorer = desk.anchorer()
    early = anchorer.step()
    node.ask("evm_setIntervalMining", 1)
    done = anchorer.push(within=60, settlement=bytes(range(32)))
    assert done.state == "recorded" and (early.size, done.size) == tuple(desk.sizes())


def test_an_address_without_our_code_is_refused_before_anything_is_sent(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer(contract=desk.account.address)
    progress = anchorer.step()
    assert progress.state == "blocked" and "no contract of ours" in progress.message
    assert anchorer.push(within=60).state == "blocked"
    with pytest.raises(LedgerError, match="no contract of ours") as caught:
        anchorer.require_continued()
    assert caught.value.reason == "refused"
    node.mine(2)
    assert node.mined(desk.account.address) == []


def test_an_account_without_money_is_told_so_and_goes_on_once_it_has_some(desk: Desk, node: Node) -> None:
    node.ask("anvil_setBalance", desk.account.address, "0x10")
    anchorer = desk.anchorer()
    progress = anchorer.push(within=60)
    assert progress.state == "blocked" and progress.message.startswith(
        f"insufficient funds: {desk.account.address} has 0.000000016 gwei"
    )
    assert desk.sizes() == [] and anchorer.pending() is False
    node.ask("anvil_setBalance", desk.account.address, hex(10**18))
    assert settle(anchorer, node).state == "recorded"


@pytest.mark.parametrize(
    "address", ["0x12", "12" * 20, "0x" + "g" * 40, "0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266"]
)
def test_an_address_that_is_none_is_refused(desk: Desk, address: str) -> None:
    with pytest.raises(LedgerError) as caught:
        desk.anchorer(contract=address)
    assert caught.value.reason == "refused"


@pytest.mark.parametrize("fee", ["0", "-1", "NaN", "Infinity", "1000001"])
def test_a_cap_that_is_none_is_refused(desk: Desk, fee: str) -> None:
    with pytest.raises(LedgerError) as caught:
        desk.anchorer(max_fee_gwei=Decimal(fee))
    assert caught.value.reason == "refused"
