"""Addresses as they are typed, and the sockets they become."""

from __future__ import annotations

import socket

import pytest

from agentmesh.errors import AgentMeshError
from agentmesh.serving.http.address import Address, bind, is_written_address, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port", "is_loopback"),
    [
        ("8765", "127.0.0.1", 8765, True),
        ("0", "127.0.0.1", 0, True),
        ("127.0.0.1:80", "127.0.0.1", 80, True),
        ("127.9.9.9:80", "127.9.9.9", 80, True),
        ("[::1]:8765", "::1", 8765, True),
        ("localhost:1", "localhost", 1, False),
        ("0.0.0.0:80", "0.0.0.0", 80, False),
        ("[::]:80", "::", 80, False),
        ("10.0.0.7:80", "10.0.0.7", 80, False),
        ("agents.example:80", "agents.example", 80, False),
    ],
)
def test_an_address_is_read_as_it_is_meant(text: str, host: str, port: int, is_loopback: bool) -> None:
    found = parse_address(text)
    assert (found.host, found.port, found.is_loopback) == (host, port, is_loopback)
    assert is_written_address(text)
    assert str(found).endswith(text)


@pytest.mark.parametrize(
    "text",
    ["", "x", "127.0.0.1", "::1:80", "[::1]", "http://x:80", "a b:80", "x:65536", "x:-1", "/run/x:1", ":80"],
)
def test_what_is_no_address_is_told(text: str) -> None:
    with pytest.raises(AgentMeshError, match="is not an address") as caught:
        parse_address(text)
    assert caught.value.reason == "usage"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_port_0_becomes_a_free_one_and_names_become_addresses(host: str) -> None:
    with bind(Address(host=host, port=0)).socket as made:
        assert made.proto == socket.IPPROTO_TCP  # without it no answer is sent at once
        where = made.getsockname()
        assert where[0] == ("::1" if host == "::1" else "127.0.0.1") and where[1] > 0


def test_an_address_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            AgentMeshError, match=f"cannot listen on 127.0.0.1:{port}: address already in use"
        ):
            bind(Address(port=port))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "x" * 300])
def test_an_address_that_is_not_this_machines_is_told(host: str) -> None:
    with pytest.raises(AgentMeshError, match="cannot listen on") as caught:
        bind(Address(host=host, port=0))
    assert caught.value.hint is not None
