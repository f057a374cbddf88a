"""A node that is down, lags, lies or is cut off at any request: nothing is lost, nothing is sent twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentmesh_ledger import LedgerError

from .conftest import Asked, Desk, Node, Proxy, Rule, settle

FAULTS: dict[str, tuple[Rule, str]] = {
    "500": (lambda asked: 500, "answers HTTP 500"),
    "429": (lambda asked: 429, "says that it is asked too often (HTTP 429)"),
    "403": (lambda asked: 403, "lets us not in (HTTP 403)"),
    "redirect": (lambda asked: 302, "with what is no JSON-RPC"),
    "garbage": (lambda asked: b"<html>\x1b[31m", "with what is no JSON"),
    "nested": (lambda asked: b"[" * 100_000, "with what is no JSON"),
    "empty": (lambda asked: b"", "with what is no JSON"),
    "list": (lambda asked: b"[]", "with what is no JSON-RPC"),
    "number": (lambda asked: b"7", "with what is no JSON-RPC"),
    "no result": (lambda asked: {}, "with what is no JSON-RPC"),
    "cut": (lambda asked: None, "cannot be reached"),
    "error": (
        lambda asked: {"error": {"code": -32005, "message": "limit\x1b[2J\nexceeded"}},
        "limit\ufffd[2J exceeded",
    ),
    "odd error": (lambda asked: {"error": "no"}, "refuses eth_chainId: no"),
    "null": (lambda asked: {"result": None}, "gives a chain id that is no number"),
    "a number": (lambda asked: {"result": 31337}, "gives a chain id that is no number"),
    "huge": (lambda asked: {"result": "0x" + "f" * 64}, "gives a chain id that is no number"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_node_with_a_fault_is_waited_for_and_said_so(
    desk: Desk, node: Node, proxy: Proxy, fault: str
) -> None:
    rule, says = FAULTS[fault]
    anchorer = desk.anchorer(proxy.url)
    proxy.rules["*"] = rule
    progress = anchorer.step()
    assert progress.state == "waiting" and says in progress.message, progress.message
    assert proxy.url in progress.message and "\x1b" not in progress.message
    with pytest.raises(LedgerError) as caught:
        anchorer.require_continued()
    assert caught.value.reason == "node"
    proxy.rules.clear()
    assert settle(anchorer, node).state == "recorded"


def test_a_node_that_is_down_is_waited_for(desk: Desk) -> None:
    progress = desk.anchorer("http://127.0.0.1:9").step()
    assert (progress.state, progress.message) == (
        "waiting",
        "the node at http://127.0.0.1:9 cannot be reached",
    )


def test_a_node_that_never_answers_holds_a_step_up_for_its_time_only(desk: Desk, proxy: Proxy) -> None:
    proxy.rules["eth_blockNumber"] = proxy.rules["eth_getBlockByNumber"] = proxy.hang
    progress = desk.anchorer(proxy.url, timeout=1.0).step()
    assert progress.state == "waiting"
    assert progress.message.endswith("did not answer eth_getBlockByNumber within 1 seconds")


def test_a_node_of_another_chain_is_refused_before_anything_is_sent(
    desk: Desk, node: Node, proxy: Proxy
) -> None:
    anchorer = desk.anchorer(proxy.url)
    anchorer.step(start=False)
    proxy.rules["eth_chainId"] = proxy.says("0x1")
    progress = anchorer.step()
    assert progress.state == "blocked"
    assert progress.message.endswith("is of another chain (expected 31337, found 1)")
    assert "eth_sendRawTransaction" not in proxy.methods()


def test_a_secret_in_the_nodes_address_is_in_no_message(desk: Desk, proxy: Proxy) -> None:
    secret = "4f2b9c"
    for rule in (*(each for each, _ in FAULTS.values()), proxy.hang):
        proxy.rules["*"] = rule
        address = proxy.url.replace("http://", f"http://me:{secret}@") + f"/v3/{secret}?key={secret}"
        anchorer = desk.anchorer(address, timeout=0.2)
        assert secret not in anchorer.step().message
        with pytest.raises(LedgerError) as caught:
            anchorer.require_continued()
        error: BaseException | None = caught.value
        while error is not None:
            assert secret not in str(error)
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def counted(proxy: Proxy, turn: int, fault: Callable[[Asked], Rule]) -> None:
    """Lets the request with this number fail, and every other pass."""
    left = [turn]

    def rule(asked: Asked) -> dict[str, object] | bytes | int | None:
        left[0] -= 1
        return fault(asked)(asked) if left[0] == -1 else asked.forward()  # type: ignore[return-value]

    proxy.rules["*"] = rule


def done_then_cut(asked: Asked) -> Rule:
    """The node does it, and we never hear of it."""
    asked.forward()
    return lambda asked: None


@pytest.mark.parametrize(
    "fault",
    [lambda asked: lambda asked: 500, lambda asked: lambda asked: {"result": None}, done_then_cut],
    ids=["500", "null", "done, then cut"],
)
def test_whatever_single_request_fails_there_is_one_transaction_and_one_entry(
    desk: Desk, node: Node, proxy: Proxy, fault: Callable[[Asked], Rule]
) -> None:
    anchorer = desk.anchorer(proxy.url, confirmations=2)
    turn = failed = 0
    while True:
        desk.say()
        before = len(proxy.asked)
        counted(proxy, turn, fault)
        done = settle(anchorer, node)
        assert done.state == "recorded", (turn, proxy.asked[before:])
        turn += 1
        if len(proxy.asked) - before < turn:
            break  # the fault was behind the last request: all had their turn
        failed += 1
    assert failed > 12
    mined = node.mined(desk.account.address)
    assert len(mined) == turn and {each["status"] for each in mined} == {"0x1"}
    assert len(desk.sizes()) == len(set(desk.sizes())) == turn
    assert [record.message.facts["size"] for record in desk.anchors()] == desk.sizes()


def test_a_node_that_forgets_a_mined_transaction_for_a_while_is_waited_for(
    desk: Desk, node: Node, proxy: Proxy
) -> None:
    anchorer = desk.anchorer(proxy.url)
    first = anchorer.step()
    node.mine(10)
    for method in ("eth_getTransactionReceipt", "eth_getTransactionByHash"):
        proxy.rules[method] = proxy.says(None)
    for _ in range(3):
        progress = anchorer.step()
        assert (progress.state, progress.tx) == ("waiting", first.tx), progress.message
    proxy.rules.clear()
    assert settle(anchorer, node).tx == first.tx
    assert len(node.mined(desk.account.address)) == 1


def test_a_node_that_lags_after_the_anchor_was_recorded_leads_to_no_second_one(
    desk: Desk, node: Node, proxy: Proxy
) -> None:
    anchorer = desk.anchorer(proxy.url)
    done = settle(anchorer, node)
    old = hex((done.block or 0) - 1)

    def lags(asked: Asked) -> dict[str, object]:
        if asked.method == "eth_getBlockByNumber" and asked.params[0] == "latest":
            return {"result": node.ask("eth_getBlockByNumber", old, False)}
        if asked.method == "eth_getTransactionCount":
            return {"result": "0x0"}
        if asked.method in ("eth_getTransactionReceipt", "eth_getTransactionByHash"):
            return {"result": None}
        return asked.forward()

    proxy.rules["*"] = lags
    for _ in range(3):
        assert anchorer.step().state in ("pending", "waiting")
    proxy.rules.clear()
    assert settle(anchorer, node).entry == done.entry
    assert len(desk.anchors()) == 1 and len(node.mined(desk.account.address)) == 1


def test_receipts_that_do_not_prove_it_are_waited_out(desk: Desk, node: Node, proxy: Proxy) -> None:
    anchorer = desk.anchorer(proxy.url)
    anchorer.step()
    node.mine(3)

    def lies(asked: Asked) -> dict[str, object]:
        found = asked.forward()
        found["result"][0]["cumulativeGasUsed"] = "0x1"
        return found

    proxy.rules["eth_getBlockReceipts"] = lies
    progress = anchorer.step()
    assert progress.state == "waiting" and "prove nothing" in progress.message
    assert desk.anchors() == []
    proxy.rules.clear()
    assert anchorer.step().state == "recorded"


def test_a_node_without_all_receipts_at_once_is_asked_for_each(desk: Desk, node: Node, proxy: Proxy) -> None:
    proxy.rules["eth_getBlockReceipts"] = proxy.fails("the method does not exist", -32601)
    assert settle(desk.anchorer(proxy.url), node).state == "recorded"
    assert desk.ledger.verify().entries == desk.ledger.size


def test_a_node_that_suggests_no_tip_gets_the_usual_one(desk: Desk, node: Node, proxy: Proxy) -> None:
    proxy.rules["eth_maxPriorityFeePerGas"] = proxy.fails("the method does not exist", -32601)
    assert settle(desk.anchorer(proxy.url), node).state == "recorded"
    (mined,) = node.mined(desk.account.address)
    assert int(mined["maxPriorityFeePerGas"], 16) == 10**8


@pytest.mark.parametrize(
    ("answer", "state", "says"),
    [
        ("already known", "pending", "sent, for at most"),
        ("transaction already imported", "pending", "sent, for at most"),
        ("AlreadyKnown", "pending", "sent, for at most"),
        ("nonce too low: next nonce 7, tx nonce 5", "pending", "the node says that its nonce is used"),
        ("OldNonce", "pending", "the node says that its nonce is used"),
        ("insufficient funds for gas * price + value", "blocked", "insufficient funds"),
        ("Upfront cost exceeds account balance", "blocked", "insufficient funds"),
        ("FeeTooLow, MaxFeePerGas too low", "waiting", "its fee is too low"),
        ("max fee per gas less than block base fee: address 0x", "waiting", "its fee is too low"),
        ("txpool is full", "waiting", "does not take the transaction: txpool is full"),
    ],
)
def test_each_nodes_words_for_what_became_of_a_transaction_are_understood(
    desk: Desk, node: Node, proxy: Proxy, answer: str, state: str, says: str
) -> None:
    anchorer = desk.anchorer(proxy.url)
    proxy.rules["eth_sendRawTransaction"] = proxy.fails(answer)
    progress = anchorer.step()
    assert progress.state == state and says in progress.message
    proxy.rules.clear()
    assert settle(anchorer, node).state == "recorded"
    assert len(node.mined(desk.account.address)) == 1


def test_a_receipt_that_says_falsely_that_it_failed_loses_no_anchor(
    desk: Desk, node: Node, proxy: Proxy
) -> None:
    def failed(asked: Asked) -> dict[str, Any]:
        answer = asked.forward()
        return {**answer, "result": answer["result"] and {**answer["result"], "status": "0x0"}}

    proxy.rules["eth_getTransactionReceipt"] = failed
    anchorer = desk.anchorer(proxy.url)
    first = anchorer.step()
    for _ in range(4):
        node.mine()
        assert anchorer.step().state in ("pending", "waiting")
    proxy.rules.clear()
    done = settle(anchorer, node)
    assert (done.state, done.tx, desk.sizes()) == ("recorded", first.tx, [first.size])
