"""A client's connection to a witness: uvicorn's, with bounds on what it may send and how long it may take.

uvicorn alone waits for ever for a client that sends half a request or reads no answer, and keeps heads of any length.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from agentmesh_ledger.witness.request import MAX_BODY

MAX_CONNECTIONS: Final = 256
MAX_HEAD: Final = 16 * 1024
MAX_REQUEST: Final = (
    8 * MAX_BODY
)  # of head, chunks and trailers; a body in chunks of one byte takes six times its length
MAX_PIPELINED: Final = 16
REQUEST_SECONDS: Final = 10.0
"""From the first byte of a request, or from connecting, to the last byte of the answer taken."""


class _Joined(asyncio.Transport):
    """A transport that sends head and body of an answer at once, at the end of what runs now: each send costs a fifth of a verification."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._pieces: list[bytes | bytearray | memoryview] = []
        self._loop = asyncio.get_running_loop()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._transport.get_extra_info(name, default)

    def _flush(self) -> None:
        if self._pieces:
            self._transport.write(b"".join(self._pieces))
            self._pieces.clear()


class Connection(HttpToolsProtocol):
    """One client's connection."""

    deadline: float | None = None
    since = 0.0
    _in_head = True
    _taken = 0
    _ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Lets the client in; where there is no room, the one that has waited longest without a request goes."""
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(_Joined(transport))
        self.since = time.monotonic()
        self.deadline = self.since + REQUEST_SECONDS
        # Those that are leaving are counted no more: several clients may arrive before the first has left.
        here = [each for each in self.connections if isinstance(each, Connection) and not each.is_leaving]
        if len(here) > MAX_CONNECTIONS:
            idle = [each for each in here if each.is_idle and each is not self]
            min(idle, key=lambda each: each.since, default=self).transport.abort()

    @property
    def is_leaving(self) -> bool:
        """Whether the connection is being closed."""
        return self.transport.is_closing()

    @property
    def is_idle(self) -> bool:
        """Whether no request of this client is in work."""
        return self.cycle is None or self.cycle.response_complete

    def shutdown(self) -> None:
        """Ends the connection, at once where the client is still sending, else with the answers in work."""
        if not self.is_idle and self.cycle.more_body:
            self.transport.abort()
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Reads on, as long as a request and its head keep within their bounds."""
        if self.deadline is None:  # the first bytes after an answer, be they only white space
            self.deadline = time.monotonic() + REQUEST_SECONDS
        self._ended = False
        super().data_received(data)
        if self._ended:
            return  # what stands behind the end of a body is short
        self._taken += len(data)
        if self._taken > (MAX_HEAD if self._in_head else MAX_REQUEST) and not self.is_leaving:
            if self._in_head or not self.is_idle:
                self.send_400_response("The request is too long.")
            else:  # it was answered before it ended, and a second answer would be another request's
                self.transport.abort()

    def on_message_begin(self) -> None:
        """A request begins. Many short ones in one piece would take a hundred times its memory."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise OverflowError  # which the parser tells uvicorn as a bad request
        self._in_head, self._taken = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One line of a head. Those behind the last chunk of a body would be kept, without end, for nobody."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there. One that arrived in a single piece has not been counted yet."""
        self._in_head = False
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD:
            raise OverflowError  # as above
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What follows is the head of another request."""
        super().on_message_complete()
        self._in_head, self._taken, self._ended = True, 0, True

    def on_response_complete(self) -> None:
        """From here on the client may be idle, as long as uvicorn keeps the connection."""
        self.since = time.monotonic()
        self.deadline = self.since + REQUEST_SECONDS if self.pipeline else None
        super().on_response_complete()


def sweep(connections: Collection[object]) -> None:
    """Drops every connection whose client has taken too long."""
    now = time.monotonic()
    for each in [each for each in connections if isinstance(each, Connection)]:
        if each.deadline is None and each.is_leaving:
            each.deadline = now + REQUEST_SECONDS  # what it does not read would keep it for ever
        elif each.deadline is not None and each.deadline < now:
            each.transport.abort()
