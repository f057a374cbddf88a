"""The engine: one thread owns llama.cpp; async callers get pieces of text and may leave at any time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import cast

import anyio
import anyio.lowlevel
import anyio.to_thread

from agentmesh_models import binding
from agentmesh_models.chat import ModelInfo, Reply, Request, TextDelta
from agentmesh_models.errors import ModelError
from agentmesh_models.generation import N_BATCH, Session
from agentmesh_models.inspection import inspect
from agentmesh_models.template import ChatTemplate
from agentmesh_models.threads import thread_count


def open_llama(
    path: Path, *, name: str, n_ctx: int | None = None, threads: int | None = None, gpu_layers: int = 0
) -> LlamaEngine:
    """Check the file at `path`, load it in a thread of its own, and return the engine that the thread serves.

    Raises:
        ModelError: the file is damaged, has no chat template or does not load; llama-cpp-python is missing.
    """
    inspected = inspect(path, name=name, n_ctx=n_ctx)
    count = thread_count(threads)
    binding.load()

    def load() -> Session:
        weights = binding.Weights(path, gpu_layers=gpu_layers)
        try:
            template = ChatTemplate(
                inspected.template,
                bos=inspected.file.token("tokenizer.ggml.bos_token_id"),
                eos=inspected.file.token("tokenizer.ggml.eos_token_id"),
                control=weights.control_texts(),
            )
            context = binding.Context(weights, n_ctx=inspected.info.n_ctx, n_batch=N_BATCH, threads=count)
        except BaseException:  # llama.cpp's memory is not the garbage collector's to free
            weights.close()
            raise
        return Session(
            weights=weights,
            context=context,
            template=template,
            info=inspected.info,
            library=binding.library_name(),
            threads=count,
        )

    return LlamaEngine(load, name=name)


class LlamaEngine:
    """A model served by the one thread that owns it; requests are answered in the order they came."""

    def __init__(self, load: Callable[[], Session], *, name: str) -> None:
        """Wait for `load`, run in the new thread; raises what it raises."""
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._jobs: set[_Job] = set()
        self._closed = False
        loaded: Future[ModelInfo] = Future()
        self._thread = threading.Thread(
            target=_serve, args=(load, loaded, self._queue), name=f"agentmesh-{name}", daemon=True
        )
        self._thread.start()
        self.info = loaded.result()

    async def generate(self, request: Request) -> AsyncGenerator[TextDelta | Reply, None]:
        """Answer `request`: pieces of text as they come, and last the whole reply; see `Engine`."""
        if self._closed:
            raise ModelError("closed", "the engine is closed")
        job = _Job(request, _waker())
        self._jobs.add(job)
        self._queue.put(job)
        try:
            while True:
                item = await job.next()
                yield item
                if isinstance(item, Reply):
                    return
        finally:
            job.cancel(ModelError("cancelled", "the request was cancelled"))
            self._jobs.discard(job)
            # The model stands still before the caller goes on: at most the time of one token.
            with anyio.CancelScope(shield=True):
                await job.stopped()

    async def aclose(self) -> None:
        """Stop what runs, refuse what waits, give the memory back. A second call does nothing."""
        if not self._closed:
            self._closed = True
            for job in tuple(self._jobs):
                job.cancel(ModelError("closed", "the engine was closed"))
            self._queue.put(None)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._thread.join)


class _Job:
    """A request on its way: the owner's thread puts pieces in, the caller's task takes them out."""

    def __init__(self, request: Request, wake: Callable[[Callable[[], None]], object]) -> None:
        self._request = request
        self._wake = wake
        self._items: deque[TextDelta | Reply | BaseException] = deque()
        self._arrived = anyio.Event()
        self._lock = threading.Lock()
        self._started = False
        self._done = False
        self._given_up: ModelError | None = None

    async def next(self) -> TextDelta | Reply:
        """The next piece, as soon as there is one; raises what ended the request."""
        await anyio.lowlevel.checkpoint()
        while not self._items:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        item = self._items.popleft()
        if isinstance(item, BaseException):
            raise item
        return item

    async def stopped(self) -> None:
        """Return when the owner's thread has nothing to do with this request any more."""
        with self._lock:
            if not self._started:
                return
        while not self._done:
            self._arrived = anyio.Event()
            if not self._done:
                await self._arrived.wait()

    def cancel(self, error: ModelError) -> None:
        """End the request with `error`, at the next token at the latest; nothing if it has ended."""
        with self._lock:
            if self._given_up is None:
                self._given_up = error
            if self._started:
                return
            self._started = self._done = True
        self._put(error)

    def run(self, session: Session) -> None:
        """In the owner's thread: answer, or pass on what went wrong."""
        with self._lock:
            if self._started:
                return
            self._started = True
        try:
            last: Reply | BaseException = session.answer(self._request, self._put, self._is_given_up)
        except Exception as error:  # noqa: BLE001  the caller's task is where it belongs
            last = self._given_up or error
        self._done = True
        self._put(last)

    def _is_given_up(self) -> bool:
        return self._given_up is not None

    def _put(self, item: TextDelta | Reply | BaseException) -> None:
        self._items.append(item)
        try:
            self._wake(self._notify)
        except RuntimeError as error:  # the caller's event loop is gone, and nobody will ever ask again
            self._given_up = self._given_up or ModelError("cancelled", f"nobody listens any more: {error}")

    def _notify(self) -> None:
        self._arrived.set()


def _serve(load: Callable[[], Session], loaded: Future[ModelInfo], queue: SimpleQueue[_Job | None]) -> None:
    """The owner's thread: load, then answer until told to stop."""
    try:
        session = load()
    except BaseException as error:  # noqa: BLE001  raised again where the engine was asked for
        loaded.set_exception(error)
        return
    loaded.set_result(session.info)
    try:
        while (job := queue.get()) is not None:
            job.run(session)
    finally:
        session.close()


def _waker() -> Callable[[Callable[[], None]], object]:
    """How another thread gets a function run in the event loop of the caller, without waiting for it."""
    token: object = anyio.lowlevel.current_token()
    native: object = getattr(token, "native_token", token)  # newer anyio wraps it
    name = (
        "call_soon_threadsafe" if hasattr(native, "call_soon_threadsafe") else "run_sync_soon"
    )  # asyncio, trio
    return cast(Callable[[Callable[[], None]], object], getattr(native, name))
