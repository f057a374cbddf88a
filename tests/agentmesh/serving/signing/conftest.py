"""Two sides with keys and ledgers of their own, every transport there is, and somebody in between who rewrites."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
import uvicorn
from mcp import Client
from mcp.client import Transport
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from agentmesh.serving.signing import (
    KnownKeys,
    Policy,
    Signing,
    memory_transport,
    sign_server,
    signed_transport,
)
from agentmesh_ledger import KeyStore, Record
from agentmesh_ledger.log import Ledger

Json = dict[str, Any]
TRANSPORTS = ("memory", "stdio", "http")
ERAS = ("legacy", "auto")
OTHER_ORIGIN = "example.org/here"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def served() -> ModuleType:
    """The module of the small server."""
    spec = importlib.util.spec_from_file_location("served", Path(__file__).with_name("served.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["served"] = module
    spec.loader.exec_module(module)
    return module


@dataclass
class Middleman:
    """Sees every JSON-RPC message between the two sides, and may rewrite or drop it."""

    asks: Callable[[Json], Json | None] = lambda message: message
    answers: Callable[[Json], Json | None] = lambda message: message
    seen: list[Json] = field(default_factory=list)
    answered: list[Json] = field(default_factory=list)

    def ask(self, message: Json) -> Json | None:
        self.seen.append(json.loads(json.dumps(message)))
        return self.asks(message)

    def answer(self, message: Json) -> Json | None:
        self.answered.append(json.loads(json.dumps(message)))
        return self.answers(message)

    def rest(self) -> None:
        """From now on only looks."""
        self.asks = self.answers = lambda message: message

    @asynccontextmanager
    async def between(self, transport: Transport) -> AsyncIterator[Any]:
        async with transport as (reads, writes):
            yield _Reads(reads, self), _Writes(writes, self)

    def app(self, inner: Any) -> Any:
        """The same for an ASGI application."""

        async def rewriting(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
            if scope["type"] != "http" or scope["method"] != "POST":
                return await inner(scope, receive, send)
            body = b""
            while True:
                event = await receive()
                body += event.get("body", b"")
                if not event.get("more_body"):
                    break
            message = self.ask(json.loads(body))
            data = json.dumps(message).encode()
            headers = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
            headers.append((b"content-length", str(len(data)).encode()))
            given = False

            async def once() -> MutableMapping[str, Any]:
                nonlocal given
                if given:
                    return await receive()  # type: ignore[no-any-return]  # the client going away
                given = True
                return {"type": "http.request", "body": data, "more_body": False}

            async def out(event: MutableMapping[str, Any]) -> None:
                if event["type"] == "http.response.start":
                    event["headers"] = [each for each in event["headers"] if each[0] != b"content-length"]
                elif event.get("body"):
                    event["body"] = self._rewritten(event["body"])
                await send(event)

            await inner({**scope, "headers": headers}, once, out)

        return rewriting

    def _rewritten(self, body: bytes) -> bytes:
        if body.startswith(b"{"):
            return json.dumps(self.answer(json.loads(body))).encode()
        lines = []
        for line in body.split(b"\r\n"):
            if line.startswith(b"data: {"):
                line = b"data: " + json.dumps(self.answer(json.loads(line[6:]))).encode()
            lines.append(line)
        return b"\r\n".join(lines)


def _plain(item: SessionMessage) -> Json:
    return item.message.model_dump(by_alias=True, mode="json", exclude_unset=True)


class _Writes:
    def __init__(self, inner: Any, middleman: Middleman) -> None:
        self._inner, self._middleman = inner, middleman

    async def send(self, item: SessionMessage) -> None:
        message = self._middleman.ask(_plain(item))
        if message is not None:
            parsed = jsonrpc_message_adapter.validate_python(message, by_name=False)
            await self._inner.send(SessionMessage(parsed, item.metadata))

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _Reads:
    last_context = None

    def __init__(self, inner: Any, middleman: Middleman) -> None:
        self._inner, self._middleman = inner, middleman

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        while True:
            item = await self._inner.__anext__()
            if isinstance(item, Exception):
                return item
            message = self._middleman.answer(_plain(item))
            if message is not None:
                return SessionMessage(jsonrpc_message_adapter.validate_python(message, by_name=False))

    async def receive(self) -> Any:
        return await self.__anext__()

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


@dataclass
class Clock:
    """A clock that a test may put wrong."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@dataclass
class House:
    """The folder of a test: two sides, `here` calls and `there` answers, each with its keys and its ledger."""

    folder: Path
    served: ModuleType
    clock: Clock = field(default_factory=Clock)
    middleman: Middleman = field(default_factory=Middleman)
    ledgers: list[Ledger] = field(default_factory=list)

    @property
    def here_keys(self) -> KeyStore:
        return KeyStore(self.folder / "here" / "keys")

    @property
    def there_keys(self) -> KeyStore:
        return KeyStore(self.folder / "there" / "keys")

    @property
    def server_key(self) -> str:
        return self.there_keys.agent(self.served.NAME).id

    def ledger(self, side: str) -> Ledger:
        origin = OTHER_ORIGIN if side == "here" else self.served.ORIGIN
        path = self.folder / side / "ledger.db"
        path.parent.mkdir(exist_ok=True)
        keys = KeyStore(self.folder / side / "keys")
        ledger = Ledger.open(path, origin=origin, keys=keys, create=True)
        self.ledgers.append(ledger)
        return ledger

    def here(self, **policy: Any) -> Signing:
        """The calling side, which requires signatures and pins, unless told otherwise."""
        how = {"mode": "require", "known": KnownKeys(), "clock": self.clock, **policy}
        return Signing(
            key=self.here_keys.agent("front"),
            subject=f"front@{OTHER_ORIGIN}",
            policy=Policy(**how),
            ledger=self.ledger("here"),
            keys=self.here_keys,
            dialogue="d1",
        )

    def there(self, **policy: Any) -> Signing:
        """The answering side."""
        how = {"mode": "require", "known": KnownKeys(), **policy}
        return Signing(
            key=self.there_keys.agent(self.served.NAME),
            subject=f"{self.served.NAME}@{self.served.ORIGIN}",
            policy=Policy(**how),
            ledger=self.ledger("there"),
        )

    @asynccontextmanager
    async def line(
        self, transport: str, *, mode: str = "require", listed: tuple[str, ...] = ()
    ) -> AsyncIterator[Any]:
        """The server behind a transport, with the middleman in between: what a client's signed transport wraps."""
        if transport == "stdio":
            program = [str(Path(self.served.__file__ or "")), str(self.folder / "there"), mode, *listed]
            (self.folder / "there").mkdir(exist_ok=True)
            environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            parameters = StdioServerParameters(command=sys.executable, args=program, env=environment)
            yield self.middleman.between(stdio_client(parameters))
            return
        server = self.served.small_server()
        known = KnownKeys(listed=listed) if listed else KnownKeys()
        sign_server(server, self.there(mode=mode, known=known))
        if transport == "memory":
            yield self.middleman.between(memory_transport(server))
            return
        async with serving(self.middleman.app(server.streamable_http_app())) as port:
            yield streamable_http_client(f"http://127.0.0.1:{port}/mcp")

    @asynccontextmanager
    async def client(
        self,
        transport: str,
        era: str,
        signing: Signing,
        *,
        audience: str | None = None,
        mode: str = "require",
        listed: tuple[str, ...] = (),
        **more: Any,
    ) -> AsyncIterator[Client]:
        with anyio.fail_after(60):
            async with self.line(transport, mode=mode, listed=listed) as line:
                signed = signed_transport(line, signing, peer="lab", audience=audience)
                async with Client(signed, mode=era, **more) as client:
                    yield client

    def records(self, side: str) -> list[Record]:
        """What a side recorded of exchanges, verified from the file as anybody could."""
        for ledger in self.ledgers:
            ledger.close()
        self.ledgers.clear()
        with Ledger.open(self.folder / side / "ledger.db", read_only=True) as ledger:
            ledger.verify()
            return [each for each in ledger.read() if each.message.kind in ("sent", "received")]


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[int]:
    """An ASGI application behind a real HTTP server on the loopback; gives its port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # at once: whoever comes before the server does waits for it
        config = uvicorn.Config(app, log_level="critical", lifespan="on", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        # It would take the signals of the test run for its own.
        server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
        ended = anyio.Event()

        async def serve() -> None:
            await server.serve([listening])
            ended.set()

        async with anyio.create_task_group() as group:
            group.start_soon(serve)
            try:
                yield listening.getsockname()[1]
            finally:
                # It must end by itself: cancelled, it would leave its connections open.
                server.should_exit = True
                with anyio.move_on_after(10, shield=True):
                    await ended.wait()


@pytest.fixture
def house(tmp_path: Path, served: ModuleType) -> Iterator[House]:
    made = House(folder=tmp_path, served=served)
    yield made
    for ledger in made.ledgers:
        ledger.close()


@pytest.fixture
def server(served: ModuleType) -> MCPServer:
    """The small server, which nobody signs for."""
    return served.small_server()  # type: ignore[no-any-return]


@pytest.fixture
def http() -> Callable[..., Any]:
    """An ASGI application behind a real HTTP server; gives its port."""
    return serving


@pytest.fixture
def part() -> Callable[[Record, str], bytes]:
    """The content of a part."""

    def find(record: Record, name: str) -> bytes:
        (data,) = [each.data for each in record.parts if each.name == name]
        assert data is not None
        return data

    return find
