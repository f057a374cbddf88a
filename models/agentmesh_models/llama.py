"""The engine: one thread owns llama.cpp; async callers get pieces of text and may leave at any time."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Final, cast

import anyio
import anyio.to_thread

from agentmesh_models import binding
from agentmesh_models.cells import CellMemory
from agentmesh_models.chat import Method, ModelInfo, Piece, Profile, Reply, Request, Rescored
from agentmesh_models.context import Context
from agentmesh_models.errors import ModelError
from agentmesh_models.facts import read_facts
from agentmesh_models.gguf import GgufFile
from agentmesh_models.inspection import Inspected, inspect
from agentmesh_models.invariance import LOOSE, Invariance, Probed, probe
from agentmesh_models.memory import PARALLEL, cell_count, check_parallel, saved_limit
from agentmesh_models.reply import Model, Replying
from agentmesh_models.rescore import Rescoring, check_same
from agentmesh_models.schedule import N_BATCH
from agentmesh_models.session import Course, Session
from agentmesh_models.template import ChatTemplate
from agentmesh_models.threads import MOST_THREADS, thread_count
from agentmesh_models.work import Job, check_deadline, deliver

QUEUE: Final = 256
"""How many requests an engine takes on, running and waiting."""
_BRANCHES: Final = 64
"""Sequences for known prefixes: llama.cpp keeps room for a row of scores for each sequence that there may be."""
_PATIENCE: Final = 5.0
"""So many seconds closing waits for prompts that are being read into tokens."""
_ROWS_AT_ONCE: Final = 32
"""Rows of scores that a scoring asks for at a time: each is as long as the vocabulary."""


def open_llama(
    path: Path,
    *,
    name: str,
    n_ctx: int | None = None,
    threads: int | None = None,
    gpu_layers: int = 0,
    exact: bool = True,
    parallel: int = PARALLEL,
    queue: int = QUEUE,
) -> LlamaEngine:
    """Check the file at `path`, load it in a thread of its own, and return the engine that the thread serves.

    `n_ctx` bounds one request, in tokens. At most `parallel` requests are evaluated together and `queue` taken on.
    With `exact`, on a CPU, a reply does not depend on what else runs, to the last bit; without it, reading
    long prompts is faster (by a third at 500 tokens).

    Raises:
        ModelError: the file is damaged, has no chat template or does not load; llama-cpp-python is missing.
    """
    check_parallel(parallel)
    if queue < 1:
        raise ModelError("bad_request", f"queue must be at least 1 request, not {queue}")
    inspected = inspect(path, name=name, n_ctx=n_ctx)
    count = thread_count(threads)
    binding.load()

    def load() -> _Loaded:
        return _load(
            inspected, threads=count, gpu_layers=gpu_layers, exact=exact and not gpu_layers, parallel=parallel
        )

    return LlamaEngine(load, name=name, queue=queue)


class LlamaEngine:
    """A model served by the one thread that owns it: requests join and leave at any step, and share each one."""

    def __init__(self, load: Callable[[], _Loaded], *, name: str, queue: int) -> None:
        """Wait for `load`, run in the new thread; raises what it raises."""
        self._inbox: SimpleQueue[tuple[Job[object], Course] | None] = SimpleQueue()
        self._jobs: set[Job[object]] = set()
        self._limit = queue
        self._closed = False
        loaded: Future[_Loaded] = Future()
        self._thread = threading.Thread(
            target=_serve, args=(load, loaded, self._inbox), name=f"agentmesh-{name}", daemon=True
        )
        self._thread.start()
        self._loaded = loaded.result()
        self.info: Final[ModelInfo] = self._loaded.model.info

    @property
    def invariance(self) -> Invariance:
        """What a reply's bits depend on here; see `agentmesh_models.invariance`."""
        return self._loaded.model.invariance

    @property
    def evaluated(self) -> int:
        """How many tokens were evaluated so far."""
        return self._loaded.session.evaluated

    @property
    def steps(self) -> int:
        """How many evaluations there were so far."""
        return self._loaded.session.steps

    def set_threads(self, count: int) -> None:
        """Use `count` threads from the next step on; may be called from any thread.

        Raises:
            ModelError: reason "bad_request".
        """
        if not 1 <= count <= MOST_THREADS:
            raise ModelError("bad_request", f"threads must be 1 to {MOST_THREADS}, not {count}")
        self._loaded.session.set_threads(count)

    async def generate(self, request: Request) -> AsyncGenerator[Piece, None]:
        """Answer `request`: pieces of text as they come, and last the whole reply; see `Engine`.

        Raises:
            ModelError: also "queue_full" where the engine has taken on as many requests as it may.
        """
        check_deadline(request.deadline)
        job = self._admit(request.deadline)
        try:
            await self._start(job, partial(self._reply_to, request))
            while True:
                item = cast(Piece, await job.next())
                yield item
                if isinstance(item, Reply):
                    return
        finally:
            await self._finish(job)

    async def rescore(self, profile: Profile, *, method: Method = "score") -> Rescored:
        """Check a recorded reply against this engine's model; see `Rescored`.

        "replay" generates anew, with the prompt cut as it was recorded; "score" evaluates prompt and reply at once
        and looks at what each of the reply's tokens would have been: as many evaluations as a prompt of that length.

        Raises:
            ModelError: "not_checkable"; the profile is of another model, or of none that can be run again.
        """
        check_same(profile, self.info)
        job = self._admit(None)
        try:
            await self._start(job, partial(self._rescore, profile, method))
            while True:
                item = await job.next()
                if isinstance(item, Rescored):
                    return item
        finally:
            await self._finish(job)

    async def aclose(self) -> None:
        """Stop what runs, refuse what waits, give the memory back. A second call does nothing."""
        if not self._closed:
            self._closed = True
            for job in tuple(self._jobs):
                self._stop(job, ModelError("closed", "the engine was closed"))
            self._inbox.put(None)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._thread.join)

    def _admit(self, deadline: float | None) -> Job[object]:
        if self._closed:
            raise ModelError("closed", "the engine is closed")
        if len(self._jobs) >= self._limit:
            # Whose event loop was closed never comes to take their job away.
            self._jobs = {job for job in self._jobs if not job.over}
        if len(self._jobs) >= self._limit:
            raise ModelError(
                "queue_full",
                f"the engine has {len(self._jobs)} requests already, and takes no more; try again later",
                expected=self._limit,
                found=len(self._jobs) + 1,
            )
        job: Job[object] = Job(deadline=deadline)
        self._jobs.add(job)
        return job

    async def _start(self, job: Job[object], prepare: Callable[[], Course]) -> None:
        """Render and tokenise in a thread, for a long prompt takes a while, and hand it to the owner."""
        left = None if job.ends is None else job.ends - time.monotonic()
        course: Course | None = None
        with anyio.move_on_after(left):
            # A chat template is the model's program and may never end: nobody has to wait for it.
            course = await anyio.to_thread.run_sync(self._loaded.prepare, prepare, abandon_on_cancel=True)
        if course is None:
            raise ModelError("deadline", f"the prompt was not ready after {job.deadline:g} seconds")
        if job.given_up is not None:
            course.close()
            return
        self._inbox.put((job, course))
        if self._loaded.ended is not None:  # the owner took what it found, and looks no more
            job.give_up(self._loaded.ended)

    def _reply_to(self, request: Request) -> Course:
        model = self._loaded.model
        prompt, thinking = model.prompt(request)
        return Replying(model, request, prompt, thinking=thinking, threads=self._loaded.context.threads)

    def _rescore(self, profile: Profile, method: Method) -> Course:
        return Rescoring(self._loaded.model, profile, method=method, threads=self._loaded.context.threads)

    def _stop(self, job: Job[object], error: ModelError) -> None:
        if job.give_up(error):
            self._loaded.session.stop(job)

    async def _finish(self, job: Job[object]) -> None:
        self._stop(job, ModelError("cancelled", "the request was cancelled"))
        self._jobs.discard(job)
        # The model has done with it before the caller goes on: at most one step.
        with anyio.CancelScope(shield=True):
            await job.stopped()


class _Bell:
    """A thread that wakes callers, so that the owner's need not.

    To wake an event loop is to write to its socket; that gives the interpreter's lock away, the event loop takes it at
    once, and the model would stand still until the caller has dealt with its token.
    """

    def __init__(self, name: str) -> None:
        self._rung: SimpleQueue[Sequence[Job[object]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=f"agentmesh-{name}-bell", daemon=True)
        self._thread.start()

    def ring(self, jobs: Sequence[Job[object]]) -> None:
        """Wake the callers of `jobs` soon."""
        if jobs:
            self._rung.put(jobs)

    def close(self) -> None:
        """Wake who is still to be woken, and end."""
        self._rung.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (jobs := self._rung.get()) is not None:
            deliver(jobs)


class _Loaded:
    """What the owner's thread holds."""

    def __init__(self, *, model: Model, context: Context, session: Session, bell: _Bell) -> None:
        self.model = model
        self.context = context
        self.session = session
        self.ended: ModelError | None = None
        """Why the owner's thread takes no more work."""
        self._bell = bell
        self._preparing = 0
        self._left = False
        self._changed = threading.Condition()

    def prepare(self, make: Callable[[], Course]) -> Course:
        """In any thread: `make` a course. The vocabulary that it reads stays until it is made."""
        with self._changed:
            if self.ended is not None:
                raise self.ended
            self._preparing += 1
        try:
            return make()
        finally:
            with self._changed:
                self._preparing -= 1
                self._changed.notify_all()
                last = self._left and not self._preparing
            if last:
                self._free()

    def end(self, error: ModelError) -> None:
        """Take no more work: whoever comes is told `error`."""
        with self._changed:
            self.ended = error

    def close(self) -> None:
        """Give the memory back, once nobody prepares any more; who takes too long for that does it afterwards."""
        self._bell.close()
        with self._changed:
            if not self._changed.wait_for(lambda: not self._preparing, _PATIENCE):
                self._left = True
                return
        self._free()

    def _free(self) -> None:
        self.context.close()
        self.model.weights.close()


def _load(inspected: Inspected, *, threads: int, gpu_layers: int, exact: bool, parallel: int) -> _Loaded:
    info, file = inspected.info, inspected.file
    assert info.path is not None
    tokens = _tokens(file)
    weights = binding.Weights(info.path, gpu_layers=gpu_layers)
    context: Context | None = None
    try:
        template = ChatTemplate(
            inspected.template,
            bos=tokens.get(file.number("tokenizer.ggml.bos_token_id"), ""),
            eos=tokens.get(file.number("tokenizer.ggml.eos_token_id"), ""),
            control=weights.control_texts(),
        )
        context = Context(
            weights,
            n_cells=cell_count(info.n_ctx, parallel),
            n_batch=N_BATCH,
            n_seq=parallel + (_BRANCHES if weights.keeps_prefixes else 2),
            threads=threads,
            exact=exact,
        )
        probed = _probed(context, weights, exact=exact)
        window = file.number(f"{file.text('general.architecture')}.attention.sliding_window") or 0
        memory = CellMemory(
            cells=context,
            n_cells=context.n_cells,
            seats=parallel,
            grain=probed.grain,
            keeps=weights.keeps_prefixes,
            sequences=parallel + _BRANCHES,
            # Of a sliding window llama.cpp saves only what is inside it.
            saves=weights.keeps_prefixes and window == 0,
            saved_limit=saved_limit(read_facts(file).kv_bytes, context.n_cells),
        )
    except BaseException:  # llama.cpp's memory is not the garbage collector's to free
        if context is not None:
            context.close()
        weights.close()
        raise
    model = Model(
        weights=weights,
        template=template,
        info=info,
        library=binding.library_name(),
        n_batch=context.n_batch,
        invariance=probed.invariance,
        together=min(probed.together, _ROWS_AT_ONCE),
    )
    bell = _Bell(info.name)
    session = Session(context, memory, probed=probed, tell=bell.ring)
    return _Loaded(model=model, context=context, session=session, bell=bell)


def _tokens(file: GgufFile) -> dict[int | None, str]:
    """The vocabulary by id.

    Raises:
        ModelError: "malformed"; a token stands there twice, at which llama.cpp ends the whole process.
    """
    texts: dict[int | None, str] = {}
    seen: set[bytes] = set()
    for at, text in enumerate(file.texts("tokenizer.ggml.tokens")):
        # As llama.cpp reads them: up to the first zero byte, and an empty one under a name of its own.
        read = text.partition(b"\0")[0] or b"[EMPTY_%d]" % at
        if read in seen:
            shown = read.decode("utf-8", "replace")
            raise ModelError("malformed", f"the vocabulary holds the token {shown!r} twice", path=file.path)
        seen.add(read)
        texts[at] = text.decode("utf-8", "replace")
    return texts


def _probed(context: Context, weights: binding.Weights, *, exact: bool) -> Probed:
    if not exact:
        return LOOSE
    if not weights.keeps_prefixes:  # a recurrent state is of one sequence: there is no company to try
        return Probed(invariance="aligned", together=1)
    return probe(context, n_vocab=weights.n_vocab)


def _serve(
    load: Callable[[], _Loaded],
    loaded: Future[_Loaded],
    inbox: SimpleQueue[tuple[Job[object], Course] | None],
) -> None:
    """The owner's thread: load, then step until told to stop."""
    try:
        held = load()
    except BaseException as error:  # noqa: BLE001  raised again where the engine was asked for
        loaded.set_exception(error)
        return
    loaded.set_result(held)
    session = held.session
    ended = ModelError("closed", "the engine was closed")
    try:
        _work(session, inbox)
    except BaseException as error:
        ended = ModelError("decode_failed", f"the engine failed: {type(error).__name__}: {error}")
        raise
    finally:
        # Nobody must wait for a thread that is gone.
        held.end(ended)
        while not inbox.empty():
            if (arrived := inbox.get()) is not None and arrived[0].taken():
                session.add(*arrived)
        try:
            session.end_all(ended)
        finally:
            held.close()


def _work(session: Session, inbox: SimpleQueue[tuple[Job[object], Course] | None]) -> None:
    """Step until told to stop."""
    while True:
        while not inbox.empty() or not session.busy:
            arrived = inbox.get()
            if arrived is None:
                return
            job, course = arrived
            if job.taken():
                session.add(job, course)
            else:
                course.close()
        session.step()
