"""What a chain takes back is sent again with the same bytes, and recorded anew where it was recorded already."""

from __future__ import annotations

from agentmesh_ledger.anchor.journal import Push

from .conftest import Desk, Node, settle


def newest(desk: Desk) -> Push:
    found = desk.journal.newest(desk.anchorer().setting.target())
    assert found is not None
    return found


def test_an_anchor_that_vanishes_before_it_is_deep_is_sent_again(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    first = anchorer.step()
    node.mine()
    assert anchorer.step().depth == 1
    node.ask("anvil_reorg", 1, [])
    assert desk.sizes() == []
    again = anchorer.step()
    assert (again.state, again.block, again.tx) == ("pending", None, first.tx)
    done = settle(anchorer, node)
    assert (done.state, done.tx) == ("recorded", first.tx)
    assert desk.sizes() == [first.size] and len(desk.anchors()) == 1


def test_an_anchor_that_a_reorg_moves_to_another_block_is_recorded_there(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    anchorer.step()
    node.mine(2)
    raw = f"0x{newest(desk).attempts[0].raw.hex()}"
    node.ask("anvil_reorg", 2, [[raw, 1]])
    done = settle(anchorer, node)
    assert done.state == "recorded" and done.block == node.height() - 2
    assert desk.anchors()[0].message.facts["block"] == done.block


def test_a_reorg_deeper_than_the_confirmations_has_it_sent_and_recorded_anew(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    done = settle(anchorer, node)
    node.mine(2)
    node.ask("anvil_reorg", 5, [])
    again = anchorer.step()
    assert (again.state, again.tx) == ("pending", done.tx)
    assert "the chain lost its recorded block" in again.message
    assert newest(desk).state == "vanished"
    anew = settle(anchorer, node)
    assert (anew.state, anew.tx, anew.size) == ("recorded", done.tx, done.size)
    entries = [record.message.facts for record in desk.anchors()]
    assert [each["tx"] for each in entries] == [done.tx, done.tx]
    assert len({str(each["block_hash"]) for each in entries}) == 2
    assert desk.sizes() == [done.size]
    assert newest(desk).entry == anew.entry and anchorer.step().state == "idle"


def test_a_reorg_that_takes_two_anchors_has_both_sent_again_in_their_order(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    one = settle(anchorer, node)
    desk.say()
    two = settle(anchorer, node)
    node.mine(1)
    node.ask("anvil_reorg", node.height() - (one.block or 0) + 1, [])
    assert desk.sizes() == []
    assert settle(anchorer, node).size == one.size
    assert settle(anchorer, node).size == two.size
    assert desk.sizes() == [one.size, two.size]
    assert [record.message.facts["size"] for record in desk.anchors()] == [one.size, two.size] * 2
    assert anchorer.step().state == "idle"


def test_a_chain_put_back_to_an_older_state_gets_the_anchor_again(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    snapshot = node.ask("evm_snapshot")
    done = settle(anchorer, node)
    assert node.ask("evm_revert", snapshot)
    assert node.height() < (done.block or 0)
    again = settle(anchorer, node)
    assert (again.state, again.tx) == ("recorded", done.tx)
    assert desk.sizes() == [done.size] and len(node.mined(desk.account.address)) == 1


def test_a_dropped_transaction_is_sent_again_with_the_same_bytes(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    first = anchorer.step()
    assert node.ask("anvil_dropTransaction", first.tx)
    node.mine()
    assert desk.sizes() == []
    again = anchorer.step()
    assert (again.state, again.tx) == ("pending", first.tx) and again.message.count("sent, for at most") == 1
    assert settle(anchorer, node).tx == first.tx


def test_the_contract_itself_may_vanish_and_then_the_transaction_did_nothing(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    anchorer.step()
    node.ask("anvil_setCode", desk.contract, "0x")
    node.mine(3)
    progress = anchorer.step()
    assert progress.state == "blocked" and "the contract was not there" in progress.message
    assert anchorer.step().message.startswith(f"at {desk.contract} on this chain is no contract of ours")
    assert desk.anchors() == []


def test_a_chain_that_began_anew_without_the_contract_is_sent_nothing(desk: Desk, node: Node) -> None:
    before = node.ask("evm_snapshot")
    anchorer = desk.anchorer()
    settle(anchorer, node)
    code = node.ask("eth_getCode", desk.contract, "latest")
    node.ask("evm_revert", before)
    node.ask("anvil_setCode", desk.contract, "0x")
    assert anchorer.step().state == "blocked"
    node.mine(4)
    assert node.mined(desk.account.address) == []
    node.ask("anvil_setCode", desk.contract, code)
    assert settle(anchorer, node).state == "recorded"
