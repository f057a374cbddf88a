"""What one server takes on at a time, whom it no longer waits for, and how it ends."""

from __future__ import annotations

import resource
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import httpx2
import pytest
from anyio.abc import SocketStream
from mcp import Client, MCPError

from agentmesh.serving.http.limits import most_connections

pytestmark = pytest.mark.anyio

Serve = Callable[..., Any]
Limits = Callable[..., Any]
HALF = b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\n"


async def _good(served: Any, http: httpx2.AsyncClient) -> None:
    answer = await http.send(served.call("echo", text="good"))
    assert answer.json()["result"]["structuredContent"] == {"result": "good"}


async def _gone(stream: SocketStream) -> bytes:
    """What a connection says until it is closed."""
    data = b""
    try:
        while True:
            data += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return data


async def test_more_requests_than_the_limit_are_told_to_come_again(
    serve: Serve, http: httpx2.AsyncClient, limits: Limits
) -> None:
    async with serve(limits=limits(calls=2)) as served, anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(http.send, served.call("wait"))
        await served.until_waiting(2)
        refused = await http.send(served.call("echo", text="x"))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"]["message"] == "too many requests at one time"
        # Whoever watches the server must still be told.
        assert (await http.get(f"{served.root}/health")).status_code == 200
        served.release.set()
    async with serve(limits=limits(calls=2)) as served:
        for _ in range(5):
            await _good(served, http)


async def test_streams_that_only_listen_have_a_limit_of_their_own(
    serve: Serve, http: httpx2.AsyncClient, limits: Limits
) -> None:
    async with serve(limits=limits(calls=1, streams=2)) as served:
        listen = served.modern("subscriptions/listen", notifications={"toolsListChanged": True})
        async with AsyncExitStack() as stack:
            for _ in range(2):
                opened = await http.send(listen, stream=True)
                stack.push_async_callback(opened.aclose)
                assert opened.status_code == 200
            refused = await http.send(listen)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            await _good(served, http)


async def test_sessions_of_the_older_era_have_a_limit_and_end_when_they_are_idle(
    serve: Serve, http: httpx2.AsyncClient, limits: Limits
) -> None:
    async with serve(limits=limits(sessions=1, session_idle=0.5)) as served:
        async with Client(served.url, mode="legacy") as client:
            await client.call_tool("echo", {"text": "x"})
            answer = await http.send(_initialize(served))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        with anyio.fail_after(10):
            while (answer := await http.send(_initialize(served))).status_code != 200:
                await anyio.lowlevel.checkpoint()
        session = answer.headers["mcp-session-id"]
        with anyio.fail_after(10):
            while (await http.delete(served.url, headers={"mcp-session-id": session})).status_code != 404:
                await anyio.lowlevel.checkpoint()


def _initialize(served: Any) -> httpx2.Request:
    params = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    headers = {"accept": "application/json, text/event-stream"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    return httpx2.Request("POST", served.url, json=body, headers=headers)


@pytest.mark.parametrize(
    "half",
    [
        b"",
        HALF,
        b"G",
        HALF + b"content-length: 5\r\n\r\n{",
        HALF + b"transfer-encoding: chunked\r\n\r\n5\r\n{",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\nGET ",
    ],
)
async def test_half_a_request_is_not_waited_for(serve: Serve, limits: Limits, half: bytes) -> None:
    async with serve(limits=limits(head=0.2, upload=0.2)) as served, served.connected() as stream:
        await stream.send(half) if half else None
        with anyio.fail_after(10):
            assert b"HTTP/1.1 408 " in await _gone(stream)


async def test_a_request_that_comes_letter_by_letter_is_not_waited_for(serve: Serve, limits: Limits) -> None:
    async def drip(stream: SocketStream) -> None:
        try:
            while True:
                await stream.send(b"x")
                await anyio.sleep(0.02)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # it was closed: that is what is waited for

    async with serve(limits=limits(head=0.3, upload=0.3)) as served:
        for begin in (b"GET /", HALF + b"content-length: 100000\r\n\r\n"):
            async with served.connected() as stream, anyio.create_task_group() as group:
                await stream.send(begin)
                group.start_soon(drip, stream)
                with anyio.fail_after(10):
                    assert b"HTTP/1.1 408 " in await _gone(stream)
                group.cancel_scope.cancel()


async def test_an_upload_goes_no_further_after_its_answer(serve: Serve, limits: Limits) -> None:
    async with serve(limits=limits(body=1_000, upload=0.5)) as served, served.connected() as stream:
        await stream.send(HALF + b"content-length: 100000000\r\n\r\n")
        with anyio.fail_after(10):
            assert (await _gone(stream)).startswith(b"HTTP/1.1 413 ")


async def test_whoever_has_sent_no_request_for_longest_makes_room(
    serve: Serve, http: httpx2.AsyncClient, limits: Limits
) -> None:
    async with serve(limits=limits(connections=4)) as served, AsyncExitStack() as stack:
        half = [await stack.enter_async_context(served.connected()) for _ in range(4)]
        for stream in half:
            await stream.send(HALF)
        await _good(served, http)
        with anyio.fail_after(10):
            assert await _gone(half[0]) == b""


@pytest.mark.parametrize(
    ("files", "most"), [(1_024, 512), (256, 64), (50, 16), (resource.RLIM_INFINITY, 512)]
)
def test_there_are_no_more_connections_than_files_may_be_open(
    files: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (files, files))
    assert most_connections(512) == most


async def test_a_server_full_of_work_turns_connections_away(
    serve: Serve, http: httpx2.AsyncClient, limits: Limits
) -> None:
    async with serve(limits=limits(connections=2)) as served, anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(http.send, served.call("wait"))
        await served.until_waiting(2)
        async with served.connected() as stream:
            await stream.send(served.raw(served.call("echo", text="x")))
            answer = await _gone(stream)
        assert answer.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in answer
        served.release.set()
    async with serve(limits=limits(connections=2)) as served:
        await _good(served, http)


async def test_whoever_reads_nothing_of_a_stream_is_dropped_and_its_call_cancelled(
    serve: Serve, http: httpx2.AsyncClient, limits: Limits
) -> None:
    async with serve(limits=limits(stall=0.5)) as served, served.connected() as stream:
        request = served.modern("tools/call", "chatter", name="chatter")
        body = request.read().replace(b'"_meta": {', b'"_meta": {"progressToken": 1, ')
        body = body.replace(b'"_meta":{', b'"_meta":{"progressToken":1,')
        request = httpx2.Request(
            "POST",
            served.url,
            content=body,
            headers=dict(request.headers) | {"content-length": str(len(body))},
        )
        await stream.send(served.raw(request))
        await served.until_waiting(1)
        with anyio.fail_after(20):
            while not served.cancelled:
                served.came = anyio.Event()
                await served.came.wait()
        await _good(served, http)


async def test_a_call_in_work_ends_in_its_own_time_when_the_server_stops(
    serve: Serve, http: httpx2.AsyncClient
) -> None:
    answers: list[httpx2.Response] = []

    async def call(served: Any) -> None:
        answers.append(await http.send(served.call("wait")))

    async with serve() as served, anyio.create_task_group() as group:
        group.start_soon(call, served)
        await served.until_waiting(1)
        async with served.connected() as kept:
            await kept.send(served.raw(served.call("echo", text="x")))
            assert (await kept.receive()).startswith(b"HTTP/1.1 200 ")
            served.stop.set()
            with anyio.fail_after(10):
                await _gone(kept)
        with anyio.fail_after(10):
            while True:
                try:
                    async with served.connected():
                        await anyio.lowlevel.checkpoint()
                except OSError:
                    break
        assert not served.over.is_set() and answers == []
        served.release.set()
        await served.over.wait()
    assert answers[0].json()["result"]["structuredContent"] == {"result": "released"}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_call_that_does_not_end_is_cancelled_when_the_server_stops(
    serve: Serve, limits: Limits, mode: str
) -> None:
    async with serve(limits=limits(drain=0.3)) as served:
        with pytest.raises((MCPError, ExceptionGroup)):
            async with Client(served.url, mode=mode) as client, anyio.create_task_group() as group:
                group.start_soon(client.call_tool, "wait", {})
                await served.until_waiting(1)
                served.stop.set()
        with anyio.fail_after(10):
            await served.over.wait()
        assert (served.waiting, served.cancelled) == (0, 1)


async def test_what_does_not_end_is_answered_with_503(
    serve: Serve, http: httpx2.AsyncClient, limits: Limits
) -> None:
    answers: list[httpx2.Response] = []

    async def call(served: Any) -> None:
        answers.append(await http.send(served.call("wait")))

    async with serve(limits=limits(drain=0.3)) as served, anyio.create_task_group() as group:
        group.start_soon(call, served)
        await served.until_waiting(1)
        served.stop.set()
    assert (answers[0].status_code, answers[0].headers["retry-after"]) == (503, "1")


async def test_a_stream_that_only_listens_keeps_no_server_from_stopping(
    serve: Serve, http: httpx2.AsyncClient
) -> None:
    async with serve() as served:
        listen = served.modern("subscriptions/listen", notifications={"toolsListChanged": True})
        opened = await http.send(listen, stream=True)
        async with Client(served.url, mode="legacy") as client:
            await client.call_tool("echo", {"text": "x"})
            served.stop.set()
            with anyio.fail_after(5):
                await served.over.wait()
        assert b"acknowledged" in await opened.aread()


async def test_a_server_that_is_cancelled_lets_go_of_everyone(serve: Serve) -> None:
    async with AsyncExitStack() as stack:
        async with serve() as served:
            stream = await stack.enter_async_context(served.connected())
            await stream.send(served.raw(served.call("wait")))
            await served.until_waiting(1)
        with anyio.fail_after(10):
            await _gone(stream)
        assert (served.waiting, served.cancelled) == (0, 1)
        with pytest.raises(OSError):
            await stack.enter_async_context(served.connected())
