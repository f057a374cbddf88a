"""How tools are written for a model, and how its calls are read out of what it says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeGuard

from agentmesh_models.chat import JsonValue, ToolCall, ToolSpec

ToolFormat = Literal["hermes", "generic"]
"""`hermes`: the template writes the tools. `generic`: it cannot, they go into the system message."""

OPENER: Final = "<tool_call>"
CLOSER: Final = "</tool_call>"
PREAMBLE: Final = f'{OPENER}\n{{"name": "'
"""How a call begins, to the byte: the form that Hermes and Qwen models were trained on."""

_DROPPED: Final = frozenset({"title", "$schema", "default", "examples"})
_KEPT_DEFS: Final = ("$defs", "definitions")
_LEAD: Final = ("type", "description", "enum")
_EXACT: Final = frozenset({"enum", "const", "minLength", "pattern", "format", "allOf", "$ref"})
MAX_DEPTH: Final = 16


def detect(template: str) -> ToolFormat:
    """The tool format of a chat template, told by the markers in its text."""
    return "hermes" if OPENER in template and "tools" in template else "generic"


def normalise_schema(schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The schema of a tool's arguments in the one form that models are shown.

    Top level: exactly `type`, `properties`, `required`, then shared definitions if there are any. Each
    property: `type`, `description`, `enum` first, other keywords after. Titles, defaults and dialect marks
    are dropped.
    """
    raw = schema.get("properties", {})
    properties = raw if _is_object(raw) else {}
    given = schema.get("required", ())
    required = [name for name in given if name in properties] if _is_list(given) else []
    out: dict[str, JsonValue] = {
        "type": "object",
        "properties": {name: _normalise(each, 1) for name, each in properties.items()},
        "required": required,
    }
    for key in _KEPT_DEFS:
        definitions = schema.get(key)
        if _is_object(definitions) and definitions:
            out[key] = {name: _normalise(each, 1) for name, each in definitions.items()}
    return out


def _normalise(schema: JsonValue, depth: int) -> JsonValue:
    if not _is_object(schema) or depth > MAX_DEPTH:
        return schema
    keys = [key for key in _LEAD if key in schema]
    keys += [key for key in schema if key not in _LEAD and key not in _DROPPED]
    out: dict[str, JsonValue] = {}
    for key in keys:
        value = schema[key]
        if key == "properties" and _is_object(value):
            out[key] = {name: _normalise(each, depth + 1) for name, each in value.items()}
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems") and _is_list(value):
            out[key] = [_normalise(each, depth + 1) for each in value]
        elif key == "items":
            out[key] = _normalise(value, depth + 1)
        elif key == "additionalProperties":
            if _is_object(value) and value:  # true and false tell a model nothing
                out[key] = _normalise(value, depth + 1)
        else:
            out[key] = value
    return out


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


def tools_text(tools: Sequence[ToolSpec]) -> str:
    """The tools described in words, for a system message of a template that knows no tools."""
    lines = "\n".join(dumps(tool_json(tool)) for tool in tools)
    return (
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n"
        f"<tools>\n{lines}\n</tools>\n\n"
        "For each function call, return a json object with function name and arguments within "
        "<tool_call></tool_call> XML tags:\n"
        f'{OPENER}\n{{"name": <function-name>, "arguments": <args-json-object>}}\n{CLOSER}'
    )


def split_calls(text: str, tools: Sequence[ToolSpec] = ()) -> tuple[str, tuple[ToolCall, ...]]:
    """The words of a reply and the calls in it; a call that cannot be read is not among them.

    Marks inside a call's JSON text are text. With a grammar in force every call can be read, unless the reply
    was cut at its length limit.
    """
    words, opened, rest = text.partition(OPENER)
    if not opened:
        return text, ()
    by_name = {tool.name: tool for tool in tools}
    calls: list[ToolCall] = []
    while opened:
        body, end = _decode(rest)
        if end < 0:
            end = rest.find(CLOSER)
        call = _as_call(body, by_name)
        if call is not None:
            calls.append(call)
        between, opened, rest = rest[end + len(CLOSER) :].partition(OPENER) if end >= 0 else ("", "", "")
        words += between
    return words.strip(), tuple(calls)


def is_complete(text: str) -> bool:
    """Whether a reply's last call has just been closed, rather than its closer written inside an argument."""
    return text.endswith(CLOSER) and _decode(text.partition(OPENER)[2])[1] >= 0


def _decode(text: str) -> tuple[object, int]:
    """The JSON value that `text` begins with, and where the closer after it begins; -1 for none."""
    start = len(text) - len(text.lstrip())
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, -1
    end += len(text[end:]) - len(text[end:].lstrip())
    return (value, end) if text.startswith(CLOSER, end) else (None, -1)


def _as_call(call: object, tools: Mapping[str, ToolSpec]) -> ToolCall | None:
    if not _is_object(call):
        return None
    name, arguments = call.get("name"), call.get("arguments", {})
    if not isinstance(name, str) or not _is_object(arguments):
        return None
    known = tools.get(name)
    return ToolCall(name=name, arguments=trim(arguments, known.parameters if known else {}))


def trim(arguments: Mapping[str, JsonValue], schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Arguments without the spaces that small models add around text; spelled-out values stay as they are."""
    raw = schema.get("properties", {})
    properties = raw if _is_object(raw) else {}
    return {key: _trim(value, properties.get(key)) for key, value in arguments.items()}


def _trim(value: JsonValue, schema: JsonValue) -> JsonValue:
    return value.strip(" ") if isinstance(value, str) and _is_plain(schema) else value


def _is_plain(schema: JsonValue) -> bool:
    """Whether a text may lose its outer spaces without ceasing to fit."""
    if not _is_object(schema):
        return True
    branches = [*_list(schema.get("anyOf")), *_list(schema.get("oneOf"))]
    return not schema.keys() & _EXACT and all(_is_plain(each) for each in branches)


def dumps(value: JsonValue | Mapping[str, JsonValue]) -> str:
    """JSON as templates and models know it: Python's separators, no escapes above ASCII."""
    return json.dumps(value, ensure_ascii=False)


def _is_object(value: object) -> TypeGuard[Mapping[str, JsonValue]]:
    return isinstance(value, Mapping)


def _is_list(value: object) -> TypeGuard[Sequence[JsonValue]]:
    return isinstance(value, list | tuple)


def _list(value: JsonValue) -> Sequence[JsonValue]:
    return value if _is_list(value) else ()
