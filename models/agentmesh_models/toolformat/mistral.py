"""The forms of Mistral models: a JSON list after `[TOOL_CALLS]`, or name and arguments after each of them."""

from __future__ import annotations

import re
from typing import Final

from agentmesh_models.chat import ToolCall
from agentmesh_models.toolformat.form import Form, Scan, Shape, call_of, decode_json
from agentmesh_models.toolformat.words import dumps

_OPENER: Final = "[TOOL_CALLS]"
_ARGS: Final = "[ARGS]"
_CALL_ID: Final = "[CALL_ID]"
_THOUGHT: Final = ("[THINK]", "[/THINK]")


class MistralList(Form):
    """`[TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]`, as the tokenizers v2 to v7 have it."""

    name = "mistral"
    parallel = True
    openers = (_OPENER,)
    marks = (_OPENER,)
    shape = Shape(
        start=rf"{re.escape(_OPENER)}[ ]?\[",
        before=r"\{\"name\": \"",
        middle='", "arguments": ',
        after=r"(, \"id\": \"[a-zA-Z0-9]{9}\")?\}",
        joint=", ",
        end=r"\]",
    )

    def scan(self, text: str) -> Scan:
        value, end = decode_json(text, len(_OPENER))
        if end < 0 or not isinstance(value, list):
            return Scan(calls=(), whole=end >= 0, over=end >= 0)
        calls = [call for call in (call_of(each, "arguments") for each in value) if call is not None]
        return Scan(calls=tuple(calls), whole=True, over=True, rest=text[end:])

    def write(self, call: ToolCall) -> str:
        return f'{_OPENER}[{{"name": {dumps(call.name)}, "arguments": {dumps(call.arguments)}}}]'


class MistralArgs(Form):
    """`[TOOL_CALLS]name[ARGS]{...}`, once for each call; with `[CALL_ID]` and nine characters in tokenizer v11."""

    name = "mistral"
    parallel = True
    openers = (_OPENER,)
    marks = (_OPENER, _ARGS, _CALL_ID, *_THOUGHT)

    def __init__(self, *, ids: bool, thought: bool) -> None:
        middle = rf"({re.escape(_CALL_ID)}[a-zA-Z0-9]{{9}})?{re.escape(_ARGS)}" if ids else re.escape(_ARGS)
        self.shape = Shape(before=re.escape(_OPENER), middle=middle, after="")
        if thought:
            self.thought = _THOUGHT

    def scan(self, text: str) -> Scan:
        calls: list[ToolCall] = []
        at, rest = 0, ""
        while text.startswith(_OPENER, at):
            args = text.find(_ARGS, at)
            value, end = decode_json(text, args + len(_ARGS)) if args >= 0 else (None, -1)
            if end < 0:
                return Scan(calls=tuple(calls), whole=False, over=False, rest=rest)
            name = text[at + len(_OPENER) : args].partition(_CALL_ID)[0].strip()
            if isinstance(value, dict):
                calls.append(ToolCall(name=name, arguments=value))
            following = text.find(_OPENER, end)
            rest += text[end : following if following >= 0 else len(text)]
            at = following if following >= 0 else len(text)
        return Scan(calls=tuple(calls), whole=True, over=False, rest=rest)

    def write(self, call: ToolCall) -> str:
        return f"{_OPENER}{call.name}{_ARGS}{dumps(call.arguments)}"
