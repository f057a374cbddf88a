"""The journal keeps what was signed, lets one push be open at a time, and says so where its file is not sound."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agentmesh_ledger import KeyStore, LedgerError
from agentmesh_ledger.anchor.fees import Fees
from agentmesh_ledger.anchor.journal import Attempt, Journal, Place, Target, journal_path

HERE = Target(chain=1, contract="0x" + "11" * 20, sender="0x" + "22" * 20)
THERE = Target(chain=1, contract="0x" + "33" * 20, sender=HERE.sender)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "keys" / "log.anchors")


def attempt(number: int) -> Attempt:
    return Attempt(tx=f"0x{number:064x}", raw=bytes([number]), fees=Fees(max_fee=number, tip=1))


def add(journal: Journal, size: int, *, nonce: int = 0, target: Target = HERE) -> None:
    journal.add(
        target, size=size, root=bytes(32), note="note", nonce=nonce, gas=1, made=1.5, attempt=attempt(size)
    )


def test_what_is_added_is_read_back_by_another_journal_of_the_file(journal: Journal) -> None:
    journal.add(
        HERE,
        size=7,
        root=b"\1" * 32,
        settlement=b"\2" * 32,
        note="n",
        nonce=3,
        gas=9,
        made=2.5,
        attempt=attempt(1),
    )
    push = Journal(journal.path).under_way(HERE)
    assert push is not None and push.attempts == (attempt(1),)
    assert (push.size, push.root, push.settlement, push.note, push.nonce, push.gas, push.made, push.state) == (
        7, b"\1" * 32, b"\2" * 32, "n", 3, 9, 2.5, "open",
    )  # fmt: skip


def test_the_file_is_beside_the_logs_key_and_for_its_owner_only(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path / "keys")
    keys.log("example.org/desk")
    path = journal_path(keys, "example.org/desk")
    assert path == tmp_path / "keys" / "logs" / "example.org%2Fdesk.anchors"
    add(Journal(path), 1)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.origins() == ("example.org/desk",) and not keys.sealed()


def test_a_second_open_push_is_refused_by_the_file_itself(journal: Journal) -> None:
    add(journal, 1)
    with pytest.raises(LedgerError):
        add(journal, 2)
    newest = journal.newest(HERE)
    assert newest is not None and newest.size == 1 and journal.of_size(HERE, 2) is None
    add(journal, 2, target=THERE, nonce=1)
    assert journal.next_nonce(HERE) == 2


def test_a_push_goes_from_open_to_recorded_to_vanished_and_back(journal: Journal) -> None:
    add(journal, 1)
    push = journal.under_way(HERE)
    assert push is not None
    journal.sent(push.attempts[0].tx, 10)
    journal.replace(push, attempt(2))
    journal.recorded(push, tx=attempt(2).tx, block=11, block_hash="0xaa", entry=5)
    assert journal.under_way(HERE) is None
    newest = journal.newest(HERE)
    assert newest is not None and (newest.state, newest.block, newest.entry) == ("recorded", 11, 5)
    assert [each.sent for each in newest.attempts] == [10, None]
    journal.vanished(newest)
    again = journal.under_way(HERE)
    assert again is not None and again.state == "vanished" and again.attempts[0].sent is None
    journal.end(again, "gone")
    assert journal.under_way(HERE) is None and journal.newest(HERE) is None
    last = journal.newest(HERE, ended=True)
    assert last is not None and last.why == "gone" and journal.all(HERE) == (last,)


def test_what_vanished_is_looked_after_in_the_order_of_nonces(journal: Journal) -> None:
    for number in (1, 2, 3):
        add(journal, number, nonce=number)
        push = journal.under_way(HERE)
        assert push is not None
        journal.recorded(push, tx=push.attempts[0].tx, block=1, block_hash="", entry=1)
    add(journal, 4, nonce=4)
    for push in journal.all(HERE)[1:3]:
        journal.vanished(push)
    found = journal.under_way(HERE)
    assert found is not None and found.size == 2


def test_on_any_chain_the_newest_is_found_too(journal: Journal) -> None:
    add(journal, 1)
    anywhere = Place(chain=None, contract=HERE.contract, sender=HERE.sender)
    assert journal.newest(anywhere) == journal.newest(HERE)
    assert journal.newest(Place(chain=2, contract=HERE.contract, sender=HERE.sender)) is None


def test_the_lock_is_one_for_all_that_open_the_file(journal: Journal) -> None:
    with journal.locked() as first, Journal(journal.path).locked() as second:
        assert (first, second) == (True, False)
    with journal.locked() as again:
        assert again


def test_a_file_that_is_no_journal_is_said_to_be_damaged(journal: Journal) -> None:
    journal.path.parent.mkdir()
    journal.path.write_bytes(b"no database, and long enough to be looked at as one" * 100)
    journal.path.chmod(0o600)
    with pytest.raises(LedgerError) as caught:
        journal.newest(HERE)
    assert caught.value.reason == "unreadable" and "Move it away" in str(caught.value)


def test_a_journal_of_a_later_version_is_left_alone(journal: Journal) -> None:
    add(journal, 1)
    with closing(sqlite3.connect(journal.path)) as rows:
        rows.execute("PRAGMA user_version = 2")
    with pytest.raises(LedgerError, match="of version 2") as caught:
        journal.newest(HERE)
    assert caught.value.reason == "unreadable"


def test_a_journal_that_others_can_write_is_refused(journal: Journal) -> None:
    add(journal, 1)
    journal.path.chmod(0o622)
    with pytest.raises(LedgerError) as caught:
        journal.newest(HERE)
    assert caught.value.reason == "permissions"


def test_a_link_in_its_place_is_not_followed(journal: Journal, tmp_path: Path) -> None:
    journal.path.parent.mkdir()
    target = tmp_path / "elsewhere"
    target.touch()
    journal.path.symlink_to(target)
    with pytest.raises(LedgerError):
        add(journal, 1)
    assert target.read_bytes() == b""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o500)
    with pytest.raises(LedgerError) as caught:
        add(Journal(folder / "log.anchors"), 1)
    assert caught.value.reason == "failed"


def test_looking_makes_no_file(journal: Journal) -> None:
    assert journal.newest(HERE) is None and journal.all(HERE) == () and journal.targets(1) == ()
    assert journal.next_nonce(HERE) == 0 and not journal.path.parent.exists()
