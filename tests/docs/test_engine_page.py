"""What docs/engine.md and its decision claim is so: the program runs, the figures and names are the code's."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Awaitable, Callable
from dataclasses import fields
from pathlib import Path
from typing import get_args

import anyio
import pytest

from agentmesh_models import Message, Profile, Reply, Request, Sampling, open_model
from agentmesh_models.cells import SAVED_BYTES
from agentmesh_models.chat import Engine
from agentmesh_models.errors import ModelErrorReason
from agentmesh_models.invariance import ALIGNED, Invariance
from agentmesh_models.memory import MOST_PARALLEL, PARALLEL, cell_count, memory_needed
from agentmesh_models.schedule import MIXED, N_BATCH, shares


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "engine.md").read_text()


@pytest.fixture
def llama() -> None:
    pytest.importorskip("llama_cpp", reason="needs the extra 'llama'")


def ask(engine: Engine, *requests: Request) -> list[Reply]:
    replies: dict[int, Reply] = {}

    async def one(at: int, request: Request) -> None:
        async for piece in engine.generate(request):
            if isinstance(piece, Reply):
                replies[at] = piece

    async def main() -> None:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for at, request in enumerate(requests):
                    group.start_soon(one, at, request)
            await engine.aclose()

    anyio.run(main)
    return [replies[at] for at in range(len(requests))]


def request(text: str, seed: int = 7) -> Request:
    return Request(
        messages=(Message(role="user", content=text),),
        max_tokens=24,
        sampling=Sampling(temperature=0.9, seed=seed),
    )


@pytest.mark.usefixtures("llama")
def test_the_program_shown_runs(page: str) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Callable[[], Awaitable[None]]] = {}
    code = "async def page():\n" + textwrap.indent(block, "    ")
    exec(compile(code, "docs/engine.md", "exec"), names)
    anyio.run(names["page"])


def test_the_table_of_steps_is_the_schedule(page: str) -> None:
    rows = re.findall(r"^\| ([\d, ]+) \| ([\d, ]+) \|$", page, re.MULTILINE)
    assert len(rows) == 4
    for pending, taken in rows:
        assert shares([int(each) for each in pending.split(",")]) == [int(each) for each in taken.split(",")]


def test_the_figures_are_the_codes_own(page: str) -> None:
    flat = " ".join(page.split())
    figures = {
        f"at most {N_BATCH} tokens",
        f"they have {MIXED} tokens together",
        f"({PARALLEL}, or 1 to {MOST_PARALLEL} by the mesh file)",
        f"multiples of {ALIGNED} tokens",
        f"{SAVED_BYTES >> 20} MiB at most",
        f"the scores of {N_BATCH} tokens twice",
    }
    assert [each for each in figures if each not in flat] == []
    assert cell_count(512) == 8192 == cell_count(8192) and "times `parallel` up to 8192" in flat
    empty = memory_needed(weights=0, kv_bytes=0, vocabulary=0, n_ctx=1)
    assert f"{round(empty / 1e6)} MB on top" in flat
    scores = memory_needed(weights=0, kv_bytes=0, vocabulary=152_000, n_ctx=1) - empty
    assert scores / 1.05 == pytest.approx(300e6, rel=0.05) and "300 MB with a vocabulary of 152,000" in flat


@pytest.mark.usefixtures("llama")
def test_limits_that_only_the_engine_knows_are_the_codes_own(page: str) -> None:
    from agentmesh_models import llama, session

    flat = " ".join(page.split())
    assert f"takes on {llama.QUEUE} requests" in flat
    assert f"by more than {session._WORTH_WAITING} tokens" in flat


def test_names_are_known_and_none_is_left_out(page: str) -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) - {"invariance"} == set(
        get_args(Invariance)
    )
    told = page[page.index("## The profile") : page.index("`method=")]
    assert [each.name for each in fields(Profile) if f"`{each.name}`" not in told] == []
    reasons = {"queue_full", "not_checkable", "deadline", "context_full", "decode_failed"}
    assert reasons <= set(get_args(ModelErrorReason)) and all(f"`{each}`" in page for each in reasons)


@pytest.mark.usefixtures("llama")
def test_a_reply_is_the_same_alone_and_in_company() -> None:
    alone = ask(open_model("nano", threads=1), request("What can you do?"))[0]
    asked = [request("What can you do?"), *(request(f"Tell me of {each}.", each) for each in range(6))]
    beside = ask(open_model("nano", threads=1), *asked)[0]
    assert (alone.text, alone.profile.output_tokens) == (beside.text, beside.profile.output_tokens)


@pytest.mark.usefixtures("llama")
def test_without_exact_nothing_is_promised_and_everything_works() -> None:
    profile = ask(open_model("nano", threads=1, exact=False), request("Hello!"))[0].profile
    assert (profile.invariance, profile.n_batch) == ("loose", N_BATCH)


@pytest.mark.usefixtures("llama")
def test_requests_that_begin_alike_are_read_once() -> None:
    long = "Here is a long text that several agents have in common. " * 12
    replies = ask(open_model("nano", threads=1), *(request(f"{long} {each}?") for each in "abcd"))
    usages = [each.usage for each in replies]
    evaluated = sum(each.prompt_tokens - each.reused_tokens for each in usages)
    assert evaluated < 1.2 * usages[0].prompt_tokens


def test_the_decision_tells_the_figures_of_the_page(page: str, root: Path) -> None:
    decision = (root / "docs" / "decisions" / "0006-cells-upwards.md").read_text()
    for each in ("13 %", "30 %", "512 MiB"):
        assert each in page and each in decision
