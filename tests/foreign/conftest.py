"""A mesh that is served, for programs that are not ours: over standard input and output, and over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentmesh_ledger.log import Ledger

PROGRAMS = Path(__file__).resolve().parent / "programs"
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
        python = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "AGENTMESH_THREADS": "1"}
        return {"command": self.command[0], "args": self.command[1:], "env": python}


def make_mesh(folder: Path, answers: int) -> Mesh:
    """Write it down."""
    (folder / "mesh.toml").write_text(MESH)
    (folder / "steps.json").write_text(json.dumps([{"say": ANSWER}] * answers))
    return Mesh(folder=folder)


@pytest.fixture
def mesh(tmp_path: Path) -> Callable[[int], Mesh]:
    """Makes a mesh with so many answers in it: it complains when it ends with one left."""
    return lambda answers: make_mesh(tmp_path, answers)


@pytest.fixture(scope="session")
def http(
    tmp_path_factory: pytest.TempPathFactory,
    listening: Callable[[Sequence[str]], AbstractContextManager[str]],
) -> Iterator[str]:
    """The address of a mesh that is served over HTTP."""
    served = make_mesh(tmp_path_factory.mktemp("http"), 200)
    with listening([*served.command, "--http", "127.0.0.1:0"]) as address:
        yield address


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A program that is not ours, seen from outside."""

    environment: Mapping[str, str]

    def converse(self, command: list[str]) -> Mapping[str, Any]:
        """Run it to its end; the JSON object that it printed."""
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, env=self.environment, check=False
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
def foreign(python_environment: dict[str, str]) -> Foreign:
    """Runs a foreign program, and judges what it saw."""
    return Foreign(environment=python_environment)


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


@pytest.fixture
def recorded() -> Callable[[Path, str], list[Mapping[str, Any]]]:
    """The facts of all messages of a kind in the ledger beside a mesh file."""

    def read(folder: Path, kind: str) -> list[Mapping[str, Any]]:
        with Ledger.open(folder / ".agentmesh" / "ledger.db", read_only=True) as log:
            return [record.message.facts for record in log.read() if record.message.kind == kind]

    return read
