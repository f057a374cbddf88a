"""One key used by several at once: whoever else takes a nonce, no size is anchored twice, and none is lost."""

from __future__ import annotations

import threading

import pytest

from agentmesh_ledger import LedgerError
from agentmesh_ledger.anchor.calls import anchor_call
from agentmesh_ledger.anchor.journal import Journal

from .conftest import ORIGIN, Asked, Desk, Node, Proxy, settle


def foreign(desk: Desk, size: int, root: bytes, *, nonce: int | None = None, gwei: int = 40) -> str:
    """Anchors with the same account, past the code under test."""
    wanted = {
        "from": desk.account.address,
        "to": desk.contract,
        "data": f"0x{anchor_call(ORIGIN, size, root, None).hex()}",
        "gas": "0x40000",
        "maxFeePerGas": hex(gwei * 10**9),
        "maxPriorityFeePerGas": hex(10**9 * gwei // 2),
    }
    if nonce is not None:
        wanted["nonce"] = hex(nonce)
    sent: str = desk.node.ask("eth_sendTransaction", wanted)
    return sent


def payment(desk: Desk, *, nonce: int, gwei: int = 40) -> None:
    """Spends the account's nonce on something else."""
    wanted = {
        "from": desk.account.address,
        "to": "0x" + "11" * 20,
        "value": "0x1",
        "nonce": hex(nonce),
        "maxFeePerGas": hex(gwei * 10**9),
        "maxPriorityFeePerGas": hex(10**9 * gwei // 2),
    }
    desk.node.ask("eth_sendTransaction", wanted)


def test_a_nonce_that_another_transaction_took_is_given_up_once_that_is_deep(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    first = anchorer.step()
    payment(desk, nonce=0)
    node.mine()
    second = anchorer.step()
    assert second.state == "pending" and "whose transaction that is will show" in second.message
    node.mine(2)
    assert "another transaction took its nonce" in anchorer.step().message
    done = settle(anchorer, node)
    assert done.state == "recorded" and done.tx != first.tx and done.size == first.size
    payed, anchored = node.mined(desk.account.address)
    assert (payed["to"], anchored["hash"]) == ("0x" + "11" * 20, done.tx)


def test_a_nonce_taken_in_a_block_that_vanishes_is_ours_again(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    first = anchorer.step()
    payment(desk, nonce=0)
    node.mine()
    anchorer.step()
    node.ask("anvil_reorg", 1, [])
    done = settle(anchorer, node)
    assert (done.state, done.tx) == ("recorded", first.tx)
    assert desk.sizes() == [first.size]


def test_a_node_that_lags_gives_an_old_nonce_and_the_anchor_still_comes(
    desk: Desk, node: Node, proxy: Proxy
) -> None:
    payment(desk, nonce=0)
    node.mine()

    def lags(asked: Asked) -> dict[str, object]:
        return {"result": "0x0"} if asked.params[1] == "pending" else asked.forward()

    proxy.rules["eth_getTransactionCount"] = lags
    anchorer = desk.anchorer(proxy.url)
    assert "its nonce is used" in anchorer.step().message
    del proxy.rules["eth_getTransactionCount"]
    assert settle(anchorer, node).state == "recorded"
    assert len(desk.sizes()) == 1


def test_two_logs_of_one_account_that_sign_the_same_nonce_both_get_their_anchor(
    desk: Desk, node: Node, proxy: Proxy
) -> None:
    mine = desk.anchorer(patience_blocks=100)
    mine.step()
    # The other one, elsewhere, does not see what waits, and outbids it.
    theirs = desk.anchorer(proxy.url, journal=Journal(desk.folder / "elsewhere"), patience_blocks=100)
    proxy.rules["eth_getTransactionCount"] = lambda asked: (
        {"result": "0x0"} if asked.params[1] == "pending" else asked.forward()
    )
    proxy.rules["eth_maxPriorityFeePerGas"] = proxy.says(hex(20 * 10**9))
    desk.say()
    theirs.step()
    proxy.rules.clear()
    done = settle(theirs, node)
    assert done.state == "recorded", done.message
    done = settle(mine, node)
    assert done.state in ("recorded", "idle")
    assert desk.sizes() == [3] and len(node.mined(desk.account.address)) == 1
    assert [record.message.facts["size"] for record in desk.anchors()] == [3]


def test_an_anchor_of_the_same_size_by_the_same_key_is_taken_up_and_not_posted_again(
    desk: Desk, node: Node
) -> None:
    size = desk.ledger.size
    sent = foreign(desk, size, desk.ledger.root(size))
    node.mine()
    done = settle(desk.anchorer(), node)
    assert (done.state, done.tx, done.size) == ("recorded", sent, size)
    assert len(node.mined(desk.account.address)) == 1
    assert desk.anchorer().step().state == "idle"


def test_a_lost_journal_costs_no_second_transaction(desk: Desk, node: Node) -> None:
    done = settle(desk.anchorer(), node)
    desk.journal.path.unlink()
    again = desk.anchorer().step()
    assert (again.state, again.size) == ("idle", done.size)
    desk.say()
    assert settle(desk.anchorer(), node).state == "recorded"
    assert len(node.mined(desk.account.address)) == 2 and len(desk.anchors()) == 2


def test_a_reverted_transaction_whose_size_was_overtaken_by_our_own_log_is_no_loop(
    desk: Desk, node: Node
) -> None:
    anchorer = desk.anchorer()
    first = anchorer.step()
    desk.say()
    # Before ours in the same block, from a nonce that is ours by right: ours moves behind it, and is refused.
    assert node.ask("anvil_dropTransaction", first.tx)
    size = desk.ledger.size
    foreign(desk, size, desk.ledger.root(size), nonce=0)
    node.mine()
    done = settle(anchorer, node)
    assert (done.state, done.size) == ("recorded", size)
    assert desk.sizes() == [size] and anchorer.step().state == "idle"


def reverting(desk: Desk, node: Node) -> None:
    """Ours is mined, and refused: the contract holds as much already, by a slot written past it."""
    anchorer = desk.anchorer()
    first = anchorer.step()
    code = node.ask("eth_getCode", desk.contract, "latest")
    node.ask("anvil_setCode", desk.contract, "0x60006000fd")  # reverts, whatever it is asked
    node.mine()
    node.ask("anvil_setCode", desk.contract, code)
    (mined,) = node.mined(desk.account.address)
    assert (mined["hash"], mined["status"]) == (first.tx, "0x0")


def test_a_transaction_that_was_refused_for_no_reason_is_told_and_not_tried_again(
    desk: Desk, node: Node
) -> None:
    reverting(desk, node)
    anchorer = desk.anchorer()
    assert (
        "mined, and refused by the contract; 1 of the 3 blocks that it must be deep"
        in anchorer.step().message
    )
    node.mine(2)
    progress = anchorer.step()
    assert progress.state == "blocked" and "the chain holds no size as large" in progress.message
    for _ in range(3):
        again = anchorer.step()
        assert again.state == "blocked" and "is not tried again" in again.message
        node.mine()
    assert len(node.mined(desk.account.address)) == 1
    desk.say()
    assert settle(anchorer, node).state == "recorded"


@pytest.mark.parametrize("more", [0, 1], ids=["the same size", "a larger size"])
def test_a_refused_transaction_with_another_branch_on_the_chain_is_a_fork_or_a_rollback(
    desk: Desk, node: Node, more: int
) -> None:
    reverting(desk, node)
    foreign(desk, desk.ledger.size + more, b"\x07" * 32)
    node.mine(3)
    with pytest.raises(LedgerError) as caught:
        desk.anchorer().step()
    assert caught.value.reason == ("rollback" if more else "forked")
    assert desk.anchors() == []


def test_only_one_of_two_steps_at_once_does_anything(desk: Desk, node: Node, proxy: Proxy) -> None:
    started = threading.Event()

    def slow(asked: Asked) -> dict[str, object]:
        started.set()
        proxy.released.wait(30)
        return asked.forward()

    proxy.rules["eth_gasPrice"] = slow
    proxy.rules["eth_estimateGas"] = slow
    said = []
    slowly = desk.anchorer(proxy.url, timeout=60)
    thread = threading.Thread(target=lambda: said.append(slowly.step()))
    thread.start()
    assert started.wait(30)
    other = desk.anchorer().step()
    assert (other.state, other.message) == ("waiting", "another process pushes this log's anchors now")
    proxy.released.set()
    thread.join()
    assert said[0].state == "pending"
    assert settle(desk.anchorer(), node).tx == said[0].tx
    assert len(node.mined(desk.account.address)) == 1


def test_a_nonce_that_the_account_never_comes_to_is_given_up(desk: Desk, node: Node, proxy: Proxy) -> None:
    def lies(asked: Asked) -> dict[str, object]:
        return {"result": "0x3e8"} if asked.params[1] == "pending" else asked.forward()

    proxy.rules["eth_getTransactionCount"] = lies
    first = desk.anchorer(proxy.url).step()
    proxy.rules.clear()
    done = settle(desk.anchorer(proxy.url), node)
    assert (done.state, done.size) == ("recorded", first.size)
    assert [int(each["nonce"], 16) for each in node.mined(desk.account.address)] == [0]


def test_one_that_was_given_up_and_is_mined_all_the_same_is_recorded(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    payment(desk, nonce=0)
    first = anchorer.step()  # behind the payment
    node.ask("anvil_dropAllTransactions")
    while "is signed anew" not in anchorer.step().message:
        node.mine()
    payment(desk, nonce=0)
    node.mine()  # which takes the anchor with it: it had waited in the node
    assert desk.sizes() == [first.size]
    done = settle(anchorer, node)
    assert (done.state, done.size) == ("recorded", first.size)
    assert desk.sizes() == [first.size] and len(desk.anchors()) == 1


def test_a_nonce_behind_one_of_ours_is_waited_for(desk: Desk, node: Node) -> None:
    other = desk.anchorer(contract="0x" + "22" * 20)
    node.ask("anvil_setCode", "0x" + "22" * 20, node.ask("eth_getCode", desk.contract, "latest"))
    other.step()
    anchorer = desk.anchorer()
    assert anchorer.step().state == "pending"
    node.ask("anvil_dropAllTransactions")
    for _ in range(6):
        node.mine()
        anchorer.step()
    settle(other, node)
    done = settle(anchorer, node)
    assert done.state == "recorded"
    assert [int(each["nonce"], 16) for each in node.mined(desk.account.address)] == [0, 1]
