"""`agentmesh witness add`, `gather` and `status`, with real witnesses in processes of their own."""

from __future__ import annotations

import http.server
import json
import selectors
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from agentmesh_ledger import Draft, KeyStore
from agentmesh_ledger.cosignature import CosignerKey
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.note import parse_vkey, write_vkey

WAIT = 60


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the surroundings stands between a test and its own witnesses."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class Witness:
    """`agentmesh witness serve` in a process of its own."""

    def __init__(self, folder: Path, environment: dict[str, str], *logs: str) -> None:
        self.folder = folder
        command = [
            sys.executable,
            "-m",
            "agentmesh",
            "witness",
            "serve",
            str(folder),
            "--listen",
            "0",
            "--json",
        ]
        for log in logs:
            command += ["--log", log]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.url, self.vkey = "", ""

    def wait(self) -> None:
        """Until it listens."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(WAIT), "the witness says nothing"
        told = json.loads(self.process.stdout.readline())
        self.url, self.vkey = told["url"], told["vkey"]

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def served(tmp_path: Path, python_environment: dict[str, str]) -> Iterator[Callable[..., Witness]]:
    """Starts a witness that trusts these logs."""
    running: list[Witness] = []

    def start(*logs: str) -> Witness:
        running.append(Witness(tmp_path / f"w{len(running)}", python_environment, *logs))
        running[-1].wait()
        return running[-1]

    yield start
    for each in running:
        each.stop()


def vkey_of(mesh: Path) -> str:
    return KeyStore(mesh / ".agentmesh" / "keys").vkey("agentmesh.local/desk")


def say(mesh: Path, count: int = 1) -> None:
    keys = KeyStore(mesh / ".agentmesh" / "keys")
    with Ledger.open(mesh / ".agentmesh" / "ledger.db", keys=keys) as log:
        draft = Draft(author=keys.agent("host"), kind="say", dialogue="20261125-ab")
        log.append([draft] * count)


def test_a_log_gets_witnesses_one_by_one_and_its_record_then_meets_their_policy(
    agentmesh, recorded: Path, served, tmp_path: Path
) -> None:
    vkey = vkey_of(recorded)
    found = [served(vkey), served(vkey), served()]
    policy = recorded / "witnesses.policy"
    for at, (each, needed) in enumerate(zip(found, ("1 of 1", "2 of 2", "2 of 3"), strict=True)):
        done = agentmesh("witness", "add", f"w{at}", each.url, "--ledger", recorded)
        assert done.code == 0 and f"{policy}: {needed} must cosign" in done.out
        assert each.vkey in done.err and "compare that with what its operator says" in done.err
        assert f"agentmesh witness trust FOLDER {vkey}" in done.err
        assert '[witness] policy = "witnesses.policy"' in done.err
    assert agentmesh("witness", "status", recorded).out.count("has not cosigned it") == 3
    done = agentmesh("witness", "gather", recorded)
    assert done.code == 0 and "policy met: quorum witnesses, cosigned by w0, w1" in done.out
    assert "w2: it does not know the log (404)" in done.err
    # The third learns of the log while it runs.
    assert agentmesh("witness", "trust", found[2].folder, vkey).code == 0
    end = time.monotonic() + WAIT
    while True:
        (told,) = agentmesh("witness", "gather", recorded, "--json").lines
        assert told["met"] is True and time.monotonic() < end
        if not told["failures"]:
            break
    say(recorded, 3)
    (told,) = agentmesh("witness", "status", recorded, "--json").lines
    assert told["met"] is True and told["size"] == told["cosigned_size"] + 3  # type: ignore[operator]
    done = agentmesh("verify", recorded, "--policy", policy)
    assert done.code == 0 and "3 after them are not witnessed yet" in done.out
    assert agentmesh("witness", "gather", recorded, "--within", "10").code == 0
    done = agentmesh("verify", recorded, "--policy", policy)
    assert done.code == 0 and "not witnessed yet" not in done.out
    assert agentmesh("witness", "status", recorded).out.count("at 2") == 3
    proof = tmp_path / "1.tlog-proof"
    done = agentmesh("ledger", "prove", 1, "-o", proof, "--ledger", recorded)
    assert done.code == 0 and "under the cosigned checkpoint" in done.err
    assert verifier("proof", proof, "--policy", policy).returncode == 0
    say(recorded)
    done = agentmesh("ledger", "prove", told["size"], "-o", proof, "--ledger", recorded)
    assert done.code == 0 and "cosigned" not in done.err  # nobody has cosigned that one yet
    assert agentmesh("witness", "gather", recorded, "--within", "10").code == 0
    # Cosignatures stand beside the keys, wherever these are: a database on a server has no folder of its own.
    alone, out = tmp_path / "alone.db", tmp_path / "alone.jsonl"
    shutil.copy(recorded / ".agentmesh" / "ledger.db", alone)
    keys = "--keys", recorded / ".agentmesh" / "keys"
    assert agentmesh("verify", alone, "--policy", policy).code == 1
    assert agentmesh("verify", alone, "--policy", policy, *keys).code == 0
    assert "cosigned" not in agentmesh("export", "all", "--ledger", alone, "-o", out).err
    assert (
        "under the cosigned checkpoint" in agentmesh("export", "all", "--ledger", alone, "-o", out, *keys).err
    )


def test_too_few_cosignatures_are_code_4_and_a_witness_that_is_killed_is_one_less(
    agentmesh, recorded: Path, served
) -> None:
    vkey = vkey_of(recorded)
    found = [served(vkey), served(vkey)]
    for at, each in enumerate(found):
        agentmesh("witness", "add", f"w{at}", each.url, "--ledger", recorded, "--need", at + 1)
    assert agentmesh("witness", "gather", recorded).code == 0
    found[0].process.kill()
    found[0].process.wait(WAIT)
    say(recorded)
    done = agentmesh("witness", "gather", recorded)
    assert done.code == 4 and "the quorum 'witnesses' is not met: no cosignature of w0" in done.out
    assert "w0: it cannot be reached" in done.err
    # What was met before still counts.
    done = agentmesh("witness", "status", recorded)
    assert done.code == 0 and "policy    met" in done.out and "all of them" not in done.out


def test_a_folder_put_back_from_a_copy_and_a_fork_are_caught_by_real_witnesses(
    agentmesh, recorded: Path, served, tmp_path: Path
) -> None:
    vkey = vkey_of(recorded)
    one = served(vkey)
    agentmesh("witness", "add", "w", one.url, "--key", one.vkey, "--ledger", recorded)
    assert agentmesh("witness", "gather", recorded).code == 0
    copy = tmp_path / "copy"
    shutil.copytree(recorded, copy)
    say(recorded, 5)
    assert agentmesh("witness", "gather", recorded).code == 0
    done = agentmesh("witness", "gather", copy)
    assert done.code == 1 and "rollback" in done.err and "put back from an older copy" in done.err
    # The database alone: what was cosigned stands beside the key, and is not "nothing".
    mixed = tmp_path / "mixed"
    shutil.copytree(recorded, mixed)
    for each in (mixed / ".agentmesh").glob("ledger.db*"):
        each.unlink()
    for each in (copy / ".agentmesh").glob("ledger.db*"):
        shutil.copy(each, mixed / ".agentmesh")
    done = agentmesh("witness", "status", mixed)
    assert done.code == 1 and "rollback" in done.err and not done.out
    size = int(str(agentmesh("witness", "status", recorded, "--json").lines[0]["size"]))
    for more in (5, 3):  # as large as what the witness holds, then larger
        say(copy, more)
        done = agentmesh("witness", "gather", copy)
        assert done.code == 1 and "the log is forked" in done.err
    (first, second) = sorted((copy / ".agentmesh" / "keys" / "logs").glob("*.fork"))
    theirs = list((one.folder / "forks").iterdir())
    assert theirs, "the witness keeps a proof as well"
    for proof in (first, second, *theirs):
        assert f"-{size}-" in proof.name
        done = verifier("fork", proof, "--key", vkey)
        assert done.returncode == 0 and "forked: proven" in done.stdout
    # The record that the witness holds is still the one it cosigns.
    say(recorded)
    assert agentmesh("witness", "gather", recorded).code == 0


def verifier(*words: object) -> subprocess.CompletedProcess[str]:
    import os

    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, "-m", "agentmesh_ledger", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=WAIT,
        env=environment,
    )


def test_add_makes_a_policy_where_there_is_no_mesh_and_pins_what_it_was_told(
    agentmesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    key = str(CosignerKey(name="w.example", public=bytes(SigningKey(b"w" * 32).verify_key)))
    done = agentmesh("witness", "add", "w", "https://w.example/x", "--key", key, "--json")
    (told,) = done.lines
    assert done.code == 0 and told["log"] is None and (told["need"], told["witnesses"]) == (1, 1)
    assert (
        (tmp_path / "witnesses.policy")
        .read_text()
        .endswith(f"\nwitness w {key} https://w.example/x\n\ngroup witnesses 1 w\nquorum witnesses\n")
    )
    other = tmp_path / "sub" / "other.policy"
    assert agentmesh("witness", "add", "w", "https://w.example", "--key", key, "--policy", other).code == 3
    for words in (
        ("w", "ftp://w.example", "--key", key),
        ("w", "https://w.example", "--key", "nonsense"),
        ("w", "https://w.example", "--key", key, "--need", "2"),
        ("two words", "https://w.example/y", "--key", key),
        ("none", "https://w.example/y", "--key", key),
    ):
        done = agentmesh("witness", "add", *words)
        assert done.code == 2, (words, done)
    assert agentmesh("witness", "add", "v", "https://v.example", "--key", key).code == 2
    assert agentmesh("witness", "add", "w", "https://w.example", "--ledger", "nowhere").code in (2, 3)


@pytest.mark.parametrize(
    "url", ["http://one.example/?log=1", "http://one.example/#w1", "http://ada:swordfish@one.example/w1"]
)
def test_an_address_that_could_never_be_asked_is_not_written(agentmesh, tmp_path: Path, url: str) -> None:
    key = str(CosignerKey(name="w1.example", public=bytes(SigningKey.generate().verify_key)))
    policy = tmp_path / "witnesses.policy"
    done = agentmesh("witness", "add", "w1", url, "--key", key, "--policy", policy)
    assert done.code == 2 and not policy.exists() and "swordfish" not in done.err


def test_a_url_where_no_witness_says_its_key_is_not_pinned(agentmesh, tmp_path: Path) -> None:
    key = CosignerKey(name="w.example", public=bytes(SigningKey(b"w" * 32).verify_key))
    log = write_vkey("w.example", 1, key.public)
    answers = iter(
        [b"hello\n", b"\xff", f"{key}\n{CosignerKey(name='v', public=key.public)}\n".encode(), log.encode()]
    )

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = next(answers)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    parse_vkey(log)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        policy = tmp_path / "policy"
        try:
            for _ in range(4):
                url = f"http://127.0.0.1:{server.server_address[1]}/"
                done = agentmesh("witness", "add", "w", url, "--policy", policy)
                assert done.code == 2 and "give it with --key" in done.err and not policy.exists()
        finally:
            server.shutdown()
            thread.join(WAIT)


def test_without_a_policy_or_a_record_there_is_nothing_to_gather(
    agentmesh, recorded: Path, mesh, tmp_path: Path
) -> None:
    done = agentmesh("witness", "gather", recorded)
    assert done.code == 2 and "agentmesh witness add NAME URL" in done.err
    bad = tmp_path / "bad"
    bad.write_text("quorum nobody\n")
    assert agentmesh("witness", "gather", recorded, "--policy", bad).code == 2
    assert agentmesh("witness", "status", tmp_path / "nowhere", "--policy", bad).code == 3
