"""The calling side: a transport that signs what goes out and verifies what comes back."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, TypeAlias

import anyio
from anyio.streams.memory import MemoryObjectSendStream
from mcp.client import Transport
from mcp.shared._context_streams import ContextReceiveStream
from mcp.shared._stream_protocols import ReadStream, WriteStream
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from agentmesh.serving.signing.calls import Calls, Settled
from agentmesh.serving.signing.failures import SigningError
from agentmesh.serving.signing.identity import Signing
from agentmesh.serving.signing.record import durable

_Item: TypeAlias = tuple[contextvars.Context | None, SessionMessage | Exception]


@asynccontextmanager
async def signed_transport(
    transport: Transport, signing: Signing, *, peer: str, audience: str | None = None
) -> AsyncIterator[tuple[ReadStream[SessionMessage | Exception], WriteStream[SessionMessage]]]:
    """The transport, for one `Client`: each request leaves with a statement, each result is let in only with its own.

    `peer` is our name for the server, under which its key is pinned; `audience` its did:key or a name that it answers
    to, where that is known beforehand. What is refused reaches the caller as an MCPError with a reason (`reason_of`).
    """
    calls = Calls(signing, peer=peer, audience=audience)
    async with transport as (reads, writes):
        send, receive = anyio.create_memory_object_stream[_Item](16)
        async with anyio.create_task_group() as group:
            group.start_soon(_pump, reads, send, calls)
            try:
                # A transport that tells no context has None there, which the SDK takes too.
                yield ContextReceiveStream(receive), _Signed(writes, calls)  # type: ignore[arg-type]
            finally:
                group.cancel_scope.cancel()
                receive.close()
                calls.close()


async def _pump(
    reads: ReadStream[SessionMessage | Exception], send: MemoryObjectSendStream[_Item], calls: Calls
) -> None:
    """Hands on what comes in. Whoever waits for the ledger does so apart: other calls go on meanwhile."""
    async with send, anyio.create_task_group() as waiting:
        try:
            async for item in reads:
                context = getattr(reads, "last_context", None)
                settled = _settle(item, calls)
                if settled is None:
                    continue
                if settled.written:
                    waiting.start_soon(_let_in, settled, context, send)
                else:
                    await send.send((context, settled.item))
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            pass  # one of the two ends is gone, and so is the connection
        finally:
            with anyio.CancelScope(shield=True):
                await reads.aclose()


def _settle(item: SessionMessage | Exception, calls: Calls) -> Settled | None:
    if isinstance(item, SessionMessage) and isinstance(item.message, JSONRPCResponse | JSONRPCError):
        return calls.settle(item, item.message)
    return Settled(item=item)


async def _let_in(
    settled: Settled, context: contextvars.Context | None, send: MemoryObjectSendStream[_Item]
) -> None:
    """Hands on an answer once both statements are durable."""
    item = settled.item
    try:
        await durable(*settled.written)
    except SigningError as error:
        item = settled.refused(error)
    try:
        await send.send((context, item))
    except (anyio.ClosedResourceError, anyio.BrokenResourceError):
        pass  # nobody listens any more; the record stands


class _Signed:
    """A write stream that signs requests."""

    def __init__(self, inner: WriteStream[SessionMessage], calls: Calls) -> None:
        self._inner = inner
        self._calls = calls

    async def send(self, item: SessionMessage, /) -> None:
        message = item.message
        if isinstance(message, JSONRPCNotification):
            await self._inner.send(item)
            self._calls.note(message)
            return
        if not isinstance(message, JSONRPCRequest):
            return await self._inner.send(item)
        try:
            signed = self._calls.sign(message)
        except SigningError as error:
            # Raised through the SDK's own call: its caller is the one who asked.
            raise error.to_mcp() from error
        try:
            await self._inner.send(SessionMessage(message=signed, metadata=item.metadata))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._calls.unsent(message.id)
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, trace)
