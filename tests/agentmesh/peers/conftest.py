"""Two owners: `desk`, whose agent asks, and `lab`, whose agent answers, each a process with a ledger of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agentmesh.__main__ import main

_SERVED = Path(__file__).with_name("served.py")

_LAB = """\
[mesh]
name = "lab"
origin = "lab.example/critics"
[agents.critic]
model = "scripted:steps.json"
role = "You judge sentences."
about = "Judges sentences."
"""
_DESK = """\
[mesh]
name = "desk"
origin = "desk.example/front"
[dialogue]
task = "Is this good?"
[agents.front]
model = "scripted:steps.json"
role = "You ask critics."
peers = ["lab"]
[peers.lab]
url = "{url}"
{more}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a command line left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return found


def environment() -> dict[str, str]:
    """The environment of a child that is to import this tree."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "NO_COLOR": "1"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def process() -> Callable[..., Done]:
    """Runs `agentmesh` in a process of its own."""
    return _process


def _process(*words: object, **variables: str) -> Done:
    done = subprocess.run(
        [sys.executable, "-m", "agentmesh", *map(str, words)],
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return Done(code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Runs `agentmesh` in this process."""
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*words: object) -> Done:
        code = main([str(each) for each in words])
        out, err = capfd.readouterr()
        return Done(code=code, out=out, err=err)

    return run


@contextmanager
def serving(mesh: Path, mode: str = "require", port: int = 0, **variables: str) -> Iterator[str]:
    """Serves a mesh over HTTP in a process of its own (mode "bare": without signing); gives its URL."""
    process = subprocess.Popen(
        [sys.executable, str(_SERVED), str(mesh), mode, str(port)],
        env={**environment(), **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url, "it did not start"
        yield url
    finally:
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()


@pytest.fixture
def serve() -> Callable[..., Any]:
    return serving


def make_lab(place: Path, *says: str, mesh: str = _LAB) -> Path:
    """The folder of the mesh that answers, with what its critic says."""
    folder = place / "lab"
    folder.mkdir(exist_ok=True)
    (folder / "mesh.toml").write_text(mesh)
    (folder / "steps.json").write_text(json.dumps([{"say": each} for each in says]))
    return folder


def make_desk(
    place: Path, url: str, *asked: str, tool: str = "ask_critic", more: str = "", name: str = "desk"
) -> Path:
    """The folder of the mesh that asks: what its front calls, and then says."""
    folder = place / name
    folder.mkdir(exist_ok=True)
    (folder / "mesh.toml").write_text(_DESK.format(url=url, more=more))
    steps: list[dict[str, object]] = [
        {"call": {"name": tool, "arguments": {"question": question}}} for question in asked
    ]
    (folder / "steps.json").write_text(json.dumps([*steps, {"say": "The critic has spoken."}]))
    return folder


@pytest.fixture
def lab(tmp_path: Path) -> Callable[..., Path]:
    return partial(make_lab, tmp_path)


@pytest.fixture
def desk(tmp_path: Path) -> Callable[..., Path]:
    return partial(make_desk, tmp_path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Two meshes after a dialogue that they held."""

    desk: Path
    lab: Path


@pytest.fixture(scope="session")
def held_once(tmp_path_factory: pytest.TempPathFactory) -> Held:
    """Two processes with two ledgers that have held a signed dialogue of two questions over HTTP."""
    place = tmp_path_factory.mktemp("held")
    answering = make_lab(place, "It is good.", "It is better.")
    with serving(answering) as url:
        asking = make_desk(place, url, "Is it good?", "And now?")
        done = _process("run", asking)
        assert (done.code, done.out) == (0, "The critic has spoken.\n"), done.err
    return Held(desk=asking, lab=answering)


@pytest.fixture
def held(held_once: Held, tmp_path: Path) -> Held:
    """A copy of them, to be altered."""
    copies = Held(desk=tmp_path / "desk", lab=tmp_path / "lab")
    shutil.copytree(held_once.desk, copies.desk)
    shutil.copytree(held_once.lab, copies.lab)
    return copies


@pytest.fixture
def forge() -> ModuleType:
    """What is in forging.py: tests are no package, and cannot import it."""
    found = spec_from_file_location("peers_forging", Path(__file__).with_name("forging.py"))
    assert found is not None and found.loader is not None
    module = module_from_spec(found)
    sys.modules[found.name] = module  # dataclasses look their module up
    found.loader.exec_module(module)
    return module


@pytest.fixture
def serve_command() -> Callable[..., Any]:
    """`agentmesh serve MESH --http` as a process; a context that gives its URL."""

    @contextmanager
    def served(mesh: Path, *options: str) -> Iterator[str]:
        words = [sys.executable, "-m", "agentmesh", "serve", str(mesh), "--http", "127.0.0.1:0", *options]
        process = subprocess.Popen(
            words, env=environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        try:
            seen = ""
            for line in process.stderr:
                seen += line
                if " at http://" in line:
                    yield line.rsplit(" at ", 1)[1].strip()
                    break
            else:
                pytest.fail(seen)
        finally:
            process.terminate()
            process.communicate(timeout=30)

    return served
