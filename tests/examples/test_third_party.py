"""A mesh whose agent uses a third-party MCP server over stdio: a reference server from npm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

MESH = """
[mesh]
name = "third-party"
[agents.clerk]
model = "scripted:steps.json"
role = "You read files."
tools = ["files.read_text_file", "files.list_directory"]
[servers.files]
command = {command}
[dialogue]
task = "What does the letter say?"
"""


@pytest.fixture
def file_server() -> str:
    folder = os.environ.get("AGENTMESH_NPM")
    script = Path(folder or ".") / "node_modules/@modelcontextprotocol/server-filesystem/dist/index.js"
    if folder is None or not script.is_file() or shutil.which("node") is None:
        pytest.skip(
            "AGENTMESH_NPM names no folder with @modelcontextprotocol/server-filesystem, or node is missing"
        )
    return str(script)


def test_a_mesh_runs_with_a_reference_server_from_npm(
    file_server: str, tmp_path: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (tmp_path / "letter.txt").write_text("The parcel comes on Friday.")
    (tmp_path / "mesh.toml").write_text(MESH.format(command=json.dumps(["node", file_server, "."])))
    steps = [
        {"call": {"name": "read_text_file", "arguments": {"path": "letter.txt"}}},
        {"say": "The parcel comes on Friday.", "expect": "The parcel comes on Friday."},
    ]
    (tmp_path / "steps.json").write_text(json.dumps(steps))
    done = command("run", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["reason"] == "done" and events[-1]["tool_calls"] == 1
    (result,) = [event for event in events if event["event"] == "tool_result"]
    assert not result["error"] and "Friday" in result["text"]
    assert command("verify", tmp_path).returncode == 0
