"""The pool: loaded on first use and once, unloaded least-recently-used, in order, within budget, and never leaked."""

from __future__ import annotations

import random
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from agentmesh_models import (
    Engine,
    Message,
    ModelError,
    ModelInfo,
    Piece,
    Profile,
    Reply,
    Request,
    Sampling,
    TextDelta,
    Usage,
)
from agentmesh_models.pool import Pool, PooledEngine
from agentmesh_models.store.local import Store

pytestmark = pytest.mark.anyio

HELLO = Request(messages=(Message(role="user", content="Hello!"),), max_tokens=8)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def info(name: str) -> ModelInfo:
    return ModelInfo(name=name, path=None, digest="d", n_ctx=64, tool_format="none", template_digest="t")


def reply(name: str) -> Reply:
    usage = Usage(prompt_tokens=1, reused_tokens=0, output_tokens=1, prefill_seconds=0, decode_seconds=0)
    profile = Profile(
        model=name, model_digest="d", template_digest="t", library="fake", n_ctx=64, prompt_tokens=(1,),
        reused_tokens=0, output_tokens=(1,), sampling=Sampling(), grammar_digest=None, finish="stop",
    )  # fmt: skip
    return Reply(text=name, calls=(), finish="stop", usage=usage, profile=profile)


class World:
    """Fake models: `events` tells what happened to them, in order; `held` is the memory in use now."""

    def __init__(self, memory: int | None, threads: int = 4) -> None:
        self.pool = Pool(memory=memory, threads=threads)
        self.events: list[str] = []
        self.threads: list[tuple[str, int]] = []
        self.held = 0
        self.most = 0
        self.loads = 0
        self._begun = threading.Semaphore(0)
        self._seen = 0

    def begin_load(self) -> None:
        """In the thread that loads."""
        self.loads += 1
        self._begun.release()

    async def began(self, count: int) -> None:
        """Wait until so many loads have begun, in their own threads."""
        while self._seen < count:
            assert await anyio.to_thread.run_sync(partial(self._begun.acquire, timeout=30))
            self._seen += 1

    def add(
        self, name: str, need: int = 1, *, gate: threading.Event | None = None, error: Exception | None = None
    ) -> PooledEngine:
        def load() -> Engine:
            self.begin_load()
            if gate is not None:
                assert gate.wait(30)
            if error is not None:
                raise error
            return FakeEngine(self, name, need)

        return self.pool.add(info(name), need=need, load=load)


class FakeEngine:
    """Says its name; its request lasts until whoever reads takes the reply."""

    def __init__(self, world: World, name: str, need: int) -> None:
        self.info = info(name)
        self._world = world
        self._need = need
        self._closed = False
        world.held += need
        world.most = max(world.most, world.held)
        world.events.append(f"load {name}")

    async def generate(self, request: Request) -> AsyncGenerator[Piece, None]:
        self._world.events.append(f"run {self.info.name}")
        yield TextDelta(text=self.info.name)
        await anyio.lowlevel.checkpoint()
        if self._closed:
            raise ModelError("closed", "the engine was closed")
        yield reply(self.info.name)

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()
        assert not self._closed
        self._closed = True
        self._world.held -= self._need
        self._world.events.append(f"close {self.info.name}")

    def set_threads(self, count: int) -> None:
        self._world.threads.append((self.info.name, count))


async def ask(engine: Engine, request: Request = HELLO) -> Reply:
    with anyio.fail_after(30):
        async for piece in engine.generate(request):
            if isinstance(piece, Reply):
                return piece
    raise AssertionError("no reply")


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def test_nothing_is_loaded_before_the_first_request_and_then_it_stays() -> None:
    world = World(10)
    engine = world.add("a")
    assert engine.info.name == "a" and world.events == [] and world.pool.loaded == ()
    assert (await ask(engine)).text == "a"
    await ask(engine)
    assert world.events == ["load a", "run a", "run a"]
    assert [each.name for each in world.pool.loaded] == ["a"]
    await world.pool.aclose()
    await world.pool.aclose()
    assert world.events[-1] == "close a" and world.held == 0


async def test_first_uses_at_the_same_time_load_once() -> None:
    world, gate = World(10), threading.Event()
    engine = world.add("a", gate=gate)
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(ask, engine)
        await world.began(1)
        gate.set()
    assert world.loads == 1 and world.events.count("run a") == 5
    await world.pool.aclose()


async def test_the_model_unused_for_longest_makes_room() -> None:
    world = World(2)
    a, b, c = (world.add(name) for name in "abc")
    for engine in (a, b, a, c, b):
        await ask(engine)
    told = [each for each in world.events if not each.startswith("run")]
    assert told == ["load a", "load b", "close b", "load c", "close a", "load b"]
    assert world.most == 2
    await world.pool.aclose()
    assert world.held == 0


async def test_as_many_are_unloaded_as_the_need_asks_for_and_no_more() -> None:
    world = World(4)
    a, b, c, big = world.add("a"), world.add("b"), world.add("c", 2), world.add("big", 2)
    for engine in (a, b, c, big):
        await ask(engine)
    assert [each.name for each in world.pool.loaded] == ["c", "big"]
    await world.pool.aclose()


async def test_a_model_that_can_never_fit_is_refused_at_once_with_need_and_budget() -> None:
    world = World(2_000_000_000)
    with pytest.raises(ModelError, match=r"needs about 3 GB .* budget is 2 GB") as caught:
        world.add("big", 3_000_000_000)
    assert (caught.value.reason, caught.value.expected, caught.value.found) == (
        "no_memory", 2_000_000_000, 3_000_000_000,
    )  # fmt: skip
    await world.pool.aclose()


async def test_whoever_needs_memory_waits_for_running_models_and_nobody_passes() -> None:
    world = World(2)
    a, b, c = world.add("a", 2), world.add("b", 2), world.add("c", 1)
    order: list[str] = []

    async def use(engine: PooledEngine) -> None:
        order.append((await ask(engine)).text)

    async with anyio.create_task_group() as group:
        async with aclosing(a.generate(HELLO)) as running:
            assert await anext(running) == TextDelta(text="a")
            for engine in (b, c, a):  # each can only come after the one before
                group.start_soon(use, engine)
                await settled()
            assert world.events == ["load a", "run a"] and order == []
    assert order == ["b", "c", "a"]
    told = [each for each in world.events if not each.startswith("run")]
    assert told == ["load a", "close a", "load b", "close b", "load c", "close c", "load a"]
    assert world.most == 2
    await world.pool.aclose()


async def test_loaded_models_and_models_that_fit_need_not_wait_for_one_that_loads() -> None:
    world, gate = World(10), threading.Event()
    slow, a, b = world.add("slow", gate=gate), world.add("a"), world.add("b")
    await ask(a)
    async with anyio.create_task_group() as group:
        group.start_soon(ask, slow)
        await world.began(2)
        assert (await ask(a)).text == "a"
        assert (await ask(b)).text == "b"
        gate.set()
    await world.pool.aclose()
    assert world.held == 0


async def test_waiting_for_memory_ends_at_the_deadline_and_the_queue_goes_on() -> None:
    world = World(1)
    a, b = world.add("a"), world.add("b")
    async with aclosing(a.generate(HELLO)) as running:
        await anext(running)
        late = Request(messages=HELLO.messages, deadline=0.01)
        with pytest.raises(ModelError, match="model b was not ready after 0.01 seconds") as caught:
            await ask(b, late)
        assert caught.value.reason == "deadline"
        assert (await ask(a)).text == "a"
    assert (await ask(b)).text == "b"
    await world.pool.aclose()


async def test_what_waiting_took_is_taken_off_the_deadline() -> None:
    world, gate = World(1), threading.Event()
    seen: list[float | None] = []

    class Deaf(FakeEngine):
        async def generate(self, request: Request) -> AsyncGenerator[Piece, None]:
            seen.append(request.deadline)
            yield reply("a")

    def load() -> Engine:
        assert gate.wait(30)
        return Deaf(world, "a", 1)

    engine = world.pool.add(info("a"), need=1, load=load)
    gate.set()
    await ask(engine, Request(messages=HELLO.messages, deadline=100.0))
    assert seen[0] is not None and 0 < seen[0] < 100
    await world.pool.aclose()


async def test_a_cancelled_first_use_leaks_nothing_and_its_load_serves_the_next() -> None:
    world, gate = World(10), threading.Event()
    engine = world.add("a", gate=gate)
    async with anyio.create_task_group() as group:
        group.start_soon(ask, engine)
        await world.began(1)
        group.cancel_scope.cancel()
    gate.set()
    assert (await ask(engine)).text == "a"
    assert world.loads == 1
    await world.pool.aclose()
    assert world.held == 0


async def test_closing_while_a_model_loads_waits_for_it_and_closes_it() -> None:
    world, gate = World(10), threading.Event()
    engine = world.add("a", gate=gate)
    told: list[str] = []

    async def use() -> None:
        try:
            await ask(engine)
        except ModelError as error:
            told.append(error.reason)

    async with anyio.create_task_group() as group:
        group.start_soon(use)
        await world.began(1)
        group.start_soon(world.pool.aclose)
        await settled()
        assert told == ["closed"]  # whoever waits is told at once
        gate.set()
    assert world.events == ["load a", "close a"] and world.held == 0
    with pytest.raises(ModelError, match="closed"):
        await ask(engine)
    with pytest.raises(ModelError, match="closed"):
        world.pool.engine("nano")


async def test_a_load_that_fails_is_told_to_all_who_wait_and_tried_again() -> None:
    world, gate = World(1), threading.Event()
    engine = world.add("a", gate=gate, error=ModelError("load_failed", "no"))
    other = world.add("b")
    told: list[str] = []

    async def use() -> None:
        with pytest.raises(ModelError) as caught:
            await ask(engine)
        told.append(caught.value.reason)

    async with anyio.create_task_group() as group:
        group.start_soon(use)
        group.start_soon(use)
        await world.began(1)
        await settled()
        gate.set()
    assert told == ["load_failed", "load_failed"] and world.loads == 1
    assert (await ask(other)).text == "b"  # its memory is not held by the one that failed
    await use()
    assert world.loads == 3
    await world.pool.aclose()


async def test_closing_one_engine_leaves_the_others() -> None:
    world = World(10)
    a, b = world.add("a"), world.add("b")
    await ask(a)
    await ask(b)
    await a.aclose()
    await a.aclose()
    assert [each.name for each in world.pool.loaded] == ["b"]
    with pytest.raises(ModelError, match="closed"):
        await ask(a)
    assert (await ask(b)).text == "b"
    await world.pool.aclose()


async def test_closing_ends_a_running_request_with_closed() -> None:
    world = World(10)
    engine = world.add("a")
    async with aclosing(engine.generate(HELLO)) as running:
        await anext(running)
        await world.pool.aclose()
        with pytest.raises(ModelError, match="closed"):
            await anext(running)
    assert world.held == 0


async def test_active_engines_divide_the_threads_and_get_them_back() -> None:
    world = World(10, threads=5)
    a, b = world.add("a"), world.add("b")
    await ask(a)
    assert world.threads == []  # alone it has them all, as it was opened
    async with aclosing(a.generate(HELLO)) as first, aclosing(b.generate(HELLO)) as second:
        await anext(first)
        await anext(second)
        assert world.threads == [("a", 3), ("b", 2)]
        await second.aclose()
        assert world.threads[2:] == [("a", 5)]
    await ask(b)
    assert world.threads[3:] == [("b", 5)]
    await world.pool.aclose()


async def test_a_model_with_threads_of_its_own_and_one_that_cannot_change_them_are_left_alone() -> None:
    world = World(10, threads=4)

    class Fixed:
        info = info("fixed")

        def __init__(self) -> None:
            self._inner = FakeEngine(world, "fixed", 1)
            self.generate = self._inner.generate
            self.aclose = self._inner.aclose

    fixed = world.pool.add(info("fixed"), need=1, load=Fixed)
    own = world.pool.add(info("own"), need=1, load=lambda: FakeEngine(world, "own", 1), divides=False)
    a = world.add("a")
    for engine in (fixed, own, a):
        await ask(engine)
    async with aclosing(fixed.generate(HELLO)) as one, aclosing(own.generate(HELLO)) as two:
        await anext(one)
        await anext(two)
        await ask(a)
    assert world.threads == []
    await world.pool.aclose()


async def test_the_same_model_asked_for_in_the_same_way_is_one_engine(tmp_path: Path) -> None:
    (tmp_path / "steps.json").write_text('[{"say": "x"}]')
    pool = Pool(memory=1 << 30, threads=1)
    first = pool.engine("scripted:steps.json", base=tmp_path)
    assert pool.engine("scripted:steps.json", base=tmp_path) is first
    with pytest.raises(ModelError, match="1 of 1 steps were not used"):
        await pool.aclose()


async def test_a_stored_model_is_called_by_its_name_and_run_as_it_was_asked_for(
    random_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python runs the models")
    monkeypatch.setenv("AGENTMESH_MODELS", str(tmp_path / "stored"))
    stored = Store().add(random_model, "noise")
    pool = Pool(threads=1)
    exact, loose = pool.engine("noise"), pool.engine("noise", exact=False, parallel=2)
    assert exact is not loose and pool.engine("noise", exact=True) is exact
    for engine, promised in ((exact, {"free", "aligned"}), (loose, {"loose"})):
        profile = (await ask(engine)).profile
        assert (profile.model, profile.model_digest) == ("noise", stored.digest)
        assert profile.invariance in promised
    with pytest.raises(ModelError, match="parallel must be from 1 to 64 requests, not 65"):
        pool.engine("noise", parallel=65)
    await pool.aclose()


async def test_a_damaged_file_is_an_error_before_anything_is_loaded(make_gguf: Callable[..., Path]) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python runs the models")
    pool = Pool(threads=1)
    with pytest.raises(ModelError) as caught:
        pool.engine(str(make_gguf(data=b"")))
    assert caught.value.reason == "truncated"
    with pytest.raises(ModelError, match="no such model"):
        pool.engine("gone.gguf")
    await pool.aclose()


@pytest.mark.parametrize("together", [True, False])
async def test_two_real_models_take_turns_in_memory_for_one(random_model: Path, together: bool) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python runs the models")
    pool = Pool(memory=1 << 31 if together else 100_000_000, threads=1)
    nano = pool.engine("nano", n_ctx=256)
    noise = pool.engine(str(random_model), n_ctx=256)
    assert nano.info.name == "nano" and len(noise.info.digest) == 64 and pool.loaded == ()
    texts = [(await ask(nano)).text]
    await ask(noise)
    texts.append((await ask(nano)).text)
    assert texts[0] == texts[1] != ""
    assert [each.name for each in pool.loaded] == (["random", "nano"] if together else ["nano"])
    async with anyio.create_task_group() as group:
        for engine in (noise, nano, noise, nano):
            group.start_soon(ask, engine)
    await pool.aclose()
    assert pool.loaded == ()


def test_what_loads_when_the_event_loop_has_gone_is_closed_all_the_same() -> None:
    gate, closed = threading.Event(), threading.Event()
    world: list[World] = []

    class Last(FakeEngine):
        async def aclose(self) -> None:
            await super().aclose()
            closed.set()

    async def leave() -> None:
        world.append(World(10))

        def load() -> Engine:
            world[0].begin_load()
            assert gate.wait(30)
            return Last(world[0], "a", 1)

        engine = world[0].pool.add(info("a"), need=1, load=load)
        async with anyio.create_task_group() as group:
            group.start_soon(ask, engine)
            await world[0].began(1)
            group.cancel_scope.cancel()

    anyio.run(leave)
    gate.set()
    assert closed.wait(30) and world[0].held == 0


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_comes_when_every_request_ends_and_the_budget_holds(seed: int) -> None:
    """Random models, requests, deadlines and cancellations: nothing hangs, exceeds the budget or is lost."""
    rng = random.Random(seed)
    world = World(6, threads=4)
    models = [world.add(f"m{n}", rng.randint(1, 6)) for n in range(6)]
    ended: list[str] = []

    async def use(engine: PooledEngine, deadline: float | None, leave: bool) -> None:
        request = Request(messages=HELLO.messages, deadline=deadline)
        with anyio.CancelScope() as scope:
            try:
                async with aclosing(engine.generate(request)) as pieces:
                    async for piece in pieces:
                        assert world.held <= 6
                        if isinstance(piece, TextDelta):
                            if leave:
                                scope.cancel()
                            for _ in range(rng.randrange(30)):
                                await anyio.lowlevel.checkpoint()
                        else:
                            ended.append("reply")
            except ModelError as error:
                ended.append(error.reason)
        if scope.cancelled_caught:
            ended.append("left")

    count = 60
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for _ in range(count):
                deadline = rng.choice([None, None, None, 0.001, 0.02])
                group.start_soon(use, rng.choice(models), deadline, rng.random() < 0.2)
                if rng.random() < 0.3:
                    await settled()
    assert len(ended) == count and set(ended) <= {"reply", "left", "deadline"} and "reply" in ended
    assert world.pool._queue == [] and world.pool._sharing.active == 0
    assert world.most <= 6
    await world.pool.aclose()
    assert world.held == 0
    assert world.events.count("load m0") == world.events.count("close m0")
