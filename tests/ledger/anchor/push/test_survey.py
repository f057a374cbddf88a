"""How anchors stand is told from the chain, and nothing is sent, signed or written for it."""

from __future__ import annotations

import pytest

from agentmesh_ledger import Draft, LedgerError
from agentmesh_ledger.anchor.account import Account
from agentmesh_ledger.anchor.journal import Journal
from agentmesh_ledger.anchor.survey import Survey, survey

from .conftest import Desk, Node, Proxy, settle


def looked(desk: Desk, url: str | None = None) -> Survey:
    (found,) = survey(desk.ledger, desk.chain(url), desk.journal)
    return found


def test_what_is_under_way_and_what_is_recorded_is_told_newest_first(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    one = settle(anchorer, node)
    desk.say()
    two = anchorer.step()
    found = looked(desk)
    assert [(each.size, each.standing, each.tx) for each in found.anchors] == [
        (two.size, "pending", two.tx),
        (one.size, "recorded", one.tx),
    ]
    assert (found.held, found.ours, found.sound, found.sender) == (one.size, True, True, desk.account.address)
    node.mine(2)
    assert [each.depth for each in looked(desk).anchors] == [2, 5]


def test_what_the_chain_lost_is_told_before_any_step_saw_it(desk: Desk, node: Node) -> None:
    settle(desk.anchorer(), node)
    node.ask("anvil_reorg", 3, [])
    found = looked(desk)
    assert [each.standing for each in found.anchors] == ["vanished"] and not found.sound
    (push,) = desk.journal.all(desk.anchorer().setting.target())
    assert push.state == "recorded", "looking writes nothing"
    desk.anchorer().step()
    assert looked(desk).anchors[0].standing == "vanished"


def test_a_block_that_the_node_does_not_have_is_unseen(desk: Desk, node: Node, proxy: Proxy) -> None:
    done = settle(desk.anchorer(), node)
    wanted = hex(done.block or 0)
    proxy.rules["eth_getBlockByNumber"] = lambda asked: (
        {"result": None} if asked.params[0] == wanted else asked.forward()
    )
    found = looked(desk, proxy.url)
    assert (found.anchors[0].standing, found.sound) == ("unseen", False)


def test_a_contract_that_is_not_ours_is_told(desk: Desk, node: Node) -> None:
    settle(desk.anchorer(), node)
    node.ask("anvil_setCode", desk.contract, "0x00")
    assert (looked(desk).ours, looked(desk).sound) == (False, False)


def test_without_the_journal_the_log_says_where_to_look_and_a_made_up_entry_says_nothing(
    desk: Desk, node: Node
) -> None:
    settle(desk.anchorer(), node)
    lies = [
        {"chain": 31337},
        {"chain": 31337, "contract": "\x1b[2J", "sender": 7},
        {"type": "opentimestamps"},
    ]
    for facts in lies:
        author = desk.keys.agent("ada")
        desk.ledger.append([Draft(author=author, kind="anchor", dialogue="log", facts=facts)])
    (found,) = survey(desk.ledger, desk.chain(), Journal(desk.folder / "none" / "anchors"))
    assert (found.sender, found.held, found.anchors) == (desk.account.address, 2, ())
    assert not (desk.folder / "none").exists()
    assert not list(survey(desk.ledger, desk.chain(), desk.journal, contract="0x" + "11" * 20))


def test_a_log_that_the_chain_has_more_of_is_no_survey(desk: Desk, node: Node) -> None:
    from .test_continued import Restored, copied

    old = copied(desk, "old")
    desk.say()
    settle(desk.anchorer(), node)
    restored = Restored(desk, old)
    try:
        with pytest.raises(LedgerError) as caught:
            list(survey(restored.ledger, desk.chain(), desk.journal))
        assert caught.value.reason == "rollback"
    finally:
        restored.close()


def test_after_a_loss_that_was_accepted_the_account_of_now_is_told_before_the_other_is(
    desk: Desk, node: Node, other_account: Account
) -> None:
    from .test_continued import Restored, copied

    old = copied(desk, "old")
    desk.say()
    settle(desk.anchorer(), node)
    restored = Restored(desk, old)
    try:
        done = settle(restored.anchorer(account=other_account, journal=desk.journal), node)
        found = survey(restored.ledger, desk.chain(), desk.journal)
        told = next(found)
        assert (told.sender, told.held, told.sound) == (other_account.address, done.size, True)
        with pytest.raises(LedgerError) as caught:
            next(found)
        assert caught.value.reason in ("rollback", "forked")
    finally:
        restored.close()
