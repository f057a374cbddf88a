"""A mesh that is served, for programs that are not ours: over standard input and output, and over HTTP."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

PROGRAMS = Path(__file__).resolve().parent / "programs"
START = 60.0
QUESTION = "What is 17 * 23?"
ANSWER = "It is 391."
MESH = """\
[mesh]
name = "desk"

[agents.front]
model = "scripted:steps.json"
role = "You calculate. You are brief."

[dialogue]
task = "What is 17 * 23?"

[serve.prompts.sum]
title = "A sum"
about = "Adds two numbers."
text = "What is {a} + {b}?"
"""


def environment(**more: str) -> dict[str, str]:
    """The environment, with this tree's packages for every Python that is started in it."""
    return (
        os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "AGENTMESH_THREADS": "1"} | more
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """A mesh whose only agent gives one answer, so many times; and how a host starts it."""

    folder: Path

    @property
    def command(self) -> list[str]:
        """The command that serves it over standard input and output."""
        return [sys.executable, "-m", "agentmesh", "serve", str(self.folder)]

    @property
    def parameters(self) -> dict[str, Any]:
        """The same as hosts write it down."""
        python = {"PYTHONPATH": environment()["PYTHONPATH"], "AGENTMESH_THREADS": "1"}
        return {"command": self.command[0], "args": self.command[1:], "env": python}


def make_mesh(folder: Path, answers: int) -> Mesh:
    """Write it down."""
    (folder / "mesh.toml").write_text(MESH)
    (folder / "steps.json").write_text(json.dumps([{"say": ANSWER}] * answers))
    return Mesh(folder=folder)


@pytest.fixture
def python_environment() -> dict[str, str]:
    """The environment of a process that is to find this tree's packages."""
    return environment()


@pytest.fixture
def mesh(tmp_path: Path) -> Callable[[int], Mesh]:
    """Makes a mesh with so many answers in it: it complains when it ends with one left."""
    return lambda answers: make_mesh(tmp_path, answers)


@pytest.fixture(scope="session")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a mesh that is served over HTTP."""
    served = make_mesh(tmp_path_factory.mktemp("http"), 200)
    process = subprocess.Popen(
        [*served.command, "--http", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stderr is not None
    said: queue.Queue[str] = queue.Queue()

    def read(lines: IO[str]) -> None:
        # To its end: a server whose standard error nobody reads stops.
        for line in lines:
            said.put(line)
        said.put("")

    reader = threading.Thread(target=read, args=(process.stderr,), daemon=True)
    reader.start()
    try:
        told = ""
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/\S+", told)):
            line = said.get(timeout=START)
            assert line, f"the server has ended: {told}"
            told += line
        yield found.group()
    finally:
        process.terminate()
        try:
            process.wait(START)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(START)
        process.stderr.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A program that is not ours, seen from outside."""

    def converse(self, command: list[str], **more: str) -> Mapping[str, Any]:
        """Run it to its end; the JSON object that it printed."""
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, env=environment(**more), check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        seen = json.loads(done.stdout.splitlines()[-1])
        assert isinstance(seen, dict)
        return seen

    def judge(self, seen: Mapping[str, Any], *, protocol: str) -> None:
        """What every host must have seen of the mesh."""
        assert seen["protocol"] == protocol
        assert seen["server"] == "desk"
        wanted = {"ask_front", "start_dialogue", "wait_dialogue", "stop_dialogue", "verify_record"}
        assert wanted <= set(seen["tools"])
        assert [answer["text"] for answer in seen["answers"]] == [ANSWER] * len(seen["answers"])
        for answer in seen["answers"]:
            # Claude Code shows a model only the one, others only the other.
            assert answer["structured"]["answer"] == ANSWER and not answer["error"]
        assert seen["refused"] is True
        assert seen["progress"] == sorted(set(seen["progress"]))
        assert "ledger://checkpoint" in seen["resources"]
        assert {"dialogue://{id}", "ledger://entry/{n}"} <= set(seen["templates"])
        assert seen["checkpoint"].startswith("agentmesh.local/desk\n")
        assert "sum" in seen["prompts"] and seen["prompt"] == "What is 2 + 3?"


@pytest.fixture
def foreign() -> Foreign:
    """Runs a foreign program, and judges what it saw."""
    return Foreign()


@pytest.fixture
def target(request: pytest.FixtureRequest, mesh: Callable[[int], Mesh]) -> Callable[[str, int], str]:
    """How a program is told of a mesh: an address, or what to start as JSON."""

    def find(transport: str, answers: int) -> str:
        if transport == "http":
            return str(request.getfixturevalue("http"))
        return json.dumps(mesh(answers).parameters)

    return find


@pytest.fixture
def program() -> Callable[[str], str]:
    """The path of one of the foreign programs."""
    return lambda name: str(PROGRAMS / name)
