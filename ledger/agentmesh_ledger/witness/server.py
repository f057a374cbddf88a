"""A witness over HTTP: https://c2sp.org/tlog-witness@v1.0.0, on uvicorn (extra `witness`).

`POST /add-checkpoint` · `GET /HASH/checkpoint`, the newest cosigned checkpoint of the log whose origin has this
SHA-256 · `GET /`, two lines: the witness's name and its vkey.
"""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import uvicorn

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.text import shown
from agentmesh_ledger.witness.connection import Connection, sweep
from agentmesh_ledger.witness.core import TEXT, Answer, Witness
from agentmesh_ledger.witness.request import MAX_BODY
from agentmesh_ledger.witness.trusted import TrustedLogs
from agentmesh_ledger.witness.verdict import Proposal

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope

KEPT_OPEN_SECONDS: Final = 75
BACKLOG: Final = 512
_STOP_SECONDS: Final = 5
_SWEEP_TICKS: Final = 5  # of 100 ms
_CHECKPOINT: Final = re.compile(r"/([0-9a-f]{64})/checkpoint")
_SIGNALS: Final = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class WitnessApp:
    """The ASGI application. Requests that wait together are settled by one transaction, outside the event loop."""

    def __init__(self, witness: Witness, trusted: TrustedLogs) -> None:
        self._witness = witness
        self._trusted = trusted
        # One thread: SQLite takes one writer at a time, and whoever comes meanwhile shares the next transaction.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="witness")
        self._waiting: list[tuple[Proposal, asyncio.Future[Answer]]] = []
        self._settling = False

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """One request, from its head to the answer."""
        assert scope["type"] == "http"
        answer = await self._answer(scope, receive)
        if answer is None:
            return  # nobody is there to read one
        headers = [
            (b"content-type", answer.content_type.encode("ascii")),
            (b"content-length", b"%d" % len(answer.body)),
        ]
        if answer.status == 413:
            headers.append((b"connection", b"close"))  # what is still to come is not read
        elif answer.status == 405:
            headers.append((b"allow", b"POST" if scope["path"] == "/add-checkpoint" else b"GET"))
        elif answer.status == 503:
            headers.append((b"retry-after", b"5"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": False})

    def close(self) -> None:
        """Ends the thread; what it has begun it brings to its end."""
        self._thread.shutdown()

    async def _answer(self, scope: HTTPScope, receive: ASGIReceiveCallable) -> Answer | None:
        path, method = scope["path"], scope["method"]
        if path == "/add-checkpoint":
            if method != "POST":
                return _told(405, "only to be posted to")
            return await self._add(scope, receive)
        wanted = _CHECKPOINT.fullmatch(path)
        if path != "/" and wanted is None:
            return _told(404, "this is a witness of logs: POST /add-checkpoint, GET /")
        if method != "GET":
            return _told(405, "only to be read")
        if wanted is None:
            return _told(200, f"{self._witness.key.name}\n{self._witness.key.vkey}")
        origin = self._trusted.named(wanted[1])
        if origin is None:
            return _told(404, "this witness does not know the log")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._witness.checkpoint, origin)

    async def _add(self, scope: HTTPScope, receive: ASGIReceiveCallable) -> Answer | None:
        body = await _body(scope, receive)
        if body is None or isinstance(body, Answer):
            return body
        read = self._witness.read(body)
        return read if isinstance(read, Answer) else await self._settled(read)

    def _settled(self, proposal: Proposal) -> asyncio.Future[Answer]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((proposal, answer))
        if not self._settling:
            self._settling = True
            loop.call_soon(self._settle, loop)  # not at once: what arrived with it comes along
        return answer

    def _settle(self, loop: asyncio.AbstractEventLoop) -> None:
        taken, self._waiting = self._waiting, []
        proposals = [proposal for proposal, _ in taken]

        def settled(done: asyncio.Future[list[Answer]]) -> None:
            error = None if done.cancelled() else done.exception()
            answers: list[Answer | None] = [None] * len(taken)
            if not done.cancelled() and error is None:
                answers = [*done.result()]
            for (_, answer), found in zip(taken, answers, strict=True):
                if answer.done():  # its client has gone
                    continue
                if found is not None:
                    answer.set_result(found)
                elif error is not None:
                    answer.set_exception(error)
                else:
                    answer.cancel()
            if self._waiting:
                self._settle(loop)
            else:
                self._settling = False

        loop.run_in_executor(self._thread, self._witness.settle, proposals).add_done_callback(settled)


class WitnessServer(uvicorn.Server):
    """uvicorn's, which also drops clients that take too long, and tells its caller of a signal instead of dying of it.

    `ready` is called once clients are accepted.
    """

    def __init__(
        self, witness: Witness, trusted: TrustedLogs, *, ready: Callable[[], None] = lambda: None
    ) -> None:
        self._app = WitnessApp(witness, trusted)
        super().__init__(_config(self._app))
        self._ready = ready
        self._signalled = False

    def answer(self, listener: socket.socket) -> bool:
        """Answers on this socket until a signal comes, or `stop` is called; true for a signal. Takes the socket over."""
        try:
            self.run([listener])
        finally:
            self._app.close()
        return self._signalled

    def stop(self) -> None:
        """Lets `answer` end, from any thread; requests in work are answered."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's own."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's own, which leaves open what has not ended in time."""
        await super().shutdown(sockets)
        for each in [each for each in self.server_state.connections if isinstance(each, Connection)]:
            each.transport.abort()
        await asyncio.sleep(0)  # until they are told so

    async def on_tick(self, counter: int) -> bool:
        """uvicorn's own, ten times a second."""
        if counter % _SWEEP_TICKS == 0:
            sweep(self.server_state.connections)
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Takes the signals that ask us to stop, where Python lets us. uvicorn's own would raise them again at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self._signal) for each in _SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _signal(self, number: int, frame: object) -> None:
        self.force_exit = self._signalled  # the second one
        self._signalled = self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket that holds this address; port 0 is a free one. Until a server answers, whoever connects waits.

    Raises: LedgerError(failed) where it is taken, not this machine's, or not allowed.
    """
    try:
        family, _, _, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )[0]
        # asyncio sends small answers at once only where it is said that this is TCP; else each waits 40 ms.
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:
        raise _not_bound(host, port, error) from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(where)
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError as error:
        made.close()
        raise _not_bound(host, port, error) from error
    return made


def _not_bound(host: str, port: int, error: OSError | UnicodeError) -> LedgerError:
    why = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return LedgerError("failed", f"the witness cannot listen at {shown(host)}, port {port}: {shown(why)}")


def _config(app: WitnessApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        loop="asyncio",
        interface="asgi3",
        access_log=False,
        log_config=None,
        log_level="critical",  # a line for each malformed request would let anybody fill the disk
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEPT_OPEN_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )


async def _body(scope: HTTPScope, receive: ASGIReceiveCallable) -> bytes | Answer | None:
    """The body of the request; the refusal of one that is too long; None where the client has gone."""
    for name, value in scope["headers"]:
        if name == b"content-length" and (len(value) > 9 or int(value) > MAX_BODY):
            return _too_long()
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        piece = message.get("body", b"")
        size += len(piece)
        if size > MAX_BODY:
            return _too_long()
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


def _too_long() -> Answer:
    return _told(413, f"a request has at most {MAX_BODY} bytes")


def _told(status: int, message: str) -> Answer:
    return Answer(status=status, content_type=TEXT, body=f"{message}\n".encode("ascii"))
