"""The server that the tests call: in this process, over HTTP, or as a program of its own over stdio.

As a program: `served.py FOLDER MODE [LISTED...]`, with its keys and its ledger in the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Elicit, Resolve
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel

from agentmesh.serving.signing import KnownKeys, NonceStore, Policy, Signing, current_exchange, sign_server
from agentmesh.serving.stdio import serve_stdio
from agentmesh_ledger import KeyStore
from agentmesh_ledger.log import Ledger
from agentmesh_servers.face import logging_left_alone

NAME = "there"
ORIGIN = "example.org/there"


class Answer(BaseModel):
    """A person's answer."""

    yes: bool


async def ask_person(ctx: Context[Any]) -> Elicit[Answer]:
    """The question that stands before the tool `delicate`."""
    return Elicit("May I?", Answer)


def small_server() -> MCPServer:
    """One of each kind that a call can end in."""
    with logging_left_alone():
        server = MCPServer(NAME, version="1", log_level="CRITICAL")

    @server.tool()
    async def echo(text: str) -> str:
        return text

    @server.tool()
    async def same(value: Any) -> CallToolResult:
        return CallToolResult(content=[TextContent(text="same")], structured_content={"value": value})

    @server.tool()
    async def delicate(answer: Annotated[Answer, Resolve(ask_person)]) -> str:
        return f"answered {answer.yes}"

    @server.tool()
    async def fails() -> str:
        raise MCPError(-31999, "out of order", {"since": "noon"})

    @server.tool()
    async def wait() -> str:
        await anyio.sleep_forever()
        return ""

    @server.tool()
    async def who() -> str:
        exchange = current_exchange()
        if exchange is None:
            return "nobody"
        index = await exchange.recorded()
        return f"{exchange.author} {exchange.subject} {exchange.dialogue} {exchange.digest} {index}"

    @server.tool()
    async def large(size: int) -> str:
        return "x" * size

    @server.tool()
    async def touch(ctx: Context[Any]) -> str:
        await ctx.report_progress(1, 2, "half")
        await ctx.notify_resource_updated("notes://today")
        return "touched"

    @server.prompt()
    def greeting(name: str) -> str:
        return f"Greet {name}."

    @server.resource("notes://today")
    def today() -> str:
        return "nothing"

    return server


async def serve(folder: Path, mode: Any, listed: list[str]) -> None:
    """Over this program's standard streams."""
    keys = KeyStore(folder / "keys")
    known = KnownKeys(listed=listed) if listed else KnownKeys()
    nonces = NonceStore(folder / "nonces")
    with Ledger.open(folder / "ledger.db", origin=ORIGIN, keys=keys, create=True) as ledger:
        signing = Signing(
            key=keys.agent(NAME),
            subject=f"{NAME}@{ORIGIN}",
            policy=Policy(mode=mode, known=known, nonces=nonces),
            ledger=ledger,
        )
        server = small_server()
        sign_server(server, signing)
        await serve_stdio(server)


if __name__ == "__main__":
    anyio.run(serve, Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
