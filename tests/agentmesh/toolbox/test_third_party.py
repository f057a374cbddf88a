"""A server that is not ours: the reference server of the MCP project, over stdio, run by node.

AGENTMESH_NPM names a folder where it is installed: `npm install @modelcontextprotocol/server-everything`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from agentmesh.toolbox import open_servers

pytestmark = pytest.mark.anyio

_ENTRY = Path("node_modules", "@modelcontextprotocol", "server-everything", "dist", "index.js")


@pytest.fixture
def everything() -> Path:
    folder = os.environ.get("AGENTMESH_NPM")
    if not folder:
        pytest.skip("AGENTMESH_NPM does not name a folder with @modelcontextprotocol/server-everything in it")
    if not shutil.which("node"):
        pytest.skip("node, which AGENTMESH_NPM is of no use without, is not installed")
    return Path(folder) / _ENTRY


async def test_the_reference_server_of_mcp_is_started_and_called(
    everything: Path, source: Callable[..., object], tmp_path: Path
) -> None:
    server = source(command=["node", str(everything), "stdio"])
    with anyio.fail_after(60):
        async with open_servers({"everything": server}, base=tmp_path) as servers:
            session = servers["everything"]
            assert {"echo", "get-sum", "get-tiny-image"} <= {tool.name for tool in session.tools}
            assert len(session.digest) == 64
            assert (await session.call("echo", {"message": "hello"})).text == "Echo: hello"
            assert "5" in (await session.call("get-sum", {"a": 2, "b": 3})).text
            image = await session.call("get-tiny-image", {})
            assert "[image, image/png]" in image.text
            refused = await session.call("get-sum", {"a": "two", "b": 3})
            assert refused.is_error and refused.text.startswith("Error")
