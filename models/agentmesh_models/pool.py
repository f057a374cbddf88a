"""Several models behind one memory budget: loaded on first use, unloaded least-recently-used, threads divided."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Final

import anyio
import anyio.from_thread
import anyio.lowlevel

from agentmesh_models import binding
from agentmesh_models.catalogue import ENDPOINT, SCRIPTED, locate, open_model
from agentmesh_models.chat import Engine, Method, ModelInfo, Piece, Profile, Request, Rescored
from agentmesh_models.errors import ModelError
from agentmesh_models.facts import read_facts
from agentmesh_models.inspection import inspect
from agentmesh_models.memory import PARALLEL, check_parallel, memory_budget, size_text
from agentmesh_models.sharing import Lease, ThreadBudget, Threaded
from agentmesh_models.threads import thread_count
from agentmesh_models.work import check_deadline

Load = Callable[[], Engine]


class Pool:
    """Engines for the models of one process, or of one mesh, within `memory` bytes and `threads` threads.

    `memory` defaults to four fifths of what is free when the pool is made, `threads` to the cores that are idle
    when the first model is asked for. An engine of the pool holds no memory until its first request loads it; it
    may be unloaded whenever it has no request, and the next one loads it again. Requests that need memory wait
    for it in the order they came, and none that came later passes them, not even one to a model that is loaded:
    otherwise a busy model could keep another out for ever.

    `engine` is called by one thread at a time; all else belongs to one event loop.
    """

    def __init__(self, memory: int | None = None, threads: int | None = None) -> None:
        if memory is not None and memory < 1:
            raise ModelError("bad_request", f"the memory budget must be at least 1 byte, not {memory}")
        self._memory: Final = memory_budget() if memory is None else memory
        self._asked_threads: Final = threads
        self._engines: dict[object, Engine] = {}
        self._pooled: list[PooledEngine] = []
        self._queue: list[_Ticket] = []
        self._changed = anyio.Event()
        self._uses = 0
        self._closed = False

    def engine(
        self,
        spec: str,
        *,
        n_ctx: int | None = None,
        threads: int | None = None,
        gpu_layers: int = 0,
        exact: bool = True,
        parallel: int = PARALLEL,
        base: Path | None = None,
        api_key_env: str | None = None,
        timeout: float | None = None,
    ) -> Engine:
        """The engine of the model that `spec` names; the same one each time it is asked for in the same way.

        When this returns the file has been checked and its digest is known; its weights are not loaded. Models
        that are no files are opened at once, as `open_model` does. `threads` takes a model out of the division: it
        has that number whatever else is active. Reads the file: call it in a thread.

        Raises:
            ModelError: as `open_model` for a file that is missing or damaged; "no_memory" for one that the budget
                can never hold.
        """
        if self._closed:
            raise ModelError("closed", "the pool is closed")
        key = (spec, n_ctx, threads, gpu_layers, exact, parallel, base, api_key_env, timeout)
        if key in self._engines:
            return self._engines[key]
        if spec.startswith((SCRIPTED, ENDPOINT)):
            engine = open_model(spec, n_ctx=n_ctx, base=base, api_key_env=api_key_env, timeout=timeout)
        else:
            check_parallel(parallel)
            place = locate(spec, base=base)
            binding.load()
            count = self._sharing.total if threads is None else thread_count(threads)
            found = inspect(place.path, name=place.name, n_ctx=n_ctx, digest=place.digest)
            facts = read_facts(found.file)
            engine = self.add(
                found.info,
                need=facts.need(found.info.n_ctx, parallel=parallel, gpu_layers=gpu_layers),
                load=partial(
                    open_model,
                    spec,
                    n_ctx=n_ctx,
                    threads=count,
                    gpu_layers=gpu_layers,
                    exact=exact,
                    parallel=parallel,
                    base=base,
                ),
                divides=threads is None,
            )
        self._engines[key] = engine
        return engine

    def add(self, info: ModelInfo, *, need: int, load: Load, divides: bool = True) -> PooledEngine:
        """An engine that `load` opens on first use, in a thread, and that takes `need` bytes while it is open.

        With `divides` its `set_threads`, where it has one, is told its share of the pool's threads.

        Raises:
            ModelError: reason "no_memory"; the budget can never hold it.
        """
        if self._memory is not None and need > self._memory:
            raise ModelError(
                "no_memory",
                f"the model needs about {size_text(need)} of memory and the budget is {size_text(self._memory)}; "
                "a smaller n_ctx or a smaller quantisation needs less, memory under [mesh] allows more",
                path=info.path,
                expected=self._memory,
                found=need,
            )
        engine = PooledEngine(self, info=info, need=need, load=load, divides=divides)
        self._pooled.append(engine)
        return engine

    @property
    def loaded(self) -> tuple[ModelInfo, ...]:
        """The models whose weights are in memory now, the one unused for longest first."""
        held = [each for each in self._pooled if each._engine is not None]
        return tuple(each.info for each in sorted(held, key=lambda each: each._used))

    async def aclose(self) -> None:
        """Close every engine: requests under way or waiting end with "closed". A second call does nothing.

        Raises:
            ModelError: the first that closing an engine raised, once all are closed.
        """
        self._closed = True
        self._notify()
        engines = [*self._pooled, *(each for each in self._engines.values() if each not in self._pooled)]
        self._engines.clear()
        errors: list[ModelError] = []
        with anyio.CancelScope(shield=True):
            for engine in engines:
                try:
                    await engine.aclose()
                except ModelError as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    @cached_property
    def _sharing(self) -> ThreadBudget:
        return ThreadBudget(thread_count(self._asked_threads))

    async def _enter(self, wanted: PooledEngine) -> Engine:
        """Wait until the model is loaded and it is this request's turn; `_leave` must follow."""
        ticket = _Ticket(wanted)
        self._queue.append(ticket)
        loading: _Loading | None = None
        try:
            while True:
                changed = self._changed
                if self._closed or wanted._closed:
                    raise ModelError("closed", "the engine is closed")
                if loading is not None and loading.error is not None:
                    raise loading.error
                if not self._is_behind(ticket):
                    if wanted._engine is not None and not wanted._closing:
                        self._uses += 1
                        wanted._begin(self._uses)
                        return wanted._engine
                    if wanted._loading is None and not wanted._closing:
                        if self._fits(wanted._need):
                            self._start(wanted)
                        elif victim := self._victim(ticket):
                            await victim._unload()
                            continue
                loading = wanted._loading or loading
                await changed.wait()
        finally:
            self._queue.remove(ticket)
            self._notify()

    def _forget(self, closed: PooledEngine) -> None:
        self._pooled = [each for each in self._pooled if each is not closed]
        self._engines = {key: each for key, each in self._engines.items() if each is not closed}

    def _leave(self, used: PooledEngine) -> None:
        used._end()
        self._notify()

    def _is_behind(self, ticket: _Ticket) -> bool:
        """Whether a request that came before waits for memory that is not even being filled yet."""
        before = self._queue[: self._queue.index(ticket)]
        return any(
            each.wanted is not ticket.wanted and each.wanted._loading is None and not each.wanted._is_loaded
            for each in before
        )

    def _fits(self, need: int) -> bool:
        held = sum(each._need for each in self._pooled if each._engine is not None or each._loading)
        return self._memory is None or held + need <= self._memory

    def _victim(self, ticket: _Ticket) -> PooledEngine | None:
        """The idle engine unused for longest that nobody before `ticket` is about to use."""
        kept = {id(each.wanted) for each in self._queue[: self._queue.index(ticket)]}
        idle = [
            each for each in self._pooled if each._is_loaded and not each._running and id(each) not in kept
        ]
        return min(idle, key=lambda each: each._used, default=None)

    def _start(self, wanted: PooledEngine) -> None:
        """Load in a thread of its own, which nobody's cancellation breaks off: what it loads is the pool's."""
        loading = _Loading()
        token = anyio.lowlevel.current_token()

        def run() -> None:
            engine: Engine | None = None
            error: BaseException | None = None
            try:
                engine = wanted._load()
            except BaseException as caught:  # noqa: BLE001  raised again in the tasks that wait for it
                error = caught
            try:
                anyio.from_thread.run_sync(self._settle, wanted, loading, engine, error, token=token)
            except RuntimeError:  # the event loop has gone without `aclose`: nobody else can close it now
                if engine is not None:
                    anyio.run(engine.aclose)

        threading.Thread(target=run, name=f"agentmesh-load-{wanted.info.name}", daemon=True).start()
        wanted._loading = loading

    def _settle(
        self, wanted: PooledEngine, loading: _Loading, engine: Engine | None, error: BaseException | None
    ) -> None:
        wanted._loading = None
        loading.error = error
        if engine is not None:
            self._uses += 1
            wanted._opened(engine, self._sharing if wanted._divides else None, self._uses)
        self._notify()

    def _notify(self) -> None:
        """Let everybody who waits look again."""
        self._changed.set()
        self._changed = anyio.Event()


class PooledEngine:
    """A model of a pool, as an `Engine`; whether it is loaded now is the pool's affair."""

    def __init__(self, pool: Pool, *, info: ModelInfo, need: int, load: Load, divides: bool) -> None:
        self.info: Final = info
        self._pool = pool
        self._need = need
        self._load = load
        self._divides = divides
        self._engine: Engine | None = None
        self._lease: Lease | None = None
        self._loading: _Loading | None = None
        self._running = 0
        self._used = 0
        self._closing = False
        self._closed = False

    async def generate(self, request: Request) -> AsyncGenerator[Piece, None]:
        """Answer `request`, loading the model first where it is not; see `Engine`.

        Raises:
            ModelError: "deadline" while waiting for memory or loading; "load_failed" and what else loading raises.
        """
        check_deadline(request.deadline)
        ends = None if request.deadline is None else time.monotonic() + request.deadline
        engine = await self._turn(request.deadline)
        try:
            if ends is not None:
                request = replace(request, deadline=max(0.001, ends - time.monotonic()))
            async with aclosing(engine.generate(request)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            self._pool._leave(self)

    async def rescore(self, profile: Profile, *, method: Method = "score") -> Rescored:
        """Check a recorded reply, loading the model first where it is not; see `Engine`."""
        engine = await self._turn(None)
        try:
            return await engine.rescore(profile, method=method)
        finally:
            self._pool._leave(self)

    async def aclose(self) -> None:
        """Unload the model and take it out of the pool: what runs or waits ends with "closed"."""
        self._closed = True
        self._pool._notify()
        with anyio.CancelScope(shield=True):
            while self._loading is not None or self._closing:
                await self._pool._changed.wait()
            if self._engine is not None:
                await self._unload()
        self._pool._forget(self)

    async def _turn(self, seconds: float | None) -> Engine:
        with anyio.move_on_after(seconds):
            return await self._pool._enter(self)
        raise ModelError("deadline", f"the model {self.info.name} was not ready after {seconds:g} seconds")

    @property
    def _is_loaded(self) -> bool:
        return self._engine is not None and not self._closing

    def _opened(self, engine: Engine, sharing: ThreadBudget | None, use: int) -> None:
        self._engine = engine
        self._used = use
        if sharing is not None and isinstance(engine, Threaded):
            self._lease = sharing.lease(engine.set_threads)

    def _begin(self, use: int) -> None:
        self._used = use
        self._running += 1
        if self._lease is not None:
            self._lease.begin()

    def _end(self) -> None:
        self._running -= 1
        if self._lease is not None:
            self._lease.end()

    async def _unload(self) -> None:
        """Close the engine; its memory counts as held until that is done."""
        assert self._engine is not None
        self._closing = True
        try:
            with anyio.CancelScope(shield=True):
                await self._engine.aclose()
        finally:
            self._engine = None
            self._closing = False
            self._pool._notify()


class _Ticket:
    """A request's place in the queue of a pool."""

    def __init__(self, wanted: PooledEngine) -> None:
        self.wanted = wanted


class _Loading:
    """One attempt to load a model, shared by all who wait for it."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
