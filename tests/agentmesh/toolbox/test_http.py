"""Servers over streamable HTTP: a real uvicorn on the loopback interface, at a port of its own choosing."""

from __future__ import annotations

import socket
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
import uvicorn
from mcp.server import MCPServer
from mcp.types import ToolAnnotations
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from agentmesh.errors import ToolboxError
from agentmesh.toolbox import open_servers
from agentmesh_servers.face import logging_left_alone

pytestmark = pytest.mark.anyio

Make = Callable[..., object]


def _app() -> Starlette:
    with logging_left_alone():
        server = MCPServer("over-http", version="3")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    async def echo(text: str) -> str:
        return text

    @server.tool()
    async def wait() -> str:
        await anyio.sleep_forever()
        return ""

    return server.streamable_http_app()


@contextmanager
def _serving(app: object, port: int = 0) -> Iterator[int]:
    """The application behind a real HTTP server, in a thread; gives its port."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    config = uvicorn.Config(app, log_level="critical", lifespan="on", timeout_graceful_shutdown=1)  # type: ignore[arg-type]  # an ASGI application
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listening.close()
        assert not thread.is_alive()


async def test_a_server_over_http_is_called(source: Make, tmp_path: Path) -> None:
    with _serving(_app()) as port:
        there = source(url=f"http://127.0.0.1:{port}/mcp")
        with anyio.fail_after(30):
            async with open_servers({"web": there}, base=tmp_path) as servers:
                assert servers["web"].identity.name == "over-http"
                result = await servers["web"].call("echo", {"text": "hello"})
                assert (result.text, result.is_error) == ("hello", False)


async def test_a_call_over_http_ends_at_its_timeout(source: Make, tmp_path: Path) -> None:
    with _serving(_app()) as port:
        there = source(url=f"http://127.0.0.1:{port}/mcp", timeout=0.5)
        with anyio.fail_after(30):
            async with open_servers({"web": there}, base=tmp_path) as servers:
                result = await servers["web"].call("wait", {})
                assert result.is_error and "did not answer within 0.5 seconds" in result.text
                assert (await servers["web"].call("echo", {"text": "x"}, timeout=10)).text == "x"


async def test_a_server_that_went_away_is_told_and_found_again_when_it_is_back(
    source: Make, tmp_path: Path
) -> None:
    with anyio.fail_after(60):
        with _serving(_app()) as port:
            there = source(url=f"http://127.0.0.1:{port}/mcp")
            sessions = open_servers({"web": there}, base=tmp_path)
            servers = await sessions.__aenter__()
            assert (await servers["web"].call("echo", {"text": "x"})).text == "x"
        result = await servers["web"].call("echo", {"text": "x"})
        assert result.is_error and "server web is gone" in result.text, result.text
        with _serving(_app(), port):
            assert (await servers["web"].call("echo", {"text": "back"})).text == "back"
        await sessions.__aexit__(None, None, None)


async def test_an_address_where_nothing_answers_is_told(source: Make, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        there = source(url=f"http://127.0.0.1:{closed.getsockname()[1]}/mcp")
        with anyio.fail_after(30), pytest.raises(ToolboxError, match="nothing answers at its address"):
            async with open_servers({"web": there}, base=tmp_path):
                pytest.fail("it should not have started")


@pytest.mark.parametrize("status", [200, 401, 404, 500])
async def test_an_address_that_speaks_no_mcp_is_told(source: Make, tmp_path: Path, status: int) -> None:
    def page(request: object) -> PlainTextResponse:
        return PlainTextResponse("<html>welcome</html>", status_code=status)

    app = Starlette(routes=[Route("/mcp", page, methods=["GET", "POST", "DELETE"])])
    with _serving(app) as port, anyio.fail_after(30):
        there = source(url=f"http://127.0.0.1:{port}/mcp")
        with pytest.raises(ToolboxError) as caught:
            async with open_servers({"web": there}, base=tmp_path, start_timeout=5):
                pytest.fail("it should not have started")
        print(caught.value.message)
        assert caught.value.server == "web" and "\n" not in caught.value.message


@pytest.mark.parametrize(("status", "packed"), [(200, False), (500, False), (200, True)])
async def test_an_answer_without_end_is_not_read_to_its_end(
    source: Make, tmp_path: Path, status: int, packed: bool
) -> None:
    """One JSON body of 4 GB, or a small one that unpacks to it, would fill the memory."""
    given: list[int] = []

    async def endless(request: object) -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            packer = zlib.compressobj(wbits=31)
            yield packer.compress(b'{"jsonrpc":"2.0","id":1,"result":{"x":"') if packed else b'{"x":"'
            for number in range(4_096):
                given.append(number)
                part = b"A" * 1024 * 1024
                yield packer.compress(part) if packed else part
                await anyio.lowlevel.checkpoint()

        headers = {"content-encoding": "gzip"} if packed else {}
        return StreamingResponse(body(), status, headers=headers, media_type="application/json")

    with _serving(Starlette(routes=[Route("/mcp", endless, methods=["POST"])])) as port:
        there = source(url=f"http://127.0.0.1:{port}/mcp")
        with anyio.fail_after(60), pytest.raises(ToolboxError) as caught:
            async with open_servers({"web": there}, base=tmp_path):
                pass
    assert "did not start" in str(caught.value) and len(given) < 4_096
    assert ("it answered HTTP 500" in str(caught.value)) == (status == 500), caught.value
