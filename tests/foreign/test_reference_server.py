"""Servers that are not ours, through our toolbox: the reference server of the MCP project, and one over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import anyio
import pytest

from agentmesh.mesh.spec import ServerSpec
from agentmesh.toolbox import open_servers

pytestmark = pytest.mark.anyio


@pytest.fixture
def entry(npm: Callable[[str], Path]) -> str:
    return str(npm("@modelcontextprotocol/server-everything") / "dist" / "index.js")


async def _use(server: ServerSpec, folder: Path) -> None:
    with anyio.fail_after(60):
        async with open_servers({"everything": server}, base=folder) as servers:
            session = servers["everything"]
            assert {"echo", "get-sum", "get-tiny-image"} <= {tool.name for tool in session.tools}
            assert len(session.digest) == 64
            assert (await session.call("echo", {"message": "hello"})).text == "Echo: hello"
            assert "5" in (await session.call("get-sum", {"a": 2, "b": 3})).text
            image = await session.call("get-tiny-image", {})
            assert "[image, image/png]" in image.text
            refused = await session.call("get-sum", {"a": "two", "b": 3})
            assert refused.is_error and refused.text.startswith("Error")


async def test_the_reference_server_of_mcp_is_started_and_called(
    node: str, entry: str, tmp_path: Path
) -> None:
    await _use(ServerSpec(command=(node, entry, "stdio")), tmp_path)


async def test_a_server_in_typescript_is_called_over_http(
    node: str,
    npm: Callable[[str], Path],
    program: Callable[[str], str],
    listening: Callable[[Sequence[str]], AbstractContextManager[str]],
    tmp_path: Path,
) -> None:
    npm("@modelcontextprotocol/sdk")
    with listening([node, program("server.mjs")]) as address, anyio.fail_after(60):
        async with open_servers({"other": ServerSpec(url=address)}, base=tmp_path) as servers:
            session = servers["other"]
            assert session.identity.name == "typescript"
            assert {tool.name for tool in session.tools} == {"repeat", "fail"}
            assert (await session.call("repeat", {"text": "hello"})).text == "hello"
            failed = await session.call("fail", {})
            assert failed.is_error and failed.text == "Error: it fails"
