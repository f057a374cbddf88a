"""Grammars as text: what they say, and that schemas of any shape make one."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh_models import ModelError, ToolSpec
from agentmesh_models.grammar import call_grammar, literal, silent_grammar


def grammar_of(**properties: Any) -> str:
    required = [name for name in properties if not name.startswith("maybe")]
    return call_grammar(
        [ToolSpec(name="tool", parameters={"type": "object", "properties": properties, "required": required})]
    )


def test_a_grammar_spells_the_opener_every_name_and_the_closer() -> None:
    tools = [ToolSpec(name="add", parameters={}), ToolSpec(name='odd"name', parameters={})]
    root = call_grammar(tools).splitlines()[0]
    assert root.startswith(r'root ::= "<tool_call>\n{\"name\": \"" (')
    assert r'"add\", \"arguments\": "' in root
    assert r'"odd\\\"name\", \"arguments\": "' in root
    assert root.endswith(r' "}\n</tool_call>"')


def test_required_arguments_come_in_the_schema_s_order() -> None:
    text = grammar_of(b={"type": "string"}, a={"type": "integer"})
    rules = rules_of(text)
    start = next(body for body in rules.values() if r'"\"b\": "' in body)
    follows = re.search(r"string (r\d+)", start)
    assert follows is not None
    assert rules[follows[1]].startswith(r'", " "\"a\": " integer')


def test_listed_and_constant_values_are_spelled_out() -> None:
    text = grammar_of(mode={"enum": ["eco", 3, None, "é\n"]}, kind={"const": True})
    assert r'("\"eco\"" | "3" | "null" | "\"é\\n\"")' in text
    assert '("true")' in text


def test_every_rule_that_is_named_is_there() -> None:
    text = grammar_of(
        a={
            "type": "array",
            "items": {"anyOf": [{"type": "number"}, {"type": "boolean"}]},
            "minItems": 1,
            "maxItems": 4,
        },
        b={"type": "object", "properties": {"maybe": {"type": "string", "maxLength": 8}}},
        maybe_c={"type": ["string", "null"]},
        d={"type": "object", "additionalProperties": {"type": "integer"}},
        e={},
    )
    check_names(text)


def rules_of(text: str) -> dict[str, str]:
    pairs = (line.split(" ::= ", 1) for line in text.split("\n") if line)
    return {name: body for name, body in pairs}


def check_names(text: str) -> None:
    rules = rules_of(text)
    for body in rules.values():
        bare = re.sub(r'"(\\.|[^"\\])*"|\[(\\.|[^\]\\])*\]|\{\d*,?\d*\}', " ", body)
        assert set(re.findall(r"[a-z]\w*", bare)) <= rules.keys()


def test_references_to_themselves_end() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"tree": {"$ref": "#/$defs/Tree"}, "loop": {"$ref": "#/$defs/Loop"}},
        "required": ["tree", "loop"],
        "$defs": {
            "Tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/Tree"}}},
            "Loop": {"$ref": "#/$defs/Loop"},
        },
    }
    check_names(call_grammar([ToolSpec(name="grow", parameters=schema)]))


def test_no_tools_make_no_grammar() -> None:
    with pytest.raises(ModelError) as caught:
        call_grammar([])
    assert caught.value.reason == "bad_request"


def test_a_schema_beyond_all_measure_is_refused() -> None:
    huge = {f"p{number}": {"type": "string"} for number in range(6_000)}
    with pytest.raises(ModelError, match="more than"):
        grammar_of(**huge)


@given(st.text())
def test_a_literal_is_one_line_and_closed(text: str) -> None:
    made = literal(text)
    assert re.fullmatch(r'"(\\.|[^"\\])*"', made, re.DOTALL) and not re.search(r"[\x00-\x1f\x7f]", made)


schemas = st.recursive(
    st.sampled_from(
        [{"type": kind} for kind in ("string", "integer", "number", "boolean", "null", "array", "object")]
    )
    | st.just({})
    | st.builds(lambda values: {"enum": values}, st.lists(st.text() | st.integers() | st.none(), max_size=3)),
    lambda inner: (
        st.builds(lambda item: {"type": "array", "items": item}, inner)
        | st.builds(lambda each: {"anyOf": each}, st.lists(inner, max_size=3))
        | st.builds(
            lambda each, some: {"type": "object", "properties": each, "required": list(each)[:some]},
            st.dictionaries(st.text(max_size=5), inner, max_size=3),
            st.integers(0, 3),
        )
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5), schemas, max_size=4))
def test_any_schema_makes_a_grammar_that_is_whole(properties: dict[str, Any]) -> None:
    check_names(grammar_of(**properties))


def test_the_silent_grammar_refuses_the_opener_and_nothing_else() -> None:
    pattern = _as_automaton(silent_grammar())
    for text in [
        "",
        "plain",
        "<",
        "<tool",
        "<tool_call",
        "<<tool_call<",
        "<tool_<tool_call!",
        "</tool_call>",
    ]:
        assert pattern(text), text
    for text in ["<tool_call>", "a<tool_call>b", "<<tool_call>", "<tool_<tool_call>"]:
        assert not pattern(text), text


def _as_automaton(grammar: str) -> Any:
    """Runs the right-linear rules of the silent grammar over a text."""
    rules: dict[str, list[tuple[str, str]]] = {}
    for line in grammar.splitlines():
        name, body = line.split(" ::= ")
        rules[name] = [tuple(part.split(" ")) for part in body.split(" | ") if " " in part]  # type: ignore[misc]

    def fits(char: str, term: str) -> bool:
        return char not in term[2:-1] if term.startswith("[^") else char == json.loads(term)

    def run(text: str) -> bool:
        state = "root"
        for char in text:
            nexts = [to for term, to in rules[state] if fits(char, term)]
            assert len(nexts) <= 1, "deterministic"
            if not nexts:
                return False
            state = nexts[0]
        return True

    return run
