"""The connections of an HTTP server: how many there are, and how long one may keep it waiting.

uvicorn has no limit for a client that sends half a request, or that reads nothing of what it asked for: ten thousand of
them would take all descriptors. Here the one that has waited longest without a request makes room for a new one.
"""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar, Final, Literal, TypeAlias

import anyio
import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from agentmesh.serving.http.limits import HttpLimits
from agentmesh.serving.http.refusals import RETRY_SECONDS

Phase: TypeAlias = Literal["head", "body", "work", "idle"]

_SWEEP_SECONDS: Final = 0.5
_MOST_TURNED_AWAY: Final = 64
_LINGER_SECONDS: Final = 1.0
_FULL: Final = (
    f"HTTP/1.1 503 Service Unavailable\r\nretry-after: {RETRY_SECONDS}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
).encode()
_LATE: Final = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Room:
    """Where a server's connections are. Those without a request in work are kept in the order since when."""

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._waiting: dict[Connection, None] = {}
        self._working: set[Connection] = set()
        self._leaving: dict[Connection, float] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._working)

    def let_in(self, connection: Connection) -> bool:
        """Take a connection in. False where the room is full of work."""
        if len(self) >= self._limits.connections:
            longest = next(iter(self._waiting), None)
            if longest is None:
                return False
            self.forget(longest)
            longest.transport.abort()
        self._waiting[connection] = None
        return True

    def turn_away(self, connection: Connection) -> None:
        """Answer that there is no room. What the client still sends is read and dropped: closing a socket with
        unread bytes in it resets the connection, and the client would not read the answer either."""
        connection.transport.write(_FULL)
        if len(self._leaving) >= _MOST_TURNED_AWAY:
            connection.transport.abort()
            return
        connection.transport.write_eof()
        self._leaving[connection] = time.monotonic() + _LINGER_SECONDS

    def moved(self, connection: Connection, phase: Phase) -> None:
        """A connection's phase is another now."""
        if connection not in self._waiting and connection not in self._working:
            return  # it was put out, and is closing
        self.forget(connection)
        if phase == "work":
            self._working.add(connection)
        else:
            self._waiting[connection] = None

    def forget(self, connection: Connection) -> None:
        """It has gone."""
        self._waiting.pop(connection, None)
        self._working.discard(connection)
        self._leaving.pop(connection, None)

    async def keep(self) -> None:
        """End, for ever, what has waited too long."""
        while True:
            await anyio.sleep(_SWEEP_SECONDS)
            now = time.monotonic()
            for connection in [*self._waiting, *self._working]:
                connection.end_if_overdue(now, self._limits)
            for connection, until in list(self._leaving.items()):
                if now > until:
                    connection.transport.abort()

    def clear(self) -> None:
        """Drop everyone."""
        for connection in [*self._waiting, *self._working, *self._leaving]:
            connection.transport.abort()


class Connection(H11Protocol):
    """One client's connection: uvicorn's, which counts and watches the time."""

    room: ClassVar[Room]

    _phase: Phase = "head"
    _cycle: object = None
    _since = 0.0
    _unsent = 0
    _unsent_since = 0.0
    _turned_away = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        if not self.room.let_in(self):
            self._turned_away = True
            self.transport = transport
            self.room.turn_away(self)
            return
        self._since = time.monotonic()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._turned_away:
            return
        super().data_received(data)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self.room.forget(self)
        if not self._turned_away:
            super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def end_if_overdue(self, now: float, limits: HttpLimits) -> None:
        """End a connection whose client keeps it waiting longer than is allowed."""
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent < self._unsent:
            self._unsent_since = now
        self._unsent = unsent
        if unsent and now - self._unsent_since > limits.stall:
            self.transport.abort()
            return
        allowed = {"head": limits.head, "body": limits.upload}.get(self._phase)
        if allowed is None or now - self._since <= allowed or self.transport.is_closing():
            return
        answered = self.cycle is not None and self.cycle.response_started
        if not (answered and self._phase == "body"):
            self.transport.write(_LATE)
        self.transport.close()

    def _look(self) -> None:
        phase = self._phase_now()
        if (phase, self.cycle) != (self._phase, self._cycle):
            self._phase, self._cycle, self._since = phase, self.cycle, time.monotonic()
            self.room.moved(self, phase)

    def _phase_now(self) -> Phase:
        if self.conn.their_state is h11.SEND_BODY:
            return "body"
        if self.cycle is not None and not self.cycle.response_complete:
            return "work"
        if self.cycle is None or self.conn.trailing_data[0]:
            return "head"
        return "idle"


def connections_of(room: Room) -> type[Connection]:
    """The class of the connections in this room, as uvicorn wants it: it makes them itself."""
    return type("RoomConnection", (Connection,), {"room": room})
