"""A witness never goes back: not after a restart, an older copy, a lost file, or a file changed under it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.witness import state
from agentmesh_ledger.witness.key import witness_key
from agentmesh_ledger.witness.state import WitnessState, blank_database
from agentmesh_ledger.witness.verdict import Proposal

SUFFIXES = ("", "-wal", "-shm")


def copied(path: Path, to: Path) -> None:
    """All that belongs to the database, as a backup program would take it."""
    to.mkdir(exist_ok=True)
    for suffix in SUFFIXES:
        found = Path(f"{path}{suffix}")
        if found.exists():
            shutil.copy(found, to / f"{path.name}{suffix}")


def put_back(path: Path, kept: Path) -> None:
    for suffix in SUFFIXES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
        if (kept / f"{path.name}{suffix}").exists():
            shutil.copy(kept / f"{path.name}{suffix}", f"{path}{suffix}")


def grown(desk, log, *sizes: int) -> None:
    """The log is cosigned at these sizes, the last of them the newest."""
    with desk.opened() as witness:
        for old, new in zip((0, *sizes), sizes, strict=False):
            assert witness.add_checkpoint(log.body(old, new)).status == 200


def held(desk, log) -> int:
    """What the witness says it holds."""
    with desk.opened() as witness:
        told = int(witness.add_checkpoint(log.body(0, 1)).body)
        # And it means it: a branch before that is not cosigned from anywhere.
        for size in range(told):
            assert witness.add_checkpoint(log.forked(0).body(size, told + 1)).status == 409
        return told


@pytest.mark.spec("L-134")
def test_a_restart_changes_nothing(desk, log) -> None:
    grown(desk, log, 3, 9)
    assert held(desk, log) == 9


@pytest.mark.spec("L-134")
def test_both_files_have_it_before_it_is_signed(desk, log, monkeypatch: pytest.MonkeyPatch) -> None:
    with desk.opened() as witness:
        found = []

        def look(data: bytes) -> bytes:
            for path in (desk.state, desk.memory):
                with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as reader:
                    found.append(reader.execute("SELECT size FROM latest").fetchall())
            return bytes(64)

        monkeypatch.setattr(type(witness.key), "sign", lambda _, data: look(data))
        assert witness.add_checkpoint(log.body(0, 5)).status == 200
        assert found == [[(5,)], [(5,)]]
        assert witness.add_checkpoint(log.body(5, 8)).status == 200
        assert found[2:] == [[(8,)], [(8,)]]


@pytest.mark.spec("L-135")
def test_an_older_copy_of_the_state_catches_up(desk, log, tmp_path: Path) -> None:
    grown(desk, log, 3)
    copied(desk.state, tmp_path / "kept")
    with desk.opened() as witness:
        assert witness.add_checkpoint(log.body(3, 9)).status == 200
    put_back(desk.state, tmp_path / "kept")
    assert held(desk, log) == 9
    with closing(sqlite3.connect(desk.state)) as reader:
        assert reader.execute("SELECT size FROM latest").fetchall() == [(9,)]


@pytest.mark.spec("L-135")
def test_an_older_copy_with_its_log_file_catches_up_too(desk, log, tmp_path: Path) -> None:
    with desk.opened() as witness:
        witness.add_checkpoint(log.body(0, 3))
        copied(desk.state, tmp_path / "kept")  # in use: what is new stands in the -wal file
        assert (tmp_path / "kept" / "witness.db-wal").stat().st_size > 0
        witness.add_checkpoint(log.body(3, 9))
    put_back(desk.state, tmp_path / "kept")
    assert held(desk, log) == 9


@pytest.mark.spec("L-135")
def test_an_older_copy_beside_the_log_file_of_a_killed_witness_never_goes_back(
    desk, log, tmp_path: Path
) -> None:
    grown(desk, log, 3)
    copied(desk.state, tmp_path / "kept")
    with desk.opened() as witness:
        witness.add_checkpoint(log.body(3, 9))
        copied(desk.state, tmp_path / "killed")
        copied(desk.memory, tmp_path / "memory")
    put_back(desk.state, tmp_path / "killed")
    put_back(desk.memory, tmp_path / "memory")
    shutil.copy(tmp_path / "kept" / "witness.db", desk.state)  # and its -wal stays where it is
    assert held(desk, log) == 9


@pytest.mark.spec("L-135")
def test_a_lost_state_is_made_again_from_the_memory_with_its_times(desk, log) -> None:
    grown(desk, log, 3, 9)
    desk.state.unlink()
    desk.now -= 10_000
    assert held(desk, log) == 9
    with desk.opened() as witness:
        again = witness.add_checkpoint(log.body(9, 9))
        assert witness.checkpoint(log.name).body == log.note(9).encode() + again.body
    desk.now += 10_000
    with desk.opened() as witness:
        assert witness.add_checkpoint(log.body(9, 9)) == again  # the time of then


@pytest.mark.spec("L-135")
def test_an_older_memory_beside_a_newer_state_is_what_a_crash_leaves_and_does_no_harm(
    desk, log, tmp_path: Path
) -> None:
    grown(desk, log, 3)
    copied(desk.memory, tmp_path / "kept")
    with desk.opened() as witness:
        assert witness.add_checkpoint(log.body(3, 9)).status == 200
    put_back(desk.memory, tmp_path / "kept")
    assert held(desk, log) == 9
    with closing(sqlite3.connect(desk.memory)) as reader:
        assert reader.execute("SELECT size FROM latest").fetchall() == [(9,)]


@pytest.mark.spec("L-135")
def test_a_key_without_its_memory_is_refused_and_so_is_an_empty_one(desk, log) -> None:
    grown(desk, log, 3)
    memory = desk.memory
    data = memory.read_bytes()
    memory.unlink()
    with pytest.raises(LedgerError) as error, desk.opened():
        pass
    assert error.value.reason == "key" and "memory" in error.value.message
    memory.write_bytes(b"")
    with pytest.raises(LedgerError) as error, desk.opened():
        pass
    assert error.value.reason == "corrupt"
    memory.write_bytes(data)
    assert held(desk, log) == 3
    memory.unlink()
    with pytest.raises(LedgerError) as error:
        WitnessState.open(desk.state, memory=memory)
    assert error.value.reason == "not_found"


@pytest.mark.spec("L-135")
def test_a_state_and_a_memory_of_two_branches_sign_nothing(desk, log, tmp_path: Path) -> None:
    grown(desk, log, 3)
    copied(desk.state, tmp_path / "old-state")
    copied(desk.memory, tmp_path / "old-memory")
    with desk.opened() as witness:
        assert witness.add_checkpoint(log.forked(3).body(3, 9)).status == 200
    copied(desk.memory, tmp_path / "branch")
    put_back(desk.memory, tmp_path / "old-memory")
    put_back(desk.state, tmp_path / "old-state")
    with desk.opened() as witness:
        assert witness.add_checkpoint(log.body(3, 9)).status == 200
    put_back(desk.memory, tmp_path / "branch")
    with pytest.raises(LedgerError) as error, desk.opened():
        pass
    assert error.value.reason == "corrupt" and "two branches" in error.value.message


@pytest.mark.spec("L-135")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE latest SET size = 2",
        "UPDATE latest SET size = 'x'",
        "UPDATE latest SET time = -1",
        "UPDATE latest SET time = 'soon'",
        "UPDATE latest SET note = 'x'",
        "UPDATE latest SET note = x'00'",
        "UPDATE latest SET origin = 'example.org/another'",
        "CREATE TRIGGER back AFTER INSERT ON latest BEGIN UPDATE latest SET size = 1; END",
        "CREATE VIEW more AS SELECT 1",
        "ALTER TABLE latest ADD COLUMN more TEXT",
        "DROP TABLE latest",
        "PRAGMA user_version = 2",
        "PRAGMA application_id = 1",
    ],
)
@pytest.mark.parametrize("which", ["state", "memory"])
def test_a_file_of_another_form_signs_nothing(desk, log, statement: str, which: str) -> None:
    grown(desk, log, 3)
    with closing(sqlite3.connect(getattr(desk, which))) as writer:
        writer.execute(statement)
        writer.commit()
    with pytest.raises(LedgerError) as error, desk.opened():
        pass
    assert error.value.reason == "corrupt"


@pytest.mark.spec("L-135")
@pytest.mark.parametrize("which", ["state", "memory"])
def test_a_file_that_is_no_database_signs_nothing(desk, log, which: str) -> None:
    grown(desk, log, 3)
    getattr(desk, which).write_bytes(b"no database at all" * 500)
    with pytest.raises(LedgerError) as error, desk.opened():
        pass
    assert error.value.reason == "corrupt"


@pytest.mark.spec("L-137")
@pytest.mark.parametrize("which", ["state", "memory"])
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_file_replaced_under_a_running_witness_is_not_signed_for(
    desk, log, tmp_path: Path, which: str, suffix: str
) -> None:
    grown(desk, log, 3)
    copied(getattr(desk, which), tmp_path / "kept")
    with desk.opened() as witness:
        assert witness.add_checkpoint(log.body(3, 5)).status == 200
        path = Path(f"{getattr(desk, which)}{suffix}")
        if suffix:
            path.unlink()
        else:
            shutil.copy(tmp_path / "kept" / path.name, tmp_path / "draft")
            os.replace(tmp_path / "draft", path)
        assert witness.add_checkpoint(log.body(5, 9)).status == 503
        assert any("nothing was cosigned" in said and "replaced" in said for said in desk.said)
        # The next one begins anew, and knows all that was signed for: 5, and perhaps what was not signed any more.
        told = witness.add_checkpoint(log.body(3, 9))
        assert told.status == 409 and int(told.body) in (5, 9)
        size = int(told.body)
        assert witness.add_checkpoint(log.body(size, 12)).status == 200
    assert held(desk, log) == 12


@pytest.mark.spec("L-134")
def test_nothing_is_signed_where_the_disk_takes_nothing(desk, log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "BUSY_SECONDS", 0.2)
    grown(desk, log, 3)
    with desk.opened() as witness, closing(sqlite3.connect(desk.memory, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        answer = witness.add_checkpoint(log.body(3, 9))
        assert answer.status == 503 and str(desk.state).encode() not in answer.body
        assert witness.add_checkpoint(log.body(3, 9)) == answer
        assert len(desk.said) == 1  # the same once a minute
        blocker.execute("ROLLBACK")
        assert witness.add_checkpoint(log.body(0, 9)).body == b"3\n"
        assert witness.add_checkpoint(log.body(3, 9)).status == 200


@pytest.mark.spec("L-134")
def test_one_refusal_among_many_takes_nothing_from_the_others(desk, log, other) -> None:
    desk.trust(other)
    with desk.opened() as witness:
        bodies = [
            log.body(0, 3),
            other.body(0, 4),
            log.body(3, 5),
            log.forked(1).body(3, 5),
            other.body(1, 9),
        ]
        read = [witness.read(body) for body in bodies]
        assert all(isinstance(each, Proposal) for each in read)
        assert [each.status for each in witness.settle(read)] == [200, 200, 200, 409, 409]


def test_a_closed_state_says_so(desk) -> None:
    key = desk.place.key()
    opened = WitnessState.open(desk.state, memory=desk.memory)
    opened.close()
    opened.close()
    with pytest.raises(LedgerError) as error:
        opened.latest("example.org/any")
    assert error.value.reason == "closed" and key.vkey


def test_a_blank_database_is_born_in_wal_mode(tmp_path: Path) -> None:
    path = tmp_path / "blank"
    path.write_bytes(blank_database())
    with closing(sqlite3.connect(path)) as reader:
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_state_that_cannot_be_made_says_why(tmp_path: Path, folder: str) -> None:
    key = witness_key(tmp_path / "keys", "example.org/w1")
    if folder == "file":
        (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError) as error:
        WitnessState.open(
            tmp_path / folder / "witness.db", memory=tmp_path / "keys/witnesses/example.org%2Fw1.cosigned"
        )
    assert error.value.reason == "failed" and key.name in "example.org/w1"
