"""Whatever the model, a call is valid: noise is made to call tools, and every argument is checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh_models import (
    Engine,
    Message,
    ModelError,
    Reply,
    Request,
    Sampling,
    TextDelta,
    ToolSpec,
    binding,
    open_model,
)
from agentmesh_models.catalogue import nano_path
from agentmesh_models.grammar import call_grammar

pytest.importorskip("llama_cpp", reason="llama-cpp-python runs the models")

Conforms = Callable[[object, Any, Mapping[str, Any]], bool]


def tool(name: str, required: list[str] | None = None, **properties: Any) -> ToolSpec:
    chosen = list(properties) if required is None else required
    return ToolSpec(
        name=name,
        description=f"Do {name}.",
        parameters={"type": "object", "properties": properties, "required": chosen},  # type: ignore[dict-item]
    )


TEXT, SHORT = {"type": "string"}, {"type": "string", "minLength": 2, "maxLength": 9}
TOOLS: dict[str, tuple[ToolSpec, ...]] = {
    "product": (tool("evaluate", expression=TEXT), tool("now", timezone=TEXT), tool("read_note", title=TEXT)),
    "numbers": (
        tool("convert", value={"type": "number"}, count={"type": "integer"}, exact={"type": "boolean"}),
    ),
    "listed": (
        tool("set_mode", mode={"type": "string", "enum": ["eco", 'né"\\\n', "a<b"]}, kind={"const": 7}),
    ),
    "optional": (
        tool("find", ["q"], before=SHORT, q=SHORT, limit={"type": "integer"}, exact={"type": "boolean"}),
    ),
    "all_optional": (tool("maybe", [], a=SHORT, b={"type": "null"}, c={"type": "integer"}),),
    "arrays": (
        tool("sum", numbers={"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 5}),
        tool(
            "tag",
            tags={"type": "array", "items": SHORT, "maxItems": 3},
            none={"type": "array", "maxItems": 0},
        ),
    ),
    "nested": (
        tool(
            "draw",
            shape={
                "type": "object",
                "properties": {
                    "points": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
                            "required": ["x", "y"],
                        },
                        "minItems": 1,
                        "maxItems": 3,
                    },
                    "label": {"anyOf": [SHORT, {"type": "null"}]},
                },
                "required": ["points"],
            },
        ),
    ),
    "unions": (
        tool("either", a={"oneOf": [{"type": "integer"}, {"enum": ["x"]}]}, b={"type": ["boolean", "null"]}),
    ),
    "nothing": (tool("ping"), ToolSpec(name="pong", parameters={})),
    "references": (
        ToolSpec(
            name="grow",
            parameters={
                "type": "object",
                "properties": {"tree": {"$ref": "#/$defs/Tree"}},
                "required": ["tree"],
                "$defs": {
                    "Tree": {
                        "type": "object",
                        "properties": {"name": dict(SHORT), "left": {"$ref": "#/$defs/Tree"}},
                        "required": ["name"],
                    }
                },
            },
        ),
    ),
    "names": (tool('odd "name"\\ é', **{"a b": SHORT, 'q"': {"type": "integer"}}),),
}


@pytest.fixture(scope="module")
def noise(random_model: Path) -> Iterator[Engine]:
    engine = open_model(str(random_model), threads=1)
    yield engine
    anyio.run(engine.aclose)


@pytest.fixture(scope="module")
def nano() -> Iterator[Engine]:
    engine = open_model("nano", threads=1)
    yield engine
    anyio.run(engine.aclose)


async def reply_of(engine: Engine, request: Request) -> Reply:
    with anyio.fail_after(120):
        text = ""
        async for item in engine.generate(request):
            if isinstance(item, TextDelta):
                text += item.text
            else:
                assert item.text == text
                return item
    raise AssertionError("no reply")


def request_for(name: str, seed: int, choice: Any = "required") -> Request:
    return Request(
        messages=(
            Message(role="system", content="You are ada. You help."),
            Message(role="user", content=f"Do {name}."),
        ),
        tools=TOOLS[name],
        tool_choice=choice,
        max_tokens=700,
        sampling=Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed),
    )


def check(reply: Reply, tools: tuple[ToolSpec, ...], conforms: Conforms) -> int:
    """Asserts that the reply's calls are valid; returns how many there were."""
    by_name = {each.name: each for each in tools}
    for call in reply.calls:
        schema = by_name[call.name].parameters
        assert conforms(call.arguments, schema, schema), call
        json.dumps(call.arguments).encode()
    if reply.finish == "call":
        assert reply.calls
    return len(reply.calls)


@pytest.mark.parametrize("name", TOOLS)
def test_noise_that_must_call_makes_valid_calls(noise: Engine, conforms: Conforms, name: str) -> None:
    async def main() -> int:
        return sum(
            [
                check(await reply_of(noise, request_for(name, seed)), TOOLS[name], conforms)
                for seed in range(8)
            ]
        )

    assert anyio.run(main) >= 8


@pytest.mark.parametrize("name", ["product", "numbers", "optional", "nested"])
def test_the_embedded_model_at_temperature_one_makes_valid_calls(
    nano: Engine, conforms: Conforms, name: str
) -> None:
    async def main() -> int:
        return sum(
            [check(await reply_of(nano, request_for(name, seed)), TOOLS[name], conforms) for seed in range(6)]
        )

    assert anyio.run(main) >= 4


def test_noise_that_may_call_wakes_the_grammar_at_any_straddling_token(
    noise: Engine, conforms: Conforms
) -> None:
    async def main() -> tuple[int, int]:
        calls = words = 0
        for seed in range(40):
            reply = await reply_of(noise, request_for("numbers", seed, "auto"))
            assert "<tool_call>" not in reply.text
            calls += check(reply, TOOLS["numbers"], conforms)
            words += bool(reply.text)
        return calls, words

    calls, words = anyio.run(main)
    assert calls >= 3 and words >= 3


def test_noise_that_may_not_call_does_not(noise: Engine) -> None:
    async def main() -> None:
        for seed in range(10):
            reply = await reply_of(noise, replace(request_for("numbers", seed, "none"), max_tokens=300))
            assert not reply.calls and reply.finish != "call" and "<tool_call>" not in reply.text

    anyio.run(main)


leaves = st.sampled_from(
    [{"type": kind} for kind in ("string", "integer", "number", "boolean", "null", "array", "object", "odd")]
) | st.builds(lambda values: {"enum": values}, st.lists(st.text(max_size=6) | st.integers(), max_size=3))
schemas = st.recursive(
    leaves | st.just({"$ref": "#/$defs/a"}) | st.just({"$ref": "#/$defs/b"}) | st.just({}),
    lambda inner: (
        st.builds(
            lambda item, low: {"type": "array", "items": item, "minItems": low}, inner, st.integers(0, 3)
        )
        | st.builds(lambda each: {"anyOf": each}, st.lists(inner, max_size=3))
        | st.builds(lambda each: {"type": "object", "additionalProperties": each}, inner)
        | st.builds(
            lambda each, some: {"type": "object", "properties": each, "required": list(each)[:some]},
            st.dictionaries(st.text(max_size=5), inner, max_size=3),
            st.integers(0, 3),
        )
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def weights() -> Iterator[binding.Weights]:
    binding.load()
    weights = binding.Weights(nano_path(), gpu_layers=0)
    yield weights
    weights.close()


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(max_size=5), schemas, max_size=4), schemas, schemas)
def test_llama_cpp_takes_the_grammar_of_any_schema_or_says_why_not(
    weights: binding.Weights, properties: dict[str, Any], a: Any, b: Any
) -> None:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "$defs": {"a": a, "b": b},
    }
    try:
        text = call_grammar([ToolSpec(name="tool", parameters=schema)]).text(exact=False)
    except ModelError as error:
        assert error.reason == "bad_request" and "$ref" in json.dumps(schema)  # only circles can be refused
        return
    grammar = binding.Grammar(weights, text)
    assert not grammar.allows(weights.tokenize("x", special=False)[0])
    grammar.close()
