"""Serving over streamable HTTP, in both eras of the protocol, at one address `/mcp`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from socket import socket
from typing import Any, Final, TypeAlias

import anyio
import uvicorn
from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentmesh.serving.http.address import Bound
from agentmesh.serving.http.browsers import Visitors
from agentmesh.serving.http.connections import Room, connections_of
from agentmesh.serving.http.gate import Gate
from agentmesh.serving.http.guard import Access, Guard
from agentmesh.serving.http.limits import HttpLimits
from agentmesh.serving.http.oauth import Issuer
from agentmesh.serving.http.refusals import RETRY_SECONDS, refusal

PATH: Final = "/mcp"
HEALTH: Final = "/health"
_HEAD_BYTES: Final = 32 * 1024
_KEPT_OPEN_SECONDS: Final = 60
_UNWIND_SECONDS: Final = 5.0

Servable: TypeAlias = "MCPServer | Server[Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFace:
    """How a server shows itself over HTTP. Without `access` everyone who reaches it is let in.

    `issuer` is told to clients that have no token.
    """

    visitors: Visitors
    access: Access | None = None
    issuer: Issuer | None = None
    limits: HttpLimits = HttpLimits()


async def serve_http(
    server: Servable,
    bound: Bound,
    face: HttpFace,
    *,
    stop: anyio.Event,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve on a socket until `stop` is set, and then no longer than it takes to end the calls in work.

    `ready` is called when clients are accepted. After `stop` new requests are answered with 503, streams that only
    listen end at once, and calls after `face.limits.drain` seconds. Takes the socket over. Cancelled, it drops everyone.
    """
    limits = face.limits
    sessions = StreamableHTTPSessionManager(
        app=server._lowlevel_server if isinstance(server, MCPServer) else server,
        # Its own check takes any port and any scheme of a name; ours has been made before.
        security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        max_request_body_size=limits.body,
        max_sessions=limits.sessions,
        session_idle_timeout=limits.session_idle,
    )
    gate = Gate(sessions.handle_request, limits)
    room = Room(limits)
    web = _Web(_Front(gate, face), room, limits, ready)

    async def end_in_order() -> None:
        await stop.wait()
        gate.close()
        web.should_exit = True
        await gate.drain(limits.drain)

    with bound.socket:
        async with sessions.run(), anyio.create_task_group() as group:
            group.start_soon(room.keep)
            group.start_soon(end_in_order)
            try:
                await web.serve([bound.socket])
            finally:
                with anyio.CancelScope(shield=True):
                    await web.drop(room)
            group.cancel_scope.cancel()


class _Front:
    """What stands before the protocol: names and pages, health, metadata; and one path."""

    def __init__(self, gate: Gate, face: HttpFace) -> None:
        self._gate = gate
        self._visitors = face.visitors
        self._issuer = face.issuer
        self._inside: ASGIApp = gate if face.access is None else Guard(gate, face.access)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        answer = self._visitors.refused(headers, scope.get("server"))
        if answer is not None:
            await answer(scope, receive, send)
            return
        await self._answer(scope, headers)(scope, receive, self._dressed(headers.get("origin"), send))

    def _answer(self, scope: Scope, headers: Headers) -> ASGIApp:
        path, method = scope["path"], scope["method"]
        if method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers:
            return self._visitors.preflight(headers)
        if path == PATH:
            return self._inside
        if self._issuer is not None and path == self._issuer.metadata_path:
            return _told(method, self._issuer.metadata())
        if path == HEALTH:
            stopping = self._gate.is_closing
            return _told(method, {"status": "stopping" if stopping else "ok"}, 503 if stopping else 200)
        return refusal(404, f"nothing is served here: the path is {PATH}")

    def _dressed(self, origin: str | None, send: Send) -> Send:
        """Adds what every answer needs: for browsers, and for clients that come again."""

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                headers = MutableHeaders(scope=message)
                headers["x-content-type-options"] = "nosniff"
                if message["status"] == 503:
                    # The SDK's own, for a session too many, does not say when.
                    headers.setdefault("retry-after", str(RETRY_SECONDS))
                if origin is not None:
                    message["headers"] = [*message["headers"], *self._visitors.shared(origin)]
            await send(message)

        return dressed


def _told(method: str, value: dict[str, Any], status: int = 200) -> Response:
    if method not in ("GET", "HEAD"):
        return refusal(405, "only to be read", headers={"allow": "GET, HEAD"})
    return JSONResponse(value, status_code=status, headers={"cache-control": "no-store"})


class _Web(uvicorn.Server):
    """uvicorn, which leaves signals and logs to the program that it runs in."""

    def __init__(self, app: ASGIApp, room: Room, limits: HttpLimits, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=connections_of(room),
                # Pages with a WebSocket are bound by no Origin of ours: none are spoken.
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                # Trusts X-Forwarded-For of every local program, and nothing here needs it.
                proxy_headers=False,
                server_header=False,
                h11_max_incomplete_event_size=_HEAD_BYTES,
                timeout_keep_alive=_KEPT_OPEN_SECONDS,
                timeout_graceful_shutdown=int(limits.drain + _UNWIND_SECONDS),
            )
        )
        self._ready = ready

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def drop(self, room: Room) -> None:
        """Let go of every listener, connection and task that is left."""
        for listener in getattr(self, "servers", []):
            listener.close()
        room.clear()
        left = set(self.server_state.tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_UNWIND_SECONDS)
