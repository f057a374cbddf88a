"""How fast a model answers on this machine, and the bound that reading memory sets.

Made of the public engine alone: requests run side by side, and what the engine makes of that is what is measured. A
decode step reads every weight once and the cache of every sequence, so no engine can be faster than memory delivers
those; a model smaller than the last cache can.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agentmesh_models.catalogue import model_path, open_model
from agentmesh_models.chat import Engine, Message, Reply, Request, Sampling, Usage
from agentmesh_models.errors import ModelError
from agentmesh_models.facts import read_facts
from agentmesh_models.gguf import read_gguf

if TYPE_CHECKING:
    import numpy as np

_LEAST_BUFFER: Final = 256 << 20
_MOST_BUFFER: Final = 2 << 30
_SLACK: Final = 64
# Words without a common beginning: nothing of one prompt can be taken over from another.
_WORDS: Final = (
    "amber basin cedar delta ember fable grain harbour island jasper kernel lantern meadow nectar orchard pebble "
    "quarry ribbon saddle timber umber valley willow yonder zephyr anchor bridge canyon dagger engine forest garden"
).split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is run: about so many tokens of prompt, so many new ones, at these numbers of sequences."""

    prompt_tokens: int = 512
    new_tokens: int = 64
    repetitions: int = 3
    sequences: tuple[int, ...] = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Rates at one number of sequences, in tokens a second of all of them together; medians of the repetitions."""

    sequences: int
    prompt_tokens: int
    new_tokens: int
    prefill: float
    decode: float
    bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What was measured. `bandwidth` is bytes a second of reading memory with as many threads."""

    model: str
    digest: str
    library: str
    threads: int
    weights: int
    read_a_step: int
    kv_bytes: int
    bandwidth: float
    points: tuple[Point, ...]

    def to_json(self) -> dict[str, object]:
        """The rates as plain JSON values."""
        return asdict(self) | {"points": [asdict(each) for each in self.points]}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """Requests that ran side by side: how long all took, and what each cost."""

    seconds: float
    replies: tuple[Reply, ...]

    @property
    def evaluated(self) -> int:
        return sum(_evaluated(each.usage) for each in self.replies)

    @property
    def new(self) -> int:
        return sum(each.usage.output_tokens for each in self.replies)


async def measure(
    spec: str, course: Workload, *, threads: int | None = None, say: Callable[[str], None] = lambda text: None
) -> Rates:
    """Open the model that `spec` names and measure it; `say` is told how far it is.

    Raises:
        ModelError: as `open_model` and `Engine.generate`; "no_backend" without numpy.
    """
    import anyio.to_thread

    path = await anyio.to_thread.run_sync(model_path, spec)
    facts = read_facts(await anyio.to_thread.run_sync(read_gguf, path))
    most = max(course.sequences)
    n_ctx = most * (course.prompt_tokens + course.new_tokens + _SLACK)
    engine = await anyio.to_thread.run_sync(partial(open_model, spec, n_ctx=n_ctx, threads=threads))
    try:
        prompt = min(course.prompt_tokens, engine.info.n_ctx - course.new_tokens - 2 * _SLACK)
        if prompt < 1:
            raise ModelError(
                "bad_request", f"{course.new_tokens} new tokens do not fit a context of {engine.info.n_ctx}"
            )
        first = await _calibrated(engine, prompt)
        profile = first.reply.profile
        used = profile.threads or threads or 1
        say(f"reading memory with {used} threads")
        bandwidth = await anyio.to_thread.run_sync(read_bandwidth, used)
        points: list[Point] = []
        for count in course.sequences:
            say(f"{count} sequences")
            point = await _point(engine, count, course, first.words)
            context = point.prompt_tokens + point.new_tokens / 2
            step = facts.read_a_step + count * (facts.kv_bytes or 0) * context
            points.append(replace(point, bound=bandwidth * count / step))
        return Rates(
            model=engine.info.name,
            digest=engine.info.digest,
            library=profile.library,
            threads=used,
            weights=facts.weights,
            read_a_step=facts.read_a_step,
            kv_bytes=facts.kv_bytes or 0,
            bandwidth=bandwidth,
            points=tuple(points),
        )
    finally:
        await engine.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Calibrated:
    """So many words make a prompt of about the wanted length."""

    words: int
    reply: Reply


async def _calibrated(engine: Engine, tokens: int) -> _Calibrated:
    """How many words make so many tokens, told by two small requests; it also warms the machine up."""
    few, more = 8, 24
    short = (await _run(engine, [_prompt(few, -1)], 1)).replies[0]
    longer = (await _run(engine, [_prompt(more, -2)], 1)).replies[0]
    per_word = max(0.2, (longer.usage.prompt_tokens - short.usage.prompt_tokens) / (more - few))
    head = short.usage.prompt_tokens - few * per_word
    return _Calibrated(words=max(1, int((tokens - head) / per_word)), reply=short)


async def _point(engine: Engine, count: int, course: Workload, words: int) -> Point:
    """One row: every repetition reads new prompts for one token each, then goes on with the same for all."""
    prefill: list[float] = []
    decode: list[float] = []
    prompt = 0
    new: list[int] = []
    for repetition in range(course.repetitions):
        prompts = [_prompt(words, count * 10_000 + repetition * 100 + each) for each in range(count)]
        read = await _run(engine, prompts, 1)
        rate = read.evaluated / read.seconds
        # An engine that kept the prompts reads next to nothing now; what it does read again is taken off.
        full = await _run(engine, prompts, course.new_tokens)
        seconds = full.seconds - full.evaluated / rate
        if seconds <= 0:  # a busy machine: then what the engine itself counted
            seconds = sum(each.usage.decode_seconds for each in full.replies)
        prefill.append(rate)
        decode.append(full.new / seconds)
        prompt = max(each.usage.prompt_tokens for each in full.replies)
        new += [each.usage.output_tokens for each in full.replies]
    return Point(
        sequences=count,
        prompt_tokens=prompt,
        new_tokens=round(statistics.mean(new)),  # a model may end its reply before the limit
        prefill=statistics.median(prefill),
        decode=statistics.median(decode),
        bound=0.0,
    )


async def _run(engine: Engine, prompts: list[str], new_tokens: int) -> _Run:
    import anyio

    replies: list[Reply] = []

    async def one(prompt: str) -> None:
        request = Request(
            messages=(Message(role="user", content=prompt),), max_tokens=new_tokens, sampling=Sampling()
        )
        async for piece in engine.generate(request):
            if isinstance(piece, Reply):
                replies.append(piece)

    begun = time.perf_counter()
    async with anyio.create_task_group() as group:
        for prompt in prompts:
            group.start_soon(one, prompt)
    return _Run(seconds=time.perf_counter() - begun, replies=tuple(replies))


def _evaluated(usage: Usage) -> int:
    return max(1, usage.prompt_tokens - usage.reused_tokens)


def _prompt(words: int, number: int) -> str:
    """A prompt of that many words, whose first word is no other prompt's."""
    step = 2 * abs(number) + 1
    body = (_WORDS[(at * step + abs(number) + at // len(_WORDS)) % len(_WORDS)] for at in range(words - 1))
    return " ".join((f"n{number}", *body))


def read_bandwidth(threads: int) -> float:
    """Bytes a second that so many threads together read from memory: the best of a few passes.

    Raises:
        ModelError: "no_backend" without numpy.
    """
    try:
        import numpy as np
    except ModuleNotFoundError:
        raise ModelError(
            "no_backend", "measuring memory needs numpy: pip install 'agentmesh-runtime[llama]'"
        ) from None
    from concurrent.futures import ThreadPoolExecutor

    size = min(_MOST_BUFFER, max(_LEAST_BUFFER, 4 * last_cache()))
    parts = np.array_split(np.ones(size // 8, dtype=np.int64), threads)
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(6):
            begun = time.perf_counter()
            list(pool.map(_read_all, parts))  # numpy lets go of the interpreter's lock in its loops
            best = min(best, time.perf_counter() - begun)
    return size / best


def _read_all(part: np.ndarray[tuple[int], np.dtype[np.int64]]) -> int:
    return int(part.max())


def last_cache() -> int:
    """The size of the largest cache of this machine, in bytes; 32 MB where it does not say."""
    best = 0
    for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index*/size"):
        try:
            text = path.read_text().strip()
            best = max(best, int(text[:-1]) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[text[-1:]])
        except (OSError, ValueError, KeyError):
            continue
    return best or 32 << 20
