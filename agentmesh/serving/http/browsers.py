"""Which names a server answers to, and which web pages may talk to it.

A page in somebody's browser can send requests to this machine, and through DNS rebinding under a name of its own read
the answers too. It cannot choose the `Host` and `Origin` that the browser writes: these are checked.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response

from agentmesh.errors import AgentMeshError
from agentmesh.serving.http.address import Address
from agentmesh.serving.http.refusals import refusal

_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_METHODS: Final = "GET, POST, DELETE, OPTIONS"
# What MCP clients send. Their `Mcp-Param-*` differ with each tool.
_REQUEST_HEADERS: Final = frozenset(
    {
        "accept",
        "authorization",
        "content-type",
        "last-event-id",
        "mcp-method",
        "mcp-name",
        "mcp-protocol-version",
        "mcp-session-id",
        "traceparent",
        "tracestate",
    }
)
_PARAM: Final = "mcp-param-"
_SHOWN_HEADERS: Final = "Mcp-Session-Id, WWW-Authenticate, Retry-After"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host as it stands in a `Host` header: its name in lower case, and its port where one is given."""

    name: str
    port: int | None = None


def parse_host(text: str) -> Host | None:
    """The host meant by `name`, `name:port` or `[IPv6]:port`, or None where it is none."""
    try:
        parts = urlsplit(f"//{text}")
        name, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not name or parts.netloc != text or "@" in text or any(letter.isspace() for letter in text):
        return None
    return Host(name=name.rstrip("."), port=port)


def parse_origin(text: str) -> str:
    """A web page's origin as browsers write it: scheme, host and port, in lower case and without the usual port.

    Raises: AgentMeshError
    """
    try:
        parts = urlsplit(text.rstrip("/"))
    except ValueError:
        parts = urlsplit("")
    host = parse_host(parts.netloc)
    if parts.scheme not in ("http", "https") or host is None or parts.path or parts.query or parts.fragment:
        hint = "write https://app.example, or with a :port"
        raise AgentMeshError("usage", f"{text!r} is not an origin", hint=hint)
    name = f"[{host.name}]" if ":" in host.name else host.name
    if host.port in (None, {"http": 80, "https": 443}[parts.scheme]):
        return f"{parts.scheme}://{name}"
    return f"{parts.scheme}://{name}:{host.port}"


class Visitors:
    """Who may come in from where, by the `Host` and `Origin` of a request.

    Always answered to are the address bound (a name there was not resolved by an attacker's DNS) and, where that is a
    loopback address, all of its names. A host given without a port is meant with any.
    """

    def __init__(
        self,
        bound: Address,
        *,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        named: str | None = None,
    ) -> None:
        self._any_port = set(_LOOPBACK_NAMES) if bound.is_loopback else set()
        self._exact: set[tuple[str, int]] = set()
        self._origins = frozenset(map(parse_origin, origins))
        if not bound.is_everywhere:
            self._any_port.add(bound.host)
            if named is not None:
                self._any_port.add(named.lower())
        for text in hosts:
            host = parse_host(text)
            if host is None:
                raise AgentMeshError(
                    "usage", f"{text!r} is not a host", hint="write agents.example, or with a :port"
                )
            if host.port is None:
                self._any_port.add(host.name)
            else:
                self._exact.add((host.name, host.port))

    def refused(self, headers: Headers, local: tuple[str, int] | None) -> Response | None:
        """The answer to a request that must not be served, or None. `local` is our end of its connection."""
        host = parse_host(headers.get("host", ""))
        if host is None or not self._answers_to(host, local):
            return refusal(421, "this server does not answer to that host", shut=True)
        origin = headers.get("origin")
        if origin is not None and not self._lets_in(origin, headers["host"]):
            return refusal(403, "pages of that origin may not use this server", shut=True)
        return None

    def preflight(self, headers: Headers) -> Response:
        """The answer to a browser that asks what a page may send. `refused` has let the page in."""
        wanted = [
            name.strip().lower() for name in headers.get("access-control-request-headers", "").split(",")
        ]
        allowed = [name for name in wanted if name in _REQUEST_HEADERS or name.startswith(_PARAM)]
        answer = {
            "access-control-allow-methods": _METHODS,
            "access-control-allow-headers": ", ".join(allowed),
            "access-control-max-age": "600",
        }
        if headers.get("access-control-request-private-network") == "true":
            # Asked by pages of the wide web that want to reach into a home network.
            answer["access-control-allow-private-network"] = "true"
        return Response(status_code=204, headers=answer)

    def shared(self, origin: str) -> list[tuple[bytes, bytes]]:
        """The headers with which a browser shows an answer to the page that asked for it."""
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", _SHOWN_HEADERS.encode()),
            (b"vary", b"Origin"),
        ]

    def _answers_to(self, host: Host, local: tuple[str, int] | None) -> bool:
        if host.name in self._any_port or (host.name, host.port) in self._exact:
            return True
        # Of all addresses bound, the one that the connection came to: no rebinding, which needs a name.
        return local is not None and _same_address(host.name, local[0])

    def _lets_in(self, origin: str, host: str) -> bool:
        try:
            written = parse_origin(origin)
        except AgentMeshError:
            return False  # `null`, or no origin at all
        # A page that this very address served: nothing here does, but a proxy before it may.
        return written in self._origins or origin in (f"http://{host}", f"https://{host}")


def _same_address(name: str, other: str) -> bool:
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(other)
    except ValueError:
        return False
