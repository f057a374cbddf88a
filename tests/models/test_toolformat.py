"""Tools as models are shown them, and calls as models write them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_models import ToolCall, ToolSpec, normalise_schema
from agentmesh_models.speech import Speech
from agentmesh_models.toolformat import HERMES, call_text, detect, split_calls, tool_json, tools_text

NOW = ToolSpec(
    name="now",
    description="The time.",
    parameters={"type": "object", "properties": {"timezone": {"type": "string"}}, "required": ["timezone"]},
)


def test_a_generated_schema_is_brought_into_the_form_that_models_know() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "convertArguments",
        "additionalProperties": False,
        "required": ["value", "to_unit", "gone"],
        "properties": {
            "value": {"title": "Value", "description": "The value to convert", "type": "number"},
            "to_unit": {"enum": ["m", "km"], "description": "Unit", "type": "string", "default": "m"},
        },
        "type": "object",
    }
    assert json.dumps(normalise_schema(schema)) == (
        '{"type": "object", "properties": {"value": {"type": "number", "description": "The value to convert"}, '
        '"to_unit": {"type": "string", "description": "Unit", "enum": ["m", "km"]}}, '
        '"required": ["value", "to_unit"]}'
    )


def test_normalising_keeps_definitions_and_what_lies_deeper() -> None:
    schema = {
        "type": "object",
        "properties": {
            "points": {"items": {"$ref": "#/$defs/Point"}, "title": "Points", "type": "array"},
            "rates": {"type": "object", "additionalProperties": {"title": "Rate", "type": "number"}},
            "either": {"anyOf": [{"type": "string", "title": "A"}, {"type": "null"}]},
        },
        "$defs": {
            "Point": {
                "title": "Point",
                "type": "object",
                "properties": {"x": {"title": "X", "type": "number"}},
            }
        },
    }
    assert normalise_schema(schema) == {
        "type": "object",
        "properties": {
            "points": {"type": "array", "items": {"$ref": "#/$defs/Point"}},
            "rates": {"type": "object", "additionalProperties": {"type": "number"}},
            "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": [],
        "$defs": {"Point": {"type": "object", "properties": {"x": {"type": "number"}}}},
    }


def test_what_binds_the_arguments_together_is_kept() -> None:
    schema = {
        "properties": {"a": {"type": "null"}, "b": {"type": "null"}},
        "anyOf": [{"required": ["a"], "title": "A"}, {"required": ["b"]}],
        "dependentRequired": {"a": ["b"]},
        "additionalProperties": False,
    }
    once = normalise_schema(schema)  # type: ignore[arg-type]
    assert once == {
        "type": "object",
        "properties": {"a": {"type": "null"}, "b": {"type": "null"}},
        "required": [],
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
        "dependentRequired": {"a": ["b"]},
    }
    assert normalise_schema(once) == once


def test_normalising_twice_changes_nothing_more() -> None:
    once = normalise_schema(
        {"properties": {"title": {"type": "string", "title": "Title"}}, "required": ["title"]}
    )
    assert once == {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    assert normalise_schema(once) == once


@pytest.mark.parametrize("schema", [{}, {"properties": 3, "required": "all"}, {"properties": None}])
def test_a_schema_that_says_nothing_becomes_one_without_properties(schema: dict[str, object]) -> None:
    assert normalise_schema(schema) == {"type": "object", "properties": {}, "required": []}  # type: ignore[arg-type]


def test_a_call_is_written_as_hermes_models_write_it() -> None:
    call = ToolCall(name="now", arguments={"timezone": "Zürich"})
    assert (
        call_text(call) == '<tool_call>\n{"name": "now", "arguments": {"timezone": "Zürich"}}\n</tool_call>'
    )


names = st.text("abcdefgh_", min_size=1)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text().map(lambda text: text.strip(" ")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@given(name=names, arguments=st.dictionaries(st.text(), values))
def test_what_is_written_as_a_call_is_read_as_that_call(name: str, arguments: dict[str, object]) -> None:
    call = ToolCall(name=name, arguments=arguments)  # type: ignore[arg-type]
    assert split_calls(f"Let me see.\n{call_text(call)}") == ("Let me see.", (call,))


def test_marks_inside_an_argument_are_text_and_end_nothing() -> None:
    call = ToolCall(name="say", arguments={"text": "a<tool_call>b</tool_call>"})
    written = call_text(call)
    assert split_calls(written) == ("", (call,))
    speech = Speech(form=HERMES, watch=True, parallel=False)
    complete = []
    for at, char in enumerate(written, 1):
        speech.add(char.encode())
        if speech.complete:
            complete.append(at)
    assert complete == [len(written)]


def test_stray_spaces_around_text_are_taken_off_but_not_from_listed_values() -> None:
    spec = ToolSpec(
        name="set",
        parameters={"type": "object", "properties": {"place": {"type": "string"}, "mode": {"enum": [" a"]}}},
    )
    text = (
        '<tool_call>{"name": "set", "arguments": {"place": " the garden ", "mode": " a", "n": 2}}</tool_call>'
    )
    assert split_calls(text, [spec])[1] == (
        ToolCall(name="set", arguments={"place": "the garden", "mode": " a", "n": 2}),
    )


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not JSON",
        "[1]",
        '{"name": 3}',
        '{"arguments": {}}',
        '{"name": "now", "arguments": "Tokyo"}',
        "[" * 100_000,
    ],
)
def test_a_malformed_call_is_no_call(body: str) -> None:
    assert split_calls(f"Hm.<tool_call>{body}</tool_call>", [NOW]) == ("Hm.", ())


def test_several_calls_are_read_in_order_and_an_open_one_is_left_out() -> None:
    one, two = (
        ToolCall(name="now", arguments={"timezone": "UTC"}),
        ToolCall(name="now", arguments={"timezone": "GMT"}),
    )
    text = f'{call_text(one)}\n{call_text(two)}\n<tool_call>\n{{"name": "no'
    assert split_calls(text)[1] == (one, two)


def test_text_without_calls_stays_as_it_is() -> None:
    assert split_calls("  plain \n") == ("  plain \n", ())


def test_the_format_is_told_from_the_template() -> None:
    assert detect("{% if tools %}<tool_call>{% endif %}") == "hermes"
    assert detect("{{ messages }}") == "generic"


def test_tools_in_words_hold_each_tool_as_one_line_of_json() -> None:
    lines = tools_text([tool_json(NOW), tool_json(NOW)]).splitlines()
    assert [json.loads(line)["function"]["name"] for line in lines if line.startswith('{"type"')] == [
        "now",
        "now",
    ]
