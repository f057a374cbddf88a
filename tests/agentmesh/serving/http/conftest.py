"""A small MCP server behind a real HTTP face on the loopback interface, in the test's own event loop."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import httpx2
import pytest
from anyio.abc import SocketStream
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.mcpserver import Context

from agentmesh.serving.http import HttpFace, serve_http
from agentmesh.serving.http.address import Address, bind
from agentmesh.serving.http.browsers import Visitors
from agentmesh.serving.http.guard import Access
from agentmesh.serving.http.limits import HttpLimits
from agentmesh.serving.http.oauth import Issuer
from agentmesh_servers.face import logging_left_alone

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass(kw_only=True)
class Served:
    """A server that is up: where, what stops it, and what its tools know."""

    port: int
    stop: anyio.Event
    over: anyio.Event = field(default_factory=anyio.Event)
    waiting: int = 0
    cancelled: int = 0
    release: anyio.Event = field(default_factory=anyio.Event)
    came: anyio.Event = field(default_factory=anyio.Event)

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/mcp"

    async def until_waiting(self, count: int) -> None:
        """Wait until so many calls of the tool `wait` are in work."""
        while self.waiting < count:
            self.came = anyio.Event()
            await self.came.wait()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[SocketStream]:
        """A bare connection."""
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            yield stream

    def modern(self, method: str, header: str = "", /, **params: object) -> httpx2.Request:
        """A request of the newer era, as a client sends it."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
        headers = {
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": method,
        }
        return httpx2.Request(
            "POST", self.url, json=body, headers=headers | ({"mcp-name": header} if header else {})
        )

    def call(self, tool: str, **arguments: object) -> httpx2.Request:
        return self.modern("tools/call", tool, name=tool, arguments=arguments)

    def raw(self, request: httpx2.Request) -> bytes:
        """The bytes of a request."""
        head = f"{request.method} {request.url.raw_path.decode()} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        return head.encode() + b"\r\n" + request.read()


def _server(served: Served) -> MCPServer:
    with logging_left_alone():
        server = MCPServer("small", version="1")

    @server.tool()
    async def echo(text: str) -> str:
        return text

    @server.tool()
    async def who() -> str:
        token = get_access_token()
        return "nobody" if token is None else json.dumps([token.client_id, token.subject, token.token])

    @server.tool()
    async def wait() -> str:
        served.waiting += 1
        served.came.set()
        try:
            await served.release.wait()
        except anyio.get_cancelled_exc_class():
            served.cancelled += 1
            raise
        finally:
            served.waiting -= 1
        return "released"

    @server.tool()
    async def chatter(ctx: Context) -> str:
        """Reports so much that whoever does not read it stands in its way."""
        served.waiting += 1
        served.came.set()
        try:
            for step in range(1, 2_000):
                await ctx.report_progress(step, None, "x" * 10_000)
        finally:
            served.waiting -= 1
            served.cancelled += 1
            served.came.set()
        return "said"

    return server


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@asynccontextmanager
async def _serve(
    *,
    limits: HttpLimits | None = None,
    access: Access | None = None,
    issuer: Issuer | None = None,
    hosts: tuple[str, ...] = (),
    origins: tuple[str, ...] = (),
) -> AsyncGenerator[Served]:
    bound = bind(Address(port=0))
    ready = anyio.Event()
    served = Served(port=bound.address.port, stop=anyio.Event())
    face = HttpFace(
        visitors=Visitors(bound.address, hosts=hosts, origins=origins),
        access=access,
        issuer=issuer,
        limits=limits or HttpLimits(),
    )

    async def run() -> None:
        await serve_http(_server(served), bound, face, stop=served.stop, ready=ready.set)
        served.over.set()

    with anyio.fail_after(50):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await ready.wait()
            yield served
            group.cancel_scope.cancel()


@pytest.fixture
def serve() -> Serve:
    """Serves for the length of a block."""
    return _serve


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """A client that writes each request as it is given."""
    async with httpx2.AsyncClient(timeout=20) as client:
        yield client


@pytest.fixture
def limits() -> Callable[..., HttpLimits]:
    """Limits of which some are other than usual."""
    return partial(HttpLimits)


def parsed(data: bytes) -> tuple[int, Mapping[str, str]]:
    """Status and headers of the first answer in these bytes."""
    head, _, _ = data.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    headers: dict[str, str] = dict(line.lower().split(": ", 1) for line in rest if ": " in line)
    return int(first.split()[1]), headers


@pytest.fixture
def answer_of() -> Callable[..., Any]:
    """Reads one connection to its end; status and headers of the answer."""

    async def read(stream: SocketStream) -> tuple[int, Mapping[str, str]]:
        data = b""
        try:
            while True:
                data += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return parsed(data)

    return read
