"""Answers over HTTP that are read up to one moment, their heads like their bodies.

A timeout of requests is one for each piece that comes: a head that drips holds whoever reads it for as long as it likes.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import TYPE_CHECKING, Final

from requests.adapters import HTTPAdapter

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from requests import PreparedRequest
    from urllib3.connectionpool import HTTPConnectionPool

_SOON: Final = 0.001  # seconds; 0 would make the socket one that never waits


class PromptAdapter(HTTPAdapter):
    """As that of requests; the timeout for an answer is one for the whole of it."""

    def get_connection_with_tls_context(
        self,
        request: PreparedRequest,
        verify: bool | str,
        proxies: dict[str, str] | None = None,
        cert: tuple[str, str] | str | None = None,
    ) -> HTTPConnectionPool:
        """The connections to a server, or to the proxy before it."""
        pool = super().get_connection_with_tls_context(request, verify, proxies=proxies, cert=cert)
        kind = pool.ConnectionCls
        if getattr(kind, "response_class", None) is not _Prompt:
            pool.ConnectionCls = type(kind.__name__, (kind,), {"response_class": _Prompt})
        return pool


class _Prompt(http.client.HTTPResponse):
    """A response whose time began when its reading did; it is as long as the socket's own timeout is then."""

    def __init__(self, sock: socket.socket, debuglevel: int = 0, method: str | None = None) -> None:
        super().__init__(sock, debuglevel, method)
        seconds = sock.gettimeout()
        if seconds is not None:
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_Until(sock, raw, time.monotonic() + seconds))


class _Until(io.RawIOBase):
    """What a socket gives up to a moment."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, deadline: float) -> None:
        self._sock = sock
        self._raw = raw
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        self._sock.settimeout(max(left, _SOON))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
