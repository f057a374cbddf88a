"""Two owners: `desk`, whose agent asks, and `lab`, whose agent answers, each a process with a ledger of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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
def command() -> Callable[..., Done]:
    """Runs `agentmesh` in a process of its own."""

    def run(*words: object, **variables: str) -> Done:
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

    return run


@pytest.fixture
def serve() -> Callable[..., Any]:
    """Serves a mesh over HTTP in a process of its own; a context that gives its URL."""

    @contextmanager
    def serving(mesh: Path, mode: str = "require", port: int = 0) -> Iterator[str]:
        process = subprocess.Popen(
            [sys.executable, str(_SERVED), str(mesh), mode, str(port)],
            env=environment(),
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

    return serving


@pytest.fixture
def lab(tmp_path: Path) -> Callable[..., Path]:
    """Makes the folder of the mesh that answers, with what its critic says."""

    def make(*says: str, mesh: str = _LAB) -> Path:
        folder = tmp_path / "lab"
        folder.mkdir(exist_ok=True)
        (folder / "mesh.toml").write_text(mesh)
        (folder / "steps.json").write_text(json.dumps([{"say": each} for each in says]))
        return folder

    return make


@pytest.fixture
def desk(tmp_path: Path) -> Callable[..., Path]:
    """Makes the folder of the mesh that asks: what its front calls, and then says."""

    def make(url: str, *asked: str, tool: str = "ask_critic", more: str = "", name: str = "desk") -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "mesh.toml").write_text(_DESK.format(url=url, more=more))
        steps: list[dict[str, object]] = [
            {"call": {"name": tool, "arguments": {"question": question}}} for question in asked
        ]
        (folder / "steps.json").write_text(json.dumps([*steps, {"say": "The critic has spoken."}]))
        return folder

    return make
