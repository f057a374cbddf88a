"""What all tests share: real servers, programs from npm, and that CI skips nothing it should have installed."""

from __future__ import annotations

import importlib.util
import os
import pwd
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
# The vectors are other people's data and lie outside the repository; a clone elsewhere has none. CI may run as root,
# whom no file mode stops. torch is in no extra: only who trains nano needs its half a gigabyte.
_MAY_SKIP_IN_CI = ("vectors", "root may", "trains nano", "no assistants")
WAIT_SECONDS = 60
# How long an example takes says more about the machine than about the code.
settings.register_profile("agentmesh", deadline=None)
settings.load_profile("agentmesh")


# py_ecc, which web3 brings, sets the recursion limit of the process that imports it to 100,000: what is deep would then
# overflow the stack and end the tests, where users get an error. Our own code puts it back; tests import such libraries too.
_LIMIT = sys.getrecursionlimit()
if importlib.util.find_spec("py_ecc") is not None:
    importlib.import_module("py_ecc")
    sys.setrecursionlimit(_LIMIT)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(autouse=True)
def _quiet_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One model thread a test: the machine is shared, and llama.cpp spins."""
    monkeypatch.setenv("AGENTMESH_THREADS", "1")
    yield


def binaries() -> Path | None:
    """The folder of initdb and pg_ctl: on the PATH, or where Debian keeps them."""
    for found in (
        shutil.which("pg_ctl"),
        *sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), reverse=True),
    ):
        folder = None if found is None else Path(found).resolve().parent
        if folder is not None and (folder / "initdb").exists():
            return folder
    return None


@pytest.fixture(scope="session")
def npm() -> Callable[[str], Path]:
    """Finds a package of the folder that AGENTMESH_NPM names, and skips where it is not installed."""

    def find(package: str) -> Path:
        folder = os.environ.get("AGENTMESH_NPM")
        found = Path(folder or ".", "node_modules", package)
        if not folder or not found.is_dir():
            pytest.skip(f"AGENTMESH_NPM names no folder with {package} in it; .ci/run makes one")
        return found

    return find


@pytest.fixture(scope="session")
def node(npm: Callable[[str], Path]) -> str:
    """Node.js 22 or newer: the package `node` of that folder, else the one on the PATH."""
    found = shutil.which("node", path=str(npm("node") / "bin")) or shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    told = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    if int(told.removeprefix("v").split(".")[0]) < 22:
        pytest.skip(f"node is {told.strip()}, and what is tried here wants 22 or newer")
    return found


@pytest.fixture(scope="session")
def anvil(npm: Callable[[str], Path]) -> Callable[..., AbstractContextManager[str]]:
    """Starts an EVM node of its own, and gives its URL; `options` are anvil's, as `--block-time`, "1"."""
    npm("@foundry-rs/anvil")
    # The package for this machine holds the program; the one of that name only starts it, through Node.js.
    folder = npm("@foundry-rs/anvil").parent
    found = sorted(folder.glob("anvil-*/bin/anvil"))
    if not found:
        pytest.skip("AGENTMESH_NPM names no folder with anvil for this machine in it; .ci/run makes one")

    @contextmanager
    def start(*options: str) -> Iterator[str]:
        process = subprocess.Popen(
            [str(found[0]), "--host", "127.0.0.1", "--port", "0", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            with following(process) as wait:
                yield f"http://{wait(r'Listening on (127.0.0.1:[0-9]+)')}"
        finally:
            ended(process)

    return start


@contextmanager
def following(process: subprocess.Popen[str]) -> Iterator[Callable[[str], str]]:
    """Reads what a process says, to its end, and gives what waits until it has said something: the first group of it."""
    said: queue.Queue[str] = queue.Queue()

    def read(lines: IO[str]) -> None:
        # To its end: a server whose output nobody reads stops.
        for line in lines:
            said.put(line)
        said.put("")

    def wait(pattern: str) -> str:
        told = ""
        while not (found := re.search(pattern, told)):
            line = said.get(timeout=WAIT_SECONDS)
            assert line, f"the process has ended: {told}"
            told += line
        return found.group(1)

    assert process.stdout is not None
    reader = threading.Thread(target=read, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        yield wait
    finally:
        if process.poll() is None:
            process.terminate()
        reader.join(WAIT_SECONDS)
        process.stdout.close()


def ended(process: subprocess.Popen[str]) -> None:
    """Ends a process, by force where it does not go."""
    process.terminate()
    try:
        process.wait(WAIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def python_environment() -> dict[str, str]:
    """The environment of a process that is to find this tree's packages, and to leave the machine to others."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "AGENTMESH_THREADS": "1"}


@pytest.fixture(scope="session")
def listening(
    python_environment: dict[str, str],
) -> Callable[[Sequence[str]], AbstractContextManager[str]]:
    """Starts an MCP server that listens on a port of its own choice, and waits until it says where."""

    @contextmanager
    def start(command: Sequence[str]) -> Iterator[str]:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=python_environment,
        )
        try:
            with following(process) as wait:
                yield wait(r"(http://127\.0\.0\.1:\d+/\S+)")
        finally:
            ended(process)

    return start


class Server:
    """A PostgreSQL server in a folder of its own, which listens on a socket there only."""

    def __init__(self, found: Path) -> None:
        self._found = found
        # The server refuses to run as root, and the path of a socket has little room.
        self._owner = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self.folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
        if os.geteuid() == 0:
            shutil.chown(self.folder, self._owner, self._owner)
        self.url = f"postgresql+psycopg://tester@/postgres?host={self.folder}"

    def make(self) -> None:
        self._run("initdb", "-A", "trust", "-U", "tester", "-E", "UTF8", "--no-sync")

    def control(self, *command: str) -> None:
        """`start`, `stop` or `restart`, to its end."""
        options = f"-c listen_addresses='' -k {self.folder} -c max_connections=200"
        # pg_ctl's own log file: a pipe would be held open by the server, and never end.
        self._run("pg_ctl", "-o", options, "-l", str(self.folder / "log"), "-w", *command)

    def _run(self, program: str, *command: str) -> None:
        done = subprocess.run(
            [str(self._found / program), "-D", str(self.folder / "data"), *command],
            user=self._owner if os.geteuid() == 0 else None,
            group=self._owner if os.geteuid() == 0 else None,
            extra_groups=[] if os.geteuid() == 0 else None,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=WAIT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout.decode(errors="replace")


@contextmanager
def postgres() -> Iterator[Server]:
    """A fresh server that runs."""
    found = binaries()
    if found is None:
        raise FileNotFoundError("initdb and pg_ctl")
    made = Server(found)
    try:
        made.make()
        made.control("start")
        try:
            yield made
        finally:
            made.control("-m", "immediate", "stop")
    finally:
        shutil.rmtree(made.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def running() -> Iterator[Server]:
    """A real PostgreSQL server; skips where its binaries are not."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed here")
    with postgres() as made:
        yield made


@pytest.fixture(scope="session")
def server(running: Server) -> str:
    """The URL of its first database."""
    return running.url


@pytest.fixture
def crash(running: Server) -> Callable[[], None]:
    """Lets the server die without a farewell, and start again from its log."""
    return lambda: running.control("-m", "immediate", "restart")


@pytest.fixture
def database(server: str) -> Iterator[str]:
    """The URL of an empty database on it."""
    import psycopg

    name = f"t{uuid4().hex}"
    plain = server.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield server.replace("/postgres?", f"/{name}?")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skip for something that `.ci/run` installs is a failure."""
    report = yield
    _hold_to_account(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself while it is collected."""
    report = yield
    _hold_to_account(report)
    return report


def _hold_to_account(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not (report.skipped and os.environ.get("AGENTMESH_CI")) or hasattr(report, "wasxfail"):
        return
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if not any(word in reason for word in _MAY_SKIP_IN_CI):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {reason}"
