"""Real hosts read what we write: Claude Code and Gemini CLI start the server, Codex says how it would.

AGENTMESH_NPM names a folder where they are installed:
`npm install @anthropic-ai/claude-code @google/gemini-cli @openai/codex`. None of them is asked to talk to a model.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmesh.hosts.connection import config_path, connect, disconnect
from agentmesh.hosts.launch import server_launch
from agentmesh.hosts.server import Remote
from agentmesh.hosts.table import Machine, find_host

Host = Callable[..., str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A person's home folder, in which AgentMesh is found without PYTHONPATH."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return Machine(system="linux", home=str(tmp_path), env={}, folder=str(tmp_path))


@pytest.fixture
def run(home: Machine) -> Host:
    """Runs a host's command line in that home, and returns what it says."""

    def run(program: str, *words: str) -> str:
        path = Path(os.environ.get("AGENTMESH_NPM", "-"), "node_modules", ".bin", program)
        if not path.exists() or not shutil.which("node"):
            pytest.skip(f"no assistants: AGENTMESH_NPM names no folder with {program}, or node is missing")
        env = {
            "HOME": home.home,
            "PATH": os.environ["PATH"],
            "GEMINI_CLI_TRUST_WORKSPACE": "true",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "FAR_TOKEN": "t",
        }
        done = subprocess.run(
            [str(path), *words], env=env, cwd=home.home, capture_output=True, text=True, timeout=180
        )
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize(("host", "program"), [("claude-code", "claude"), ("gemini", "gemini")])
def test_a_host_starts_the_server_it_was_given(home: Machine, run: Host, host: str, program: str) -> None:
    target = find_host(host)
    path = config_path(target, "user", home)
    run(program, "--version")
    launch = server_launch("calculator", {}, {})
    connect(target, path, "sums", launch)
    listed = next(line for line in run(program, "mcp", "list").splitlines() if "sums:" in line)
    assert f"{sys.executable} -P -m agentmesh_servers calculator" in listed and listed.endswith("Connected")
    assert disconnect(target, path, "sums", launch).done == "removed"
    assert "sums" not in run(program, "mcp", "list")


def test_codex_reads_both_kinds_of_entries(home: Machine, run: Host) -> None:
    target = find_host("codex")
    path = config_path(target, "user", home)
    run("codex", "--version")
    connect(target, path, "sums", server_launch("calculator", {}, {}))
    connect(target, path, "far.off", Remote(url="http://127.0.0.1:9/mcp", token_env="FAR_TOKEN"))
    listed = run("codex", "mcp", "list", "--json")
    told = {each["name"]: each for each in json.loads(listed[listed.index("[") : listed.rindex("]") + 1])}
    assert told["sums"]["transport"]["args"] == ["-P", "-m", "agentmesh_servers", "calculator"]
    assert told["sums"]["enabled"] is True
    assert told["far.off"]["transport"]["bearer_token_env_var"] == "FAR_TOKEN"
