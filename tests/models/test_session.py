"""The work in hand of one context, with a context that adds up instead of thinking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh_models import ModelError
from agentmesh_models.cells import CellMemory
from agentmesh_models.context import Aborted, Context, NoCells, Row
from agentmesh_models.invariance import Probed
from agentmesh_models.session import Record, Session, Tell
from agentmesh_models.work import Job

PREFIX = [at % 7 for at in range(300)]


@pytest.fixture(autouse=True)
def _no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are made in no event loop here: what they are told is read directly."""
    loop = object()
    monkeypatch.setattr("agentmesh_models.work._event_loop", lambda: (loop, lambda function: function()))


class Fake:
    """A context: sequences with their positions, and scores that tell the sum of all tokens up to one."""

    n_batch = 256
    threads = 1

    def __init__(self) -> None:
        self.sequences: dict[int, dict[int, int]] = {}
        self.saved: dict[bytes, dict[int, int]] = {}
        self.steps: list[list[Row]] = []
        self.faults: list[Exception] = []
        self.told: list[bool] = []

    def evaluate(self, rows: Sequence[Row]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        self.steps.append(list(rows))
        if self.faults:
            raise self.faults.pop(0)
        scores: list[list[float]] = []
        for row in rows:
            held = self.sequences.setdefault(row.sequence, {})
            assert sorted(held) == list(range(row.position)), "a sequence with holes"
            held[row.position] = row.token
            if row.wanted:
                scores.append([sum(held.values())])
        return np.array(scores, dtype=np.float32).reshape(len(scores), 1)

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        for position, token in self.sequences.get(source, {}).items():
            if start <= position < end:
                self.sequences.setdefault(target, {})[position] = token

    def drop(self, sequence: int, start: int = 0, end: int = -1) -> None:
        held = self.sequences.get(sequence, {})
        for position in tuple(held):
            if position >= start and (position < end or end < 0):
                del held[position]

    def clear(self) -> None:
        self.sequences.clear()

    def save(self, sequence: int) -> bytes:
        name = b"%d" % len(self.saved)
        self.saved[name] = dict(self.sequences.get(sequence, {}))
        return name

    def restore(self, sequence: int, saved: bytes) -> None:
        self.sequences[sequence] = dict(self.saved[saved])

    def set_threads(self, count: int) -> None:
        self.threads = count

    def abort(self, wish: bool) -> None:
        self.told.append(wish)


class Work:
    """A course: a prompt and `most` tokens after it; each is what the scores say of all before it."""

    def __init__(self, prompt: Sequence[int], most: int = 3, *, fresh: bool = False) -> None:
        self.sequence = list(prompt)
        self.n_prompt = len(prompt)
        self.most = most
        self.fresh = fresh
        self.sums: list[int] = []
        self.closed = 0
        self.fault: Exception | None = None

    @property
    def over(self) -> bool:
        return len(self.sums) > self.most

    def limit(self, done: int) -> int:
        return 1 << 30

    def wants(self, at: int) -> bool:
        return at == len(self.sequence) - 1

    def take(self, rows: np.ndarray[tuple[int, ...], np.dtype[np.float32]], tell: Tell) -> None:
        if self.fault is not None:
            raise self.fault
        assert rows.shape == (1, 1) and rows[0, 0] == sum(self.sequence)
        self.sums.append(int(rows[0, 0]))
        if not self.over:
            self.sequence.append(self.sums[-1] % 5)

    def result(self, record: Record) -> object:
        return record

    def close(self) -> None:
        self.closed += 1


class Room:
    """A session over a fake context."""

    def __init__(
        self, n_cells: int = 2000, seats: int = 4, invariance: str = "free", together: int = 256
    ) -> None:
        self.context = Fake()
        probed = Probed(invariance=invariance, together=together)  # type: ignore[arg-type]  # one of three words
        self.memory = CellMemory(cells=self.context, n_cells=n_cells, seats=seats, grain=probed.grain)
        self.session = Session(cast(Context, self.context), self.memory, probed=probed)
        self.works: dict[Job[object], Work] = {}

    def add(self, work: Work, deadline: float | None = None) -> Job[object]:
        job: Job[object] = Job(deadline=deadline)
        assert job.taken()
        self.works[job] = work
        self.session.add(job, work)
        return job

    def run(self, steps: int = 500) -> None:
        """Until nothing is to do; what is left then is looked at."""
        while self.session.busy:
            self.session.step()
            steps -= 1
            assert steps, "it takes for ever"
        assert not self.memory._running and sorted(self.memory._free_seats) == list(range(self.memory.seats))
        for job, work in self.works.items():
            assert work.closed == 1 and len(job._items) == 1
        self.memory.shrink()
        assert self.memory.top == 0

    def ended(self, job: Job[object]) -> object:
        return job._items[-1] if job._items else None

    def reason(self, job: Job[object]) -> str:
        error = self.ended(job)
        assert isinstance(error, ModelError), error
        return error.reason

    def record(self, job: Job[object]) -> Record:
        record = self.ended(job)
        assert isinstance(record, Record), record
        return record


@pytest.mark.parametrize("invariance", ["free", "aligned", "loose"])
@pytest.mark.parametrize("together", [1, 3, 256])
def test_everybody_gets_what_they_would_get_alone(invariance: str, together: int) -> None:
    prompts = [[*PREFIX[: 40 * at], at] for at in range(7)]
    alone: list[list[int]] = []
    for prompt in prompts:
        room = Room(invariance=invariance, together=together)
        work = Work(prompt, 9)
        room.add(work)
        room.run()
        alone.append(work.sums)
    room = Room(invariance=invariance, together=together)
    works = [Work(prompt, 9) for prompt in prompts]
    for work in works:
        room.add(work)
    room.run()
    assert [work.sums for work in works] == alone


def test_who_came_first_begins_first_and_a_small_one_does_not_slip_past_a_large_one() -> None:
    room = Room(n_cells=300)
    first = room.add(Work([1] * 100, 50))
    large = room.add(Work([2] * 200, 50))
    small = room.add(Work([3] * 10, 5))
    for _ in range(20):
        room.session.step()
    assert room.ended(small) is None
    room.run()
    began = [room.record(job).began for job in (first, large, small)]
    assert began == sorted(began)


def test_one_that_fits_nowhere_is_told_and_holds_up_nobody() -> None:
    room = Room(n_cells=100)
    jobs = [room.add(Work([1] * 90, 20)), room.add(Work([1] * 9, 20))]
    room.run()
    assert room.reason(jobs[0]) == "context_full" and room.record(jobs[1]).splits


def test_a_prompt_that_several_begin_with_is_read_once() -> None:
    room = Room()
    jobs = [room.add(Work([*PREFIX, at, at], 2)) for at in range(4)]
    room.run()
    assert room.session.evaluated <= len(PREFIX) + 4 * 6
    assert [room.record(job).reused for job in jobs] == [0, 300, 300, 300]


@pytest.mark.parametrize("invariance", ["free", "aligned"])
@pytest.mark.parametrize("steps", [1, 2])
def test_when_the_reader_of_a_common_prompt_leaves_another_reads_it(invariance: str, steps: int) -> None:
    room = Room(invariance=invariance)
    jobs = [room.add(Work([*PREFIX, at, at], 2)) for at in range(4)]
    for _ in range(steps):
        room.session.step()
    jobs[0].give_up(ModelError("cancelled", "it left"))
    room.run()
    assert room.reason(jobs[0]) == "cancelled"
    assert all(room.record(job).splits for job in jobs[1:])


def test_nobody_waits_for_a_prompt_that_its_reader_will_not_share() -> None:
    room = Room()
    fresh = room.add(Work([*PREFIX, *PREFIX, *PREFIX], 2, fresh=True))
    waiting = room.add(Work([*PREFIX, 1], 2))
    room.session.step()
    room.session.step()
    room.session.step()
    assert room.works[waiting].sums, "it waited for a fresh request's prompt"
    room.run()
    assert room.record(fresh).reused == 0


def test_one_leaves_in_the_queue_while_reading_and_while_writing() -> None:
    room = Room(seats=2)
    reading, writing = room.add(Work(PREFIX[::-1] * 3, 5)), room.add(Work([1, 2], 50))
    queued, last = room.add(Work([3], 5)), room.add(Work([4], 5))
    room.session.step()
    for job in (reading, writing, queued):
        job.give_up(ModelError("cancelled", "it left"))
    room.session.step()
    assert all(room.reason(job) == "cancelled" for job in (reading, writing, queued))
    room.run()
    assert room.record(last).splits == [1]


def test_a_deadline_passes_in_the_queue_and_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    room = Room(seats=1)
    running, queued = room.add(Work([1], 90), deadline=10), room.add(Work([2], 9), deadline=5)
    patient = room.add(Work([3], 9))
    room.session.step()
    now += 6
    room.session.step()
    assert room.reason(queued) == "deadline" and room.ended(running) is None
    now += 5
    room.session.step()
    assert room.reason(running) == "deadline" and "10 seconds" in str(room.ended(running))
    room.run()
    assert room.record(patient).splits == [1]


@pytest.mark.parametrize("fault", [ModelError("decode_failed", "no"), ZeroDivisionError("oh")])
def test_a_fault_in_one_request_leaves_the_others_going(fault: Exception) -> None:
    room = Room()
    works = [Work([at], 9) for at in range(3)]
    jobs = [room.add(work) for work in works]
    room.session.step()
    works[1].fault = fault
    room.run()
    told = room.ended(jobs[1])
    assert isinstance(told, ModelError) and told.reason == "decode_failed" and fault in (told, told.__cause__)
    assert len(works[0].sums) == len(works[2].sums) == 10


def test_a_failed_evaluation_ends_those_of_its_step_and_no_others() -> None:
    room = Room(seats=3, together=2)  # two evaluations a step
    jobs = [room.add(Work([at], 9)) for at in range(4)]
    room.session.step()
    room.context.faults = [ModelError("decode_failed", "llama.cpp failed with -3")]
    room.run()
    assert [room.reason(job) for job in jobs[:2]] == ["decode_failed"] * 2
    assert all(room.record(job).splits for job in jobs[2:])


def test_what_was_aborted_is_evaluated_again() -> None:
    room = Room()
    job = room.add(Work(PREFIX, 3))
    room.context.faults = [Aborted(), Aborted()]
    room.run()
    assert room.record(job).splits == [256, 44] and room.session.evaluated == 303


def test_one_who_leaves_breaks_off_a_long_step_and_no_short_one() -> None:
    room = Room()
    long, short = room.add(Work(PREFIX, 3)), room.add(Work([1], 3))
    told: list[list[bool]] = []

    def evaluate(rows: Sequence[Row]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        for job in (short, long):
            room.context.told.clear()
            room.session.stop(job)
            told.append(list(room.context.told))
        return Fake.evaluate(room.context, rows)

    room.context.evaluate = evaluate  # type: ignore[method-assign]
    room.session.step()
    assert told == [[], [True]]
    room.run()


def test_a_step_whose_memory_cannot_be_taken_back_is_never_broken_off() -> None:
    """A recurrent state that was half moved on would be wrong for whoever else shares the step."""
    room = Room()
    room.memory.keeps = False
    wishes: list[bool] = []
    room.context.abort = wishes.append  # type: ignore[method-assign]
    evaluate = room.context.evaluate

    def leave(rows: Sequence[Row]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        job.given_up = ModelError("cancelled", "gone")
        room.session.stop(job)
        return evaluate(rows)

    room.context.evaluate = leave  # type: ignore[method-assign]
    job = room.add(Work(list(range(200)), 3))
    room.run()
    assert room.reason(job) == "cancelled" and True not in wishes


def test_one_who_left_while_the_step_was_made_is_not_evaluated() -> None:
    room = Room()
    left, stays = room.add(Work(PREFIX, 3)), room.add(Work([1], 3))
    abort = room.context.abort

    def leave(wish: bool) -> None:
        left.give_up(ModelError("cancelled", "it left"))
        abort(wish)

    room.context.abort = leave  # type: ignore[method-assign]
    room.session.step()
    assert not room.context.steps
    room.run()
    assert room.reason(left) == "cancelled" and room.record(stays).splits == [1]


def test_where_llama_cpp_finds_no_room_once_the_memory_is_cleaned_up_and_all_go_on() -> None:
    room = Room()
    jobs = [room.add(Work([*PREFIX, at], 3)) for at in range(2)]
    room.session.step()
    room.context.faults = [NoCells()]
    room.run()
    assert room.memory.tidied == 2  # and once at the end
    assert all(room.record(job).splits for job in jobs)


def test_where_it_finds_no_room_twice_those_of_the_step_end_and_the_session_goes_on() -> None:
    room = Room()
    first = room.add(Work([1, 2, 3], 3))
    room.context.faults = [NoCells(), NoCells()]
    room.session.step()
    assert room.reason(first) == "decode_failed"
    second = room.add(Work([1, 2, 3], 3))
    room.run()
    assert room.record(second).splits


def test_all_end_with_one_error() -> None:
    room = Room(seats=1)
    jobs = [room.add(Work([at], 9)) for at in range(3)]
    room.session.step()
    room.session.end_all(ModelError("closed", "the engine was closed"))
    assert [room.reason(job) for job in jobs] == ["closed"] * 3
    room.run()


def test_threads_are_set_before_the_next_step() -> None:
    room = Room()
    room.add(Work([1], 3))
    room.session.set_threads(3)
    assert room.context.threads == 1
    room.session.step()
    assert room.context.threads == 3
    room.run()


@pytest.mark.parametrize("seats", [1, 3])
def test_all_of_a_long_queue_come_to_their_turn(seats: int) -> None:
    room = Room(n_cells=400, seats=seats)
    jobs = [
        room.add(Work([*PREFIX[: 30 * (at % 5)], at % 3], at % 11, fresh=at % 4 == 0)) for at in range(60)
    ]
    room.run(steps=5000)
    assert all(room.record(job).splits for job in jobs)


def test_those_who_read_come_on_while_others_write() -> None:
    room = Room()
    room.add(Work([1], 60))
    readers = [room.add(Work([at + 2] * 300, 1)) for at in range(2)]
    for _ in range(8):
        room.session.step()
    assert all(room.ended(job) is not None for job in readers)
    assert all(max(room.record(job).splits) <= 48 for job in readers)
    room.run()


def test_a_reply_that_is_known_is_counted_once() -> None:
    room = Room(n_cells=100)
    work = Work([1] * 90, 10)
    work.sequence += [2] * 10
    work.sums = [0] * 10
    job = room.add(work)
    room.run()
    assert room.record(job).splits == [100]


def test_a_prefix_that_cannot_be_put_back_does_not_end_the_session() -> None:
    room = Room()
    room.add(Work(PREFIX, 3))
    room.run()  # saves the prefix

    def restore(sequence: int, saved: bytes) -> None:
        raise NoCells

    room.context.restore = restore  # type: ignore[method-assign]
    room.add(Work([*PREFIX, 1], 3))
    room.session.step()


works = st.tuples(st.integers(0, 250), st.integers(0, 3), st.integers(0, 12), st.integers(0, 5))
leaving = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 11)), max_size=8)


@settings(max_examples=60)
@given(
    st.lists(works, min_size=1, max_size=12),
    leaving,
    st.sampled_from(["free", "aligned", "loose"]),
    st.sampled_from([1, 3, 256]),
    st.integers(1, 5),
    st.lists(st.sampled_from([Aborted, NoCells]), max_size=4),
)
def test_whoever_comes_and_leaves_everybody_else_gets_their_own(
    wanted: list[tuple[int, int, int, int]],
    leaves: list[tuple[int, int]],
    invariance: str,
    together: int,
    seats: int,
    faults: list[type[Exception]],
) -> None:
    room = Room(n_cells=300, seats=seats, invariance=invariance, together=together)
    works = [Work([*PREFIX[:length], tail], most, fresh=kind == 0) for length, tail, most, kind in wanted]
    jobs = [room.add(work) for work in works]
    gone: set[int] = set()
    for step in range(31):
        if step == 4:
            room.context.faults = [fault() for fault in faults]
        for when, index in leaves:
            if when == step and index < len(jobs):
                if jobs[index].give_up(ModelError("cancelled", "it left")):
                    room.session.stop(jobs[index])
                    gone.add(index)
        room.session.step()
    room.run(steps=2000)
    for index, (job, work) in enumerate(zip(jobs, works, strict=True)):
        if index in gone:
            assert room.reason(job) == "cancelled"
        elif isinstance(room.ended(job), ModelError):
            assert faults.count(NoCells) > 1 and room.reason(job) == "decode_failed"
        else:
            assert len(work.sums) == work.most + 1


def test_a_fault_in_the_books_costs_those_who_run_their_replies_and_not_the_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = Room()
    first, second = room.add(Work(PREFIX, 3)), room.add(Work([*PREFIX, 7], 3))
    room.session.step()
    with monkeypatch.context() as broken:
        broken.setattr(type(room.session._memory), "release", lambda memory, seat: 1 / 0)
        room.run()
    assert room.record(first).reused == 0  # its reply was whole
    error = room.ended(second)
    assert isinstance(error, ModelError) and error.reason == "decode_failed"
    assert "ZeroDivisionError" in str(error)
    third = room.add(Work([*PREFIX, 9], 3))
    room.run()
    assert room.record(third).reused == 0
