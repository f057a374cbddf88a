"""The books of the cells against a model of llama.cpp's pool: whatever runs beside it, a request's content is its own."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmesh_models import ModelError, binding
from agentmesh_models.catalogue import nano_path
from agentmesh_models.cells import CellMemory, Seat
from agentmesh_models.context import Context, NoCells, Row
from agentmesh_models.prefix import Node


@dataclass(slots=True)
class Cell:
    position: int
    token: int
    content: int
    sequences: set[int]


def add(state: int, content: int) -> int:
    """What attention has summed, one cell further: it tells of the order."""
    return hash((state, content))


def content_of(token: int, position: int, before: int) -> int:
    return hash((token, position, before))


class Pool:
    """llama.cpp's unified pool (`llama-kv-cache.cpp`): where it puts cells, and what it asserts.

    A cell's content depends on its token, its position, and the contents before it in the order of cells.
    """

    def __init__(self, n_cells: int, *, keeps: bool, saves: bool) -> None:
        self.cells: list[Cell | None] = [None] * n_cells
        self.head = 0
        self._keeps = keeps
        self._saves = saves

    @property
    def used(self) -> int:
        return sum(cell is not None for cell in self.cells)

    def of(self, sequence: int) -> list[Cell]:
        """A sequence's cells in the order of cells."""
        return [cell for cell in self.cells if cell is not None and sequence in cell.sequences]

    def places(self, sequence: int) -> list[int]:
        return [at for at, cell in enumerate(self.cells) if cell is not None and sequence in cell.sequences]

    def find(self, count: int) -> list[int]:
        """`find_slot`: from the head on, unless there is enough room before it."""
        at = 0 if self.head > self.used + 2 * count else self.head
        found: list[int] = []
        for tested in range(len(self.cells)):
            place = (at + tested) % len(self.cells)
            if self.cells[place] is None:
                found.append(place)
            if len(found) == count:
                return found
        raise NoCells

    def put(self, cells: Sequence[Cell]) -> None:
        places = self.find(len(cells))
        for place, cell in zip(places, cells, strict=True):
            self.cells[place] = cell
        self.head = places[-1] + 1

    def evaluate(self, parts: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Tokens of several sequences together, as `llama_decode` does."""
        fresh: list[tuple[int, Cell]] = []
        for sequence, tokens in parts:
            known = self.of(sequence)
            start = max((cell.position for cell in known), default=-1) + 1
            assert sorted(cell.position for cell in known) == list(range(start)), "a sequence with holes"
            for at, token in enumerate(tokens):
                fresh.append((sequence, Cell(start + at, token, 0, {sequence})))
        self.put([cell for _, cell in fresh])
        for sequence, cell in fresh:
            seen = [each for each in self.of(sequence) if each.position < cell.position]
            if not self._keeps:
                seen.sort(key=lambda each: each.position)
            state = 0
            for each in seen:
                state = add(state, each.content)
            cell.content = content_of(cell.token, cell.position, state)

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        assert self._keeps and source >= 0 and target >= 0
        if start < end:
            for cell in self.of(source):
                if start <= cell.position < end:
                    assert target not in cell.sequences
                    cell.sequences.add(target)

    def drop(self, sequence: int, start: int = 0, end: int = -1) -> None:
        assert sequence >= 0 and (self._keeps or (start, end) == (0, -1))
        freed: list[int] = []
        for place in self.places(sequence):
            cell = self.cells[place]
            assert cell is not None
            if start <= cell.position and (cell.position < end or end < 0):
                cell.sequences.remove(sequence)
                if not cell.sequences:
                    self.cells[place] = None
                    freed.append(place)
        if freed and freed[0] < self.head:
            self.head = freed[0]

    def clear(self) -> None:
        self.cells = [None] * len(self.cells)
        self.head = 0

    def save(self, sequence: int) -> bytes:
        assert self._saves and sequence >= 0
        return pickle.dumps([(cell.position, cell.token, cell.content) for cell in self.of(sequence)])

    def restore(self, sequence: int, saved: bytes) -> None:
        assert self._saves and sequence >= 0
        self.drop(sequence)
        rows = pickle.loads(saved)
        self.put([Cell(position, token, content, {sequence}) for position, token, content in rows])


@dataclass(slots=True, eq=False)
class Request:
    prompt: list[int]
    seat: Seat
    fresh: bool


@dataclass(slots=True, kw_only=True)
class House:
    """Requests that come, go on and leave as `session` lets them, with everything looked at after each step."""

    n_cells: int
    seats: int
    grain: int
    keeps: bool = True
    saves: bool = True
    saved_limit: int = 1 << 30
    sequences: int = 256
    salt: int = 2
    running: list[Request] = field(default_factory=list)
    past: list[list[int]] = field(default_factory=list)
    pool: Pool = field(init=False)
    memory: CellMemory = field(init=False)

    def __post_init__(self) -> None:
        self.pool = Pool(self.n_cells, keeps=self.keeps, saves=self.saves)
        self.memory = CellMemory(
            cells=self.pool,
            n_cells=self.n_cells,
            seats=self.seats,
            grain=self.grain,
            keeps=self.keeps,
            saves=self.saves,
            saved_limit=self.saved_limit,
            sequences=self.sequences,
        )

    def come(self, prompt: list[int], more: int = 1, *, fresh: bool = False) -> Request | None:
        """A request that fits alone comes; it must be let in where nobody else runs."""
        seat = self.memory.admit(prompt, more, fresh=fresh)
        if seat is None:
            assert self.running, "nothing runs, and yet there is no room"
            self.check()
            return None
        assert seat.tokens == prompt[: len(seat.tokens)] and len(seat.tokens) < len(prompt)
        assert not (fresh and seat.tokens)
        request = Request(prompt, seat, fresh)
        self.running.append(request)
        self.check()
        return request

    def go_on(self, parts: Sequence[tuple[Request, int]]) -> None:
        """Evaluate pieces of some requests together, then commit and let go in order."""
        pieces: list[tuple[Request, list[int]]] = []
        for request, count in parts:
            done = len(request.seat.tokens)
            left = len(request.prompt) - done
            if left > 0:
                if self.grain > 1:
                    count = min(count, self.grain - done % self.grain)
                pieces.append((request, request.prompt[done : done + count]))
            else:
                pieces.append((request, [(done * 7 + done // 5) % self.salt]))
        self.pool.evaluate([(request.seat.sequence, tokens) for request, tokens in pieces])
        for request, tokens in pieces:
            reading = len(request.seat.tokens) < len(request.prompt)
            self.memory.grew(request.seat, tokens)
            if reading and not request.fresh:
                self.memory.commit(request.seat, len(request.prompt))
            if request.seat.outstanding == 0:
                self.leave(request)
        self.check()

    def leave(self, request: Request) -> None:
        self.running.remove(request)
        if self.grain == 1 and not request.fresh:
            self.memory.commit(request.seat)
        self.memory.release(request.seat)
        self.past.append(list(request.seat.tokens))

    def finish(self, request: Request) -> None:
        """Let it read and write all that it may."""
        while request in self.running:
            self.go_on([(request, 50)])

    def expected(self, tokens: Sequence[int]) -> list[int]:
        """The contents that `tokens` have in an empty context."""
        out: list[int] = []
        state = 0
        for position, token in enumerate(tokens):
            out.append(content_of(token, position, state))
            state = add(state, out[-1])
        return out

    def check(self) -> None:
        memory, pool = self.memory, self.pool
        assert memory.top == pool.used
        promised = sum(request.seat.outstanding for request in self.running)
        assert memory.top + promised <= self.n_cells
        assert not pool.of(memory.scratch)
        if self.keeps:
            assert all(cell is not None for cell in pool.cells[: memory.top]) and pool.head == memory.top
        taken = sorted([request.seat.sequence for request in self.running] + memory._free_seats)
        assert taken == list(range(self.seats))
        for request in self.running:
            cells = pool.of(request.seat.sequence)
            if not self.keeps:
                cells.sort(key=lambda cell: cell.position)
            assert [cell.position for cell in cells] == list(range(len(cells)))
            assert [cell.token for cell in cells] == request.seat.tokens
            assert [cell.content for cell in cells] == self.expected(request.seat.tokens)
            assert request.seat.shared == request.seat.node.end
        self.check_tree()

    def check_tree(self) -> None:
        memory, pool = self.memory, self.pool
        owned = list(memory._free)
        for node in memory.tree.nodes():
            assert node.resident != bool(node.saved)
            if not node.resident:
                assert not any(child.resident for child in node.children.values())
                continue
            owned.append(node.sequence)
            path = node.path()
            tokens = [token for each in path for token in each.tokens]
            places = [place for each in path for place in pool.places(each.sequence)]
            cells = [cell for place in places if (cell := pool.cells[place]) is not None]
            assert places == sorted(places) and places[-1] < node.last <= memory.top
            assert [cell.position for cell in cells] == list(range(len(tokens)))
            assert [cell.token for cell in cells] == tokens
            assert [cell.content for cell in cells] == self.expected(tokens)
        assert sorted(owned) == list(range(self.seats + 2, self.sequences))

    def end(self) -> None:
        """Everybody leaves: nothing may stay behind."""
        for request in tuple(self.running):
            self.leave(request)
            self.check()
        self.memory.shrink()
        self.check()
        assert self.pool.used == 0
        assert self.saved_bytes() <= self.saved_limit

    def saved_bytes(self) -> int:
        return sum(node.saved_bytes for node in self.memory.tree.nodes())

    def node(self, prompt: Sequence[int]) -> Node:
        """The node in which a prompt's known part ends."""
        return self.memory.tree.match(prompt).node


SEGMENTS = [[at % 3 for at in range(length)] for length in (3, 31, 70)]
SEGMENTS += [[1 + (at // 9) % 4 for at in range(length)] for length in (8, 32, 64, 100)]
SEGMENTS += [[7], [0, 7, 7, 0], [at % 5 for at in range(40)]]


def some_house(pick: Callable[[Sequence[Any]], Any]) -> House:
    """A house with options that `pick` picks."""
    seats = pick(range(1, 7))
    kind = pick(["keeps", "keeps", "keeps", "loses", "shares nothing"])
    return House(
        n_cells=pick([64, 100, 200, 400]),
        seats=seats,
        grain=pick([1, 1, 4, 32]),
        keeps=kind != "shares nothing",
        saves=kind == "keeps",
        saved_limit=pick([0, 600, 3000, 1 << 30]),
        sequences=pick([seats + 5, seats + 8, 40, 256]),
        salt=pick([1, 2, 3]),
    )


numbers = st.integers(0, 1 << 30)
MOVES = ["come", "come", "go on", "go on", "go on", "leave", "shrink"]
moves = st.lists(st.tuples(st.sampled_from(MOVES), numbers, numbers), max_size=60)


def prompt_of(house: House, first: int, second: int) -> list[int]:
    """A prompt that begins like others, some of them as those that were there already."""
    prompt: list[int] = []
    if house.past and first % 3 == 0:
        prompt += house.past[(first // 3) % len(house.past)][: second % 97]
    elif house.running and first % 3 == 1:
        prompt += house.running[(first // 3) % len(house.running)].seat.tokens[: second % 197]
    for _ in range(1 + first % 4):
        first, index = divmod(first, len(SEGMENTS))
        prompt += SEGMENTS[index]
    return prompt[: house.n_cells - 4]


def play(house: House, steps: Sequence[tuple[str, int, int]]) -> None:
    for move, first, second in steps:
        if move == "come":
            prompt = prompt_of(house, first, second)
            more = second % min(40, house.n_cells - len(prompt))
            house.come(prompt, more, fresh=second % 11 == 0)
        elif move == "go on" and house.running:
            chosen = [each for at, each in enumerate(house.running) if (first >> at) & 1] or house.running
            house.go_on([(each, 1 + (second >> (3 * at)) % 48) for at, each in enumerate(chosen)])
        elif move == "leave" and house.running:
            house.leave(house.running[first % len(house.running)])
            house.check()
        elif move == "shrink" and first % 4 == 0:
            house.memory.shrink()
            house.check()
    house.end()


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), moves)
def test_content_is_that_of_an_empty_context_whoever_comes_and_goes(
    data: st.DataObject, steps: list[tuple[str, int, int]]
) -> None:
    play(some_house(lambda options: data.draw(st.sampled_from(options))), steps)


def random_steps(rng: random.Random, count: int) -> list[tuple[str, int, int]]:
    return [(rng.choice(MOVES), rng.getrandbits(30), rng.getrandbits(30)) for _ in range(count)]


@pytest.mark.parametrize("seed", range(12))
def test_content_stays_so_over_long_times_in_small_pools(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(12):
        play(some_house(rng.choice), random_steps(rng, 120))


class Real(Pool):
    """The pool beside llama.cpp's own: after each step its scores must be those of an empty context, bit for bit."""

    def __init__(self, weights: binding.Weights, n_cells: int) -> None:
        super().__init__(n_cells, keeps=True, saves=True)
        self._real, self._empty = (
            Context(weights, n_cells=n_cells, n_batch=256, n_seq=256, threads=1, exact=True) for _ in range(2)
        )

    def evaluate(self, parts: Sequence[tuple[int, Sequence[int]]]) -> None:
        super().evaluate(parts)
        rows: list[Row] = []
        held = [[cell.token for cell in self.of(sequence)] for sequence, _ in parts]
        for (sequence, tokens), known in zip(parts, held, strict=True):
            rows += rows_of(known, len(known) - len(tokens), sequence)
        scores = self._real.evaluate(rows).copy()
        for got, known in zip(scores, held, strict=True):
            self._empty.clear()
            for start in range(0, len(known), 256):
                expected = self._empty.evaluate(rows_of(known[: start + 256], start, 0))
            assert got.tobytes() == expected.tobytes()

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        super().copy(source, target, start, end)
        self._real.copy(source, target, start, end)

    def drop(self, sequence: int, start: int = 0, end: int = -1) -> None:
        super().drop(sequence, start, end)
        self._real.drop(sequence, start, end)

    def clear(self) -> None:
        super().clear()
        self._real.clear()

    def save(self, sequence: int) -> bytes:
        return pickle.dumps((super().save(sequence), self._real.save(sequence)))

    def restore(self, sequence: int, saved: bytes) -> None:
        ours, real = pickle.loads(saved)
        super().restore(sequence, ours)
        self._real.restore(sequence, real)

    def close(self) -> None:
        self._real.close()
        self._empty.close()


def rows_of(tokens: Sequence[int], start: int, sequence: int) -> list[Row]:
    """The tokens from `start` on; the last one's scores are wanted."""
    last = len(tokens) - 1
    return [
        Row(token=tokens[at], position=at, sequence=sequence, wanted=at == last)
        for at in range(start, last + 1)
    ]


@pytest.mark.parametrize("sequences", [10, 256])
def test_llama_cpp_gives_the_bits_of_an_empty_context_whoever_comes_and_goes(sequences: int) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python runs the models")
    binding.load()
    weights = binding.Weights(nano_path(), gpu_layers=0)
    rng = random.Random(sequences)
    for salt in (1, 2, 3, 3, 2):
        here = House(n_cells=256, seats=4, grain=1, saved_limit=400_000, sequences=sequences, salt=salt)
        here.pool = here.memory.cells = pool = Real(weights, 256)
        play(here, random_steps(rng, 40))
        pool.close()
    weights.close()


def house(n_cells: int = 200, seats: int = 3, grain: int = 1, **changes: object) -> House:
    return House(n_cells=n_cells, seats=seats, grain=grain, **changes)  # type: ignore[arg-type]  # by name


def come(house: House, prompt: list[int], more: int = 1) -> Request:
    request = house.come(prompt, more)
    assert request is not None
    return request


LONG = [at % 5 for at in range(150)]


def test_a_request_that_does_not_fit_even_alone_is_an_error() -> None:
    with pytest.raises(ModelError) as caught:
        house(n_cells=64).come([1] * 60, 5)
    assert (caught.value.reason, caught.value.expected, caught.value.found) == ("context_full", 64, 65)
    come(house(n_cells=64), [1] * 60, 4)


@pytest.mark.parametrize("saved", [False, True])
def test_a_long_node_of_which_little_is_wanted_keeps_nobody_out(saved: bool) -> None:
    here = house()
    here.finish(come(here, LONG))
    if saved:
        here.memory.shrink()
    request = come(here, [*LONG[:9], *[9] * 100], 50)
    assert len(request.seat.tokens) == (0 if saved else 9)
    here.finish(request)
    here.end()


def test_part_of_a_saved_node_is_put_back_where_there_is_room_for_all_of_it() -> None:
    here = house(n_cells=400)
    here.finish(come(here, LONG))
    here.memory.shrink()
    assert len(come(here, [*LONG[:90], 9], 5).seat.tokens) == 90
    here.end()


def test_of_tokens_that_two_evaluate_both_cells_are_counted() -> None:
    here = house()
    first, second = come(here, LONG[:60], 9), come(here, LONG[:60], 9)
    here.go_on([(first, 60), (second, 60)])
    assert first.seat.node is second.seat.node and here.memory.top == 120
    here.leave(second)
    here.check()
    here.finish(first)
    here.end()


def test_cells_that_stand_before_those_of_their_prefix_are_not_hung_below_it() -> None:
    here = house(salt=1)
    writer = come(here, [5, 6, 7], 30)
    here.go_on([(writer, 3)])
    for _ in range(12):
        here.go_on([(writer, 1)])
    reader = come(here, [5, 6, 7, *[0] * 8, 9], 1)  # what the writer has written and not shown yet
    here.go_on([(reader, 9)])
    here.leave(writer)
    here.check()
    # The reader stands between: of the writer's twelve tokens the tree has the reader's eight.
    assert here.memory.known([5, 6, 7, *[0] * 12, 1]) == 11
    here.end()


def test_a_saved_prefix_that_somebody_reads_anew_has_the_new_cells() -> None:
    here = house()
    slow, fast = come(here, LONG[:60], 9), come(here, LONG[:60], 1)
    here.finish(fast)
    here.memory.shrink()
    assert here.memory.top == 0 and not here.node(LONG[:60]).resident
    here.go_on([(slow, 60)])
    assert slow.seat.shared == 60 and here.memory.top == 60
    here.memory.shrink()
    here.check()
    # What the fast one wrote hangs below, saved with all that stands before it.
    assert len(come(here, [*LONG[:60], 0, 1, 2]).seat.tokens) == 61
    here.finish(slow)
    here.end()


def test_a_dialogue_of_more_turns_than_sequences_is_known_to_its_end() -> None:
    here = house(n_cells=400, seats=2, sequences=10, salt=3)
    told: list[int] = [8, 8, 8]
    for turn in range(40):
        for agent in range(2):
            request = come(here, [*told, 5, agent, turn % 3], 4)
            assert turn == 0 or len(request.seat.tokens) >= len(told) - 5
            here.finish(request)
        told += [6, turn % 4, turn % 3, 7, 7]
    here.end()


def test_saved_nodes_that_nothing_parts_any_more_are_put_back_as_one() -> None:
    here = house(n_cells=400, sequences=40)
    for length in (60, 31):
        request = come(here, LONG[:length])
        here.go_on([(request, 60)])
        here.leave(request)
        here.memory.shrink()
    (node,) = here.memory.tree.nodes()
    assert len(node.saved) == 3 and len(node.tokens) == 60
    assert len(come(here, [*LONG[:60], 9]).seat.tokens) == 60
    here.end()


def test_a_model_that_cannot_be_saved_forgets_nothing_while_somebody_runs() -> None:
    here = house(saves=False)
    here.finish(come(here, LONG))
    request = come(here, [*LONG[:100], 9, 9], 5)
    here.memory.shrink()
    here.check()
    assert here.come([4] * 60, 1) is None
    here.finish(request)
    assert come(here, [4] * 60).seat.tokens == []
    here.end()


def test_a_model_that_shares_nothing_gives_its_cells_back_at_once() -> None:
    here = house(keeps=False, saves=False)
    first, second = come(here, LONG[:90], 9), come(here, LONG[:90], 9)
    assert here.come(LONG[:30], 9) is None
    here.go_on([(first, 90), (second, 50)])
    here.memory.shrink()
    here.leave(first)
    here.check()
    assert come(here, LONG[:30], 9).seat.tokens == []
    assert here.memory.top == 50
    here.end()


def test_prompts_that_part_within_a_grain_are_both_known() -> None:
    here = house(n_cells=400, grain=32)
    first, second = [1] * 40 + [2] * 60, [1] * 40 + [3] * 60
    for prompt in (first, second, first, second):
        here.finish(come(here, prompt))
    assert here.memory.known(first) == here.memory.known(second) == 96
    here.end()


def test_saved_prefixes_keep_within_their_limit_and_the_oldest_go_first() -> None:
    here = house(saved_limit=3000)
    for token in range(6):
        here.finish(come(here, [token] * 50, 3))
    here.memory.shrink()
    assert 0 < here.saved_bytes() <= 3000
    known = [here.memory.known([token] * 50) for token in range(6)]
    assert known == sorted(known) and known[0] == 0 and known[-1] == 49


def test_a_fresh_request_knows_nothing_and_tells_nothing() -> None:
    here = house()
    here.finish(come(here, LONG[:30]))
    known = here.memory.known(LONG[:60])
    request = here.come(LONG[:60], 1, fresh=True)
    assert request is not None and request.seat.tokens == []
    here.finish(request)
    assert 30 <= here.memory.known(LONG[:60]) == known
    here.end()
