"""Group commit: many callers, one transaction.

Whoever comes while nobody commits does it for all who wait, in its own thread: a lone caller waits for no other
thread, and while the disk is busy with one batch the next one gathers.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from copy import copy
from typing import Final, TypeAlias

from agentmesh_ledger.append import Request
from agentmesh_ledger.draft import Receipt
from agentmesh_ledger.errors import LedgerError

Receipts: TypeAlias = tuple[Receipt, ...]
Outcome: TypeAlias = Receipts | LedgerError
Commit: TypeAlias = Callable[[Sequence[Request]], Sequence[Outcome]]

MAX_MESSAGES: Final = 4096
MAX_CONTENT: Final = 64 * 1024 * 1024
MAX_GATHER_SECONDS: Final = 0.01
MAX_WITHIN: Final = 86_400.0
"""A day: a thread cannot wait for any number of seconds there is."""


class _Pending:
    """One request that waits: in a thread for its latch, as a future, or as a task of an event loop."""

    __slots__ = ("awaited", "future", "latch", "outcome", "request", "within")

    def __init__(
        self,
        request: Request,
        *,
        future: Future[Receipts] | None = None,
        awaited: asyncio.Future[Receipts] | None = None,
        within: float = 0.0,
    ) -> None:
        self.request = request
        self.within = within
        self.future = future
        self.awaited = awaited
        self.outcome: Outcome | None = None
        # A lock is the cheapest thing a thread can wait for; it is released once, when there is news.
        self.latch = threading.Lock()
        if future is None and awaited is None:
            self.latch.acquire()

    @property
    def is_thread(self) -> bool:
        """Whether a thread waits, which can be made the leader."""
        return self.future is None and self.awaited is None


def _announce(batch: Sequence[_Pending], outcomes: Sequence[Outcome]) -> None:
    """Tells everyone of a batch what has become of it; whom a signal kept from hearing it, is told again."""
    tasks: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Receipts], Outcome]]] = {}
    for pending, outcome in zip(batch, outcomes, strict=True):
        pending.outcome = outcome = outcome if pending.outcome is None else pending.outcome
        if pending.awaited is not None:
            tasks.setdefault(pending.awaited.get_loop(), []).append((pending.awaited, outcome))
        elif pending.future is None:
            if pending.latch.locked():
                pending.latch.release()
        elif pending.future.done():
            continue
        elif isinstance(outcome, LedgerError):
            pending.future.set_exception(outcome)
        else:
            pending.future.set_result(outcome)
    for loop, told in tasks.items():
        # One call for all: each wakes the loop by a byte through a pipe.
        with suppress(RuntimeError):  # the loop was closed: nobody waits there any more, and the rows stand
            loop.call_soon_threadsafe(_resolve, told)


def _resolve(told: Sequence[tuple[asyncio.Future[Receipts], Outcome]]) -> None:
    for awaited, outcome in told:
        if awaited.done():
            continue  # its task was cancelled, or it was told before; what it wanted written is written
        if isinstance(outcome, LedgerError):
            awaited.set_exception(outcome)
        else:
            awaited.set_result(outcome)


class GroupCommit:
    """Gathers requests and commits them in batches, one batch at a time."""

    def __init__(self, commit: Commit) -> None:
        self._commit = commit
        self._lock = threading.Lock()
        self._waiting: deque[_Pending] = deque()
        # Who commits: a caller for all who wait, or the worker. Where anybody waits somebody leads.
        self._leader: _Pending | threading.Thread | None = None
        self._leading = 0  # the id of the thread that is committing or telling outcomes
        self._batch: list[_Pending] = []
        self._worker: threading.Thread | None = None
        self._call = threading.Semaphore(0)
        self._closed = False
        self._ended = threading.Event()
        self._last_size = 0
        self._last_seconds = 0.0
        self._wanted: int | None = None
        self._due: float | None = None  # when the worker leads for what nobody waits for
        self._enough = threading.Lock()
        self._enough.acquire()

    def run(self, request: Request) -> tuple[Receipt, ...]:
        """The receipts, once the request is durable.

        Raises: LedgerError.
        """
        self.require_outside()
        pending = _Pending(request)
        try:
            with self._lock:
                self._require_open()
                self._enqueue(pending)
                leads = self._leader is None
                if leads:
                    self._leader = pending
            if not leads:
                pending.latch.acquire()
            if pending.outcome is None:
                self._lead(pending)
        except BaseException:  # a signal: the request must not stay, nor a turn to lead be lost
            self._give_up(pending)
            raise
        outcome = pending.outcome
        if isinstance(outcome, LedgerError):
            raise outcome
        assert outcome is not None
        return outcome

    def submit(self, request: Request, within: float = 0.0) -> Future[Receipts]:
        """A future of the receipts, for callers that cannot wait in a thread; it may wait so many seconds for company.

        Raises: LedgerError(closed).
        """
        future: Future[Receipts] = Future()
        future.set_running_or_notify_cancel()  # what waits here is written: a future that is cancelled would lie
        # What is no number waits for nobody.
        within = min(within, MAX_WITHIN) if within > 0 else 0.0
        self._hand_in(_Pending(request, future=future, within=within))
        return future

    async def wait(self, request: Request) -> Receipts:
        """The receipts, once the request is durable, for a task of an asyncio event loop.

        A task that is cancelled while it waits leaves open whether the request is written.
        Raises: LedgerError.
        """
        awaited: asyncio.Future[Receipts] = asyncio.get_running_loop().create_future()
        self._hand_in(_Pending(request, awaited=awaited))
        return await awaited

    def _hand_in(self, pending: _Pending) -> None:
        """Enqueues a request that no thread waits for; the worker leads for it."""
        with self._lock:
            self._require_open()
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="ledger-commit", daemon=True)
                self._worker.start()
            self._enqueue(pending)
            if self._leader is not None:
                return
            if pending.within <= 0:
                self._leader = self._worker
                self._call.release()
                return
            due = time.monotonic() + pending.within
            if self._due is None or due < self._due:
                self._due = due
                self._call.release()  # so that the worker sets its alarm

    def close(self) -> None:
        """Lets no new request in, and returns when those that came before have their outcome.

        Raises: LedgerError(refused) from a callback of a future.
        """
        self.require_outside()
        with self._lock:
            self._closed = True
            worker = self._worker
            if self._leader is None and self._waiting:
                self._leader = worker
                self._call.release()
            elif self._leader is None:
                self._ended.set()
        self._ended.wait()
        if worker is not None:
            self._call.release()
            worker.join()

    def _work(self) -> None:
        me = self._worker
        while True:
            with self._lock:
                rest = None if self._due is None else max(0.0, self._due - time.monotonic())
            self._call.acquire(timeout=rest)
            with self._lock:
                if self._due is not None and time.monotonic() >= self._due:
                    self._due = None
                    if self._waiting and self._leader is None:
                        self._leader = me
                mine = self._leader is me
                if self._closed and self._leader is None:
                    return
            if mine:
                try:
                    self._lead(None)
                except BaseException:  # noqa: BLE001  # no memory, say: whoever submits later needs this thread
                    self._give_up(me)

    def _lead(self, own: _Pending | None) -> None:
        """Commits batches until its own request has its outcome (the worker: until none waits), then hands over."""
        while True:
            self._gather()
            with self._lock:
                batch = self._take()
            started = time.monotonic()
            self._settle(batch)
            # Who does not wait does not come again because of being told.
            self._last_size = sum(each.within <= 0 for each in batch)
            self._last_seconds = time.monotonic() - started
            with self._lock:
                if not self._waiting or (own is not None and own.outcome is not None):
                    self._pass_on()
                    return

    def _enqueue(self, pending: _Pending) -> None:
        """Adds a request; the lock is held."""
        self._waiting.append(pending)
        if self._wanted is not None and len(self._waiting) >= self._wanted:
            self._wanted = None
            self._enough.release()

    def _gather(self) -> None:
        """Waits for as many requests as the last batch had, at most as long as that took; a lone writer never waits.

        The writers of the last batch have just been told, and are about to come again. To sign while they do costs
        more than to wait for them: each signature gives the interpreter's lock away, and has to get it back.
        """
        with self._lock:
            if self._last_size < 2 or len(self._waiting) >= self._last_size or self._closed:
                return
            self._enough.acquire(blocking=False)  # what a signal may have left of the last time
            self._wanted = self._last_size
        self._enough.acquire(timeout=min(self._last_seconds, MAX_GATHER_SECONDS))
        with self._lock:
            self._wanted = None

    def _pass_on(self) -> None:
        """Makes the first that waits the leader; the lock is held."""
        self._leading, self._batch = 0, []
        if not self._waiting:
            self._leader = None
            if self._closed:
                self._ended.set()
            return
        heir = self._waiting[0]
        if heir.is_thread:
            self._leader = heir
            heir.latch.release()
        else:
            self._leader = self._worker
            self._call.release()

    def _take(self) -> list[_Pending]:
        """The next batch; the lock is held."""
        batch: list[_Pending] = []
        messages = content = 0
        for each in self._waiting:
            messages += len(each.request.prepared)
            content += sum(len(data) for one in each.request.prepared for _, _, data in one.content)
            if batch and (messages > MAX_MESSAGES or content > MAX_CONTENT):
                break
            batch.append(each)
        self._batch = batch  # first: whatever comes between, nobody is in neither
        for _ in batch:
            self._waiting.popleft()
        if not self._waiting:
            self._due = None
        return batch

    def _settle(self, batch: Sequence[_Pending]) -> None:
        self._leading = threading.get_ident()
        try:
            outcomes = self._commit([each.request for each in batch])
        except LedgerError as error:
            # An exception of their own each: one object raised in two threads mixes their tracebacks.
            _announce(batch, [copy(error) for _ in batch])
        else:
            _announce(batch, outcomes)
        self._leading = 0

    def _give_up(self, who: _Pending | threading.Thread | None) -> None:
        """After a signal or a fault: those whom this one led are told, and the next one leads."""
        with self._lock:
            if who in self._waiting:
                self._waiting.remove(who)  # type: ignore[arg-type]  # it is in there
            if self._leader is not who:
                return
            batch = self._batch
            for each in batch:
                if each in self._waiting:
                    self._waiting.remove(each)
        untold = LedgerError(
            "unknown",
            "the thread that was writing for others was interrupted",
            hint="Look whether the message is there",
        )
        _announce(batch, [copy(untold) for _ in batch])  # without the lock: a callback may submit
        with self._lock:
            self._pass_on()

    def require_outside(self) -> None:
        """Refuses the thread that is writing for others at the moment: it cannot wait for itself.

        Raises: LedgerError(refused).
        """
        if self._leading == threading.get_ident():
            raise LedgerError(
                "refused",
                "a future's callback, or a signal's handler, runs in the thread that writes for others, and "
                "cannot wait for it",
                hint="Use `submit` there, and close elsewhere",
            )

    def _require_open(self) -> None:
        if self._closed:
            raise LedgerError("closed", "the ledger has been closed")
