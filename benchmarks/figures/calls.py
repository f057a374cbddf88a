"""Servers with one trivial tool, plain, signed, or signed and recorded: what a call costs, and what the statements add to it.

    python benchmarks/figures/calls.py plain|signed|waiting|unrecorded stdio|http FOLDER

`signed` is what one gets: each record may lag 50 ms behind. `waiting`: both sides wait until it is durable (`Signing.lag` of 0).

Over HTTP the first line on standard output is the address.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

import anyio
import uvicorn
from mcp.server import MCPServer

from agentmesh.serving.signing import LAG, KnownKeys, NonceStore, Policy, Signing, sign_server
from agentmesh_ledger import KeyStore
from agentmesh_ledger.log import Ledger

Kind: TypeAlias = Literal["plain", "signed", "waiting", "unrecorded"]
Transport: TypeAlias = Literal["stdio", "http"]
ANSWER: Final = "It is 391."


@contextmanager
def signing_side(folder: Path, name: Literal["client", "server"], kind: Kind) -> Iterator[Signing]:
    """A side that demands statements, pins keys in a file, and records in a ledger (SQLite, FULL), as a mesh does.

    A server keeps its nonces in a file; a client need not, for a result belongs to one request.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = KeyStore(folder / "keys")
    origin = f"agentmesh.local/{name}"
    with ExitStack() as stack:
        ledger = None
        if kind != "unrecorded":
            made = Ledger.open(folder / "ledger.db", origin=origin, keys=keys, create=True)
            ledger = stack.enter_context(made)
        nonces = NonceStore(folder / "nonces") if name == "server" else NonceStore()
        policy = Policy(mode="require", known=KnownKeys(path=folder / "known.json"), nonces=nonces)
        yield Signing(
            key=keys.agent("host"),
            subject=f"host@{origin}",
            policy=policy,
            ledger=ledger,
            keys=keys,
            dialogue="benchmark",
            lag=0.0 if kind == "waiting" else LAG,
        )


def trivial_server() -> MCPServer:
    """A sum, and an answer that is always the same."""
    server = MCPServer("trivial", log_level="ERROR")

    @server.tool()
    async def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    @server.tool()
    async def ask_front(question: str) -> str:
        """Answers."""
        return ANSWER

    return server


async def listen(server: MCPServer) -> None:
    """Serve over HTTP, the SDK's way, and say where."""
    config = uvicorn.Config(server.streamable_http_app(), host="127.0.0.1", port=0, log_level="error")
    web = uvicorn.Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(web.serve)
        while not web.started:
            await anyio.sleep(0.01)
        print(f"http://127.0.0.1:{web.servers[0].sockets[0].getsockname()[1]}/mcp", flush=True)


def main(kind: Kind, transport: Transport, folder: Path) -> None:
    """Serve until standard input ends, or until ended."""
    server = trivial_server()
    with ExitStack() as stack:
        if kind != "plain":
            sign_server(server, stack.enter_context(signing_side(folder, "server", kind)))
        if transport == "stdio":
            server.run("stdio")
        else:
            anyio.run(listen, server)


if __name__ == "__main__":
    _kind, _transport, _folder = sys.argv[1:]
    assert _kind in get_args(Kind) and _transport in get_args(Transport)
    main(_kind, _transport, Path(_folder))  # type: ignore[arg-type]  # as was just asserted
