"""Where an export goes: never onto the ledger, never in the place of a pipe, and never half."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentmesh_ledger import Draft, KeyStore, Ledger, verify_ledger, verify_transcript

Agentmesh = Callable[..., Any]


@pytest.fixture
def ledger(recorded: Path) -> Path:
    return recorded / ".agentmesh" / "ledger.db"


def test_the_ledger_and_its_companions_are_not_written_over(
    agentmesh: Agentmesh, ledger: Path, tmp_path: Path
) -> None:
    hard, soft = tmp_path / "hard.db", tmp_path / "soft.db"
    os.link(ledger, hard)
    soft.symlink_to(ledger)
    before = ledger.read_bytes()
    companions = [Path(f"{ledger}{suffix}") for suffix in ("-wal", "-shm", "-journal")]
    for source in (ledger, soft):
        for target in (ledger, hard, soft, *companions):
            done = agentmesh("export", "latest", "--ledger", source, "-o", target)
            assert done.code == 2, target
            assert str(target) in done.err and "ledger itself" in done.err
    assert ledger.read_bytes() == before
    assert verify_ledger(ledger).entries == 11
    assert hard.samefile(ledger) and soft.is_symlink()
    assert not any(path.is_file() and path.read_bytes()[:1] == b"{" for path in companions)


@pytest.mark.parametrize("target", ["", ".", "folder", "folder/"])
def test_a_target_that_is_no_file_is_usage_and_named(
    agentmesh: Agentmesh, ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    done = agentmesh("export", "latest", "--ledger", ledger, "-o", target)
    assert done.code == 2
    assert f"-o {target or chr(39) * 2}: " in done.err and ".part" not in done.err


def test_a_target_in_a_folder_that_is_not_there_is_named_as_it_was_given(
    agentmesh: Agentmesh, ledger: Path, tmp_path: Path
) -> None:
    done = agentmesh("export", "latest", "--ledger", ledger, "-o", tmp_path / "nope" / "x")
    assert done.code == 3
    assert f"{tmp_path / 'nope' / 'x'}: No such file" in done.err and ".part" not in done.err


def test_a_pipe_is_written_to_and_stays_a_pipe(agentmesh: Agentmesh, ledger: Path, tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    assert agentmesh("export", "all", "--ledger", ledger, "-o", pipe).code == 0
    reader.join(timeout=60)
    assert pipe.is_fifo()
    (tmp_path / "t").write_bytes(got[0])
    assert verify_transcript(tmp_path / "t").entries == 11


def test_a_link_is_followed(agentmesh: Agentmesh, ledger: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link, real = tmp_path / "link", tmp_path / "folder" / "real"
    link.symlink_to(real)
    for _ in range(2):  # to a file that is not there yet, then to one that is
        assert agentmesh("export", "all", "--ledger", ledger, "-o", link).code == 0
        assert link.is_symlink() and verify_transcript(real).entries == 11


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entries WHERE idx = 4",
        "UPDATE entries SET dialogue = 'hidden', seq = idx WHERE idx BETWEEN 4 AND 8",
        "UPDATE parts SET data = CAST('FAKE' AS BLOB) WHERE idx = 2",
    ],
)
def test_of_an_altered_ledger_nothing_is_exported_and_the_old_file_stays(
    agentmesh: Agentmesh, ledger: Path, tmp_path: Path, statement: str
) -> None:
    file = tmp_path / "t"
    file.write_bytes(b"old")
    with closing(sqlite3.connect(ledger, isolation_level=None)) as connection:
        connection.execute(statement)
    for which in ("all", "20261124-aa"):
        done = agentmesh("export", which, "--ledger", ledger, "-o", file)
        assert done.code == 1, which
        assert "NOT VERIFIED" in done.err
    assert file.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["desk", "t"]


def test_an_export_is_under_the_cosigned_checkpoint_where_that_shows_as_much(
    agentmesh: Agentmesh, ledger: Path, tmp_path: Path
) -> None:
    keys = KeyStore(ledger.parent / "keys")
    target = tmp_path / "t.jsonl"

    def exported(dialogue: str) -> tuple[int, str]:
        done = agentmesh("export", dialogue, "--ledger", ledger, "-o", target)
        assert done.code == 0, done.err
        return verify_transcript(target).tree_size, done.err

    with Ledger.open(ledger, keys=keys) as log:
        dialogues = [each.id for each in log.dialogues()]
        note = log.checkpoint()
        log.append([Draft(author=keys.agent("front"), kind="say", dialogue="later")])
    assert exported("all") == (12, f"{target}: the whole log, 12 entries\n  agentmesh-verify {target}\n")
    kept = keys.cosigned("agentmesh.local/desk").path
    kept.write_text(note)
    kept.chmod(0o600)
    size, said = exported(dialogues[0])
    assert size == 11 and "under the cosigned checkpoint" in said
    assert exported("all")[0] == 12  # the note shows less
    assert exported("later")[0] == 12
    # A note of another log, or of another branch, counts for nothing here.
    kept.write_text(note.replace("\n11\n", "\n10\n"))
    assert exported(dialogues[0])[0] == 12
