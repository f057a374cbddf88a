"""A mesh whose log is seen from outside: real witnesses as processes, a real chain, a line to it that can be cut."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agentmesh_ledger import KeyStore
from agentmesh_ledger.log import Ledger

ORIGIN = "agentmesh.local/desk"
KEY = "DESK_CHAIN_KEY"
# The first account of every anvil: published with it, and worth nothing anywhere.
ANVIL_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
WAIT_SECONDS = 120
MESH = """\
[mesh]
name = "desk"

[dialogue]
task = "Say it."

[agents.ada]
model = "scripted:steps.json"
role = "You draft."

[agents.ben]
model = "scripted:steps.json"
role = "You polish."
prompt = "Polish this: {{previous}}"

[witness]
policy = "policy"
within = 20
every = 1

[anchor]
rpc = "{rpc}"
contract = "{contract}"
key_env = "DESK_CHAIN_KEY"
confirmations = 2
within = 60
"""
STEPS = [{"say": "draft"}, {"say": "polished", "expect": "Polish this: draft"}]
# The auditor's: no network, no extra, no trunk. An audit hook sees every socket, whoever opens it.
ALONE = """
import sys
from importlib.abc import MetaPathFinder

BLOCKED = {"sqlalchemy", "mcp", "typer", "pydantic", "anyio", "agentmesh", "web3", "uvicorn", "eth_account", "eth_utils"}


class Blocker(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
        return None


def offline(event, arguments):
    if event.startswith("socket."):
        raise OSError(f"the network is off: {event}")


sys.meta_path.insert(0, Blocker())
sys.addaudithook(offline)
from agentmesh_ledger.__main__ import main

sys.exit(main(sys.argv[1:]))
"""


class WitnessProcess:
    """`agentmesh witness serve` as a process of its own, at one address through all its deaths."""

    def __init__(self, name: str, folder: Path, log: str, environment: dict[str, str]) -> None:
        self.name = name
        self.folder = folder
        self.url = ""
        self._log = log
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        place = self.url.removeprefix("http://").partition("/")[0] or "127.0.0.1:0"
        command = [
            "witness",
            "serve",
            self.folder,
            "--name",
            self.name,
            "--listen",
            place,
            "--log",
            self._log,
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "agentmesh", *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment,
        )
        assert self._process.stdout is not None
        told = ""
        for line in self._process.stdout:
            told += line
            if found := re.search(r"http://127\.0\.0\.1:\d+\S*", line):
                self.url = found[0].rstrip("/.,")
                break
        else:
            raise AssertionError(f"the witness has ended: {told}")
        # Read on, or it would stop at a full pipe.
        self._reader = threading.Thread(target=self._process.stdout.read, daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """Dies without a farewell."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(WAIT_SECONDS)
            if self._reader is not None:
                self._reader.join(WAIT_SECONDS)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


class Line:
    """What stands between a mesh and its node: it carries bytes both ways until it is cut."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._to = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._mutex = threading.Lock()
        self._open: list[socket.socket] = []
        self._is_cut = False
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def cut(self) -> None:
        """From now on nothing passes, and what is under way ends."""
        with self._mutex:
            self._is_cut = True
            self._hang_up()

    def mend(self) -> None:
        with self._mutex:
            self._is_cut = False

    def close(self) -> None:
        self.cut()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # or whoever waits in accept would wait on
        self._listener.close()
        for thread in self._threads:
            thread.join(WAIT_SECONDS)

    def _hang_up(self) -> None:
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._mutex:
                if self._is_cut:
                    near.close()
                    continue
                far = socket.create_connection(self._to)
                self._open += [near, far]
            self._start(self._pair, near, far)

    def _pair(self, near: socket.socket, far: socket.socket) -> None:
        back = threading.Thread(target=self._carry, args=(far, near), daemon=True)
        back.start()
        self._carry(near, far)
        back.join(WAIT_SECONDS)
        near.close()
        far.close()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Done:
    """What a run left."""

    code: int
    events: list[dict[str, Any]]
    errors: str

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]

    @property
    def end(self) -> dict[str, Any]:
        assert self.events, self.errors
        return self.events[-1]


@dataclass
class Scene:
    """The mesh in `folder`, its node at `node`, reached over `line`, and its witnesses."""

    folder: Path
    node: str
    line: Line
    environment: dict[str, str]
    witnesses: list[WitnessProcess] = field(default_factory=list)
    contract: str = ""

    @property
    def ledger(self) -> Path:
        return self.folder / ".agentmesh" / "ledger.db"

    @property
    def policy(self) -> Path:
        return self.folder / "policy"

    def agentmesh(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "agentmesh", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            env=self.environment,
        )

    def run(self) -> Done:
        """A whole run, to its end."""
        done = self.agentmesh("run", self.folder, "--json")
        events = [json.loads(line) for line in done.stdout.splitlines()]
        return Done(code=done.returncode, events=events, errors=done.stderr)

    @contextmanager
    def running(self) -> Iterator[Running]:
        """A run that is watched, and that the test may kill."""
        process = subprocess.Popen(
            [sys.executable, "-m", "agentmesh", "run", str(self.folder), "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        running = Running(process)
        try:
            yield running
        finally:
            process.kill()
            running.finished()

    def bare(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """`agentmesh-verify` in a process that has neither network nor extras."""
        environment = {key: value for key, value in self.environment.items() if key != KEY}
        return subprocess.run(
            [sys.executable, "-c", ALONE, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            env=environment,
        )

    def exported(self, dialogue: str) -> Path:
        out = self.folder / f"{dialogue}.transcript.jsonl"
        done = self.agentmesh("export", dialogue, "--ledger", self.ledger, "-o", out)
        assert done.returncode == 0, done.stderr
        return out

    def rpc(self, method: str, *params: object) -> Any:
        """Asks the node itself, whatever the line does."""
        return ask(self.node, method, *params)

    def on_chain(self) -> list[int]:
        """The sizes of all checkpoints of the log that the chain holds, in its order."""
        (found,) = [self.rpc("eth_getLogs", {"address": self.contract, "fromBlock": "0x0"})]
        return [int(event["data"][2:66], 16) for event in found]

    def recorded(self) -> list[int]:
        """The sizes of all anchors that the ledger has, in its order."""
        with Ledger.open(self.ledger, read_only=True) as log:
            messages = [record.message for record in log.read()]
        return [int(str(each.facts["size"])) for each in messages if each.kind == "anchor"]

    def copied(self, name: str) -> Path:
        """A copy of the database and all its keys, at one moment at which nobody writes."""
        kept = self.folder.parent / name
        shutil.copytree(self.folder / ".agentmesh", kept)
        return kept

    def put_back(self, kept: Path) -> None:
        shutil.rmtree(self.folder / ".agentmesh")
        shutil.copytree(kept, self.folder / ".agentmesh")


class Running:
    """A run under way. `until` waits for an event; what it prints is read to its end."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._news = threading.Condition()
        self._over = False
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                # The last line of a process that was killed may be a piece.
                with suppress(ValueError):
                    self.events.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors += list(self.process.stderr)

    def until(self, held: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first event of which that holds."""
        with self._news:
            found = self._news.wait_for(
                lambda: self._over or any(map(held, self.events)), timeout=WAIT_SECONDS
            )
            assert found, self.events
            for event in self.events:
                if held(event):
                    return event
        raise AssertionError(f"the run ended without it: {self.events} {self.errors}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(WAIT_SECONDS)

    def finished(self) -> int:
        """Its exit code, once it has ended and all it printed is read."""
        code = self.process.wait(WAIT_SECONDS)
        for thread in self._threads:
            thread.join(WAIT_SECONDS)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return code


def ask(url: str, method: str, *params: object) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:
        told = json.load(answer)
    assert "error" not in told, told
    return told["result"]


def write_mesh(scene: Scene, more: str = "") -> None:
    text = MESH.format(rpc=scene.line.url, contract=scene.contract)
    (scene.folder / "mesh.toml").write_text(text + more)
    (scene.folder / "steps.json").write_text(json.dumps(STEPS))


@pytest.fixture
def set_scene(
    tmp_path: Path,
    anvil: Callable[..., AbstractContextManager[str]],
    python_environment: dict[str, str],
) -> Iterator[Callable[..., Scene]]:
    """Makes a scene: `options` are anvil's, `witnesses` how many there are, of which all but one are needed."""
    pytest.importorskip("web3", reason="needs the extra 'chain'")
    environment = python_environment | {KEY: ANVIL_KEY, "NO_COLOR": "1"}
    with ExitStack() as stack:

        def make(*options: str, witnesses: int = 3) -> Scene:
            node = stack.enter_context(anvil(*(options or ("--block-time", "1"))))
            line = Line(node)
            stack.callback(line.close)
            folder = tmp_path / "desk"
            folder.mkdir()
            scene = Scene(folder=folder, node=node, line=line, environment=environment)
            deployed = scene.agentmesh("anchor", "deploy", "--rpc", node, "--key-env", KEY)
            assert deployed.returncode == 0, deployed.stderr
            found = re.search(r"0x[0-9a-fA-F]{40}\b", deployed.stdout)
            assert found is not None, deployed.stdout
            scene.contract = found[0]
            write_mesh(scene)
            keys = KeyStore(folder / ".agentmesh" / "keys")
            with Ledger.open(scene.ledger, origin=ORIGIN, keys=keys, create=True) as log:
                vkey = log.vkey()
            for number in range(witnesses):
                name = f"w{number}.example"
                witness = WitnessProcess(name, tmp_path / name, vkey, environment)
                witness.start()
                stack.callback(witness.kill)
                added = scene.agentmesh(
                    *("witness", "add", f"w{number}", witness.url, "--policy", scene.policy),
                    *(("--need", "2") if number else ()),
                )
                assert added.returncode == 0, added.stderr
                scene.witnesses.append(witness)
            return scene

        yield make


@pytest.fixture
def scene(set_scene: Callable[..., Scene]) -> Scene:
    """Three witnesses, of which two are needed, and a block a second."""
    return set_scene()
