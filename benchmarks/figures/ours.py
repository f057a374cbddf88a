"""Our engine, through its public interface alone: requests, a dialogue, cancellations."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import count
from statistics import median
from typing import Any

import anyio

from agentmesh_models import Message, Reply, Request, TextDelta, open_model
from figures.contest import SLOTS, Conditions, Prompt, Run
from figures.libraries import Trace, summarise
from figures.meter import Meter, Watched
from figures.random_model import words
from figures.talk import NAMES, Layout, Talk, distinct


class Ours:
    """One engine, kept open from command to command, as a mesh keeps it."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._meter = Meter()
        self._meter.install()
        self._engine = self._open()
        self._seeds = count(1_000_000)

    def _open(self) -> Any:
        return open_model(
            self._conditions.model, n_ctx=self._conditions.n_ctx, threads=self._conditions.threads
        )

    def run(self, prompts: Sequence[Prompt], tokens: int, *, together: bool) -> Run:
        """All at once by tasks of one event loop, or one after another."""
        return anyio.run(self._run, prompts, tokens, together)

    async def _run(self, prompts: Sequence[Prompt], tokens: int, together: bool) -> Run:
        traces = [Trace() for _ in prompts]
        started = time.perf_counter()
        if together:
            async with anyio.create_task_group() as group:
                for prompt, trace in zip(prompts, traces, strict=True):
                    group.start_soon(self._checked, prompt, tokens, trace)
        else:
            for prompt, trace in zip(prompts, traces, strict=True):
                await self._checked(prompt, tokens, trace)
        return summarise(traces, started, tokens, together=together)

    async def _checked(self, prompt: Prompt, tokens: int, trace: Trace) -> None:
        """One request; that it read exactly the tokens that the others are given is held here."""
        reply = await self._answer(_asked(prompt.text), tokens, trace.add)
        if reply.profile.prompt_tokens != prompt.tokens:
            raise RuntimeError(
                f"our prompt is not the others': {reply.profile.prompt_tokens} {prompt.tokens}"
            )

    async def _answer(
        self, messages: tuple[Message, ...], tokens: int, hear: Callable[[str], object] = lambda text: None
    ) -> Reply:
        request = Request(messages=messages, max_tokens=tokens, sampling=self._conditions.sampling())
        reply: Reply | None = None
        async for piece in self._engine.generate(request):
            if isinstance(piece, TextDelta):
                hear(piece.text)
            elif isinstance(piece, Reply):
                reply = piece
        assert reply is not None
        return reply

    def dialogue(
        self, layout: Layout, seed: int, *, turns: int, tokens: int, at_once: bool = False
    ) -> dict[str, Any]:
        """Agents who take turns; `at_once`: all four speak at the same time, and then hear one another."""
        return anyio.run(self._dialogue, Talk(seed=seed, layout=layout), turns, tokens, at_once)

    async def _dialogue(self, talk: Talk, turns: int, tokens: int, at_once: bool) -> dict[str, Any]:
        first: list[float] = []
        replies: list[Reply] = []
        self._meter.clear()
        started = time.perf_counter()

        async def speak(name: str, spoken: dict[str, Reply]) -> None:
            asked, heard = time.perf_counter(), Trace()
            spoken[name] = await self._answer(talk.prompt(name), tokens, heard.add)
            first.append(heard.arrivals[0][0] - asked)

        step = len(NAMES) if at_once else 1
        for turn in range(0, turns, step):
            names = [NAMES[(turn + each) % len(NAMES)] for each in range(step)]
            spoken: dict[str, Reply] = {}
            async with anyio.create_task_group() as group:
                for name in names:
                    group.start_soon(speak, name, spoken)
            for name in names:
                replies.append(spoken[name])
                talk.said.append((name, spoken[name].text))
        usages = [reply.usage for reply in replies]
        told = sum(u.prompt_tokens - u.reused_tokens + u.output_tokens - 1 for u in usages)
        return {
            "told": told,
            "evaluated": self._meter.tokens if self._meter.steps else told,
            "distinct": distinct(
                [(*each.profile.prompt_tokens, *each.profile.output_tokens) for each in replies]
            ),
            "first": first,
            "prompts": [usage.prompt_tokens for usage in usages],
            "seconds": time.perf_counter() - started,
        }

    def cancel(self, *, tries: int, long: int) -> dict[str, Any]:
        """How long a cancelled request keeps the engine busy, while it decodes and amid a prefill of `long` words."""
        return anyio.run(self._cancel, tries, long)

    async def _cancel(self, tries: int, long: int) -> dict[str, Any]:
        usual: list[float] = []
        for _ in range(tries):
            await self._answer(self._new(16), 4)
            usual.append(await self._probe())
        step = (await self._answer(self._new(16), 64)).usage.decode_seconds / 63
        whole = await self._answer(self._new(long), 1)
        read = whole.usage.prefill_seconds
        chunk = read / len(whole.profile.splits)
        decoding = [await self._cut(self._new(16), 8, step * (2 + each / tries)) for each in range(tries)]
        reading = [
            await self._cut(self._new(long), 0, read * (0.3 + 0.4 * each / tries)) for each in range(tries)
        ]
        idle = median(usual)
        return {
            "step": step,
            "chunk": chunk,
            "decoding": [max(closed, free - idle) for closed, free in decoding],
            "reading": [max(closed, free - idle) for closed, free in reading],
        }

    async def _cut(self, messages: tuple[Message, ...], tokens: int, after: float) -> tuple[float, float]:
        """Cancel `after` so many tokens and seconds: seconds until the request was gone, and until another was done."""
        ready, gone = anyio.Event(), anyio.Event()
        heard, scope = Trace(), anyio.CancelScope()

        def hear(text: str) -> None:
            heard.add(text)
            if heard.tokens >= tokens:
                ready.set()

        async def ask() -> None:
            with scope:
                await self._answer(messages, 4096 if tokens else 8, hear)
            gone.set()

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            if tokens:
                await ready.wait()
            await anyio.sleep(after)
            if gone.is_set():
                raise RuntimeError("the request was over before it could be cancelled")
            cancelled = time.perf_counter()
            scope.cancel()
            await gone.wait()
            closed = time.perf_counter() - cancelled
        await self._probe()
        return closed, time.perf_counter() - cancelled

    async def _probe(self) -> float:
        """Seconds of the smallest request there is."""
        started = time.perf_counter()
        await self._answer(_asked("go"), 1)
        return time.perf_counter() - started

    def _new(self, size: int) -> tuple[Message, ...]:
        """A question that was never asked before."""
        return _asked(words(size, next(self._seeds)).strip())

    def where(self, *, tokens: int) -> dict[str, Any]:
        """Where the time of decoding goes, alone and among 8, and what a profiler sees in the engine's threads."""
        found: dict[str, Any] = {}
        for size in (1, SLOTS):
            found[str(size)] = anyio.run(self._where, size, tokens)
        watched = Watched()
        anyio.run(self._engine.aclose)
        watched.begin()
        self._engine = self._open()
        watched.end()
        anyio.run(self._where, SLOTS, tokens)
        found["profile"] = watched.lines()
        return found

    async def _where(self, size: int, tokens: int) -> dict[str, float]:
        self._meter.clear()
        started = time.perf_counter()
        async with anyio.create_task_group() as group:
            for _ in range(size):
                group.start_soon(self._answer, self._new(8), tokens)
        seconds = time.perf_counter() - started
        steps = max(1, self._meter.steps)
        parts = {name: 1000 * taken / steps for name, taken in self._meter.seconds.items()}
        whole = 1000 * seconds / steps
        return {"steps": steps, "step": whole, **parts, "rest": whole - sum(parts.values())}

    def close(self) -> None:
        """Give the engine back."""
        anyio.run(self._engine.aclose)


def _asked(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)
