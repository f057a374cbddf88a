"""`agentmesh witness serve`, `trust` and `key` as an operator uses them: real processes, real HTTP, kill -9."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from agentmesh_ledger import LogKey
from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.cosignature import cosignatures, parse_cosigner
from agentmesh_ledger.note import parse_note
from agentmesh_ledger.tree import Edge, collect, consistency_nodes, fold_proof, leaf_hash
from agentmesh_ledger.witness.request import Submission, write_submission

Agentmesh = Callable[..., Any]
Serve = Callable[..., Any]
KEY = SigningKey.generate()
LOG = LogKey(name="agentmesh.local/desk", public=bytes(KEY.verify_key), _key=KEY)


def tree(size: int, branch: int = 0) -> tuple[str, list[bytes]]:
    """The note of a tree of this size, the last entry of which is the branch's own; and its leaves."""
    leaves: list[bytes] = [leaf_hash(b"%d" % each) for each in range(size - 1)] + [
        leaf_hash(b"end %d" % branch)
    ]
    edge = Edge()
    for leaf in leaves:
        edge.append(leaf)
    return Checkpoint(origin=LOG.name, size=size, root=edge.root()).sign(LOG), leaves


def body(size: int, old: int = 0, branch: int = 0) -> bytes:
    """A submission of this tree to a witness that holds one of size `old`."""
    note, leaves = tree(size, branch)
    pieces = consistency_nodes(old, size)
    nodes = collect({node for piece in pieces for node in piece}, leaves)
    return write_submission(Submission(old=old, proof=tuple(fold_proof(pieces, nodes)), note=note))


def post(port: int, data: bytes) -> tuple[int, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        client.request("POST", "/add-checkpoint", data)
        answer = client.getresponse()
        return answer.status, answer.read()
    finally:
        client.close()


class Running:
    """A witness as a process: where it listens, its key, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        url, self.vkey = process.stdout.readline().strip(), process.stdout.readline().strip()
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)", url)
        assert found, (url, process.stderr and process.stderr.read())
        self.port = int(found[1])

    def end(self, number: int) -> tuple[int, str]:
        """Its exit code after this signal, and what it has said on standard error."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


@pytest.fixture
def serve(python_environment: dict[str, str]) -> Serve:
    @contextmanager
    def start(folder: Path, *options: str, stderr: int = subprocess.PIPE) -> Iterator[Running]:
        process = subprocess.Popen(
            [sys.executable, "-m", "agentmesh", "witness", "serve", str(folder), "--listen", "0", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=python_environment,
        )
        running = None
        try:
            running = Running(process)
            yield running
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=60)

    return start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_witness_serves_until_it_is_told_to_stop(tmp_path: Path, serve: Serve, number: int) -> None:
    with serve(tmp_path / "w1", "--log", LOG.vkey) as running:
        status, line = post(running.port, body(5))
        assert status == 200
        assert len(cosignatures(parse_note(tree(5)[0] + line.decode()), [parse_cosigner(running.vkey)])) == 1
        assert running.end(number) == (130, "")
    assert not (tmp_path / "w1" / "witness.db-wal").exists()  # closed in order


@pytest.mark.spec("L-134")
def test_a_killed_witness_holds_after_its_restart_what_it_signed(tmp_path: Path, serve: Serve) -> None:
    keys = set()
    for life in range(4):
        with serve(tmp_path / "w1", "--log", LOG.vkey) as running:
            keys.add(running.vkey)
            status, told = post(running.port, body(5))
            assert status == 200 if life == 0 else (status, told) == (409, b"5\n")
            assert post(running.port, body(5, branch=1))[0] == 409
            assert post(running.port, body(5, old=5, branch=1)) == (422, tree(5)[0].encode())
            assert post(running.port, body(5, old=5))[0] == 200
            assert running.end(signal.SIGKILL)[0] == -signal.SIGKILL
    assert len(keys) == 1


@pytest.mark.spec("L-134")
def test_two_processes_over_one_folder_are_one_witness(tmp_path: Path, serve: Serve) -> None:
    with serve(tmp_path / "w1", "--log", LOG.vkey) as one, serve(tmp_path / "w1") as other:
        assert one.vkey == other.vkey
        assert post(one.port, body(5))[0] == 200
        assert post(other.port, body(5, branch=1)) == (409, b"5\n")
        assert post(other.port, body(5, old=5))[0] == 200


@pytest.mark.spec("L-136")
def test_a_fork_is_told_to_the_operator_and_confirmed_by_the_verifier(
    tmp_path: Path, serve: Serve, python_environment: dict[str, str]
) -> None:
    with serve(tmp_path / "w1", "--log", LOG.vkey) as running:
        assert post(running.port, body(5))[0] == 200
        assert post(running.port, body(5, old=5, branch=1))[0] == 422
        _, err = running.end(signal.SIGTERM)
    (proof,) = (tmp_path / "w1" / "forks").iterdir()
    assert str(proof) in err and "has forked" in err
    command = [sys.executable, "-m", "agentmesh_ledger", "fork", str(proof), "--key", LOG.vkey]
    done = subprocess.run(command, env=python_environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_garbage_leaves_nothing_on_standard_error(tmp_path: Path, serve: Serve) -> None:
    with serve(tmp_path / "w1", "--log", LOG.vkey) as running:
        for _ in range(20):
            assert post(running.port, b"garbage")[0] == 400
            client = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
            client.connect()
            client.sock.sendall(b"\x16\x03\x01" + os.urandom(200) + b"\r\n\r\n")
            client.close()
        assert running.end(signal.SIGTERM) == (130, "")


def resident(pid: int) -> int:
    """The memory of a process, in bytes."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("needs /proc")
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status.read_text())[0]) * 1024


@pytest.mark.spec("L-138")
def test_a_witness_does_not_grow_with_what_strangers_send(tmp_path: Path, serve: Serve) -> None:
    def harass(number: int) -> None:
        stranger = LogKey(name=f"example.org/{number}" + "x" * 150, public=LOG.public, _key=KEY)
        own = Checkpoint(origin=stranger.name, size=5, root=bytes(32)).sign(stranger)
        assert post(running.port, write_submission(Submission(old=0, proof=(), note=own)))[0] == 404
        assert post(running.port, b"old 0\n\n" + os.urandom(60_000))[0] == 400
        assert post(running.port, body(5, old=5, branch=number))[0] == 422
        assert post(running.port, body(5, branch=number))[0] == 409
        with socket.create_connection(("127.0.0.1", running.port), timeout=60) as large:
            large.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                for _ in range(20):
                    large.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")

    with serve(tmp_path / "w1", "--log", LOG.vkey) as running:
        assert post(running.port, body(5))[0] == 200
        for number in range(1, 60):
            harass(number)
        before = resident(running.process.pid)
        for number in range(60, 360):
            harass(number)
        assert resident(running.process.pid) - before < 4 * 1024 * 1024
        _, err = running.end(signal.SIGTERM)
    assert len(err.splitlines()) == 16  # the forks that are kept


def test_the_key_is_made_once_and_told_alike_by_all(
    agentmesh: Agentmesh, tmp_path: Path, serve: Serve
) -> None:
    told = agentmesh("witness", "key", tmp_path / "w1", "--json")
    assert told.code == 0 and told.lines[0]["name"] == "agentmesh.local/w1"
    assert agentmesh("witness", "key", tmp_path / "w1").out.strip() == told.lines[0]["vkey"]
    with serve(tmp_path / "w1") as running:
        assert running.vkey == told.lines[0]["vkey"]
        assert post(running.port, body(5))[0] == 404
        _, err = running.end(signal.SIGTERM)
    assert "no log is trusted yet: agentmesh witness trust" in err


def test_key_and_memory_may_stand_elsewhere(agentmesh: Agentmesh, tmp_path: Path, serve: Serve) -> None:
    with serve(
        tmp_path / "w1", "--keys", str(tmp_path / "safe"), "--log", LOG.vkey, "--name", "example.org/w"
    ) as running:
        assert running.vkey.startswith("example.org/w+")
        assert post(running.port, body(5))[0] == 200
    assert not (tmp_path / "w1" / "keys").exists()
    told = agentmesh("witness", "key", tmp_path / "w1", "--keys", tmp_path / "safe")
    assert told.out.strip() == running.vkey
    (tmp_path / "w1" / "witness.db").unlink()
    with serve(tmp_path / "w1", "--keys", str(tmp_path / "safe")) as running:
        assert post(running.port, body(5, branch=1)) == (409, b"5\n")


def test_json_tells_where_it_is_and_who(tmp_path: Path, python_environment: dict[str, str]) -> None:
    command = [
        sys.executable,
        "-m",
        "agentmesh",
        "witness",
        "serve",
        str(tmp_path / "w1"),
        "--listen",
        "0",
        "--json",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=python_environment
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        process.terminate()
    assert told["vkey"].startswith(f"{told['name']}+") and told["url"].startswith("http://127.0.0.1:")


def test_trusted_logs_are_added_and_listed(agentmesh: Agentmesh, tmp_path: Path) -> None:
    assert agentmesh("witness", "trust", tmp_path / "w1").out == ""
    done = agentmesh("witness", "trust", tmp_path / "w1", LOG.vkey)
    assert (done.code, done.out.strip()) == (0, LOG.vkey) and "1 added" in done.err
    assert "0 added" in agentmesh("witness", "trust", tmp_path / "w1", LOG.vkey).err
    assert agentmesh("witness", "trust", tmp_path / "w1", "--json").lines == [
        {"origin": LOG.name, "vkey": LOG.vkey}
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["serve", "w1", "--listen", "nowhere"], 2, "is not an address"),
        (["serve", "w1", "--listen", "127.0.0.1:99999"], 2, "is not an address"),
        (["serve", "w1", "--listen", "a@b:5"], 2, "is not an address"),
        (["serve", "w1", "--listen", "http://127.0.0.1:5"], 2, "is not an address"),
        (["serve", "w1", "--listen", "203.0.113.9:0"], 1, "cannot listen"),
        (["serve", "w1", "--log", "not-a-key"], 2, "this is no key of a log"),
        (["serve", "w1", "--name", "two words"], 2, "cannot name a witness"),
        (["trust", "w1", "not-a-key"], 2, "this is no key of a log"),
        (["serve", "w1", "--log", "a+00000000+AAAA"], 2, "this is no key of a log"),
        (["key", "w1", "--name", ""], 2, "cannot name a witness"),
    ],
)
def test_what_is_given_wrong_is_told(
    agentmesh: Agentmesh,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = agentmesh("witness", *arguments)
    assert done.code == code and said in done.err and done.out == ""


def test_an_address_that_is_taken_is_told(agentmesh: Agentmesh, tmp_path: Path, serve: Serve) -> None:
    with serve(tmp_path / "w1") as running:
        done = agentmesh("witness", "serve", tmp_path / "w2", "--listen", str(running.port))
    assert done.code == 1 and "cannot listen" in done.err


def test_a_sealed_key_is_opened_by_the_environments_passphrase(
    agentmesh: Agentmesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTMESH_PASSPHRASE", "secret")
    made = agentmesh("witness", "key", tmp_path / "w1")
    assert made.code == 0 and agentmesh("witness", "key", tmp_path / "w1").out == made.out
    monkeypatch.delenv("AGENTMESH_PASSPHRASE")
    done = agentmesh("witness", "key", tmp_path / "w1")
    assert done.code == 1 and "passphrase" in done.err and "secret" not in done.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_an_operator_s_log_that_is_full_does_not_change_the_answer(tmp_path: Path, serve: Serve) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with serve(tmp_path / "w1", "--log", LOG.vkey, stderr=full) as running:
            assert post(running.port, body(5))[0] == 200
            status, shown = post(running.port, body(5, 5, branch=1))
            assert (status, shown) == (422, tree(5)[0].encode())
            assert len(list((tmp_path / "w1" / "forks").iterdir())) == 1
    finally:
        os.close(full)
