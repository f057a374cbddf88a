"""A loaded model at work: requests join and leave at any step, and all of them share each evaluation.

All of it happens in the owner's thread, `Session.step` again and again; only `stop` is called from elsewhere.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from agentmesh_models.cells import CellMemory, Seat
from agentmesh_models.context import Aborted, Context, NoCells, Row
from agentmesh_models.errors import ModelError
from agentmesh_models.invariance import ALIGNED, Probed
from agentmesh_models.prefix import common
from agentmesh_models.schedule import N_BATCH, shares
from agentmesh_models.work import Job, deliver

if TYPE_CHECKING:
    from agentmesh_models.context import Rows

_WORTH_WAITING: Final = 24
"""So many tokens that somebody else is evaluating anyway are worth waiting for."""


Tell = Callable[[object], None]


class Course(Protocol):
    """One piece of work on a model: tokens to be evaluated, some of whose scores it wants."""

    sequence: list[int]
    """All tokens known so far; those not yet evaluated are pending."""
    fresh: bool
    """Whether nothing that is known already may be reused."""
    most: int
    """How many tokens may come after `n_prompt`."""
    n_prompt: int

    @property
    def over(self) -> bool:
        """Whether it has all it wants."""
        ...

    def limit(self, done: int) -> int:
        """The most tokens that the next step may evaluate of it, `done` being evaluated."""
        ...

    def wants(self, at: int) -> bool:
        """Whether the scores of the token at `at` of `sequence` are wanted."""
        ...

    def take(self, rows: Rows, tell: Tell) -> None:
        """The scores wanted of the pieces just evaluated, in order; they may be written to. `tell` hands a piece on."""
        ...

    def result(self, record: Record) -> object:
        """What the job ends with. Raises `ModelError`."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


@dataclass(slots=True, kw_only=True)
class Record:
    """How a piece of work went: what was reused, how the rest was cut, when it began and when the prompt was read."""

    reused: int = 0
    splits: list[int] = field(default_factory=list)
    began: float = 0.0
    read: float = 0.0
    ended: float = 0.0


@dataclass(slots=True, eq=False, kw_only=True)
class _Running:
    job: Job[object]
    course: Course
    seat: Seat
    record: Record
    planned: int = 0

    @property
    def pending(self) -> int:
        return len(self.course.sequence) - len(self.seat.tokens)


class Session:
    """The work in hand of one context."""

    def __init__(
        self,
        context: Context,
        memory: CellMemory,
        *,
        probed: Probed,
        tell: Callable[[Sequence[Job[object]]], None] = deliver,
    ) -> None:
        """`tell` wakes the callers of jobs that have news."""
        self.evaluated = 0
        """Tokens evaluated since it was made."""
        self.steps = 0
        self._context = context
        self._memory = memory
        self._alone = probed.invariance == "aligned"
        self._together = probed.together
        self._waiting: deque[tuple[Job[object], Course]] = deque()
        self._running: list[_Running] = []
        self._gone: list[Job[object]] = []
        self._threads: int | None = None
        self._tell = tell

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._waiting or self._running)

    def add(self, job: Job[object], course: Course) -> None:
        """Take work in; it begins when there is room."""
        self._waiting.append((job, course))

    def set_threads(self, count: int) -> None:
        """From any thread: evaluate with `count` threads from the next step on."""
        self._threads = count

    def stop(self, job: Job[object]) -> None:
        """From any thread: somebody leaves. A step that mostly serves them is broken off."""
        if not self._memory.keeps:
            return  # a recurrent state that was half moved on cannot be taken back, whoever's it is
        running = tuple(self._running)
        theirs = sum(each.planned for each in running if each.job is job)
        if theirs and 2 * theirs >= sum(each.planned for each in running):
            self._context.abort(True)

    def step(self) -> None:
        """Let some leave, some begin, and everybody get on by one evaluation."""
        if self._threads is not None and self._threads != self._context.threads:
            self._context.set_threads(self._threads)
        touched: list[Job[object]] = []
        try:
            touched += self._let_leave()
            touched += self._let_begin()
            if self._running:
                touched += self._advance()
        except NoCells:
            # What was saved could not be put back: nobody's cells can be trusted now, and only those are lost.
            self._begin_anew("llama.cpp finds no room for what its context held before")
        except Exception as error:  # noqa: BLE001  a fault in the books costs those who run, not the engine
            self._begin_anew(f"{type(error).__name__}: {error}")
        finally:
            self._tell([*touched, *self._gone])
            self._gone = []

    def end_all(self, error: ModelError) -> None:
        """End all work with `error`: everybody is told, whatever becomes of the cells."""
        running = tuple(self._running)
        ended = [*self._waiting, *((each.job, each.course) for each in running)]
        self._waiting.clear()
        self._running.clear()
        for job, course in ended:
            course.close()
            job.end(error)
        self._tell([job for job, _ in ended])
        for each in running:
            self._memory.release(each.seat)

    def _begin_anew(self, why: str) -> None:
        """End all work, forget all cells, and go on: what follows cannot depend on what went wrong."""
        error = ModelError("decode_failed", f"the engine had to begin anew: {why}")
        ended = [job for job, _ in self._waiting] + [each.job for each in self._running]
        for course in [course for _, course in self._waiting] + [each.course for each in self._running]:
            course.close()
        self._waiting.clear()
        self._running.clear()
        self._memory.reset()
        for job in ended:
            job.end(error)
        self._tell(ended)

    def _let_leave(self) -> list[Job[object]]:
        now = time.monotonic()
        gone: list[Job[object]] = []
        for job, course in tuple(self._waiting):
            error = _reason_to_leave(job, now)
            if error is not None:
                self._waiting.remove((job, course))
                course.close()
                job.end(error)
                gone.append(job)
        for each in tuple(self._running):
            error = _reason_to_leave(each.job, now)
            if error is not None:
                self._leave(each, error)
                gone.append(each.job)
        return gone

    def _let_begin(self) -> list[Job[object]]:
        """Seat who came first, and stop at the first for whom there is no room: nobody is overtaken for ever."""
        refused: list[Job[object]] = []
        for job, course in tuple(self._waiting):
            if self._will_be_known(course):
                continue
            try:
                more = course.n_prompt + course.most - len(course.sequence)
                seat = self._memory.admit(course.sequence, more, fresh=course.fresh)
            except ModelError as error:
                self._waiting.remove((job, course))
                course.close()
                job.end(error)
                refused.append(job)
                continue
            if seat is None:
                break
            self._waiting.remove((job, course))
            record = Record(reused=len(seat.tokens), began=time.perf_counter())
            self._running.append(_Running(job=job, course=course, seat=seat, record=record))
        return refused

    def _will_be_known(self, course: Course) -> bool:
        """Whether somebody is just reading a prompt that begins as this one does: then it is read once."""
        if course.fresh or not self._memory.keeps:
            return False
        known: int | None = None
        for each in self._running:
            if each.pending < 2 or each.course.fresh:  # who reuses nothing leaves nothing either
                continue
            same = common(each.course.sequence, course.sequence)
            if same <= len(each.seat.tokens) + _WORTH_WAITING:
                continue
            if known is None:
                known = self._memory.known(course.sequence)
            if same > known + _WORTH_WAITING:
                return True
        return False

    def _advance(self) -> list[Job[object]]:
        """One step: all in one evaluation, or as many of those as it takes to have the bits of being alone."""
        if self._alone:
            return self._advance_apart()
        pending = [min(each.pending, each.course.limit(len(each.seat.tokens))) for each in self._running]
        counts = shares(pending, batch=min(N_BATCH, self._context.n_batch))
        parts = [pair for pair in zip(self._running, counts, strict=True) if pair[1]]
        touched: list[Job[object]] = []
        for group in _groups(parts, self._together):
            touched += self._evaluate(group)
        return touched

    def _advance_apart(self) -> list[Job[object]]:
        touched: list[Job[object]] = []
        single = [(each, 1) for each in self._running if each.pending == 1]
        readers = [each for each in self._running if each.pending > 1]
        for start in range(0, len(single), self._together):
            touched += self._evaluate(single[start : start + self._together])
        for each in readers:
            size = ALIGNED - len(each.seat.tokens) % ALIGNED
            count = min(each.pending, size, each.course.limit(len(each.seat.tokens)))
            touched += self._evaluate([(each, count)])
        return touched

    def _evaluate(self, parts: Sequence[tuple[_Running, int]]) -> list[Job[object]]:
        rows: list[Row] = []
        for each, count in parts:
            start = len(each.seat.tokens)
            for at in range(start, start + count):
                rows.append(
                    Row(
                        token=each.course.sequence[at],
                        position=at,
                        sequence=each.seat.sequence,
                        wanted=each.course.wants(at),
                    )
                )
        self._context.abort(False)
        if any(each.job.given_up for each, _ in parts):
            return []  # they left while the step was made: the next one is without them
        for each, count in parts:
            each.planned = count
        try:
            scores = self._try(rows)
        except Aborted:
            return []
        except ModelError as error:
            for each, _ in parts:
                self._leave(each, error)
            return [each.job for each, _ in parts]
        finally:
            for each, _ in parts:
                each.planned = 0
        self.steps += 1
        self.evaluated += len(rows)
        return self._hand_out(parts, scores)

    def _try(self, rows: Sequence[Row]) -> Rows:
        try:
            return self._context.evaluate(rows)
        except NoCells:
            # The books say there is room, llama.cpp says there is none: hold what runs and nothing else.
            self._memory.shrink()
        try:
            return self._context.evaluate(rows)
        except NoCells:
            raise ModelError(
                "decode_failed", f"llama.cpp finds no room for {len(rows)} tokens in its context"
            ) from None

    def _hand_out(self, parts: Sequence[tuple[_Running, int]], scores: Rows) -> list[Job[object]]:
        at = 0
        for each, count in parts:
            start = len(each.seat.tokens)
            reading = start < each.course.n_prompt
            self._memory.grew(each.seat, each.course.sequence[start : start + count])
            if reading:
                each.record.splits.append(count)
                if not each.course.fresh:
                    self._memory.commit(each.seat, each.course.n_prompt)
            wanted = sum(each.course.wants(place) for place in range(start, start + count))
            if wanted:
                now = time.perf_counter()
                each.record.read = each.record.read or now
                self._advance_one(each, scores[at : at + wanted])
                at += wanted
        return [each.job for each, _ in parts]

    def _advance_one(self, each: _Running, scores: Rows) -> None:
        try:
            each.course.take(scores, each.job.put)
            if not each.course.over:
                return
            each.record.ended = time.perf_counter()
            item = each.course.result(each.record)
        except ModelError as error:
            item = error
        except Exception as error:  # noqa: BLE001  a fault in one request must not take the others' engine
            item = ModelError("decode_failed", f"the reply failed: {type(error).__name__}: {error}")
            item.__cause__ = error
        self._leave(each, item)

    def _leave(self, each: _Running, item: object) -> None:
        self._running.remove(each)
        try:
            if not self._alone and not each.course.fresh:
                self._memory.commit(each.seat)
            self._memory.release(each.seat)
        finally:  # whatever is wrong with the books, nobody waits for ever
            each.course.close()
            each.job.end(item)
            self._gone.append(each.job)


def _groups(parts: Sequence[tuple[_Running, int]], most: int) -> Iterator[Sequence[tuple[_Running, int]]]:
    """The parts in groups that want at most `most` scores each; a part by itself may want more."""
    group: list[tuple[_Running, int]] = []
    wanted = 0
    for each, count in parts:
        start = len(each.seat.tokens)
        more = sum(each.course.wants(at) for at in range(start, start + count))
        if group and wanted + more > most:
            yield group
            group, wanted = [], 0
        group.append((each, count))
        wanted += more
    if group:
        yield group


def _reason_to_leave(job: Job[object], now: float) -> ModelError | None:
    if job.given_up is not None:
        return job.given_up
    if job.ends is not None and now >= job.ends:
        return ModelError("deadline", f"the reply was not ready after {job.deadline:g} seconds")
    return None
