"""Running the official suite: `@modelcontextprotocol/conformance`, as `.ci/run` installs it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
VERSION = "0.2.0-alpha.12"
# The suite's own servers and clients are quick; the machine may not be.
_PATIENCE = 60_000  # milliseconds for one scenario
_ALL = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the suite said: its exit status, all it printed, and the checks of each scenario that it ran."""

    code: int
    said: str
    checks: Mapping[str, tuple[Mapping[str, Any], ...]]

    def failed(self, scenario: str) -> list[str]:
        """The checks of a scenario that failed, or were warned about, in words."""
        told = [
            f"{check['id']}: {check.get('errorMessage') or check['description']}"
            for check in self.checks[scenario]
            if check["status"] in ("FAILURE", "WARNING")
        ]
        return told if told or self.passed(scenario) else ["nothing was checked"]

    def passed(self, scenario: str) -> int:
        """How many of its checks passed."""
        return sum(check["status"] == "SUCCESS" for check in self.checks[scenario])


Suite = Callable[..., Verdict]
Listening = Callable[[Sequence[str]], AbstractContextManager[str]]
# Prompts are named by whoever writes the mesh file, so two of the suite's own names can stand here; tools cannot.
MESH = """\
[mesh]
name = "suite"

[agents.front]
model = "scripted:steps.json"
role = "You are never asked."

[serve.prompts.test_simple_prompt]
about = "A prompt without arguments."
text = "This is a simple prompt for testing."

[serve.prompts.test_prompt_with_arguments]
about = "A prompt with two arguments."
text = "Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"
"""


@pytest.fixture(scope="session")
def suite(
    npm: Callable[[str], Path],
    node: str,
    tmp_path_factory: pytest.TempPathFactory,
    python_environment: dict[str, str],
) -> Suite:
    """Runs a command of the suite; `results` are kept in a folder of their own."""
    package = npm("@modelcontextprotocol/conformance")
    installed = json.loads((package / "package.json").read_text())["version"]
    assert installed == VERSION, "other versions of the suite ask other things"

    def run(*command: str) -> Verdict:
        results = tmp_path_factory.mktemp("results")
        prefix = "server-" if command[0] == "server" else ""
        done = subprocess.run(
            [
                node,
                str(package / "dist" / "index.js"),
                *command,
                "-o",
                str(results),
                "--timeout",
                str(_PATIENCE),
            ],
            capture_output=True,
            text=True,
            timeout=_ALL,
            env=python_environment,
        )
        return Verdict(
            code=done.returncode, said=done.stdout + done.stderr, checks=dict(_read(results, prefix))
        )

    return run


def _read(results: Path, prefix: str) -> Iterator[tuple[str, tuple[Mapping[str, Any], ...]]]:
    """The checks in a folder of results, by scenario: a folder is named after its scenario and the time."""
    for file in sorted(results.rglob("checks.json")):
        name = re.sub(r"-\d{4}-\d\d-\d\dT[\d-]+Z$", "", file.parent.relative_to(results).as_posix())
        yield name.removeprefix(prefix), tuple(json.loads(file.read_text()))


@pytest.fixture(scope="session")
def expected() -> Callable[[str], str]:
    """The file of expected failures of that name."""
    return lambda name: str(HERE / "expected" / f"{name}.yml")


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the fixture server's keys and ledger."""
    return tmp_path_factory.mktemp("everything")


@pytest.fixture(scope="session")
def everything(record: Path, listening: Listening) -> Iterator[str]:
    """The address of the fixture server."""
    with listening([sys.executable, str(HERE / "everything.py"), str(record)]) as address:
        yield address


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, listening: Listening) -> Iterator[str]:
    """The address of a mesh, as `agentmesh serve` serves it over HTTP."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "mesh.toml").write_text(MESH)
    (folder / "steps.json").write_text("[]")
    with listening(
        [sys.executable, "-m", "agentmesh", "serve", str(folder), "--http", "127.0.0.1:0"]
    ) as address:
        yield address
