"""The recipe of the embedded model: what it generates is fixed, held apart, correct, and about the real tools."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
from mcp import Client

from agentmesh_models import normalise_schema
from agentmesh_servers.calculator.expression import evaluate
from agentmesh_servers.errors import ServersError
from agentmesh_servers.registry import build

RECIPE = Path(__file__).parents[2] / "models" / "nano"
PHRASES = ["calculator", "problems", "clock", "units", "notes", "peers"]


@pytest.fixture(scope="module")
def recipe() -> Iterator[Any]:
    """Imports a module of the recipe by name; its folder is on the path for this module's tests only."""
    before = set(sys.modules)
    sys.path.insert(0, str(RECIPE))
    yield importlib.import_module
    sys.path.remove(str(RECIPE))
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(RECIPE)):
            del sys.modules[name]


def conversations(recipe: Any, seed: int, count: int) -> list[str]:
    source = recipe("words").Source(seed)
    return [recipe("conversations").render(recipe("generate").conversation(source)) for _ in range(count)]


def test_the_same_seed_makes_the_same_conversations_and_another_seed_others(recipe: Any) -> None:
    assert conversations(recipe, 5, 200) == conversations(recipe, 5, 200)
    assert conversations(recipe, 5, 20) != conversations(recipe, 6, 20)


def test_no_held_out_phrase_or_word_is_ever_picked_for_training(
    recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: ModuleType = recipe("words")
    picked: list[tuple[str, int]] = []
    original = words.Source._kept

    def spy(self: Any, items: Any, share: int) -> str:
        picked.append((original(self, items, share), share))
        return picked[-1][0]

    monkeypatch.setattr(words.Source, "_kept", spy)
    conversations(recipe, 11, 3_000)
    assert len(picked) > 10_000
    assert {share for _, share in picked} == {words.HELD_PHRASES, words.HELD_WORDS}
    assert [text for text, share in picked if words.is_held(text, share)] == []


@pytest.mark.parametrize("name", PHRASES)
def test_a_tenth_of_the_phrases_about_each_subject_is_held_out(recipe: Any, name: str) -> None:
    forms = list(dict.fromkeys(recipe(f"phrases_{name}").ALL_FORMS))
    held = sum(recipe("words").is_held(form) for form in forms)
    assert len(forms) > 70
    assert held / len(forms) >= 0.1


def test_every_expression_that_nano_is_taught_is_one_the_calculator_understands(recipe: Any) -> None:
    source = recipe("words").Source(3)
    arithmetic = recipe("arithmetic")
    for _ in range(3_000):
        question, arguments = recipe("generate").ASK["evaluate"](source)
        expression = arguments["expression"]
        try:
            real = evaluate(expression).text
        except ServersError as error:
            assert error.reason in ("undefined", "too_large"), (question, expression)
            continue
        try:
            taught = arithmetic.result_text(expression)
        except arithmetic.NoResult:
            continue
        assert taught.split(" ")[0] == real.split(" ")[0], expression


def test_the_recipe_teaches_the_schemas_that_the_servers_serve(recipe: Any, tmp_path: Path) -> None:
    schemas = recipe("schemas")
    served: dict[str, dict[str, Any]] = {}

    async def collect() -> None:
        for name in schemas.SERVERS:
            options = {"folder": str(tmp_path)} if name == "notes" else {}
            async with Client(build(name, **options)) as client:
                for tool in (await client.list_tools()).tools:
                    served[tool.name] = {
                        "name": tool.name,
                        "description": tool.description,
                        "parameters": normalise_schema(tool.input_schema),
                    }

    anyio.run(collect)
    taught = {name: schema["function"] for name, schema in schemas.PRODUCT.items()}
    assert {name: schemas.dump(tool) for name, tool in taught.items()} == {
        name: schemas.dump(served[name]) for name in served
    }


def test_arguments_that_nano_is_taught_to_copy_stand_in_the_question(recipe: Any) -> None:
    source = recipe("words").Source(8)
    generate = recipe("generate")
    for name in ("now", "convert_time", "search_notes", "read_note"):
        for _ in range(300):
            question, arguments = generate.ASK[name](source)
            for value in arguments.values():
                assert value in question or value == "UTC", (question, value)
