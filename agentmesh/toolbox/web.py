"""The HTTP under a connection: what the SDK leaves unbounded is bounded, and what it makes one error of is told apart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx2
from mcp.client.streamable_http import streamable_http_client

from agentmesh.toolbox.wire import Streams, Watch

_LARGEST_EVENT: Final = 1024 * 1024
# As the SDK's own client: an answer may be silent for long, a stream of changes is.
_TIMEOUT: Final = httpx2.Timeout(30.0, read=300.0)


@asynccontextmanager
async def over_http(
    url: str, *, token: str | None = None, largest: int = _LARGEST_EVENT, watch: Watch | None = None
) -> AsyncIterator[Streams]:
    """A transport over streamable HTTP. `token` goes with every request; an answer may have `largest` bytes.

    The `watch` is told of the status of an answer that is an error.
    """

    async def look(response: httpx2.Response) -> None:
        if watch is not None and response.request.method == "POST":
            watch.status = response.status_code if response.status_code >= 400 else 0
        # We ask for none: a small body that unpacks to a large one would pass every bound.
        response.headers.pop("content-encoding", None)
        is_stream = response.headers.get("content-type", "").lower().startswith("text/event-stream")
        if not is_stream and isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _Bounded(response.stream, largest)

    headers = {"Accept-Encoding": "identity"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    # The client is ours to close: the SDK closes only what it made.
    async with httpx2.AsyncClient(
        headers=headers, timeout=_TIMEOUT, event_hooks={"response": [look]}
    ) as http:
        async with streamable_http_client(url, http_client=http, max_sse_event_size=largest) as streams:
            yield streams


class _Bounded(httpx2.AsyncByteStream):
    """The body of an answer that is no stream of events, of which the SDK bounds each: it reads this one whole."""

    def __init__(self, inner: httpx2.AsyncByteStream, largest: int) -> None:
        self._inner = inner
        self._largest = largest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for data in self._inner:
            size += len(data)
            if size > self._largest:
                raise httpx2.StreamError(f"it is longer than {self._largest:,} bytes")
            yield data

    async def aclose(self) -> None:
        await self._inner.aclose()
