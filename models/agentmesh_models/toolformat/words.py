"""Tools and calls as text: as chat templates expect them, and in words where a template knows none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from agentmesh_models.chat import JsonValue, ToolCall, ToolSpec

OPENER: Final = "<tool_call>"
CLOSER: Final = "</tool_call>"
PREAMBLE: Final = f'{OPENER}\n{{"name": "'
"""How a call begins, to the byte: the form that Hermes and Qwen models were trained on."""


def tool_json(tool: ToolSpec) -> dict[str, JsonValue]:
    """A tool as chat templates expect it."""
    function: dict[str, JsonValue] = {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }
    return {"type": "function", "function": function}


def call_text(call: ToolCall) -> str:
    """A call as a Hermes model writes it."""
    return f'{PREAMBLE}{call.name}", "arguments": {dumps(call.arguments)}}}\n{CLOSER}'


def tools_text(tools: Sequence[JsonValue]) -> str:
    """Tools, as `tool_json` makes them, in words: for a system message of a template that knows no tools."""
    lines = "\n".join(map(dumps, tools))
    return (
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n"
        f"<tools>\n{lines}\n</tools>\n\n"
        "For each function call, return a json object with function name and arguments within "
        "<tool_call></tool_call> XML tags:\n"
        f'{OPENER}\n{{"name": <function-name>, "arguments": <args-json-object>}}\n{CLOSER}'
    )


def dumps(value: JsonValue | Mapping[str, JsonValue]) -> str:
    """JSON as templates and models know it: Python's separators, no escapes above ASCII."""
    return json.dumps(value, ensure_ascii=False)
