from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentmesh.__main__ import main
from agentmesh_ledger import Draft, DraftPart, KeyStore
from agentmesh_ledger.log import Ledger

MESH = """\
[mesh]
name = "desk"

[dialogue]
task = "What is 17 * 23?"

[agents.front]
model = "nano"
role = "You calculate."
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command line left: its exit code, and what it wrote where."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


Agentmesh = Callable[..., Outcome]


@pytest.fixture
def agentmesh(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Agentmesh:
    """Runs a command line in this process."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "110")

    def run(*arguments: object) -> Outcome:
        code = main([str(each) for each in arguments])
        out, err = capfd.readouterr()
        return Outcome(code=code, out=out, err=err)

    return run


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    """A folder with a mesh file and no record."""
    folder = tmp_path / "desk"
    folder.mkdir()
    (folder / "mesh.toml").write_text(MESH)
    return folder


@pytest.fixture
def recorded(mesh: Path) -> Path:
    """A mesh with two dialogues in its ledger, the second still open."""
    place = mesh / ".agentmesh"
    keys = KeyStore(place / "keys")
    host, front = keys.agent("host"), keys.agent("front")
    with Ledger.open(place / "ledger.db", origin="agentmesh.local/desk", keys=keys, create=True) as log:

        def add(
            dialogue: str, author: str, kind: str, text: str = "", **facts: str | bool | list[str]
        ) -> None:
            key = host if author == "host" else front
            kind_of_text = "application/json" if kind == "call" else "text/plain; charset=utf-8"
            parts = (DraftPart(name="text", type=kind_of_text, data=text.encode()),) if text else ()
            log.append([Draft(author=key, kind=kind, dialogue=dialogue, parts=parts, facts=dict(facts))])

        add("20261124-aa", "host", "open", mesh="desk", participants=[front.id])
        add("20261124-aa", "host", "task", "What is 17 * 23?")
        add("20261124-aa", "front", "inference", '{"prompt": []}', model="ab" * 32)
        add("20261124-aa", "front", "call", '{"expression": "17 * 23"}', server="calculator", tool="evaluate")
        add("20261124-aa", "host", "result", "391", server="calculator", tool="evaluate", error=False)
        add("20261124-aa", "front", "say", "The result is \x1b[31m391.")
        add("20261124-aa", "host", "close", reason="done")
        add("20261125-ab", "host", "open", mesh="desk", participants=[front.id])
        add("20261125-ab", "front", "say", "Hello.")
    return mesh


# A whole MCP server of the `initialize` era, which notes what it is asked.
_WEATHER = """\
import json, pathlib, sys

def send(message):
    sys.stdout.write(json.dumps(message) + "\\n")
    sys.stdout.flush()

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"name": "forecast", "description": "Tells the weather.", "inputSchema": SCHEMA}]
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    method = request["method"]
    if method == "initialize":
        info = {"name": "weather", "version": "1"}
        result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
    elif method == "tools/list":
        result = {"tools": TOOLS}
    elif method == "tools/call":
        pathlib.Path(__file__).with_name("asked").write_text(json.dumps(request["params"]["arguments"]))
        result = {"content": [{"type": "text", "text": "rain"}]}
        # CALLED
    else:
        send({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "Method not found"}})
        continue
    send({"jsonrpc": "2.0", "id": request["id"], "result": result})
"""
_WEATHER_MESH = """\
[mesh]
name = "desk"
[dialogue]
task = "Will it rain?"
[agents.front]
model = "scripted:steps.json"
role = "You tell the weather."
tools = ["weather", "calculator"]
[servers.weather]
command = [{python}, "-S", "weather.py"]
[servers.calculator]
builtin = "calculator"
"""
_CALL = {"call": {"name": "forecast", "arguments": {"city": "Graz"}}}


@pytest.fixture
def weather(tmp_path: Path) -> Path:
    """A mesh with a server over stdio, `weather.py`, and a script that asks it."""
    folder = tmp_path / "desk"
    folder.mkdir()
    (folder / "mesh.toml").write_text(_WEATHER_MESH.format(python=json.dumps(sys.executable)))
    (folder / "steps.json").write_text(json.dumps([_CALL, {"say": "It rains."}]))
    (folder / "weather.py").write_text(_WEATHER)
    return folder
