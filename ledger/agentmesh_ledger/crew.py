"""Entries judged on all cores: worker processes of our own, fed through pipes, what they found in order.

Not `multiprocessing`: its "spawn" imports the caller's script anew, and a script without a guard would start itself
for ever. A worker here is the same Python with this package and nothing of the caller's.
"""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import IO, BinaryIO, Final, Literal, Self, TypeAlias, cast

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.judge import Chunk, Judged, Terms, judge_chunk
from agentmesh_ledger.run import Outcome, Run
from agentmesh_ledger.worker import read_frame

if sys.platform == "linux":
    import fcntl

CHUNK_ENTRIES: Final = 256
CHUNK_BYTES: Final = 512 * 1024
_ALONE: Final = 2000  # entries judged in this process before workers are worth their start
_AHEAD: Final = 3  # chunks that a worker may have before it: it must not run dry, and memory is bounded
# Bytes before all workers together, but for one chunk: a line may have 22 MB.
_MAX_FLYING: Final = 32 * 1024 * 1024
_PIPE: Final = 1024 * 1024  # bytes, what Linux grants without asking
_MARK: Final = "AGENTMESH_LEDGER_WORKER"
_START: Final = "import sys; sys.path[:] = sys.argv[1:]; from agentmesh_ledger.worker import work; work()"

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

    def judged(self, chunks: Iterator[Chunk], entries: int = 0) -> Iterator[Judged]:
        """Each chunk judged, in order. What `chunks` raises comes after all that it gave. Where it is known to be many
        `entries`, the workers start at once.

        Raises: LedgerError(worker) where a worker ended.
        """
        flying: deque[tuple[_Worker, int]] = deque()
        flown = 0  # bytes
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
            if not self._jobs or (alone < _ALONE and entries < _ALONE):
                found = judge_chunk(chunk, self._terms)
                alone += len(found)
                yield Judged.here(found, self._terms)
                continue
            if not self._workers:
                for _ in range(self._jobs):
                    self._workers.append(_Worker(self._terms, self._kind))
            worker = self._workers[turn % len(self._workers)]
            turn += 1
            flying.append((worker, worker.send(chunk)))
            flown += flying[-1][1]
            while len(flying) > _AHEAD * len(self._workers) or (flown > _MAX_FLYING and len(flying) > 1):
                worker, size = flying.popleft()
                flown -= size
                yield worker.receive()
        while flying:
            yield flying.popleft()[0].receive()
        if failure is not None:
            raise failure


class _Worker:
    """One process. It reads ahead by a thread of its own, so that neither side ever waits for the other to read."""

    def __init__(self, terms: Terms, kind: _Kind) -> None:
        self._terms = terms
        self._given: deque[Chunk] = deque()  # not yet received: a run may have to be taken apart
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
        _widen(self._process.stdin)
        point = terms.checkpoint
        self._write(marshal.dumps((kind, point.origin, point.size, point.root, terms.proof, terms.swift)))

    def send(self, chunk: Chunk) -> int:
        """Gives it a chunk; waits until the pipe has taken it. Returns how many bytes it has."""
        self._given.append(chunk)
        data = chunk if isinstance(chunk, bytes) else marshal.dumps(chunk)
        self._write(data)
        return len(data)

    def receive(self) -> Judged:
        """What was found of the oldest chunk not yet received."""
        data = None if self._process.stdout is None else read_frame(cast(BinaryIO, self._process.stdout))
        if data is None:
            raise _ended()
        chunk = self._given.popleft()
        found = marshal.loads(data)  # from our own process
        told = Run._make(found) if isinstance(found, tuple) else cast(list[Outcome], found)
        return Judged.elsewhere(chunk, self._terms, told)

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


def _ended() -> LedgerError:
    return LedgerError(
        "worker",
        "a process that helped to verify has ended: nothing is shown",
        hint="Try again, with jobs=1 where it happens again",
    )


def _widen(pipe: IO[bytes] | None) -> None:
    """Lets the pipe take a chunk at once, where the system has such pipes and gives us one."""
    if sys.platform == "linux" and pipe is not None:
        with suppress(OSError):  # an unprivileged user may have only so many
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)


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
