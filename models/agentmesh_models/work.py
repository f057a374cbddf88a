"""What an engine is asked to do, from both sides: a job as its caller sees it, and the work in hand.

The owner's thread puts pieces in, the caller's task takes them out; either may end it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar, cast

import anyio
import anyio.lowlevel

from agentmesh_models.errors import ModelError

T = TypeVar("T")
Call = Callable[[Callable[[], None]], object]


class Job(Generic[T]):
    """A piece of work on its way. `ends` is when its deadline passes, by the monotonic clock."""

    def __init__(self, *, deadline: float | None = None) -> None:
        """Made in the caller's task: pieces are handed to its event loop."""
        self.ends = None if deadline is None else time.monotonic() + deadline
        self.deadline = deadline
        self.given_up: ModelError | None = None
        self.loop, self.call = _event_loop()
        self.news = False
        """Whether pieces were added since the caller was last woken."""
        self._items: deque[T | BaseException] = deque()
        self._arrived = anyio.Event()
        self._lock = threading.Lock()
        self._taken = False
        self._done = False

    @property
    def over(self) -> bool:
        """Whether the owner's thread has nothing more to do with it, whether its caller knows or not."""
        return self._done

    async def next(self) -> T:
        """The next piece, as soon as there is one; raises what ended the work."""
        await anyio.lowlevel.checkpoint()
        while not self._items:
            self._arrived = anyio.Event()
            if not self._items:
                await self._arrived.wait()
        item = self._items.popleft()
        if isinstance(item, BaseException):
            raise item
        return item

    async def stopped(self) -> None:
        """Return when the owner's thread has nothing to do with this work any more."""
        with self._lock:
            if not self._taken:
                return
        while not self._done:
            self._arrived = anyio.Event()
            if not self._done:
                await self._arrived.wait()

    def give_up(self, error: ModelError) -> bool:
        """From any thread: end the work with `error`. Returns whether the owner's thread has to be told."""
        with self._lock:
            if self._done:
                return False
            if self.given_up is None:
                self.given_up = error
            if self._taken:
                return True
            self._taken = self._done = True
        self.put(error)
        deliver([self])
        return False

    def taken(self) -> bool:
        """In the owner's thread: begin, unless the caller has gone."""
        with self._lock:
            if self._taken:
                return False
            self._taken = True
            return True

    def put(self, item: T | BaseException) -> None:
        """Add a piece; the caller learns of it with the next `deliver`."""
        self._items.append(item)
        self.news = True

    def end(self, item: T | BaseException) -> None:
        """In the owner's thread: the last piece."""
        self._done = True
        self.put(item)

    def notify(self) -> None:
        """In the caller's event loop: there is something new."""
        self._arrived.set()


def check_deadline(seconds: float | None) -> None:
    """Raises `ModelError` "bad_request" for a deadline that is no time to come."""
    if seconds is not None and not seconds > 0:
        raise ModelError("bad_request", f"a deadline must be above 0 seconds, not {seconds}")


def deliver(jobs: Iterable[Job[T]]) -> None:
    """Wake the callers of `jobs` that have news, each event loop once however many of them it has."""
    loops: dict[int, list[Job[T]]] = {}
    for job in jobs:
        if not job.news:
            continue
        job.news = False
        loops.setdefault(id(job.loop), []).append(job)
    for some in loops.values():

        def notify(some: list[Job[T]] = some) -> None:
            for job in some:
                job.notify()

        try:
            some[0].call(notify)
        except RuntimeError as error:  # the event loop is gone, and nobody will ever ask again
            for job in some:
                job.given_up = job.given_up or ModelError("cancelled", f"nobody listens any more: {error}")


def _event_loop() -> tuple[object, Call]:
    """The caller's event loop, and how another thread gets a function run in it without waiting."""
    token: object = anyio.lowlevel.current_token()
    native: object = getattr(token, "native_token", token)  # newer anyio wraps it
    name = (
        "call_soon_threadsafe" if hasattr(native, "call_soon_threadsafe") else "run_sync_soon"
    )  # asyncio, trio
    return native, cast(Call, getattr(native, name))
