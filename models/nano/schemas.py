"""The tools nano is trained on, as a model reads them, and the Hermes text around them.

A frozen copy of what the bundled servers serve: `tests/models/test_nano_recipe.py` holds the two equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PREAMBLE = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
)
POSTAMBLE = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call>"
)

Schema = dict[str, Any]


def dump(value: object) -> str:
    """`value` as JSON in the one spelling nano knows: Python's separators, no escapes beyond need."""
    return json.dumps(value, ensure_ascii=False)


def tool(name: str, description: str, /, **parameters: tuple[str, str]) -> Schema:
    """A tool whose parameters, given as name=(type, description), are all required."""
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": {
                    key: {"type": kind, "description": text} for key, (kind, text) in parameters.items()
                },
                "required": list(parameters),
            },
        },
    }


PRODUCT: Mapping[str, Schema] = {
    schema["function"]["name"]: schema
    for schema in (
        tool(
            "evaluate",
            "Evaluate an arithmetic expression exactly.",
            expression=("string", "The expression, for example 17 * 23 or 15% of 240"),
        ),
        tool(
            "now",
            "The current date and time in a time zone or city.",
            timezone=("string", "Time zone or city, for example Europe/Paris or Tokyo"),
        ),
        tool(
            "convert_time",
            "Convert a time of day from one time zone or city to another.",
            time=("string", "The time, for example 14:30"),
            from_timezone=("string", "Time zone or city of that time"),
            to_timezone=("string", "Time zone or city to convert to"),
        ),
        tool(
            "search_notes",
            "Search the notes and list the titles that match.",
            query=("string", "Words to look for"),
        ),
        tool("read_note", "Read the text of a note.", title=("string", "Title of the note")),
        tool(
            "convert",
            "Convert a value from one unit to another.",
            value=("number", "The value to convert"),
            from_unit=("string", "Unit to convert from"),
            to_unit=("string", "Unit to convert to"),
        ),
    )
}

SERVERS: Mapping[str, Sequence[str]] = {
    "calculator": ("evaluate",),
    "clock": ("now", "convert_time"),
    "notes": ("search_notes", "read_note"),
    "units": ("convert",),
}


def ask_tool(agent: str, about: str) -> Schema:
    """The tool that passes a question on to the peer `agent`, whose one sentence about itself is `about`."""
    return tool(f"ask_{agent}", f"Ask {agent}. {about}", question=("string", "The question, in full"))


def system_text(role: str, tools: Iterable[Schema]) -> str:
    """The system message: `role`, then the tools in the Hermes form if there are any."""
    lines = [dump(schema) for schema in tools]
    return role + (PREAMBLE + "\n".join(lines) + POSTAMBLE if lines else "")


def call_text(name: str, arguments: Mapping[str, object]) -> str:
    """What nano writes to call a tool."""
    return "<tool_call>\n" + dump({"name": name, "arguments": arguments}) + "\n</tool_call>"


def result_text(text: str) -> str:
    """What nano reads as the result of a call."""
    return "<tool_response>\n" + text + "\n</tool_response>"


def fixed_texts() -> list[str]:
    """Strings that are one token each: the format's constants and the constant ends of the known schemas."""
    texts = [PREAMBLE, POSTAMBLE, '{"type": "function", "function": {"name": "', '", "description": "']
    for schema in PRODUCT.values():
        _, _, after = dump(schema).partition(f'"name": "{schema["function"]["name"]}')
        texts.append(after)
    texts.append('", "description": "Ask ')
    texts.append(dump(ask_tool("x", "y.")).split(" y.")[1])
    texts.append('", "parameters": {"type": "object", "properties": {"')
    texts.append('", "parameters": {"type": "object", "properties": {}, "required": []}}}')
    for kind in ("string", "number", "integer", "boolean"):
        texts.append(f'": {{"type": "{kind}", "description": "')
        texts.append(f'": {{"type": "{kind}"}}, "')
    texts += ['": {"type": "string", "enum": ["', '"}, "required": ["', '"]}}}', '"}, "', '", "enum": ["']
    texts += ['"]}, "', '"]}, "required": ["', '", "', '": "', '": ']
    texts += ['<tool_call>\n{"name": "', '", "arguments": {"', '", "arguments": {}}\n</tool_call>']
    texts += ['"}}\n</tool_call>', "}}\n</tool_call>", "<tool_response>\n", "\n</tool_response>"]
    for schema in PRODUCT.values():
        first = next(iter(schema["function"]["parameters"]["properties"]))
        quote = "" if first == "value" else '"'
        texts.append(f'", "arguments": {{"{first}": {quote}')
    texts.append('", "arguments": {"question": "')
    texts += [', "from_unit": "', '", "to_unit": "', '", "from_timezone": "', '", "to_timezone": "']
    return list(dict.fromkeys(texts))
