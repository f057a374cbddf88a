"""A record through a pipe, standard input, and a checkpoint's bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmesh_ledger import Ledger, LedgerError
from agentmesh_ledger.__main__ import main
from agentmesh_ledger.source import is_database, is_ledger, opened, read_note, without_password

Exported = Callable[[str | None], bytes]


def run(*arguments: object, given: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "agentmesh_ledger", *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, timeout=60)


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_transcript_through_standard_input_is_verified(exported: Exported, name: str) -> None:
    done = run(name, given=exported(None))
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout.startswith(
        f"verified   {name}".encode()
    )
    assert run(name, given=exported(None)[:-1]).returncode == 1
    assert run(name, given=b"").returncode == 1


def test_a_transcript_through_a_named_pipe_is_verified(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = exported("d1")

    def write() -> None:
        with pipe.open("wb", buffering=0) as out:
            out.write(data[:3])
            out.write(data[3:])

    writer = threading.Thread(target=write)
    writer.start()
    assert main([str(pipe)]) == 0
    writer.join(timeout=60)
    assert "dialogue d1" in capsys.readouterr().out


def test_a_ledger_through_a_pipe_is_unreadable_and_says_what_to_do(file: Path) -> None:
    done = run("-", given=file.read_bytes())
    assert done.returncode == 3 and b"through a pipe" in done.stderr and b"exported transcript" in done.stderr
    with file.open("rb") as stream:
        command = [sys.executable, "-m", "agentmesh_ledger", "-"]
        assert subprocess.run(command, stdin=stream, capture_output=True, timeout=60).returncode == 3


def test_a_look_at_a_file_takes_nothing_from_it(exported: Exported, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(exported(None))
    with opened(path) as stream:
        assert not is_ledger(stream, path)
        assert stream.read() == exported(None)
    with opened(file) as stream:
        assert is_ledger(stream, file)


def test_standard_input_that_is_not_there_is_unreadable() -> None:
    script = "import os, sys; os.close(0); from agentmesh_ledger.__main__ import main; sys.exit(main(['-']))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)
    assert done.returncode == 3 and b"cannot be read" in done.stderr


def test_a_checkpoint_is_read_byte_for_byte_and_not_for_ever(spoken: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    note = spoken.checkpoint()
    path.write_text(note.replace("\n", "\r\n"), newline="")
    assert read_note(path) == note.replace("\n", "\r\n")
    for data in (b"\xff", bytes(10_000_000)):
        path.write_bytes(data)
        with pytest.raises(LedgerError) as caught:
            read_note(path)
        assert caught.value.reason == "consistency"
    for place, reason in ((tmp_path, "unreadable"), (tmp_path / "none", "not_found")):
        with pytest.raises(LedgerError) as caught:
            read_note(place)
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("place", "is_one", "told"),
    [
        ("ledger.db", False, "ledger.db"),
        ("/a:b@c/ledger.db", False, "/a:b@c/ledger.db"),
        ("sqlite:///x:y@z.db", False, "sqlite:///x:y@z.db"),
        ("postgresql+psycopg://ada@host/x", True, "postgresql+psycopg://ada@host/x"),
        ("postgresql://ada:pw@host:5432/x", True, "postgresql://ada:***@host:5432/x"),
        ("postgres://ada:p/w@d#?@host/x", True, "postgres://ada:***@host/x"),
        ("postgresql://:pw@/x", True, "postgresql://:***@/x"),
        (
            "postgresql://host/x?user=ada&PASSWORD=pw&a=b",
            True,
            "postgresql://host/x?user=ada&PASSWORD=***&a=b",
        ),
        ("postgresql://host/x?sslpassword=pw", True, "postgresql://host/x?sslpassword=***"),
    ],
)
def test_a_databases_url_is_known_and_shown_without_its_password(place: str, is_one: bool, told: str) -> None:
    assert is_database(place) is is_one
    assert without_password(place) == told
