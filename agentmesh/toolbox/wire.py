"""Watching a connection from below the SDK, which does not say when a server went away or wrote nonsense."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self, TypeAlias

import anyio
from mcp.client import Transport
from mcp.shared._stream_protocols import ReadStream, WriteStream
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCNotification
from pydantic import ValidationError

from agentmesh.toolbox.results import one_line

_SHOWN: Final = 80
_TOOLS_CHANGED: Final = "notifications/tools/list_changed"


class Watch:
    """What was seen on one connection.

    `ended` is set once the server's side is closed; `nonsense` is the first line that was no JSON-RPC message, or
    empty. `status` is that of the last answer over HTTP where it
    was an error, else 0. `stale` is set when the server says that its tools changed; whoever lists them again takes it back.
    """

    def __init__(self) -> None:
        self.ended = anyio.Event()
        self.nonsense = ""
        self.status = 0
        self.stale = False

    def see(self, item: SessionMessage | Exception) -> None:
        """Take note of one thing that came in."""
        if isinstance(item, ValidationError) and not self.nonsense:
            self.nonsense = one_line(str(item.errors()[0]["input"]), limit=_SHOWN)
        if isinstance(item, SessionMessage) and isinstance(item.message, JSONRPCNotification):
            self.stale = self.stale or item.message.method == _TOOLS_CHANGED


Streams: TypeAlias = tuple[ReadStream[SessionMessage | Exception], WriteStream[SessionMessage]]
"""What a transport gives: messages in, messages out."""


@asynccontextmanager
async def watched(transport: Transport, watch: Watch) -> AsyncIterator[Streams]:
    """The transport, with the watch told of everything that comes in over it."""
    async with transport as (reads, writes):
        yield _Watched(reads, watch), writes


class _Watched:
    """A read stream that tells its watch what passes."""

    def __init__(self, inner: ReadStream[SessionMessage | Exception], watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    @property
    def last_context(self) -> object:
        """What the SDK reads off its own streams: the context in which the last item was sent."""
        return getattr(self._inner, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        item = await self._inner.receive()
        self._watch.see(item)
        return item

    async def aclose(self) -> None:
        await self._inner.aclose()

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            item = await self._inner.__anext__()
        except (StopAsyncIteration, anyio.ClosedResourceError):
            self._watch.ended.set()
            raise
        self._watch.see(item)
        return item

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, trace)
