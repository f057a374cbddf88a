"""A ledger that was put back or went on otherwise is caught by what the chain, or the journal, holds of it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agentmesh_ledger import KeyStore, Ledger, LedgerError
from agentmesh_ledger.anchor.calls import anchor_call
from agentmesh_ledger.anchor.journal import Journal, journal_path
from agentmesh_ledger.branches import prove_fork

from .conftest import ORIGIN, Asked, Desk, Node, Proxy, settle


def copied(desk: Desk, name: str) -> Path:
    """A copy of the database as it is now, with its keys: what a restored backup is."""
    folder = desk.folder / name
    folder.mkdir()
    with closing(sqlite3.connect(desk.path)) as old, closing(sqlite3.connect(folder / "ledger.db")) as new:
        old.backup(new)
    shutil.copytree(desk.keys.directory, folder / "keys")
    return folder


class Restored(Desk):
    """The desk as an older copy has it."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        super().__init__(folder, desk.node, desk.account, desk.contract)


def caught(desk: Desk, url: str | None = None) -> LedgerError:
    """What is raised before anything new is signed, and by every step."""
    anchorer = desk.anchorer(url)
    with pytest.raises(LedgerError) as first:
        anchorer.require_continued()
    return first.value


def test_a_ledger_that_continues_the_chain_is_let_go_on(desk: Desk, node: Node) -> None:
    anchorer = desk.anchorer()
    anchorer.require_continued()
    settle(anchorer, node)
    anchorer.require_continued()
    desk.say()
    anchorer.require_continued()
    desk.journal.path.unlink()
    desk.anchorer().require_continued()


def test_a_database_put_back_with_all_its_keys_is_a_rollback_by_the_chain(desk: Desk, node: Node) -> None:
    old = copied(desk, "old")
    desk.say()
    settle(desk.anchorer(), node)
    restored = Restored(desk, old)
    try:
        error = caught(restored)
        assert (error.reason, error.expected, error.found) == ("rollback", "3 entries", "2")
        assert desk.account.address in str(error)
        with pytest.raises(LedgerError, match="larger size"):
            restored.anchorer().step()
    finally:
        restored.close()
    assert desk.sizes() == [3]


def test_a_ledger_that_went_on_otherwise_is_a_fork_by_the_chain(desk: Desk, node: Node) -> None:
    old = copied(desk, "old")
    desk.say()
    settle(desk.anchorer(), node)
    branch = Restored(desk, old)
    try:
        branch.say(4)
        error = caught(branch)
        assert error.reason == "forked" and error.expected == desk.ledger.root(3).hex()
        assert error.path is None, "the chain alone has no signature of the log"
        with pytest.raises(LedgerError) as raised:
            branch.anchorer().step()
        assert raised.value.reason == "forked"
    finally:
        branch.close()
    assert desk.sizes() == [3]


def test_the_journal_proves_the_fork_where_it_has_the_note(desk: Desk, node: Node) -> None:
    old = copied(desk, "old")
    desk.say()
    settle(desk.anchorer(), node)
    shutil.copy(desk.journal.path, old / "keys" / "logs" / desk.journal.path.name)
    branch = Restored(desk, old)
    try:
        assert caught(branch).reason == "rollback"
        branch.say(4)
        error = caught(branch)
        assert error.reason == "forked" and error.path is not None and "agentmesh-verify fork" in str(error)
        proven = prove_fork(error.path, None, [desk.ledger.vkey()])
        assert proven.pinned and proven.forked.first.root == desk.ledger.root(3)
        assert proven.forked.root == branch.ledger.root(3)
    finally:
        branch.close()


def test_a_push_under_way_for_another_branch_is_not_sent(desk: Desk, node: Node) -> None:
    old = copied(desk, "old")
    desk.say()
    desk.anchorer().step()
    shutil.copy(desk.journal.path, old / "keys" / "logs" / desk.journal.path.name)
    branch = Restored(desk, old)
    try:
        with pytest.raises(LedgerError) as raised:
            branch.anchorer().step()
        assert raised.value.reason == "rollback"
        branch.say(4)
        with pytest.raises(LedgerError) as raised:
            branch.anchorer().step()
        assert raised.value.reason == "forked" and raised.value.path is not None
    finally:
        branch.close()


def test_another_log_of_the_same_account_is_another_matter(desk: Desk, node: Node, tmp_path: Path) -> None:
    settle(desk.anchorer(), node)
    keys = KeyStore(tmp_path / "garden" / "keys")
    with Ledger.open(tmp_path / "garden.db", origin="agentmesh.local/garden", keys=keys, create=True) as log:
        journal = Journal(journal_path(keys, log.origin))
        desk.anchorer(ledger=log, journal=journal).require_continued()


class Past:
    """Anchors of our own log made elsewhere: no journal here knows of them."""

    def __init__(self, desk: Desk, node: Node) -> None:
        size = desk.ledger.size
        data = anchor_call(ORIGIN, size, desk.ledger.root(size), None)
        wanted = {
            "from": desk.account.address,
            "to": desk.contract,
            "data": f"0x{data.hex()}",
            "gas": "0x40000",
        }
        self.tx = node.ask("eth_sendTransaction", wanted)
        node.mine(1)
        self.size = size


def test_the_newest_event_is_found_far_back_on_a_node_that_limits_its_logs(
    desk: Desk, node: Node, proxy: Proxy
) -> None:
    Past(desk, node)
    node.mine(300)
    desk.say()

    def limited(asked: Asked) -> dict[str, object]:
        first, last = (int(asked.params[0][name], 16) for name in ("fromBlock", "toBlock"))
        if last - first >= 20:
            return {"error": {"code": -32005, "message": "query exceeds max block range 20"}}
        return asked.forward()

    proxy.rules["eth_getLogs"] = limited
    desk.anchorer(proxy.url).require_continued()
    asked = [params for method, params in proxy.asked if method == "eth_getLogs"]
    assert 15 < len(asked) < 30


def test_a_node_that_refuses_all_logs_cannot_tell(desk: Desk, node: Node, proxy: Proxy) -> None:
    Past(desk, node)
    proxy.rules["eth_getLogs"] = proxy.fails("the method does not exist", -32601)
    error = caught(desk, proxy.url)
    assert error.reason == "node" and "refuses the events of one block" in error.message
    assert desk.anchorer(proxy.url).step().state == "waiting"


def test_a_node_that_hides_the_event_cannot_tell(desk: Desk, node: Node, proxy: Proxy) -> None:
    Past(desk, node)
    proxy.rules["eth_getLogs"] = proxy.says([])
    error = caught(desk, proxy.url)
    assert error.reason == "node" and "does not show the event by which size 2 was anchored" in error.message


@pytest.mark.parametrize(
    "result",
    [
        None, 7, {}, [7], [{}], [{"topics": []}], [{"topics": ["0x1"]}],
        [{"topics": [], "address": "0x", "data": "0x0"}],
    ],
)  # fmt: skip
def test_events_that_are_none_are_said_to_be_so(desk: Desk, node: Node, proxy: Proxy, result: object) -> None:
    Past(desk, node)
    proxy.rules["eth_getLogs"] = proxy.says(result)
    assert caught(desk, proxy.url).reason == "node"


def test_a_head_of_another_form_is_the_nodes_fault(desk: Desk, proxy: Proxy) -> None:
    proxy.rules["eth_call"] = proxy.says("0x")
    assert "gives a head of 0 bytes" in caught(desk, proxy.url).message
