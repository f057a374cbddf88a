"""An endpoint that says what a test tells it to, byte by byte, in the test's own event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest

from agentmesh_models import Engine, Piece, Reply, Request, open_model
from agentmesh_models.endpoint import connection

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
DONE = "[DONE]"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own key is for nobody here; a proxy, which is not there, is never asked; no attempt waits."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setattr(connection, "PAUSES", [0.0, 0.0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What came: the path, the headers with small names, and the body."""

    path: str
    headers: Mapping[str, str]
    body: Any


class StandIn:
    """Answers requests for replies with `answers` in order, and lists `models`; `left` is set when a client hangs up."""

    def __init__(self) -> None:
        self.models: Any = {"object": "list", "data": [{"id": "m"}]}
        self.models_status = 200
        self.answers: list[Answer] = []
        self.asked: list[Asked] = []
        self.left = anyio.Event()
        self.port = 0

    @property
    def spec(self) -> str:
        return f"openai:http://127.0.0.1:{self.port}/v1"

    @property
    def replies(self) -> list[Asked]:
        """The requests for replies that came."""
        return [each for each in self.asked if each.path.endswith("/chat/completions")]

    async def open(self, spec: str | None = None, **settings: Any) -> Engine:
        with anyio.fail_after(30):
            return await anyio.to_thread.run_sync(partial(open_model, spec or self.spec, **settings))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            path = head[0].split(" ")[1]
            self.asked.append(Asked(path=path, headers=headers, body=json.loads(body) if body else None))
            if path.endswith("/models"):
                await status(self.models_status, self.models)(reader, writer)
            else:
                await self.answers.pop(0)(reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left.set()
        finally:
            writer.close()

    def say(self, *events: Any, **settings: Any) -> None:
        """Answer the next request with a stream of events."""
        self.answers.append(stream(*events, **settings))

    def refuse(self, code: int, body: Any = None, **headers: str) -> None:
        """Answer the next request with a status."""
        self.answers.append(status(code, body, **headers))

    def hang(self, *events: Any) -> None:
        """Answer the next request with the beginning of a stream, and wait until the client leaves."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(_head(200, "text/event-stream", chunked=True))
            for event in events:
                writer.write(_chunk(event))
            await writer.drain()
            with anyio.fail_after(30):
                assert await reader.read() == b""
            self.left.set()

        self.answers.append(answer)


def text(content: str, **more: Any) -> dict[str, Any]:
    """An event with a piece of text."""
    return {"id": "r1", "model": "m", "choices": [{"index": 0, "delta": {"content": content, **more}}]}


def delta(**fields: Any) -> dict[str, Any]:
    """An event with any delta."""
    return {"id": "r1", "model": "m", "choices": [{"index": 0, "delta": fields}]}


def end(reason: str = "stop") -> dict[str, Any]:
    """The event that says how it ended."""
    return {"id": "r1", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


def stream(*events: Any, cut: bool = False, packed: str = "") -> Answer:
    """A stream of events; `cut` drops the connection in the middle of it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_head(200, "text/event-stream", chunked=True, more=packed))
        for event in events:
            writer.write(_chunk(event))
            await writer.drain()
        if not cut:
            writer.write(b"0\r\n\r\n")

    return answer


def status(code: int, body: Any = None, **headers: str) -> Answer:
    """A plain answer with a JSON body, or bytes as they are."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        writer.write(_head(code, "application/json", length=len(data), more=more) + data)

    return answer


def _head(code: int, kind: str, *, chunked: bool = False, length: int = 0, more: str = "") -> bytes:
    size = "transfer-encoding: chunked" if chunked else f"content-length: {length}"
    return f"HTTP/1.1 {code} X\r\ncontent-type: {kind}\r\n{size}\r\nx-request-id: q1\r\n{more}\r\n".encode()


def _chunk(event: Any) -> bytes:
    if isinstance(event, bytes):
        return _chunk_bytes(event)
    return _chunk_bytes(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode())


def _chunk_bytes(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    made = StandIn()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


Ask = Callable[[Engine, Request], Awaitable[tuple[list[Piece], Reply]]]


@pytest.fixture
def ask() -> Ask:
    """All pieces of a reply, and the reply."""

    async def asking(engine: Engine, request: Request) -> tuple[list[Piece], Reply]:
        with anyio.fail_after(60):
            pieces = [piece async for piece in engine.generate(request)]
        last = pieces.pop()
        assert isinstance(last, Reply)
        return pieces, last

    return asking


@pytest.fixture
def events() -> Any:
    """The events of a stream: `events.text("a")`, `events.end()`, `events.delta(...)`, `events.DONE`."""
    return Events


class Events:
    DONE = DONE
    text = staticmethod(text)
    delta = staticmethod(delta)
    end = staticmethod(end)
