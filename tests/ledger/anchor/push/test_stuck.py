"""A transaction that is stuck is offered more for, within the cap; above the cap everything waits."""

from __future__ import annotations

from decimal import Decimal

import pytest

from agentmesh_ledger.anchor.journal import Attempt

from .conftest import Desk, Node, Proxy, settle

GWEI = 10**9


def attempts(desk: Desk) -> tuple[Attempt, ...]:
    found = desk.journal.newest(desk.anchorer().setting.target())
    return () if found is None else found.attempts


def hold(node: Node, gwei: int, blocks: int = 1) -> None:
    """Blocks at this base fee: an empty block would lower it."""
    for _ in range(blocks):
        node.base_fee(gwei * GWEI)
        node.mine()


def test_a_fee_above_the_cap_is_waited_out_and_nothing_is_signed_meanwhile(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer(max_fee_gwei=Decimal(5))
    hold(node, 6)
    for _ in range(2):
        progress = anchorer.step()
        assert (progress.state, progress.tx) == ("waiting", None)
        assert progress.message == "the base fee is 6 gwei, above the cap of 5 gwei: waiting until it falls"
        hold(node, 6)
    assert attempts(desk) == ()
    hold(node, 4)
    assert settle(anchorer, node).state == "recorded"


def test_a_stuck_transaction_is_replaced_at_the_same_nonce_for_an_eighth_more(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer(patience_blocks=2)
    first = anchorer.step()
    hold(node, 10)
    assert anchorer.step().tx == first.tx, "one block is no reason"
    hold(node, 10)
    second = anchorer.step()
    assert second.state == "pending" and second.tx != first.tx
    one, two = attempts(desk)
    assert (one.tx, two.tx) == (first.tx, second.tx)
    assert two.fees.max_fee * 8 >= one.fees.max_fee * 9 and two.fees.tip * 8 >= one.fees.tip * 9
    assert two.fees.max_fee > 20 * GWEI, "with room for the base fee to double again"
    done = settle(anchorer, node)
    assert (done.state, done.tx) == ("recorded", second.tx)
    (mined,) = node.mined(desk.account.address)
    assert int(mined["nonce"], 16) == 0 and len(desk.anchors()) == 1


def test_the_first_attempt_may_still_be_the_one_that_is_mined(desk: Desk, node: Node, proxy: Proxy) -> None:
    anchorer = desk.anchorer(proxy.url, patience_blocks=1)
    first = anchorer.step()
    hold(node, 10)
    proxy.rules["eth_sendRawTransaction"] = proxy.says("0x" + "00" * 32)  # taken, and lost
    assert anchorer.step().tx != first.tx
    assert len(attempts(desk)) == 2
    del proxy.rules["eth_sendRawTransaction"]
    node.base_fee(GWEI)
    node.ask("eth_sendRawTransaction", f"0x{attempts(desk)[0].raw.hex()}")  # another node still had it
    node.mine()
    progress = anchorer.step()
    assert (progress.depth, progress.tx) == (1, first.tx)
    assert settle(anchorer, node).tx == first.tx
    assert desk.sizes() == [first.size]


def test_it_is_offered_more_for_only_up_to_the_cap_and_goes_on_when_the_fee_falls(
    desk: Desk, node: Node
) -> None:
    anchorer = desk.anchorer(patience_blocks=1, max_fee_gwei=Decimal(8))
    anchorer.step()
    said = []
    for _ in range(20):
        hold(node, 9)
        said.append(anchorer.step())
    assert said[-1].state == "waiting" and said[-1].message.endswith(
        "the base fee is 9 gwei, above the cap of 8 gwei: waiting until it falls"
    )
    fees = [each.fees.max_fee for each in attempts(desk)]
    assert len(fees) > 2 and fees == sorted(fees) and fees[-1] <= 8 * GWEI
    assert all(later * 8 >= earlier * 9 for earlier, later in zip(fees, fees[1:], strict=False))
    hold(node, 2)
    assert settle(anchorer, node).state == "recorded"
    assert len(node.mined(desk.account.address)) == 1 and desk.sizes() == [said[0].size]


def test_what_was_signed_before_the_fee_rose_is_still_handed_over(desk: Desk, node: Node) -> None:
    def die(point: str) -> None:
        if point == "prepared":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.anchorer(at=die).step()
    hold(node, 100)
    anchorer = desk.anchorer()
    progress = anchorer.step()
    assert progress.state in ("pending", "waiting") and len(attempts(desk)) == 1
    hold(node, 1)
    assert settle(anchorer, node).state == "recorded"
    assert len(node.mined(desk.account.address)) == 1


def test_a_node_that_refuses_the_fee_gets_a_replacement_after_the_same_patience(
    desk: Desk, node: Node, proxy: Proxy
) -> None:
    anchorer = desk.anchorer(proxy.url, patience_blocks=2)
    proxy.rules["eth_sendRawTransaction"] = proxy.fails("replacement transaction underpriced")
    first = anchorer.step()
    assert first.state == "waiting" and "its fee is too low for the node now" in first.message
    node.mine()
    assert len(attempts(desk)) == 1 and anchorer.step().tx == first.tx
    node.mine()
    assert anchorer.step().tx != first.tx and len(attempts(desk)) == 2
    del proxy.rules["eth_sendRawTransaction"]
    assert settle(anchorer, node).state == "recorded"


def test_a_chain_without_base_fees_is_told_so(desk: Desk, proxy: Proxy) -> None:
    def old(asked: object) -> dict[str, object]:
        block = asked.forward()  # type: ignore[attr-defined]
        del block["result"]["baseFeePerGas"]
        return block  # type: ignore[no-any-return]

    proxy.rules["eth_getBlockByNumber"] = old
    progress = desk.anchorer(proxy.url).step()
    assert (progress.state, progress.message) == ("blocked", "this chain has no EIP-1559 fees")
