"""Fifty tools of real MCP servers, and calls of them by models without any sense: every one is schema-valid."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

from agentmesh_models import Engine, Message, Reply, Request, Sampling, ToolSpec, open_model
from agentmesh_models.grammar import call_grammar, left_to_tools
from agentmesh_models.grammar.expression import Node, Rules
from agentmesh_models.toolformat import HERMES, Form, split_calls
from agentmesh_models.toolformat.gemma import FUNCTION_GEMMA, GEMMA_4
from agentmesh_models.toolformat.llama3 import LLAMA3
from agentmesh_models.toolformat.mistral import MistralArgs, MistralList

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema says what is valid")

Derive = Callable[[Rules, Node, random.Random], str]
SCHEMAS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("tool_schemas.json").read_text())
TOOLS = {
    each["name"]: ToolSpec(name=each["name"], parameters=each["inputSchema"], description=each["server"])
    for each in SCHEMAS
}
CALLS = int(os.environ.get("AGENTMESH_TEST_CALLS", "1000"))  # fewer, where a minute is too long
FORMATS = jsonschema.FormatChecker(formats=["date", "email", "ipv4", "ipv6", "uuid", "regex"])
HERMES_TEMPLATE = "{# tools <tool_call> #}{% for m in messages %}{{ m.content }}{% endfor %}"


@FORMATS.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    return not isinstance(value, str) or (datetime.fromisoformat(value).tzinfo is not None and "T" in value)


@FORMATS.checks("uri", raises=ValueError)
def _is_uri(value: object) -> bool:
    if not isinstance(value, str):
        return True
    parts = urlsplit(value)
    _ = parts.port
    return (
        bool(parts.scheme and parts.hostname) and re.fullmatch(r"[!#-;=?-\[\]_a-z~A-Z%]+", value) is not None
    )


@FORMATS.checks("hostname", raises=ValueError)
def _is_hostname(value: object) -> bool:
    labels = value.split(".") if isinstance(value, str) else []
    return all(re.fullmatch(r"(?!-)[a-z0-9-]{1,63}(?<!-)", label) for label in labels)


def is_valid(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    checker = jsonschema.Draft202012Validator(schema, format_checker=FORMATS)
    return bool(checker.is_valid(json.loads(json.dumps(dict(arguments)))))


def test_the_schemas_are_fifty_and_schemas() -> None:
    assert len(TOOLS) == 50
    for tool in TOOLS.values():
        jsonschema.Draft202012Validator.check_schema(tool.parameters)


def test_nothing_of_them_is_left_to_the_tools() -> None:
    assert left_to_tools(tuple(TOOLS.values())) == ()


FORMS = {
    "hermes": HERMES,
    "llama3": LLAMA3,
    "mistral list": MistralList(),
    "mistral args": MistralArgs(ids=True, thought=True),
    "function gemma": FUNCTION_GEMMA,
    "gemma 4": GEMMA_4,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_any_text_of_the_grammar_is_read_as_valid_calls(form: Form, derive: Derive) -> None:
    rng = random.Random(3)
    for tool in TOOLS.values():
        grammar = call_grammar([tool], form, parallel=True)
        for _ in range(12):
            text = derive(grammar.rules, grammar.root, rng)
            _, calls = split_calls(text, (tool,), form)
            assert calls, text
            for call in calls:
                assert call.name == tool.name
                assert is_valid(call.arguments, tool.parameters), (text, call)


async def call_of(engine: Engine, tool: ToolSpec, seed: int, max_tokens: int) -> Reply:
    request = Request(
        messages=(Message(role="user", content=f"Call {tool.name}."),),
        tools=(tool,),
        tool_choice="required",
        parallel_calls=False,
        max_tokens=max_tokens,
        sampling=Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed),
    )
    with anyio.fail_after(60):
        async for item in engine.generate(request):
            if isinstance(item, Reply):
                return item
    raise AssertionError("no reply")


@pytest.fixture(scope="module")
def noise(make_random_model: Callable[..., Path]) -> Iterator[Engine]:
    engine = open_model(str(make_random_model("calls", HERMES_TEMPLATE)), threads=1)
    yield engine
    anyio.run(engine.aclose)


def test_every_call_by_a_model_of_random_weights_is_valid_and_whole(noise: Engine) -> None:
    """Each with few tokens more than the shortest call needs at most, which is one for each of its bytes."""

    async def main() -> int:
        valid = 0
        for seed in range(CALLS):
            tool = TOOLS[SCHEMAS[seed % len(SCHEMAS)]["name"]]
            enough = len(call_grammar([tool]).shortest.encode())
            reply = await call_of(noise, tool, seed, enough + seed % 64)
            assert reply.finish == "call" and len(reply.calls) == 1, (tool, seed, reply)
            call = reply.calls[0]
            assert call.name == tool.name and is_valid(call.arguments, tool.parameters), (seed, call)
            valid += 1
        return valid

    assert anyio.run(main) == CALLS
