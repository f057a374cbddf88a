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


def test_a_second_log_put_into_the_file_is_a_failed_check(agentmesh: Agentmesh, ledger: Path) -> None:
    with closing(sqlite3.connect(ledger, isolation_level=None)) as connection:
        connection.execute("INSERT INTO head SELECT 2, 'other', vkey, size, checkpoint, edge FROM head")
    for arguments in (("verify", ledger), ("replay", ledger), ("show", "--ledger", ledger)):
        done = agentmesh(*arguments)
        assert done.code == 1 and "several logs" in done.err
