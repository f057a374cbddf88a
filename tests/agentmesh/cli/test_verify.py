"""`agentmesh verify`: pipes, checkpoints and files that someone prepared."""

from __future__ import annotations

import io
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentmesh_ledger.log import Ledger

Agentmesh = Callable[..., Any]


@pytest.fixture
def ledger(recorded: Path) -> Path:
    return recorded / ".agentmesh" / "ledger.db"


@pytest.fixture
def piped(ledger: Path) -> Callable[[], None]:
    """Puts the transcript of the whole log where standard input is."""

    def put() -> None:
        out = io.BytesIO()
        with Ledger.open(ledger, read_only=True) as log:
            log.export(out)
        reading, writing = os.pipe()
        assert len(out.getvalue()) < 60_000  # or the pipe would want a second thread
        os.write(writing, out.getvalue())
        os.close(writing)
        os.dup2(reading, 0)
        os.close(reading)

    return put


@pytest.mark.parametrize("verb", ["verify", "replay"])
@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_transcript_through_standard_input_is_taken_whole(
    agentmesh: Agentmesh, piped: Callable[[], None], verb: str, name: str
) -> None:
    before = os.dup(0)
    try:
        piped()
        done = agentmesh(verb, name)
    finally:
        os.dup2(before, 0)
        os.close(before)
    assert done.code == 0, done.err
    assert "391" in done.out or "verified   11 messages" in done.out


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_checkpoint_that_is_no_text_or_was_changed_is_not_accepted(
    agentmesh: Agentmesh, ledger: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    with Ledger.open(ledger, read_only=True) as log:
        note = log.checkpoint().encode()
    kept = tmp_path / "kept"
    for data in (
        note.replace(b"\n", b"\r\n"),
        b"\xff\xfe",
        note + b"\xff",
        bytes(5_000_000),
        b"\xef\xbb\xbf" + note,
    ):
        kept.write_bytes(data)
        done = agentmesh("verify", ledger, "--expect", kept, *options)
        assert done.code == 1 and "check consistency" in done.err, done.err
        if options:
            assert done.lines[0]["verified"] is False
    kept.write_bytes(note)
    assert agentmesh("verify", ledger, "--expect", kept).code == 0


def test_of_a_file_with_several_logs_one_must_be_named(agentmesh: Agentmesh, ledger: Path) -> None:
    with closing(sqlite3.connect(ledger, isolation_level=None)) as connection:
        connection.execute("INSERT INTO head SELECT 2, 'other', vkey, size, checkpoint, edge FROM head")
    mesh = ledger.parent.parent
    for arguments in (("verify", ledger), ("replay", ledger), ("show", "--ledger", ledger)):
        done = agentmesh(*arguments)
        assert done.code == 2 and "several logs" in done.err
        # Named, or known from the mesh file.
        assert agentmesh(*arguments, "--origin", "agentmesh.local/desk").code == 0
        assert agentmesh(*arguments[:-1], mesh).code == 0
        # The head of the other one is a forgery.
        assert agentmesh(*arguments, "--origin", "other").code == 1
        assert agentmesh(*arguments[:-1], mesh, "--origin", "none").code == 2


def test_a_policy_must_be_met_by_a_ledger_and_by_a_transcript(
    agentmesh: Agentmesh, recorded: Path, ledger: Path, tmp_path: Path
) -> None:
    policy, transcript = tmp_path / "policy", tmp_path / "t"
    agentmesh("export", "all", "--ledger", recorded, "-o", transcript)
    with Ledger.open(ledger, read_only=True) as log:
        policy.write_text(f"log {log.vkey()}\nquorum none\n")
    for record in (recorded, ledger, transcript):
        done = agentmesh("verify", record, "--policy", policy)
        assert done.code == 0 and "policy     met: quorum none" in done.out
        assert "the key you named" in done.out
    (told,) = agentmesh("verify", recorded, "--policy", policy, "--json").lines
    assert told["pinned"] is True and told["witnesses"] == []
    witness = "w.example+" + "00000000+AAAA"
    policy.write_text(f"witness W {witness}\nquorum W\n")
    done = agentmesh("verify", recorded, "--policy", policy)
    assert done.code == 2 and "--policy" in done.err
    assert agentmesh("verify", recorded, "--policy", tmp_path / "none").code == 3


def test_a_transcript_of_another_log_is_not_the_one_that_was_named(
    agentmesh: Agentmesh, recorded: Path, tmp_path: Path
) -> None:
    transcript = tmp_path / "t"
    agentmesh("export", "all", "--ledger", recorded, "-o", transcript)
    for verb in ("verify", "replay"):
        assert agentmesh(verb, transcript, "--origin", "agentmesh.local/desk").code == 0
        done = agentmesh(verb, transcript, "--origin", "agentmesh.local/garden")
        assert done.code == 2 and "another log" in done.err


def test_failures_are_listed_up_to_the_limit(agentmesh: Agentmesh, recorded: Path, ledger: Path) -> None:
    with closing(sqlite3.connect(ledger, isolation_level=None)) as connection:
        connection.execute("UPDATE parts SET data = CAST('FAKE' AS BLOB)")
    done = agentmesh("verify", recorded, "--limit", 2)
    assert done.code == 1 and done.err.count("check part:") == 2 and "there is more" in done.err
    (told,) = agentmesh("verify", recorded, "--json").lines
    assert [each["index"] for each in told["others"]] == [4, 5, 6, 7, 10] and told["more"] is False
    assert agentmesh("verify", recorded, "--limit", 0).code == 2
