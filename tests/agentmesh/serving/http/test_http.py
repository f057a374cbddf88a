"""The HTTP face as clients meet it: both eras, health, names, pages, bodies."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client

pytestmark = pytest.mark.anyio

Serve = Callable[..., Any]


@pytest.mark.parametrize(("mode", "version"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
async def test_a_real_client_of_either_era_is_served_at_one_address(
    serve: Serve, mode: str, version: str
) -> None:
    async with serve() as served:
        async with Client(served.url, mode=mode) as client:
            assert client.protocol_version == version
            assert (await client.call_tool("echo", {"text": "hello"})).structured_content == {
                "result": "hello"
            }


async def test_health_is_told_to_everyone_and_says_nothing_else(
    serve: Serve, http: httpx2.AsyncClient
) -> None:
    async with serve() as served:
        answer = await http.get(f"{served.root}/health")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert answer.headers["content-type"] == "application/json"
        assert "server" not in answer.headers
        assert (await http.post(f"{served.root}/health")).status_code == 405
        assert (await http.get(f"{served.root}/")).status_code == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("LocalHost", 200),
        ("[::1]:9", 200),
        ("agents.example", 200),
        ("agents.example:8443", 200),
        ("other.example:99", 200),
        ("other.example", 421),
        ("other.example:98", 421),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost@evil.example", 421),
        ("localhost/evil", 421),
        ("localhost:99999", 421),
        ("10.0.0.1", 421),
        ("", 421),
    ],
)
async def test_only_names_that_are_known_are_answered_to(
    serve: Serve, http: httpx2.AsyncClient, host: str, status: int
) -> None:
    async with serve(hosts=("agents.example", "other.example:99")) as served:
        answer = await http.get(f"{served.root}/health", headers={"host": host.format(port=served.port)})
        assert answer.status_code == status
        request = served.call("echo", text="x")
        request.headers["host"] = host.format(port=served.port)
        assert (await http.send(request)).status_code == status


async def test_a_request_that_names_no_host_is_not_served(
    serve: Serve, answer_of: Callable[..., Any]
) -> None:
    async with serve() as served, served.connected() as stream:
        await stream.send(b"GET /health HTTP/1.0\r\n\r\n")
        assert (await answer_of(stream))[0] == 421


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:{port}", 200),
        ("https://app.example", 200),
        ("https://app.example:443", 200),
        ("http://app.example", 403),
        ("https://app.example:8443", 403),
        ("https://app.example.evil.example", 403),
        ("http://localhost:3000", 403),
        ("null", 403),
        ("", 403),
        ("file://", 403),
        ("http://[", 403),
    ],
)
async def test_only_pages_that_are_known_are_let_in(
    serve: Serve, http: httpx2.AsyncClient, origin: str, status: int
) -> None:
    async with serve(origins=("https://app.example",)) as served:
        request = served.call("echo", text="x")
        request.headers["origin"] = origin.format(port=served.port)
        answer = await http.send(request)
        assert answer.status_code == status
        shown = answer.headers.get("access-control-allow-origin")
        assert shown == (request.headers["origin"] if status == 200 else None)


async def test_a_browser_that_asks_first_is_told_what_a_page_may_send(
    serve: Serve, http: httpx2.AsyncClient
) -> None:
    asked = {
        "origin": "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, mcp-method, Mcp-Param-City, x-evil",
        "access-control-request-private-network": "true",
    }
    async with serve(origins=("https://app.example",)) as served:
        answer = await http.options(served.url, headers=asked)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert answer.headers["access-control-allow-headers"] == "authorization, mcp-method, mcp-param-city"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-private-network"] == "true"
        assert answer.headers["vary"] == "Origin"
        assert (
            await http.options(served.url, headers=asked | {"origin": "https://b.example"})
        ).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe{\x00}\x00",
        '{"jsonrpc": "2.0"}'.encode("utf-16"),
        b'{"jsonrpc": "2.0", "id": "\xed\xa0\x80", "method": "ping"}',
        rb'{"jsonrpc": "2.0", "id": "\ud800", "method": "ping"}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": NaN}}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": -Infinity}}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": [-1e999]}}',
        b'{"jsonrpc": "2.0", "id": ' + b"9" * 5_000 + b', "method": "ping"}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": [' + b"[]," * 60_000 + b"0]}",
        b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": ' + b"[" * 70 + b"]" * 70 + b"}",
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:40]),
)
@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_body_that_is_not_json_as_everyone_reads_it_is_refused(
    serve: Serve, http: httpx2.AsyncClient, body: bytes, era: str
) -> None:
    async with serve() as served:
        headers = dict(served.modern("ping").headers)
        if era == "legacy":
            del headers["mcp-protocol-version"]
        headers["content-length"] = str(len(body))
        answer = await http.post(served.url, content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32700)


async def test_what_only_looks_like_such_a_body_is_served(serve: Serve, http: httpx2.AsyncClient) -> None:
    text = "\U0001f600 \\ud800 " + "9" * 5_000 + "[" * 200_000 + " NaN"
    async with serve() as served:
        request = served.call("echo", text=text)
        escaped = json.dumps(json.loads(request.read()), ensure_ascii=True).encode()
        headers = dict(request.headers) | {"content-length": str(len(escaped))}
        answer = await http.post(served.url, content=escaped, headers=headers)
        assert answer.json()["result"]["structuredContent"] == {"result": text}


async def test_a_body_larger_than_the_limit_is_refused_and_the_connection_goes_on(
    serve: Serve, http: httpx2.AsyncClient, limits: Callable[..., Any]
) -> None:
    async def pieces() -> Any:
        for _ in range(64):
            yield b"x" * 1024

    async with serve(limits=limits(body=50_000)) as served:
        headers = {
            name: value for name, value in served.call("echo").headers.items() if name != "content-length"
        }
        for body in (b"x" * 50_001, pieces()):
            answer = await http.post(served.url, content=body, headers=headers)
            assert answer.status_code == 413
        assert (await http.send(served.call("echo", text="x" * 40_000))).status_code == 200


async def test_a_body_that_is_only_announced_too_large_is_not_waited_for(
    serve: Serve, limits: Callable[..., Any]
) -> None:
    async with serve(limits=limits(body=1_000)) as served, served.connected() as stream:
        head = f"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:{served.port}\r\ncontent-length: {10**15}\r\n\r\n"
        await stream.send(head.encode())
        with anyio.fail_after(10):
            assert (await stream.receive()).startswith(b"HTTP/1.1 413 ")


async def test_bodies_together_have_a_limit_and_give_their_room_back(
    serve: Serve, http: httpx2.AsyncClient, limits: Callable[..., Any]
) -> None:
    async with serve(limits=limits(bodies=60_000)) as served, anyio.create_task_group() as group:
        large = served.call("wait", padding="x" * 40_000)
        group.start_soon(http.send, large)
        await served.until_waiting(1)
        refused = await http.send(served.call("echo", text="x" * 40_000))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert (await http.send(served.call("echo", text="x"))).status_code == 200
        served.release.set()
        await _until(served, http, "x" * 40_000)


async def _until(served: Any, http: httpx2.AsyncClient, text: str) -> None:
    with anyio.fail_after(10):
        while (await http.send(served.call("echo", text=text))).status_code != 200:
            await anyio.lowlevel.checkpoint()
