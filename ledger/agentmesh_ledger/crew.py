"""Entries judged on all cores: worker processes of our own, fed through pipes, their outcomes in order.

Not `multiprocessing`: its "spawn" imports the caller's script anew, and a script without a guard would start itself
for ever. A worker here is the same Python with this package and nothing of the caller's.
"""

from __future__ import annotations

import gc
import marshal
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import BinaryIO, Final, Literal, Self, TypeAlias, cast

from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.judge import EntryRow, Outcome, Row, Terms, judge_entries, judge_lines, judge_rows

CHUNK_ENTRIES: Final = 256
CHUNK_BYTES: Final = 512 * 1024
_ALONE: Final = 2000  # entries judged in this process before workers are worth their start
_AHEAD: Final = 3  # chunks that a worker may have before it: it must not run dry, and memory is bounded
_MARK: Final = "AGENTMESH_LEDGER_WORKER"
_START: Final = "import sys; sys.path[:] = sys.argv[1:]; from agentmesh_ledger.crew import work; work()"

# Lines of a transcript with their line feeds, rows of a database, or entries of a published log.
Chunk: TypeAlias = bytes | list[Row] | list[EntryRow]
_Kind: TypeAlias = Literal["lines", "rows", "entries"]


class Crew:
    """Judges chunks of entries in order, with `jobs` worker processes once there are entries enough.

    A context manager: on the way out the workers end, by themselves where all went well, else by force.
    `jobs` None means one worker more than this process may use cores, so that none idles while the workers and this
    process wait for one another, and on one core none at all; 1 means none.
    """

    def __init__(self, terms: Terms, kind: _Kind, jobs: int | None = None) -> None:
        if jobs is not None and jobs < 1:
            raise LedgerError("refused", "a verification needs at least one job")
        self._terms = terms
        self._kind: _Kind = kind
        cores = _cores()
        wanted = (cores + 1 if cores > 1 else 1) if jobs is None else jobs
        self._jobs = wanted if wanted > 1 and _can_start() else 0
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.end(force=kind is not None)

    def judged(self, chunks: Iterator[Chunk]) -> Iterator[list[Outcome]]:
        """The outcomes of each chunk, in order. What `chunks` raises comes after the outcomes of what it gave.

        Raises: LedgerError(worker) where a worker ended.
        """
        flying: deque[_Worker] = deque()
        failure: LedgerError | None = None
        alone = turn = 0
        while failure is None:
            try:
                chunk = next(chunks, None)
            except LedgerError as error:
                failure = error
                break
            if chunk is None:
                break
            if not self._jobs or alone < _ALONE:
                outcomes = judge_chunk(chunk, self._terms)
                alone += len(outcomes)
                yield outcomes
                continue
            if not self._workers:
                for _ in range(self._jobs):
                    self._workers.append(_Worker(self._terms, self._kind))
            worker = self._workers[turn % len(self._workers)]
            turn += 1
            worker.send(chunk)
            flying.append(worker)
            if len(flying) > _AHEAD * len(self._workers):
                yield flying.popleft().receive()
        while flying:
            yield flying.popleft().receive()
        if failure is not None:
            raise failure


def judge_chunk(chunk: Chunk, terms: Terms) -> list[Outcome]:
    """The outcomes of a chunk's entries, here and now."""
    if isinstance(chunk, bytes):
        return judge_lines(chunk[:-1].split(b"\n"), terms)
    if chunk and len(chunk[0]) == 2:
        return judge_entries(chunk, terms)
    return judge_rows(cast(list[Row], chunk), terms)


class _Worker:
    """One process. It reads ahead by a thread of its own, so that neither side ever waits for the other to read."""

    def __init__(self, terms: Terms, kind: _Kind) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _START, *(os.path.abspath(each) for each in sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, _MARK: "1"},
            )
        except OSError as error:
            raise _ended() from error
        point = terms.checkpoint
        self._write(marshal.dumps((kind, point.origin, point.size, point.root, terms.proof, terms.swift)))

    def send(self, chunk: Chunk) -> None:
        """Gives it a chunk; waits until the pipe has taken it."""
        self._write(chunk if isinstance(chunk, bytes) else marshal.dumps(chunk))

    def receive(self) -> list[Outcome]:
        """The outcomes of the oldest chunk not yet received."""
        data = None if self._process.stdout is None else _frame(cast(BinaryIO, self._process.stdout))
        if data is None:
            raise _ended()
        return cast(list[Outcome], marshal.loads(data))  # from our own process

    def end(self, *, force: bool) -> None:
        """Ends the process and waits for it."""
        if force:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # what it had not read yet cannot be flushed
                pass
        self._process.wait()

    def _write(self, data: bytes) -> None:
        pipe = self._process.stdin
        try:
            if pipe is not None:
                pipe.write(len(data).to_bytes(4, "big"))
                pipe.write(data)
                pipe.flush()
        except OSError as error:
            raise _ended() from error


def work() -> None:
    """What a worker does: outcomes for chunks, until there are no more or nobody wants them."""
    gc.freeze()  # what was imported stays; no collection need walk it again
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells all of us; whoever started us ends us
    source, out = sys.stdin.buffer, sys.stdout.buffer
    first = _frame(source)
    if first is None:
        return
    kind, origin, size, root, proof, swift = marshal.loads(first)  # from our own process
    terms = Terms(checkpoint=Checkpoint(origin=origin, size=size, root=root), proof=proof, swift=swift)
    waiting: SimpleQueue[bytes | None] = SimpleQueue()
    Thread(target=_read_ahead, args=(source, waiting.put), daemon=True).start()
    try:
        while (data := waiting.get()) is not None:
            chunk: Chunk = data if kind == "lines" else marshal.loads(data)
            found = marshal.dumps(judge_chunk(chunk, terms))
            out.write(len(found).to_bytes(4, "big"))
            out.write(found)
            out.flush()
    except BrokenPipeError:
        os._exit(0)  # nobody listens any more; the thread may still wait in a read


def _read_ahead(source: BinaryIO, give: Callable[[bytes | None], None]) -> None:
    data: bytes | None = b""
    while data is not None:
        data = _frame(source)
        give(data)


def _frame(source: BinaryIO) -> bytes | None:
    """The next frame; None at the end, also where it is cut: a worker that was killed answers nothing."""
    size = source.read(4)
    if len(size) < 4:
        return None
    length = int.from_bytes(size, "big")
    data = source.read(length)
    return data if len(data) == length else None


def _ended() -> LedgerError:
    return LedgerError(
        "worker",
        "a process that helped to verify has ended: nothing is shown",
        hint="Try again, with jobs=1 where it happens again",
    )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _can_start() -> bool:
    """Whether this very Python can be started once more: a frozen program would start itself."""
    if os.environ.get(_MARK) or getattr(sys, "frozen", False) or not sys.executable:
        return False
    name = os.path.basename(sys.executable).lower()
    return name.startswith(("python", "pypy"))
