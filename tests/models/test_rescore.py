"""A recorded reply checked: what this model would have said, and by how much anything else is off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from agentmesh_models import (
    JsonValue,
    Message,
    ModelError,
    Profile,
    Reply,
    Request,
    Rescored,
    Sampling,
    ToolSpec,
)
from agentmesh_models.catalogue import nano_path
from agentmesh_models.llama import LlamaEngine, open_llama
from agentmesh_models.profile import read_profile

pytest.importorskip("llama_cpp", reason="llama-cpp-python runs the models")

NOISE = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=3)
TOOL = ToolSpec(
    name="evaluate",
    description="Evaluate an expression.",
    parameters={
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
    },
)
HELLO = Request(
    messages=(Message(role="user", content="Hello, who are you?"),), sampling=NOISE, max_tokens=40
)
SUM = Request(
    messages=(
        Message(role="system", content="You are math. You calculate."),
        Message(role="user", content="What is 17 * 23?"),
    ),
    tools=(TOOL,),
)


def opened(path: Path) -> LlamaEngine:
    return open_llama(path, name=path.stem, threads=1)


@pytest.fixture(scope="module")
def blocks(blocks_model: Path) -> Iterator[LlamaEngine]:
    engine = opened(blocks_model)
    yield engine
    anyio.run(engine.aclose)


@pytest.fixture(scope="module")
def company(company_model: Path) -> Iterator[LlamaEngine]:
    engine = opened(company_model)
    yield engine
    anyio.run(engine.aclose)


def said(engine: LlamaEngine, request: Request) -> Profile:
    async def ask() -> Profile:
        with anyio.fail_after(60):
            async for item in engine.generate(request):
                if isinstance(item, Reply):
                    return item.profile
        raise AssertionError("no reply")

    return anyio.run(ask)


def scored(engine: LlamaEngine, profile: Profile, method: str) -> Rescored:
    async def check() -> Rescored:
        with anyio.fail_after(60):
            return await engine.rescore(profile, method=method)  # type: ignore[arg-type]

    return anyio.run(check)


@pytest.mark.parametrize("method", ["replay", "score"])
@pytest.mark.parametrize(
    "request_", [HELLO, replace(HELLO, sampling=Sampling()), replace(HELLO, tools=(TOOL,))]
)
def test_an_honest_reply_is_exact_by_either_method(
    blocks: LlamaEngine, method: str, request_: Request
) -> None:
    said(blocks, HELLO)  # so that part of the prompt is reused
    profile = said(blocks, request_)
    found = scored(blocks, profile, method)
    assert (found.verdict, found.first) == ("exact", None)
    assert found.agreeing == len(profile.output_tokens) and found.expected == profile.output_tokens
    assert set(found.margins) <= {0.0}


def test_a_call_under_a_grammar_is_exact_by_either_method() -> None:
    engine = opened(nano_path())
    required = replace(SUM, tool_choice="required", sampling=NOISE)
    for request in (SUM, required, replace(required, parallel_calls=False)):
        profile = said(engine, request)
        assert profile.finish == "call"
        assert [scored(engine, profile, method).verdict for method in ("replay", "score")] == [
            "exact",
            "exact",
        ]
    anyio.run(engine.aclose)


def test_a_reply_that_was_cut_or_should_have_ended_before_differs_by_either_method(
    blocks: LlamaEngine,
) -> None:
    call = replace(SUM, tool_choice="required", parallel_calls=False, sampling=NOISE, max_tokens=300)
    for profile in (said(blocks, HELLO), said(blocks, call)):
        whole = len(profile.output_tokens)
        cut = replace(profile, output_tokens=profile.output_tokens[:-2])
        limited = replace(profile, max_tokens=5)
        assert scored(blocks, limited, "score").first == scored(blocks, limited, "replay").first == 5
        for method in ("replay", "score"):
            assert scored(blocks, profile, method).verdict == "exact"
            assert scored(blocks, cut, method).first == whole - 2
            assert scored(blocks, cut, method).verdict == "differs"


def test_a_record_whose_tools_were_reordered_gives_no_verdict_at_all() -> None:
    engine = opened(nano_path())
    properties: dict[str, JsonValue] = {"z": {"type": "integer"}, "a": {"type": "integer"}}
    tool = ToolSpec(
        name="add", parameters={"type": "object", "properties": properties, "required": ["z", "a"]}
    )
    profile = said(engine, replace(SUM, tools=(tool,), tool_choice="required", sampling=NOISE))
    as_it_was = read_profile(json.dumps(profile.to_json()).encode())
    assert scored(engine, as_it_was, "score").verdict == "exact"
    ordered = read_profile(json.dumps(profile.to_json(), sort_keys=True).encode())
    for method in ("replay", "score"):
        with pytest.raises(ModelError, match="another grammar") as caught:
            scored(engine, ordered, method)
        assert caught.value.reason == "not_checkable"
    anyio.run(engine.aclose)


def test_scoring_takes_about_as_many_steps_as_a_prompt_of_that_length(blocks: LlamaEngine) -> None:
    profile = said(blocks, replace(HELLO, max_tokens=200))
    before = blocks.steps
    scored(blocks, profile, "score")
    assert blocks.steps - before < len(profile.output_tokens) / 8


def test_where_arithmetic_depends_on_company_a_replay_is_exact_and_scoring_is_close(
    company: LlamaEngine,
) -> None:
    profile = said(company, HELLO)
    assert profile.invariance == "aligned"
    assert scored(company, profile, "replay").verdict == "exact"
    found = scored(company, profile, "score")
    assert max(found.margins) < 0.05


def test_one_token_exchanged_is_found_at_its_place(blocks: LlamaEngine) -> None:
    profile = said(blocks, HELLO)
    tokens = list(profile.output_tokens)
    tokens[7] = (tokens[7] + 1) % 256
    found = scored(blocks, replace(profile, output_tokens=tuple(tokens)), "score")
    assert (found.verdict, found.first) == ("differs", 7)
    assert found.margins[7] > 0 and found.margins[:7] == (0.0,) * 7
    assert scored(blocks, replace(profile, output_tokens=tuple(tokens)), "replay").first == 7


@pytest.mark.parametrize("change", [{"seed": 4}, {"temperature": 0.2}, {"top_k": 2}])
def test_a_reply_under_other_settings_than_recorded_is_found(
    blocks: LlamaEngine, change: dict[str, float]
) -> None:
    profile = said(blocks, HELLO)
    claimed = replace(profile, sampling=replace(profile.sampling, **change))  # type: ignore[arg-type]
    found = scored(blocks, claimed, "score")
    assert found.verdict == "differs"
    assert sum(found.margins) / len(found.margins) > 0.5


def test_a_profile_of_another_model_or_of_none_cannot_be_checked(
    blocks: LlamaEngine, company: LlamaEngine
) -> None:
    profile = said(blocks, HELLO)
    for wrong in (
        said(company, HELLO),
        replace(profile, model_digest="unknown"),
        replace(profile, prompt_tokens=()),
        replace(profile, output_tokens=()),
        replace(profile, output_tokens=(10**9,)),
        replace(profile, prompt_tokens=(-1,)),
        replace(profile, prompt_tokens=profile.prompt_tokens * 200),
    ):
        with pytest.raises(ModelError) as caught:
            scored(blocks, wrong, "score")
        assert caught.value.reason == "not_checkable"


def test_others_are_answered_while_a_reply_is_checked(blocks: LlamaEngine) -> None:
    profile = said(blocks, replace(HELLO, max_tokens=200))
    expected = said(blocks, replace(HELLO, max_tokens=20)).output_tokens

    async def main() -> None:
        async def check() -> None:
            assert (await blocks.rescore(profile, method="replay")).verdict == "exact"

        async def ask() -> None:
            async for item in blocks.generate(replace(HELLO, max_tokens=20)):
                if isinstance(item, Reply):
                    assert item.profile.output_tokens == expected

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(check)
                    group.start_soon(ask)

    anyio.run(main)
