"""Calls that small models write in their own ways are read; what is no call stays text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_models import ToolCall, ToolSpec
from agentmesh_models.toolformat.lenient import read_calls

NOW = ToolSpec(
    name="now",
    parameters={"type": "object", "properties": {"timezone": {"type": "string"}}, "required": ["timezone"]},
)
PLOT = ToolSpec(
    name="plot_points",
    parameters={
        "type": "object",
        "properties": {
            "points": {"type": "array", "items": {"type": "number"}},
            "style": {"$ref": "#/$defs/Style"},
            "width": {"type": "integer"},
            "grid": {"type": "boolean"},
            "title": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "tags": {"type": ["array", "null"], "items": {"type": "string"}},
        },
        "required": ["points"],
        "$defs": {"Style": {"type": "object", "properties": {"colour": {"type": "string"}}}},
    },
)
TOOLS = (NOW, PLOT)
UTC = ToolCall(name="now", arguments={"timezone": "UTC"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"name": "now", "arguments": {"timezone": "UTC"}}', ""),
        ('I look.\n{"name": "now", "parameters": {"timezone": "UTC"}}', "I look."),
        ('Sure!\n```json\n{"tool": "now", "args": {"timezone": "UTC"}}\n```\nDone.', "Sure!\n\nDone."),
        ('```\n{"function": "now", "input": {"timezone": "UTC"}}\n```', ""),
        ('<tool_call>\n{"name": "now", "arguments": {"timezone": "UTC"}}\n</tool_call>', ""),
        ('<tool_call>{"name": "now", "arguments": {"timezone": "UTC"}}', ""),
        ('{"name": "now", "arguments": "{\\"timezone\\": \\"UTC\\"}"}', ""),
        ("{'name': 'now', 'arguments': {'timezone': 'UTC',},}", ""),
        ('{name: "now", arguments: {timezone: "UTC"}}', ""),
        ('{"type": "function", "function": {"name": "now", "arguments": {"timezone": "UTC"}}}', ""),
        ('{"tool_calls": [{"function": {"name": "now", "arguments": "{\'timezone\': \'UTC\'}"}}]}', ""),
        ('{"name": "now", "timezone": "UTC"}', ""),
        ('{"now": {"timezone": "UTC"}}', ""),
        ('{"name": "functions.now", "arguments": {"timezone": " UTC "}}', ""),
        ('[TOOL_CALLS] [{"name": "now", "arguments": {"timezone": "UTC"}}]', ""),
        ('[TOOL_CALLS]now[ARGS]{"timezone": "UTC"}', ""),
        ('<|python_tag|>{"name": "now", "parameters": {"timezone": "UTC"}}<|eom_id|>', ""),
        ('<function=now>{"timezone": "UTC"}</function>', ""),
        ('[now(timezone="UTC")]', ""),
        ("```tool_code\nnow(timezone='UTC')\n```", ""),
        ('{"thought": "hm", "action": {"name": "now", "arguments": {"timezone": "UTC"}}}', ""),
        (
            '<think>{"name": "now", "arguments": {"timezone": "X"}}</think>now({"a" now(timezone="UTC")',
            '<think>{"name": "now", "arguments": {"timezone": "X"}}</think>now({"a"',
        ),
    ],
)
def test_a_call_is_read_however_it_was_written(text: str, words: str) -> None:
    assert read_calls(text, TOOLS) == (words, (UTC,))


def test_several_calls_are_read_in_their_order() -> None:
    one = '{"name": "now", "arguments": {"timezone": "UTC"}}'
    two = '{"name": "now", "arguments": {"timezone": "GMT"}}'
    expected = (UTC, ToolCall(name="now", arguments={"timezone": "GMT"}))
    for text in (
        f"[{one}, {two}]",
        f"{one}\n{two}",
        f"<tool_call>{one}</tool_call>\n<tool_call>{two}</tool_call>",
        '[now(timezone="UTC"), now(timezone="GMT")]',
    ):
        assert read_calls(text, TOOLS) == ("", expected), text


def test_values_become_what_the_schema_asks_for() -> None:
    text = (
        '{"name": "plot_points", "arguments": {"points": "[1, 2.5, \'3\']", "style": "{\'colour\': \'red\'}", '
        '"width": "3", "grid": "True", "title": 7, "tags": "a"}}'
    )
    arguments = read_calls(text, TOOLS)[1][0].arguments
    assert arguments == {
        "points": [1, 2.5, 3],
        "style": {"colour": "red"},
        "width": 3,
        "grid": True,
        "title": "7",
        "tags": ["a"],
    }
    assert isinstance(read_calls('{"plot_points": {"width": 3.0}}', TOOLS)[1][0].arguments["width"], int)


def test_what_fits_already_or_means_nothing_stays_as_it_is() -> None:
    text = '{"name": "plot_points", "arguments": {"points": "many", "width": "wide", "title": null, "tags": ["1"]}}'
    arguments = read_calls(text, TOOLS)[1][0].arguments
    assert arguments == {"points": ["many"], "width": "wide", "title": None, "tags": ["1"]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It is now (or never) 5 [UTC].",
        '{"name": "delete_all", "arguments": {}}',
        '{"name": "now", "unknown": 1}',
        '{"name": "Ada", "arguments": {"timezone": "UTC"}}',
        '{"name": "now", "arguments": "tomorrow"}',
        '{"name": "now", "arguments": {"timezone": "UT',
        '[{"name": "now", "arguments": {"timezone": "UTC"}}, 3]',
        "<think>now(timezone='UTC') and no end",
        "known(timezone='UTC')",
    ],
)
def test_what_is_no_call_of_a_tool_that_was_offered_stays_text(text: str) -> None:
    assert read_calls(text, TOOLS) == (text, ())
    assert read_calls(text, ()) == (text, ())


pieces = st.sampled_from(
    ['{"name": "now", ', '"arguments": ', "{", "}", "[", "]", '"', "'", "\\", "now(", "timezone=", ")", "```json\n"]
    + ["<tool_call>", "</tool_call>", ",", ":", "1e999", "-", "\\ud800", "None", " ", "\n", "<think>", "now[ARGS]"]
)  # fmt: skip


@given(st.lists(pieces | st.text(max_size=4)).map("".join))
def test_nothing_that_a_model_can_write_is_an_error(text: str) -> None:
    words, calls = read_calls(text, TOOLS)
    assert calls or words == text
    assert all(call.name in {"now", "plot_points"} for call in calls)


HOSTILE = [
    '{"',
    "[",
    "{'a':",
    '{"a":[',
    '{"name":"now",',
    '"\\',
    "now(",
    "{ ",
    "<tool_call>{",
    "[1,",
    '{"a":"\\"{',
    "now ",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_the_time_grows_with_the_text_and_not_with_its_square(piece: str) -> None:
    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        started = time.process_time()
        read_calls(text, TOOLS)
        return time.process_time() - started

    assert seconds(100_000) < 40 * seconds(10_000) + 0.5  # a square would be a hundred times as much
