"""An in-process server over real JSON-RPC streams: what the SDK's own way leaves out in the newer era."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from mcp.client import Transport
from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from mcp.shared._stream_protocols import ReadStream, WriteStream
from mcp.shared.memory import create_client_server_memory_streams
from mcp.shared.message import SessionMessage

_GRACE: Final = 2.0


def memory_transport(server: MCPServer | Server[Any]) -> Transport:
    """A transport to a server in this process, in which every request and result is a JSON-RPC message.

    `Client(server)` makes none in the newer era, so there would be nothing to sign.
    """
    return _connected(server._lowlevel_server if isinstance(server, MCPServer) else server)


@asynccontextmanager
async def _connected(
    server: Server[Any],
) -> AsyncIterator[tuple[ReadStream[SessionMessage | Exception], WriteStream[SessionMessage]]]:
    ended = anyio.Event()

    async with create_client_server_memory_streams() as (ours, theirs):

        async def run() -> None:
            try:
                await server.run(*theirs, server.create_initialization_options())
            finally:
                ended.set()

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            try:
                yield ours
            finally:
                # The server ends by itself once its client is gone; what it tidies up meanwhile may take a moment.
                await ours[1].aclose()
                with anyio.move_on_after(_GRACE, shield=True):
                    await ended.wait()
                group.cancel_scope.cancel()
