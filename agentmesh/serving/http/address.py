"""Where an HTTP server listens: an address as one types it, and the socket bound to it."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Final

from agentmesh.errors import AgentMeshError

LOOPBACK: Final = "127.0.0.1"
PORT: Final = 8765
_BACKLOG: Final = 512
_WRITTEN: Final = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\[\]:/\s]+):)?(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A host (a name or an IP address, without brackets) and a port; port 0 is any free one."""

    host: str = LOOPBACK
    port: int = PORT

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine reach it. False for a name: a name may mean anything."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_everywhere(self) -> bool:
        """Whether it is every address that this machine has."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    def __str__(self) -> str:
        """As it stands in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_written_address(text: str) -> bool:
    """Whether a word on a command line is an address rather than something else, such as a path."""
    return _WRITTEN.fullmatch(text) is not None


def parse_address(text: str) -> Address:
    """The address meant by `PORT`, `HOST:PORT` or `[IPv6]:PORT`.

    Raises: AgentMeshError
    """
    found = _WRITTEN.fullmatch(text)
    if found is None or int(found["port"]) > 65_535:
        raise AgentMeshError(
            "usage",
            f"{text!r} is not an address",
            hint="write PORT, HOST:PORT or [::1]:PORT; port 0 is a free one",
        )
    host = (found["host"] or LOOPBACK).strip("[]")
    return Address(host=host, port=int(found["port"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A socket that holds an address, which is its real one: an IP address, and a port that is not 0.

    It does not listen yet: until a server does, whoever connects is refused.
    """

    socket: socket.socket
    address: Address


def bind(address: Address) -> Bound:
    """Take the address. The caller closes the socket.

    Raises: AgentMeshError where it is taken, not this machine's, or not allowed.
    """
    try:
        family, host = _resolved(address)
        # asyncio sends small answers at once (TCP_NODELAY) only where it is said that this is TCP; else each waits 40 ms.
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:
        raise _not_bound(address, error) from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # [::] means IPv6: whoever wants both says so, and knows then that both are open.
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, address.port))
        made.setblocking(False)
        where = made.getsockname()
    except OSError as error:
        made.close()
        raise _not_bound(address, error) from error
    return Bound(socket=made, address=Address(host=where[0], port=where[1]))


def _resolved(address: Address) -> tuple[socket.AddressFamily, str]:
    """The IP address meant, that of IPv4 first: `localhost` is 127.0.0.1 then, as every client tries."""
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )
    family, _, _, _, where = sorted(found, key=lambda each: each[0] != socket.AF_INET)[0]
    return family, str(where[0])


def _not_bound(address: Address, error: OSError | UnicodeError) -> AgentMeshError:
    told = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return AgentMeshError(
        "usage",
        f"cannot listen on {address}: {told[:1].lower()}{told[1:]}",
        hint="choose another with --http HOST:PORT; port 0 is a free one",
    )
