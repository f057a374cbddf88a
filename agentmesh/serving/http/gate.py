"""How many requests are in work at one time, and how they end when the server stops."""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentmesh.serving.http.bodies import Bodies, unreadable
from agentmesh.serving.http.limits import HttpLimits
from agentmesh.serving.http.refusals import refusal


@dataclass(slots=True, kw_only=True, eq=False)
class _Work:
    """One request in work."""

    is_stream: bool
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    started: bool = False
    finished: bool = False


class Gate:
    """Lets so many requests through to the application, each with a body that was read whole and is JSON.

    A place is taken when the body is there: one that comes slowly keeps none from others.
    """

    def __init__(self, app: ASGIApp, limits: HttpLimits) -> None:
        self._app = app
        self._limits = limits
        self._bodies = Bodies(each=limits.body, together=limits.bodies)
        self._work: set[_Work] = set()
        self._ended = anyio.Event()
        self.is_closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        with self._bodies.open() as body:
            try:
                refused = await body.read(receive, headers.get("content-length"))
            except ConnectionError:
                return
            if refused is None and scope["method"] == "POST":
                refused = unreadable(body.data)
            if refused is None:
                # What only listens, by its method in either era. Who writes the one and sends the other gets in by the
                # other limit, and no further.
                listens = scope["method"] == "GET" or headers.get("mcp-method") == "subscriptions/listen"
                work = _Work(is_stream=listens)
                if self._has_room(work):
                    await self._through(work, scope, body.replayed(receive), send)
                    return
                told = "the server is stopping" if self.is_closing else "too many requests at one time"
                refused = refusal(503, told, shut=self.is_closing)
            await refused(scope, receive, send)

    def close(self) -> None:
        """Let nobody in any more, and end those that only listen."""
        self.is_closing = True
        for work in list(self._work):
            if work.is_stream:
                work.scope.cancel()

    async def drain(self, seconds: float) -> None:
        """Wait until what is in work has ended; end it after so many seconds."""
        with anyio.move_on_after(seconds):
            await self._until_empty()
        for work in list(self._work):
            work.scope.cancel()
        await self._until_empty()

    async def _until_empty(self) -> None:
        while self._work:
            self._ended = anyio.Event()
            await self._ended.wait()

    def _has_room(self, work: _Work) -> bool:
        alike = sum(each.is_stream == work.is_stream for each in self._work)
        return not self.is_closing and alike < (
            self._limits.streams if work.is_stream else self._limits.calls
        )

    async def _through(self, work: _Work, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            work.started = work.started or message["type"] == "http.response.start"
            work.finished = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        self._work.add(work)
        try:
            with work.scope:
                await self._app(scope, receive, watched)
            if work.scope.cancelled_caught and not work.finished:
                if work.started:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                else:
                    await refusal(503, "the server is stopping", shut=True)(scope, receive, send)
        finally:
            self._work.discard(work)
            self._ended.set()
