"""A mesh served over stdio by its own process, and asked in both eras; who asked is in the record."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters
from mcp.types import CallToolResult, TextContent

from agentmesh.serving.signing import (
    KnownKeys,
    Policy,
    Signing,
    claims,
    memory_transport,
    sign_server,
    signed_transport,
)
from agentmesh_ledger import KeyStore
from agentmesh_ledger.log import Ledger

pytestmark = pytest.mark.anyio
MESH = """\
[mesh]
name = "desk"
[agents.front]
model = "scripted:steps.json"
role = "You pass questions on."
peers = ["math"]
[agents.math]
model = "scripted:steps.json"
role = "You calculate."
[dialogue]
pattern = "orchestrator"
lead = "front"
"""
STEPS = [
    {"call": {"name": "ask_math", "arguments": {"question": "17 * 23?"}}},
    {"say": "391"},
    {"say": "It is 391."},
]


@pytest.fixture
def desk(tmp_path: Path) -> StdioServerParameters:
    """How a host starts the mesh."""
    (tmp_path / "mesh.toml").write_text(MESH)
    (tmp_path / "steps.json").write_text(json.dumps(STEPS))
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "agentmesh", "serve", str(tmp_path)],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_host_starts_a_mesh_asks_it_and_verifies_the_record(
    desk: StdioServerParameters, tmp_path: Path, mode: str
) -> None:
    told: list[str] = []

    async def progress(done: float, of: float | None, message: str | None) -> None:
        told.append(message or "")

    with anyio.fail_after(60):
        async with Client(desk, mode=mode) as client:
            started = await client.call_tool("start_dialogue", {"task": "17 * 23?"})
            assert isinstance(started.structured_content, dict)
            dialogue = started.structured_content["dialogue"]
            ended = await client.call_tool(
                "wait_dialogue", {"dialogue": dialogue}, progress_callback=progress
            )
            assert isinstance(ended.content[0], TextContent) and ended.content[0].text == "It is 391."
            verified = await client.call_tool("verify_record", {"dialogue": dialogue})
            assert isinstance(verified.structured_content, dict) and verified.structured_content["intact"]
            (read,) = (await client.read_resource(f"dialogue://{dialogue}")).contents
            assert "front calls peers.ask_math" in read.text
            with pytest.raises(MCPError):
                await client.read_resource("dialogue://no-such")
    with Ledger.open(tmp_path / ".agentmesh" / "ledger.db", read_only=True) as log:
        assert [record.message.kind for record in log.read(dialogue=dialogue)][-1] == "close"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_dialogue_goes_on_after_its_call_was_cut_over_stdio(
    desk: StdioServerParameters, mode: str
) -> None:
    with anyio.fail_after(60):
        async with Client(desk, mode=mode) as client:
            with pytest.raises(MCPError):
                await client.call_tool("ask_front", {"question": "17 * 23?"}, read_timeout_seconds=0.001)
            while not (found := await listed(client)) or found[0]["state"] == "running":
                await anyio.lowlevel.checkpoint()
            ended = await client.call_tool("wait_dialogue", {"dialogue": found[0]["dialogue"]})
            assert isinstance(ended.content[0], TextContent) and ended.content[0].text == "It is 391."


async def listed(client: Client) -> list[dict[str, Any]]:
    result = await client.call_tool("wait_dialogue", {})
    assert isinstance(result, CallToolResult) and isinstance(result.structured_content, dict)
    return list(result.structured_content["dialogues"])


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_record_says_who_asked_where_the_wire_is_signed(
    serve: Any, tmp_path: Path, mode: str
) -> None:
    theirs, ours = KeyStore(tmp_path / "theirs").agent("front"), KeyStore(tmp_path / "ours").agent("host")
    async with serve() as served:
        policy = Policy(mode="require", known=KnownKeys())
        sign_server(served.server, Signing(key=ours, subject="host@desk", policy=policy))
        signing = Signing(key=theirs, subject="front@lab", policy=Policy(mode="require", known=KnownKeys()))
        wire = signed_transport(memory_transport(served.server), signing, peer="desk")
        async with Client(wire, mode=mode) as client:
            result = await client.call_tool("ask_math", {"question": "?"}, meta=claims(dialogue="theirs-1"))
            assert isinstance(result.structured_content, dict)
        opened = served.records(result.structured_content["dialogue"])[0].message
        asked_by = opened.facts["asked_by"]
        assert (asked_by["author"], asked_by["subject"]) == (theirs.id, "front@lab")
        assert asked_by["dialogue"] == "theirs-1" and len(asked_by["exchange"]) == 64
