"""Calls read out of text that no grammar watched over: the ways in which small models go wrong.

What is read: JSON calls anywhere in the text, bare, in a code fence or between a family's marks, one or a list;
`name`, `function`, `tool` or an object named like the tool; `arguments`, `parameters`, `args` or `input`, also as JSON
text; single quotes, Python's constants, trailing commas; `name(key=value)`; `[TOOL_CALLS]name[ARGS]{...}`;
`<function=name>{...}`. A call of a tool that was not offered stays text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agentmesh_models.chat import JsonValue, ToolCall, ToolSpec
from agentmesh_models.toolformat.loose import Unreadable, parse, read_value, skip
from agentmesh_models.toolformat.mending import mend
from agentmesh_models.toolformat.schema import is_object, trim

MAX_CALLS: Final = 64
_EFFORT: Final = 4  # how many times its own length a text is read at most, whatever it is made of
_NAMES: Final = ("name", "function", "tool", "tool_name", "function_name", "action")
_ARGUMENTS: Final = (
    "arguments",
    "parameters",
    "args",
    "input",
    "params",
    "kwargs",
    "action_input",
    "tool_input",
)
_WRAPPERS: Final = ("tool_calls", "tool_call", "function_call", "calls", "action", "tool")
_BEFORE: Final = re.compile(
    r"(?:<tool_call>|<function_call>|<\|tool_call\|?>|<\|python_tag\|>|\[TOOL_CALLS\]|<start_function_call>|"
    r"```[A-Za-z_]{0,20})\s{0,40}\Z"
)
_AFTER: Final = re.compile(
    r"\s*+(?:</tool_call>|</function_call>|</function>|<tool_call\|>|<end_function_call>|```|<\|eom_id\|>)"
)
_BETWEEN: Final = re.compile(r">|(?:\[CALL_ID\]\w{1,64})?\[ARGS\]")
_KEYWORD: Final = re.compile(r"([A-Za-z_]\w{0,199})\s*+=")
_THOUGHT: Final = re.compile(r"\s*+<think>(?:.*?</think>|.*+)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Calls, and which characters of the text they were."""

    start: int
    end: int
    calls: tuple[ToolCall, ...]


def read_calls(text: str, tools: Sequence[ToolSpec]) -> tuple[str, tuple[ToolCall, ...]]:
    """The words of a reply, without its calls and their marks, and the calls of `tools` in it.

    A text without calls comes back as it is. What a model thought between `<think>` marks at its beginning is
    never read for calls. Nothing that a model can write raises an error, and the time taken grows with the
    length of the text, not with what is in it.
    """
    offered = {tool.name: tool for tool in tools}
    if not offered:
        return text, ()
    found = _Reader(text, offered).read()
    if not found:
        return text, ()
    words, at = "", 0
    for each in found:
        start, end = _outer(text, at, each)
        words += text[at:start]
        at = end
    words = (words + text[at:]).strip()
    bare = not words.strip("[](),; \t\r\n")  # what is left of a list of calls
    return "" if bare else words, tuple(call for each in found for call in each.calls)


def _outer(text: str, least: int, found: _Found) -> tuple[int, int]:
    """The characters of a call with the marks that stand around it."""
    before = _BEFORE.search(text, max(least, found.start - 80), found.start)
    after = _AFTER.match(text, found.end)
    return (before.start() if before else found.start), (after.end() if after else found.end)


class _Reader:
    """One pass over one text."""

    def __init__(self, text: str, tools: Mapping[str, ToolSpec]) -> None:
        self._text = text
        self._tools = tools
        named = "|".join(re.escape(name) for name in sorted(tools, key=len, reverse=True))
        self._start = re.compile(rf"[{{\[]|(?<![\w.-])(?:functions\.)?({named})(?=\[|\(|>|\s*+\{{)")
        self._effort = _EFFORT * len(text) + 4_000

    def read(self) -> list[_Found]:
        out: list[_Found] = []
        thought = _THOUGHT.match(self._text)
        at = thought.end() if thought else 0
        while len(out) < MAX_CALLS and self._effort > 0:
            start = self._start.search(self._text, at)
            if start is None:
                break
            try:
                calls, end = self._named(start[1], start.end()) if start[1] else self._json(start.start())
            except Unreadable as error:
                self._effort -= max(0, error.at - start.start())
                at = start.end()
                continue
            self._effort -= end - start.start()
            if calls:
                out.append(_Found(start=self._begin(start.start(), out), end=end, calls=calls))
            at = end
        return out

    def _begin(self, at: int, found: list[_Found]) -> int:
        """Where a call named outside of its JSON begins: `<function=` and `call:` belong to it."""
        for mark in ("<function=", "call:"):
            if self._text.endswith(mark, found[-1].end if found else 0, at):
                return at - len(mark)
        return at

    def _json(self, at: int) -> tuple[tuple[ToolCall, ...], int]:
        value, end = read_value(self._text, at)
        return self._calls(value, 0), end

    def _named(self, name: str, at: int) -> tuple[tuple[ToolCall, ...], int]:
        """A call whose name stands before its arguments."""
        text = self._text
        if text.startswith("(", at):
            arguments, end = _keywords(text, at + 1)
        else:
            between = _BETWEEN.match(text, at)
            at = between.end() if between else at
            value, end = read_value(text, at)
            if not is_object(value):
                raise Unreadable(at)
            arguments = dict(value)
        return (self._made(name, arguments),), end

    def _calls(self, value: JsonValue, depth: int) -> tuple[ToolCall, ...]:
        """The calls that a JSON value is; none unless all of it is calls."""
        if isinstance(value, list) and value and depth < 3:
            each = [self._calls(item, depth + 1) for item in value[:MAX_CALLS]]
            return tuple(call for calls in each for call in calls) if all(each) else ()
        if not isinstance(value, dict) or depth > 4:
            return ()
        for key in _WRAPPERS:
            if isinstance(value.get(key), list | dict):
                return self._calls(value[key], depth + 1)
        call = self._call(value)
        return (call,) if call else ()

    def _call(self, value: dict[str, JsonValue]) -> ToolCall | None:
        inner = value.get("function")
        if isinstance(inner, dict):
            return self._call(inner)
        for key in _NAMES:
            name = self._name(value.get(key))
            if name is None:
                continue
            rest = {each: value[each] for each in value if each != key}
            given = next((each for each in _ARGUMENTS if each in rest), None)
            arguments = _as_object(rest[given]) if given else self._flat(name, rest)
            return None if arguments is None else self._made(name, arguments)
        if len(value) == 1:
            key, only = next(iter(value.items()))
            if key in self._tools and isinstance(only, dict):
                return self._made(key, only)
        return None

    def _name(self, value: JsonValue) -> str | None:
        if not isinstance(value, str):
            return None
        bare = value.strip().removeprefix("functions.").removesuffix("()")
        return bare if bare in self._tools else None

    def _flat(self, name: str, rest: dict[str, JsonValue]) -> dict[str, JsonValue] | None:
        """Arguments that stand beside the name; other keys than the tool's own make it no call."""
        arguments = {key: each for key, each in rest.items() if key not in ("id", "type")}
        known = self._tools[name].parameters.get("properties")
        return arguments if arguments.keys() <= (known.keys() if is_object(known) else set()) else None

    def _made(self, name: str, arguments: Mapping[str, JsonValue]) -> ToolCall:
        schema = self._tools[name].parameters
        return ToolCall(name=name, arguments=trim(mend(arguments, schema), schema))


def _as_object(value: JsonValue) -> dict[str, JsonValue] | None:
    """Arguments as an object, also where they were given as JSON text or not at all."""
    if isinstance(value, str):
        if not value.strip():
            return {}
        try:
            value = parse(value)
        except Unreadable:
            return None
    return {} if value is None else value if isinstance(value, dict) else None


def _keywords(text: str, at: int) -> tuple[dict[str, JsonValue], int]:
    """Arguments as Python writes them, up to the bracket that closes them."""
    out: dict[str, JsonValue] = {}
    while True:
        at = skip(text, at)
        if text.startswith(")", at):
            return out, at + 1
        key = _KEYWORD.match(text, at)
        if key is None:
            raise Unreadable(at)
        out[key[1]], at = read_value(text, key.end())
        at = skip(text, at)
        if text.startswith(",", at):
            at += 1
        elif not text.startswith(")", at):
            raise Unreadable(at)
