"""Threads shared among the engines of several models: those that work now divide them, the others need none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from agentmesh_models.errors import ModelError


@runtime_checkable
class Threaded(Protocol):
    """An engine whose threads can be changed while it is open."""

    def set_threads(self, count: int) -> None:
        """Use `count` threads from the next step on; may be called from any thread."""
        ...


class ThreadBudget:
    """A number of threads, divided evenly among whoever is active.

    The first to become active get what does not divide; everybody gets at least one. Two active engines that
    each took all cores would wait for one another's threads at every step, which costs a factor of ten and more.
    Belongs to one event loop.
    """

    def __init__(self, total: int) -> None:
        if total < 1:
            raise ModelError("bad_request", f"threads must be at least 1, not {total}")
        self.total = total
        self._active: list[Lease] = []

    def lease(self, set_threads: Callable[[int], None], *, now: int | None = None) -> Lease:
        """A part in the budget for an engine that has `now` threads (default: all), told of changes by `set_threads`."""
        return Lease(self, set_threads, self.total if now is None else now)

    @property
    def active(self) -> int:
        """How many divide the threads now."""
        return len(self._active)

    def _begin(self, lease: Lease) -> None:
        self._active.append(lease)
        self._divide()

    def _end(self, lease: Lease) -> None:
        self._active.remove(lease)
        self._divide()

    def _divide(self) -> None:
        if not self._active:
            return
        each, over = divmod(self.total, len(self._active))
        for place, lease in enumerate(self._active):
            lease._give(max(1, each + (1 if place < over else 0)))


class Lease:
    """One engine's part: it counts while at least one request is under way."""

    def __init__(self, budget: ThreadBudget, set_threads: Callable[[int], None], now: int) -> None:
        self._budget = budget
        self._set_threads = set_threads
        self._requests = 0
        self.threads = now

    def begin(self) -> None:
        """A request begins; with the first the engine is active."""
        self._requests += 1
        if self._requests == 1:
            self._budget._begin(self)

    def end(self) -> None:
        """A request has ended; with the last the engine's threads go to the others."""
        self._requests -= 1
        if self._requests == 0:
            self._budget._end(self)

    def _give(self, count: int) -> None:
        if count != self.threads:
            self.threads = count
            self._set_threads(count)
