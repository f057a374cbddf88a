"""Replay reads a record and nothing else: marks where it holds, the problem where it does not."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from agentmesh.audit import replay
from agentmesh_ledger import Draft, DraftPart, KeyStore, LedgerError
from agentmesh_ledger.log import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    keys = KeyStore(tmp_path / "keys")
    with Ledger.open(path, origin="agentmesh.local/test", keys=keys, create=True) as log:
        for dialogue in ("first", "second"):
            for text in ("one", "two"):
                part = DraftPart(name="text", type="text/plain; charset=utf-8", data=text.encode())
                log.append([Draft(author=keys.agent("ada"), kind="say", dialogue=dialogue, parts=(part,))])
    return path


def test_a_sound_ledger_is_replayed_with_every_message_verified(ledger: Path) -> None:
    again = replay(ledger, "second")
    assert again.problem is None and again.verified is not None
    assert [(m.author_name, m.text, m.check) for m in again.messages] == [
        ("ada", "one", "verified"),
        ("ada", "two", "verified"),
    ]


def test_a_transcript_is_replayed_like_the_ledger_it_came_from(ledger: Path, tmp_path: Path) -> None:
    path = tmp_path / "first.transcript.jsonl"
    with Ledger.open(ledger, read_only=True) as log, path.open("wb") as out:
        log.export(out, dialogue="first")
    said = [m for m in replay(path).messages if m.kind == "say"]
    assert [m.text for m in said] == ["one", "two"]
    assert all(m.check == "verified" for m in said)


def test_no_message_of_a_record_that_does_not_hold_is_called_verified(ledger: Path) -> None:
    with sqlite3.connect(ledger) as database:
        database.execute("DELETE FROM entries WHERE rowid = (SELECT MAX(rowid) FROM entries)")
    database.close()
    again = replay(ledger)
    assert again.problem is not None and again.problem.is_check
    assert again.verified is None
    assert "verified" not in {m.check for m in again.messages}


def test_a_dialogue_or_file_that_is_not_there_is_told(ledger: Path, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="third"):
        replay(ledger, "third")
    with pytest.raises(LedgerError, match="no such file"):
        replay(tmp_path / "none.db")
