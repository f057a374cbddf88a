"""How much one HTTP server takes on at a time, so that no client can take the memory or the time of all."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

_FILES_KEPT: Final = 192
"""Descriptors that a mesh needs beside its connections: ledger, pipes to its servers, models, connections turned away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bytes, numbers and seconds; each by default as much as a busy desk needs, times ten.

    `body` is one request's, `bodies` all that are held. `calls` are requests in work, `streams` those that only listen,
    `sessions` those of the protocol's older era, which end after `session_idle` seconds without a request. A request's
    head must be there after `head` seconds and its body after `upload`; a client that reads nothing is dropped after `stall`.
    Calls in work get `drain` seconds to end when the server stops.
    """

    body: int = 4 * 1024 * 1024
    bodies: int = 64 * 1024 * 1024
    calls: int = 256
    streams: int = 128
    sessions: int = 256
    session_idle: float = 900.0
    connections: int = 512
    head: float = 10.0
    upload: float = 30.0
    stall: float = 30.0
    drain: float = 8.0


def most_connections(wanted: int) -> int:
    """As many connections as `wanted`, or as many as this process may have files open beside its own."""
    if sys.platform == "win32":
        return wanted
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return wanted
    return max(16, min(wanted, allowed - _FILES_KEPT))
