"""The engine under what must not happen: it stays, and says what is wrong."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from agentmesh_models import Message, ModelError, Reply, Request, Sampling
from agentmesh_models import llama as llama_module
from agentmesh_models import reply as reply_module
from agentmesh_models.binding import Weights
from agentmesh_models.gguf import read_gguf
from agentmesh_models.llama import LlamaEngine, _tokens, open_llama
from agentmesh_models.pool import Pool
from agentmesh_models.session import Session

pytest.importorskip("llama_cpp", reason="llama-cpp-python runs the models")

HELLO = Request(messages=(Message(role="user", content="Hi"),), max_tokens=6)
NOISE = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=3)


async def ask(engine: LlamaEngine, request: Request) -> Reply:
    with anyio.fail_after(60):
        async for item in engine.generate(request):
            if isinstance(item, Reply):
                return item
    raise AssertionError("no reply")


@pytest.mark.parametrize(("n_ctx", "parallel"), [(64, 1), (100, 2)])
def test_a_context_smaller_than_its_sequences_works(blocks_model: Path, n_ctx: int, parallel: int) -> None:
    async def main() -> None:
        engine = await anyio.to_thread.run_sync(
            partial(open_llama, blocks_model, name="x", n_ctx=n_ctx, parallel=parallel, threads=1)
        )
        reply = await ask(engine, HELLO)
        assert reply.usage.prompt_tokens < n_ctx
        await engine.aclose()

    anyio.run(main)


def test_closing_waits_for_who_still_reads_the_vocabulary(
    blocks_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    started, freed = threading.Event(), threading.Event()
    close = Weights.close

    def slowly(request: Request) -> None:
        started.set()
        freed.wait(0.3)
        order.append("prepared")

    def free(weights: Weights) -> None:
        order.append("freed")
        freed.set()
        close(weights)

    async def main() -> None:
        engine = await anyio.to_thread.run_sync(partial(open_llama, blocks_model, name="x", threads=1))
        monkeypatch.setattr(reply_module, "check", slowly)
        monkeypatch.setattr(Weights, "close", free)

        async def refused() -> None:
            with pytest.raises(ModelError) as caught:
                await ask(engine, HELLO)
            assert caught.value.reason == "closed"

        async with anyio.create_task_group() as group:
            group.start_soon(refused)
            await anyio.to_thread.run_sync(started.wait, 10)
            await engine.aclose()

    anyio.run(main)
    assert order == ["prepared", "freed"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_an_engine_whose_thread_is_gone(
    blocks_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(session: Session) -> None:
        raise AssertionError("the books are wrong")

    async def main() -> None:
        engine = await anyio.to_thread.run_sync(partial(open_llama, blocks_model, name="x", threads=1))
        monkeypatch.setattr(Session, "step", broken)
        for _ in range(2):
            with pytest.raises(ModelError, match="the engine failed: AssertionError: the books are wrong"):
                await ask(engine, HELLO)
        await engine.aclose()

    anyio.run(main)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_callers_whose_event_loop_was_closed_hold_no_place_in_the_queue(blocks_model: Path) -> None:
    engine = open_llama(blocks_model, name="x", threads=1, queue=2)
    endless = replace(HELLO, max_tokens=1_500, sampling=NOISE)
    left = []
    for _ in range(2):
        loop = asyncio.new_event_loop()
        left.append(engine.generate(endless))
        loop.run_until_complete(anext(left[-1]))
        loop.close()

    async def main() -> None:
        with anyio.fail_after(60):
            while not all(job.over for job in engine._jobs):
                await anyio.lowlevel.checkpoint()
        assert (await ask(engine, HELLO)).usage.output_tokens
        await engine.aclose()

    anyio.run(main)


@pytest.mark.parametrize("twice", [(b"foo", b"foo"), (b"a\0b", b"a\0c"), (b"", b"[EMPTY_0]")])
def test_a_token_that_llama_cpp_would_read_twice_is_refused(
    make_gguf: Callable[..., Path], twice: tuple[bytes, bytes]
) -> None:
    with pytest.raises(ModelError, match="the vocabulary holds the token .* twice") as caught:
        _tokens(read_gguf(make_gguf(tokens=twice)))
    assert caught.value.reason == "malformed"


@pytest.mark.parametrize("tokens", [(b"", b""), (b"\xff", b"\xfe")])
def test_empty_tokens_and_such_as_are_no_text_are_not_the_same(
    make_gguf: Callable[..., Path], tokens: tuple[bytes, bytes]
) -> None:
    assert list(_tokens(read_gguf(make_gguf(tokens=tokens)))) == [0, 1]


def test_nothing_is_kept_of_a_model_whose_engine_was_closed(blocks_model: Path) -> None:
    kept: list[weakref.ref[Weights]] = []

    async def main() -> None:
        engine = await anyio.to_thread.run_sync(partial(open_llama, blocks_model, name="x", threads=1))
        await ask(engine, HELLO)
        kept.append(weakref.ref(engine._loaded.model.weights))
        await engine.aclose()

    anyio.run(main)
    gc.collect()
    assert kept[0]() is None


@pytest.mark.parametrize("patience", [0.0, 10.0])
def test_nobody_waits_for_a_prompt_that_is_never_ready(
    blocks_model: Path, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    """As with a chat template that never ends. It only has the vocabulary kept as long as it goes on."""
    monkeypatch.setattr(llama_module, "_PATIENCE", patience)
    monkeypatch.setattr(reply_module, "check", lambda request: never.wait(20) and None)
    never, freed = threading.Event(), threading.Event()
    close = Weights.close

    def free(weights: Weights) -> None:
        close(weights)
        freed.set()

    async def main() -> None:
        engine = await anyio.to_thread.run_sync(partial(open_llama, blocks_model, name="x", threads=1))
        monkeypatch.setattr(Weights, "close", free)
        with anyio.move_on_after(0.01) as scope:
            await ask(engine, HELLO)
        assert scope.cancelled_caught
        with pytest.raises(ModelError) as caught:
            await ask(engine, replace(HELLO, deadline=0.01))
        assert caught.value.reason == "deadline" and not engine._jobs
        if patience:
            never.set()
        await engine.aclose()
        assert freed.is_set() is bool(patience)
        never.set()
        assert await anyio.to_thread.run_sync(freed.wait, 10)

    anyio.run(main)


@pytest.mark.parametrize("deadline", [0.0, -1.0, float("nan")])
def test_a_deadline_that_is_no_time_is_refused_by_engine_and_pool(
    blocks_model: Path, deadline: float
) -> None:
    async def main() -> None:
        pool = Pool(threads=1)
        engine = await anyio.to_thread.run_sync(partial(pool.engine, str(blocks_model)))
        with pytest.raises(ModelError) as caught:
            async for _ in engine.generate(replace(HELLO, deadline=deadline)):
                pass
        assert caught.value.reason == "bad_request"
        await pool.aclose()

    anyio.run(main)
