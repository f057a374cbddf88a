"""The adapter by which requests reads an answer up to one deadline, its head like its body.

A timeout of requests is one for each piece that comes: a head that drips holds whoever reads it for as long as it likes.
"""

from __future__ import annotations

import http.client
import io
import socket
from typing import TYPE_CHECKING

from requests.adapters import HTTPAdapter

from agentmesh_ledger.web import TimedReader

if TYPE_CHECKING:
    from requests import PreparedRequest
    from urllib3.connectionpool import HTTPConnectionPool


class TimedAdapter(HTTPAdapter):
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
        if getattr(kind, "response_class", None) is not _TimedResponse:
            pool.ConnectionCls = type(kind.__name__, (kind,), {"response_class": _TimedResponse})
        return pool


class _TimedResponse(http.client.HTTPResponse):
    """A response whose time began when its reading did; it is as long as the socket's own timeout is then."""

    def __init__(self, sock: socket.socket, debuglevel: int = 0, method: str | None = None) -> None:
        super().__init__(sock, debuglevel, method)
        seconds = sock.gettimeout()
        if seconds is not None:
            self.fp.close()
            self.fp = io.BufferedReader(TimedReader(sock, seconds))
