"""Small servers written by hand, so that each can misbehave in exactly one way, and start in no time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent, indent

import pytest

# A whole MCP server of the `initialize` era: `echo`, and a tool `act` that says nothing of being repeatable.
_SERVER = """\
import json, os, sys, time

def send(message):
    sys.stdout.write(json.dumps(message) + "\\n")
    sys.stdout.flush()

def tool(name, **annotations):
    schema = {{"type": "object", "properties": {{"text": {{"type": "string"}}}}, "required": ["text"]}}
    return {{"name": name, "description": "Says " + name, "inputSchema": schema, "annotations": annotations}}

TOOLS = [tool("echo", readOnlyHint=True), tool("act")]

def called(name, text):
{called}

def text_result(text, **more):
    return {{"content": [{{"type": "text", "text": text}}], **more}}

for line in sys.stdin:
    request = json.loads(line)
    method, params = request["method"], request.get("params") or {{}}
    if "id" not in request:
        continue
    if method == "initialize":
        info = {{"name": "small", "version": "1.2"}}
        result = {{"protocolVersion": "2025-06-18", "capabilities": {{"tools": {{}}}}, "serverInfo": info}}
    elif method == "tools/list":
        result = {{"tools": TOOLS}}
    elif method == "tools/call":
        result = called(params["name"], params["arguments"].get("text"))
    else:
        send({{"jsonrpc": "2.0", "id": request["id"], "error": {{"code": -32601, "message": "Method not found"}}}})
        continue
    if result is not None:
        send({{"jsonrpc": "2.0", "id": request["id"], "result": result}})
"""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What the mesh file's ServerSpec looks like to the toolbox."""

    builtin: str | None = None
    command: Sequence[str] | None = None
    url: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "."
    options: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 20.0
    token_env: str | None = None


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def source() -> type[Source]:
    return Source


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Source]:
    """A server that is this Python program."""

    def make(program: str, **more: object) -> Source:
        path = tmp_path / f"server{len(list(tmp_path.iterdir()))}.py"
        path.write_text(program)
        return Source(command=[sys.executable, "-S", str(path)], **more)  # type: ignore[arg-type]  # as given

    return make


@pytest.fixture
def small(script: Callable[..., Source]) -> Callable[..., Source]:
    """The small server, with this body for what a call does."""

    def make(called: str = "return text_result(text)", **more: object) -> Source:
        return script(_SERVER.format(called=indent(dedent(called), "    ")), **more)

    return make
