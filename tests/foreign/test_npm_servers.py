"""Meshes whose agents use servers from npm: these do not sign, go on working, and are recorded as what they are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

MESH = """
[mesh]
name = "third-party"
[agents.clerk]
model = "scripted:steps.json"
role = "You use what you are given."
tools = ["other"]
[servers.other]
command = {command}
env = {environment}
{signing}
[dialogue]
task = "What does the letter say?"
"""


def call(name: str, **arguments: object) -> dict[str, object]:
    return {"call": {"name": name, "arguments": arguments}}


_ENTITY = {"name": "parcel", "entityType": "thing", "observations": ["comes on Friday"]}
_SERVERS = {
    "everything": (["stdio"], [call("echo", message="Friday")]),
    "filesystem": (["."], [call("read_text_file", path="letter.txt")]),
    "memory": ([], [call("create_entities", entities=[_ENTITY]), call("open_nodes", names=["parcel"])]),
}


@pytest.fixture
def run(
    npm: Callable[[str], Path], node: str, tmp_path: Path, python_environment: dict[str, str]
) -> Callable[..., list[dict[str, Any]]]:
    """Runs a mesh with one server from npm, whose tools are called in turn; its events."""

    def start(server: str, signing: str) -> list[dict[str, Any]]:
        words, calls = _SERVERS[server]
        entry = npm(f"@modelcontextprotocol/server-{server}") / "dist" / "index.js"
        (tmp_path / "letter.txt").write_text("The parcel comes on Friday.")
        said = {"say": "It comes on Friday.", "expect": "Friday"}
        (tmp_path / "steps.json").write_text(json.dumps([*calls, said]))
        (tmp_path / "mesh.toml").write_text(
            MESH.format(
                command=json.dumps([node, str(entry), *words]),
                environment=f"{{ MEMORY_FILE_PATH = {json.dumps(str(tmp_path / 'memory.jsonl'))} }}",
                signing=f'signing = "{signing}"' if signing else "",
            )
        )
        done = _agentmesh(["run", str(tmp_path), "--json"], python_environment)
        return [json.loads(line) for line in done.splitlines()]

    return start


def _agentmesh(words: Sequence[str], environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "agentmesh", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("signing", ["", "prefer"])
@pytest.mark.parametrize("server", _SERVERS)
def test_a_mesh_runs_with_a_server_from_npm(
    server: str,
    signing: str,
    run: Callable[..., list[dict[str, Any]]],
    tmp_path: Path,
    python_environment: dict[str, str],
    recorded: Callable[[Path, str], list[Mapping[str, Any]]],
) -> None:
    events = run(server, signing)
    calls = len(_SERVERS[server][1])
    assert events[-1]["reason"] == "done" and events[-1]["tool_calls"] == calls
    results = [event for event in events if event["event"] == "tool_result"]
    assert [result["error"] for result in results] == [False] * calls and "Friday" in results[-1]["text"]
    _agentmesh(["verify", str(tmp_path)], python_environment)
    received = recorded(tmp_path, "received")
    if not signing:
        assert received == []
        return
    # What an unsigned server said is on record as that: there is no statement of it, and it is told apart by that.
    assert len(received) == calls
    for facts in received:
        assert facts["type"] == "result" and facts["method"] == "tools/call" and facts["statement"] == ""
