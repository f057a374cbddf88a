"""Many requests at once: they share every evaluation, and none of them can tell."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from agentmesh_models import Message, ModelError, Reply, Request, Sampling, TextDelta, ToolSpec
from agentmesh_models.catalogue import nano_path
from agentmesh_models.llama import LlamaEngine, open_llama

pytest.importorskip("llama_cpp", reason="llama-cpp-python runs the models")

WORDS = "the garden party is on twelve june we need chairs and lemons for every guest who said they would come".split()
TOOL = ToolSpec(
    name="evaluate",
    description="Evaluate an expression.",
    parameters={
        "type": "object",
        "properties": {"expression": {"type": "string", "maxLength": 20}},
        "required": ["expression"],
    },
)
SAMPLINGS = (
    Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0),
    Sampling(),
    Sampling(temperature=0.7, top_k=20, top_p=0.9, min_p=0.02, repeat_penalty=1.2),
)


def open_(path: Path, **settings: object) -> LlamaEngine:
    return open_llama(path, name=path.stem, threads=1, **settings)  # type: ignore[arg-type]


def request(number: int) -> Request:
    """The request of that number: some begin alike, some are long, some call a tool, all have their own seed."""
    rng = random.Random(number // 3)
    rules = ("You are ada. You help.", "You are bob. You calculate. " + " ".join(WORDS) * (number % 4))
    messages = [Message(role="system", content=rules[number % 2])]
    for turn in range(1 + number % 3):
        if turn:
            messages.append(Message(role="assistant", content=" ".join(rng.choices(WORDS, k=6))))
        size = 5 + number * 7 % 60
        messages.append(Message(role="user", content=" ".join(rng.choices(WORDS, k=size))))
    sampling = SAMPLINGS[number % 3]
    return Request(
        messages=tuple(messages),
        tools=(TOOL,) if number % 5 == 0 else (),
        tool_choice="required" if number % 10 == 0 else "auto",
        max_tokens=8 + number * 5 % 30,
        sampling=Sampling(
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            repeat_penalty=sampling.repeat_penalty,
            seed=number,
        ),
    )


async def ask(engine: LlamaEngine, wanted: Request) -> Reply:
    with anyio.fail_after(60):
        async for item in engine.generate(wanted):
            if isinstance(item, Reply):
                return item
    raise AssertionError("no reply")


def alone(path: Path, count: int) -> dict[int, tuple[int, ...]]:
    """What each request gets from an engine that has never done anything else."""

    def one(number: int) -> tuple[int, ...]:
        engine = open_(path)
        reply = anyio.run(ask, engine, request(number))
        anyio.run(engine.aclose)
        return reply.profile.output_tokens

    return {number: one(number) for number in range(count)}


async def play(engine: LlamaEngine, seed: int, count: int) -> list[tuple[int, Reply]]:
    """One schedule: some requests come at once, some in the middle, some leave before their end."""
    rng = random.Random(seed)
    got: list[tuple[int, Reply]] = []

    async def come(number: int, after: int, leave: int) -> None:
        for _ in range(after):
            await anyio.lowlevel.checkpoint()
        pieces = 0
        with anyio.CancelScope() as scope:
            async for item in engine.generate(request(number)):
                pieces += 1
                if pieces == leave:
                    scope.cancel()
                if isinstance(item, Reply):
                    got.append((number, item))

    with anyio.fail_after(120):
        async with anyio.create_task_group() as group:
            for _ in range(rng.randint(2, 12)):
                leave = rng.choice((0, 0, 0, 1, 3))
                group.start_soon(come, rng.randrange(count), rng.choice((0, 0, 5, 100, 700)), leave)
    return got


def schedules(path: Path, seeds: range, count: int, **settings: object) -> LlamaEngine:
    """Play schedules on one engine and compare each reply with that of an engine of its own."""
    expected = alone(path, count)
    engine = open_(path, **settings)
    replies = 0
    for seed in seeds:
        for number, reply in anyio.run(play, engine, seed, count):
            replies += 1
            assert reply.profile.output_tokens == expected[number], (
                f"schedule {seed}, request {number}, {reply.usage.reused_tokens} tokens reused"
            )
    assert replies > 2 * len(seeds)
    return engine


def test_the_same_tokens_whatever_else_runs_in_200_random_schedules() -> None:
    engine = schedules(nano_path(), range(200), 24, parallel=6)
    assert engine.invariance == "free"
    anyio.run(engine.aclose)


def test_the_same_tokens_where_sampling_is_noise_and_room_is_short(blocks_model: Path) -> None:
    """Cells for little more than two requests: prefixes are saved, put back and forgotten all the time."""
    engine = schedules(blocks_model, range(200, 240), 12, parallel=2)
    assert engine.invariance == "free"
    anyio.run(engine.aclose)


def test_the_same_tokens_where_arithmetic_depends_on_company(company_model: Path) -> None:
    engine = schedules(company_model, range(300, 320), 12, parallel=4)
    assert engine.invariance == "aligned"
    anyio.run(engine.aclose)


@pytest.fixture(scope="module")
def noise(blocks_model: Path) -> Iterator[LlamaEngine]:
    engine = open_(blocks_model, parallel=8, queue=10)
    yield engine
    anyio.run(engine.aclose)


ENDLESS = Request(
    messages=(Message(role="user", content="Hello!"),),
    sampling=Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=11),
    max_tokens=800,
)


def test_requests_made_together_share_their_steps(noise: LlamaEngine) -> None:
    async def main() -> int:
        before = noise.steps
        async with anyio.create_task_group() as group:
            for seed in range(8):
                group.start_soon(ask, noise, Request(messages=ENDLESS.messages, max_tokens=60 + seed))
        return noise.steps - before

    assert anyio.run(main) < 100


def test_a_prompt_that_several_begin_with_is_evaluated_once(noise: LlamaEngine) -> None:
    beginning = " ".join(random.Random(5).choices(WORDS, k=60))

    async def one(number: int, replies: list[Reply]) -> None:
        messages = (Message(role="system", content=beginning), Message(role="user", content=f"{number}?"))
        replies.append(await ask(noise, Request(messages=messages, max_tokens=4)))

    async def main() -> list[Reply]:
        replies: list[Reply] = []
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(one, number, replies)
        return replies

    before = noise.evaluated
    replies = anyio.run(main)
    longest = max(reply.usage.prompt_tokens for reply in replies)
    assert noise.evaluated - before < longest + 6 * 40
    assert sum(reply.usage.reused_tokens > longest // 2 for reply in replies) == 5


def test_somebody_who_decodes_is_not_kept_waiting_by_a_long_prompt(noise: LlamaEngine) -> None:
    long = Request(messages=(Message(role="user", content="w" * 900),), max_tokens=1)

    async def main() -> int:
        pieces = noise.generate(ENDLESS)
        for _ in range(3):
            await anext(pieces)
        during = 0
        done = anyio.Event()

        async def read() -> None:
            await ask(noise, long)
            done.set()

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            while not done.is_set():
                item = await anext(pieces)
                assert isinstance(item, TextDelta)
                during += 1
        await pieces.aclose()
        return during

    assert anyio.run(main) >= 4


def test_a_full_queue_is_told_and_the_others_go_on(noise: LlamaEngine) -> None:
    async def main() -> None:
        taken: list[object] = []
        running = [noise.generate(ENDLESS) for _ in range(10)]
        for pieces in running[:8]:
            taken.append(await anext(pieces))
        async with anyio.create_task_group() as group:
            for pieces in running[8:]:
                group.start_soon(_first, pieces, taken)
            while len(noise._jobs) < 10:
                await anyio.lowlevel.checkpoint()
            with pytest.raises(ModelError) as caught:
                await ask(noise, ENDLESS)
            assert (caught.value.reason, caught.value.expected) == ("queue_full", 10)
            assert isinstance(await anext(running[0]), TextDelta)
            for pieces in running[:8]:
                await pieces.aclose()
        assert len(taken) == 10
        for pieces in running[8:]:
            await pieces.aclose()

    anyio.run(main)


async def _first(pieces: object, taken: list[object]) -> None:
    taken.append(await anext(pieces))  # type: ignore[call-overload]


def test_a_deadline_ends_a_reply_and_a_wait(noise: LlamaEngine) -> None:
    async def main() -> None:
        hurried = Request(messages=ENDLESS.messages, sampling=ENDLESS.sampling, max_tokens=800, deadline=0.02)
        with pytest.raises(ModelError) as caught:
            await ask(noise, hurried)
        assert caught.value.reason == "deadline"
        running = [noise.generate(ENDLESS) for _ in range(8)]
        for pieces in running:
            await anext(pieces)
        with pytest.raises(ModelError) as caught:
            await ask(noise, replace(hurried, deadline=1e-6))  # it never begins
        assert caught.value.reason == "deadline"
        for pieces in running:
            await pieces.aclose()

    anyio.run(main)


def test_a_request_larger_than_all_cells_is_refused_and_smaller_ones_wait_their_turn(
    small_blocks_model: Path,
) -> None:
    engine = open_(small_blocks_model, parallel=2)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for seed in range(6):
                group.start_soon(
                    ask,
                    engine,
                    Request(messages=ENDLESS.messages, max_tokens=200, sampling=Sampling(seed=seed)),
                )
        with pytest.raises(ModelError) as caught:
            await ask(engine, Request(messages=(Message(role="user", content="w" * 400),)))
        assert caught.value.reason == "context_full"
        assert (await ask(engine, Request(messages=ENDLESS.messages, max_tokens=3))).usage.output_tokens <= 3

    anyio.run(main)
    anyio.run(engine.aclose)


def test_threads_can_be_changed_while_it_runs_and_change_nothing_else(noise: LlamaEngine) -> None:
    wanted = Request(messages=ENDLESS.messages, sampling=ENDLESS.sampling, max_tokens=30)

    async def main() -> None:
        before = await ask(noise, wanted)
        noise.set_threads(2)
        after = await ask(noise, wanted)
        noise.set_threads(1)
        assert before.profile.output_tokens == after.profile.output_tokens

    anyio.run(main)
    with pytest.raises(ModelError):
        noise.set_threads(0)


def test_many_cancellations_in_long_prompts_leave_a_whole_engine(noise: LlamaEngine) -> None:
    async def cancel(number: int) -> None:
        long = Request(messages=(Message(role="user", content=f"{number} " + "w" * 900),), max_tokens=1)
        with anyio.move_on_after(0.001 * number):
            await ask(noise, long)

    async def main() -> tuple[int, ...]:
        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(cancel, number)
        return (await ask(noise, request(4))).profile.output_tokens

    first = anyio.run(main)
    assert first == anyio.run(main) == anyio.run(partial(ask, noise, request(4))).profile.output_tokens
