"""What docs/running-a-witness.md says is so: its commands run, its tables and figures are the code's."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentmesh.__main__ import main
from agentmesh.cli import witness_serve
from agentmesh_ledger import KeyStore, LogKey
from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.fork import MOST_KEPT
from agentmesh_ledger.note import MAX_SIGNATURES
from agentmesh_ledger.tree import MAX_PROOF, leaf_hash
from agentmesh_ledger.witness import connection, server
from agentmesh_ledger.witness.request import MAX_BODY, Submission, write_submission
from agentmesh_ledger.witness.trusted import MAX_LOGS


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "running-a-witness.md").read_text()


@pytest.fixture
def log(tmp_path: Path) -> LogKey:
    return KeyStore(tmp_path / "log").log("agentmesh.local/desk")


@contextmanager
def serving(folder: Path, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "agentmesh", "witness", "serve", str(folder), "--listen", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline().strip().rpartition(":")[2])
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)


def submission(log: LogKey, entry: bytes, *, old: int = 0, note: str | None = None) -> bytes:
    """The tree of one entry."""
    own = Checkpoint(origin=log.name, size=1, root=leaf_hash(entry)).sign(log)
    return write_submission(Submission(old=old, proof=(), note=own if note is None else note))


def asked(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, str | None, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        client.request(method, path, body)
        answer = client.getresponse()
        return answer.status, answer.getheader("content-type"), answer.read()
    finally:
        client.close()


def test_the_commands_shown_are_real_ones(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    install, key, trust, serve = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert install[:2] == ["pip", "install"]
    assert main(key[1:]) == 0 and capsys.readouterr().out.startswith("example.org/w1+")
    assert main(trust[1:]) == 0 and capsys.readouterr().out.strip() == trust[-1]
    assert serve[:4] == ["agentmesh", "witness", "serve", "w1"] and serve[-1] == witness_serve._DEFAULT


def test_the_statuses_are_those_it_answers(
    page: str, tmp_path: Path, log: LogKey, python_environment: dict[str, str]
) -> None:
    folder = tmp_path / "w1"
    assert main(["witness", "trust", str(folder), log.vkey]) == 0
    stranger = KeyStore(tmp_path / "stranger").log("example.org/other")
    impostor = KeyStore(tmp_path / "impostor").log(log.name)
    seen: dict[int, tuple[str | None, bytes]] = {}
    with serving(folder, python_environment) as (process, port):
        for body in (
            b"no submission",
            submission(stranger, b"x"),
            submission(impostor, b"x"),
            submission(log, b"x"),
            submission(log, b"x", old=1),
            submission(log, b"x", old=0),
            submission(log, b"y", old=1),
            b"x" * (MAX_BODY + 1),
        ):
            status, kind, answer = asked(port, "POST", "/add-checkpoint", body)
            seen[status] = (kind, answer)
        assert asked(port, "GET", "/")[2].decode().startswith("agentmesh.local/w1\nagentmesh.local/w1+")
        digest = hashlib.sha256(log.name.encode()).hexdigest()
        assert asked(port, "GET", f"/{digest}/checkpoint")[2].endswith(seen[200][1])
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130 and err.count("has forked") == 1
    told = {int(each) for each in re.findall(r"^\| (\d{3}) \|", page, re.MULTILINE)}
    assert told == {*seen, 503}
    assert seen[409] == ("text/x.tlog.size", b"1\n")
    assert seen[422][1] == Checkpoint(origin=log.name, size=1, root=leaf_hash(b"x")).sign(log).encode()
    # The files are those of the table.
    assert {each.name for each in folder.iterdir()} - {".lock"} == {"logs", "witness.db", "keys", "forks"}
    names = {each.name for each in (folder / "keys" / "witnesses").iterdir()}
    assert names == {"agentmesh.local%2Fw1.key", "agentmesh.local%2Fw1.cosigned"}


def test_an_older_state_catches_up_and_a_missing_memory_is_refused(
    tmp_path: Path, log: LogKey, python_environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "w1"
    assert main(["witness", "trust", str(folder), log.vkey]) == 0
    for branch, wanted in ((b"x", 200), (b"y", 409), (b"z", 409)):
        with serving(folder, python_environment) as (_, port):
            assert asked(port, "POST", "/add-checkpoint", submission(log, branch))[0] == wanted
        for each in folder.glob("witness.db*"):
            each.unlink()
    os.unlink(folder / "keys" / "witnesses" / "agentmesh.local%2Fw1.cosigned")
    capsys.readouterr()
    assert main(["witness", "serve", str(folder), "--listen", "0"]) != 0
    assert "memory" in capsys.readouterr().err


def test_the_figures_are_those_of_the_code(page: str) -> None:
    assert (
        f"{connection.MAX_CONNECTIONS} connections" in page
        and f"at most {connection.MAX_HEAD:,} bytes" in page
    )
    assert f"its body {MAX_BODY:,}" in page and f"more than {MAX_BODY:,} bytes" in page
    assert f"at most {MAX_PROOF} lines and a note {MAX_SIGNATURES} signatures" in page
    assert f"within {connection.REQUEST_SECONDS:.0f} seconds" in page
    assert f"idle for {server.KEPT_OPEN_SECONDS}" in page
    assert f"{MAX_LOGS:,} at most" in page and f"at most {MOST_KEPT} of each log" in page
