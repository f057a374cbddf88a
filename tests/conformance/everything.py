"""The fixture of the official conformance suite: every tool, resource and prompt it knows by name, signed.

    python tests/conformance/everything.py FOLDER [PORT]

Serves streamable HTTP on 127.0.0.1 at /mcp and says its address in one line on standard output. What is under test is
what lies around the fixture: the middleware that signs, checks and records, with its keys and its ledger in FOLDER, and tasks.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import anyio
import uvicorn
from fixture import content, live, rounds, work
from mcp.server import MCPServer
from mcp.server.context import ServerRequestContext
from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp.types import (
    EmptyResult,
    JSONRPCMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    UnsubscribeRequestParams,
)
from side import signing_side

from agentmesh.serving.signing import sign_server
from agentmesh.serving.tasks import Tasks, open_tasks

RETRY: Final = 500  # milliseconds until a cut stream is taken up again


class Events(EventStore):
    """What was sent on each stream, for as long as the process lives."""

    def __init__(self) -> None:
        self._sent: list[tuple[StreamId, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: StreamId, message: JSONRPCMessage | None) -> EventId:
        """Keep it; events are numbered from 1."""
        self._sent.append((stream_id, message))
        return str(len(self._sent))

    async def replay_events_after(
        self, last_event_id: EventId, send_callback: EventCallback
    ) -> StreamId | None:
        """Send again what followed on the same stream."""
        last = int(last_event_id)
        if not 0 < last <= len(self._sent):
            return None
        stream = self._sent[last - 1][0]
        for number, (of, message) in enumerate(self._sent[last:], last + 1):
            if of == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


def everything(tasks: Tasks) -> MCPServer:
    """The server, which knows tasks and does not sign yet."""
    server = MCPServer(
        "everything",
        version="1.0.0",
        tools=[content.schema_tool()],
        extensions=[tasks],
        log_level="ERROR",
    )
    content.add_tools(server)
    content.add_resources(server)
    content.add_prompts(server)
    rounds.add_single_questions(server)
    rounds.add_several_rounds(server)
    rounds.add_capabilities(server)
    live.add_streams(server)
    live.add_logging(server)
    live.add_changes(server)
    live.add_older_questions(server)
    work.add_work(server)
    work.add_asking_work(server)
    _add_outdated_methods(server)
    return server


def _add_outdated_methods(server: MCPServer) -> None:
    """Methods that only the older era has, and `MCPServer` therefore does not offer."""
    inner = server._lowlevel_server  # the SDK's own seam for methods that 2026-07-28 took out
    watched: set[str] = set()

    async def set_level(ctx: ServerRequestContext[Any, Any], params: SetLevelRequestParams) -> EmptyResult:
        return EmptyResult()

    async def subscribe(ctx: ServerRequestContext[Any, Any], params: SubscribeRequestParams) -> EmptyResult:
        watched.add(str(params.uri))
        return EmptyResult()

    async def unsubscribe(
        ctx: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams
    ) -> EmptyResult:
        watched.discard(str(params.uri))
        return EmptyResult()

    inner.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)
    inner.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)
    inner.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)


async def _serve(folder: Path, port: int) -> None:
    with signing_side(folder, "everything") as signing:
        async with open_tasks(work.TASKS) as tasks:
            server = everything(tasks)
            sign_server(server, signing)
            await _listen(server, port)


async def _listen(server: MCPServer, port: int) -> None:
    app = server.streamable_http_app(event_store=Events(), retry_interval=RETRY)
    # As `agentmesh serve` has it: httptools, which the extra `witness` brings, leaves white space in a header's value.
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", http="h11")
    web = uvicorn.Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(web.serve)
        while not web.started:
            await anyio.sleep(0.01)
        bound = web.servers[0].sockets[0].getsockname()[1]
        print(f"http://127.0.0.1:{bound}/mcp", flush=True)


if __name__ == "__main__":
    anyio.run(_serve, Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
