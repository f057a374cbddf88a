"""Who wants to know when a resource changes, in both eras, and telling them.

Hosts of the 2026-07-28 revision listen on a stream of their own (the SDK's `subscriptions/listen`); older ones subscribe
to a URI (`resources/subscribe`) and are told on their session. Many changes between two tellings are told once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import anyio
import anyio.lowlevel
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated, ServerEvent
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_REQUEST, EmptyResult, SubscribeRequestParams, UnsubscribeRequestParams

MOST_SUBSCRIPTIONS: Final = 1_024
MAX_URI: Final = 500
_PATIENCE: Final = 5.0  # seconds for a host to take a notification, before it is given up

Listener = Callable[[ServerEvent], None]


class Updates:
    """The subscriptions to one server's resources. It is the server's subscription bus."""

    def __init__(self) -> None:
        self._listeners: dict[object, Listener] = {}
        self._sessions: dict[str, dict[int, ServerSession]] = {}
        self._connections: set[int] = set()
        self._count = 0
        self._pending: dict[str, None] = {}
        self._listed = False
        self._news = anyio.Event()

    async def publish(self, event: ServerEvent) -> None:
        """Tell every listener; the streams get a turn to send it on."""
        for listen in tuple(self._listeners.values()):
            listen(event)
        await anyio.lowlevel.checkpoint()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Tell `listener` of what is published, until the function that is returned is called."""
        token = object()
        self._listeners[token] = listener

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe

    def changed(self, *uris: str, listed: bool = False) -> None:
        """Note that resources changed, or (`listed`) which there are; it is told soon."""
        if self._listeners:
            self._pending.update(dict.fromkeys(uris))
            self._listed = self._listed or listed
        else:
            self._pending.update(dict.fromkeys(uri for uri in uris if uri in self._sessions))
        if self._pending or self._listed:
            self._news.set()

    async def deliver(self) -> None:
        """Tell of changes as they come, for as long as the server runs."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            uris, self._pending = tuple(self._pending), {}
            listed, self._listed = self._listed, False
            if listed:
                await self.publish(ResourcesListChanged())
            for uri in uris:
                await self.publish(ResourceUpdated(uri=uri))
                for session in tuple(self._sessions.get(uri, {}).values()):
                    await self._tell(session, uri)

    async def on_subscribe(
        self, ctx: ServerRequestContext[Any, Any], params: SubscribeRequestParams
    ) -> EmptyResult:
        """Serves `resources/subscribe`."""
        uri, connection = str(params.uri), _connection(ctx.session)
        subscribed = self._sessions.setdefault(uri, {})
        if id(connection) not in subscribed:
            if self._count >= MOST_SUBSCRIPTIONS or len(uri) > MAX_URI:
                if not subscribed:
                    del self._sessions[uri]
                raise MCPError(INVALID_REQUEST, "there are too many subscriptions, or this URI is too long")
            self._count += 1
            subscribed[id(connection)] = ctx.session
            if id(connection) not in self._connections:  # once: it may live long, and subscribe without end
                self._connections.add(id(connection))
                connection.exit_stack.callback(self._gone, id(connection))
        return EmptyResult()

    async def on_unsubscribe(
        self, ctx: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams
    ) -> EmptyResult:
        """Serves `resources/unsubscribe`; what was never subscribed to is no error."""
        self._drop(str(params.uri), id(_connection(ctx.session)))
        return EmptyResult()

    async def _tell(self, session: ServerSession, uri: str) -> None:
        try:
            with anyio.fail_after(_PATIENCE):
                await session.send_resource_updated(uri)
        except Exception:  # noqa: BLE001  # a host that is gone raises what its transport does; the others are told
            # All that it wanted: with each URI the others would wait as long again.
            self._drop_all(id(_connection(session)))

    def _gone(self, connection: int) -> None:
        self._connections.discard(connection)
        self._drop_all(connection)

    def _drop_all(self, connection: int) -> None:
        for uri in tuple(self._sessions):
            self._drop(uri, connection)

    def _drop(self, uri: str, connection: int) -> None:
        subscribed = self._sessions.get(uri, {})
        if subscribed.pop(connection, None) is not None:
            self._count -= 1
        if not subscribed:
            self._sessions.pop(uri, None)


def _connection(session: ServerSession) -> Connection:
    # The SDK makes a session object for each request; only the connection behind it stays the same, and it is private.
    return session._connection
