"""Running the official suite: `@modelcontextprotocol/conformance`, as `.ci/run` installs it."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
VERSION = "0.2.0-alpha.12"
# The suite's own servers and clients are quick; the machine may not be.
_PATIENCE = 60_000  # milliseconds for one scenario
_START = 60.0
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


@pytest.fixture(scope="session")
def suite(npm: Callable[[str], Path], node: str, tmp_path_factory: pytest.TempPathFactory) -> Suite:
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
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
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


@contextmanager
def program(
    *command: str, said: str = "http://", environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """A server of ours, as a process; yields the first line with `said` in it that it writes to standard output."""
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | dict(environment or {}),
    )
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], _START)
        line = process.stdout.readline() if ready else ""
        assert said in line, f"{shlex.join(command)} did not say where it serves, but {line!r}"
        yield line.strip()
    finally:
        process.terminate()
        try:
            process.wait(_START)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="session")
def expected() -> Callable[[str], str]:
    """The file of expected failures of that name."""
    return lambda name: str(HERE / "expected" / f"{name}.yml")


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the fixture server."""
    with program(str(HERE / "everything.py"), str(tmp_path_factory.mktemp("everything"))) as address:
        yield address
