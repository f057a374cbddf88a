"""Running an example the way a reader would: the installed command, a ledger of its own, nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Run:
    """What a run printed: its events, and where its ledger is."""

    code: int
    events: list[dict[str, Any]]
    errors: str
    ledger: Path

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]


def agentmesh(*args: str | Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "agentmesh", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=ROOT,
        env=os.environ | {"AGENTMESH_THREADS": "1"},
    )


@pytest.fixture
def run_example(tmp_path: Path) -> Callable[..., Run]:
    """Run an example on its embedded model with `--json`."""
    pytest.importorskip("llama_cpp", reason="needs the extra 'llama'")

    def run(example: str, *task: str) -> Run:
        ledger = tmp_path / example / "ledger.db"
        done = agentmesh("run", f"examples/{example}", *task, "--json", "--ledger", ledger)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        return Run(code=done.returncode, events=events, errors=done.stderr, ledger=ledger)

    return run


@pytest.fixture
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line, for what follows a run."""
    return agentmesh
