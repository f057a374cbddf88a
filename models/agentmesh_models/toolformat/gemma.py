"""The forms of FunctionGemma and Gemma 4: `call:name{key:value}` between marks, strings between marks of their own.

As Google documents them ("FunctionGemma formatting and best practices", "Gemma 4 prompt formatting" on ai.google.dev).
Gemma 3 has no form of its own: it is told of the tools in words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from agentmesh_models.chat import JsonValue, ToolCall
from agentmesh_models.toolformat.form import Form, Scan, Shape
from agentmesh_models.toolformat.words import dumps

MAX_DEPTH: Final = 64
_HEAD: Final = re.compile(r"\s*call:\s*([^{\s]+)\s*")
_KEY: Final = re.compile(r"[^:{}\[\],<>\"]+")
_SCALAR: Final = re.compile(r"-?\d{1,400}(?:\.\d{1,400})?(?:[eE][-+]?\d{1,3})?|true|false|null")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_.$-]+")
_CONSTANTS: Final[dict[str, JsonValue]] = {"true": True, "false": False, "null": None}


class _Broken(Exception):
    """The value does not go on as it should, or not yet."""


class Gemma(Form):
    """Calls between `opener` and `closer`, strings between two `quote`s, which nothing can escape."""

    name = "gemma"
    parallel = True

    def __init__(
        self,
        opener: str,
        closer: str,
        quote: str,
        *,
        thought: tuple[str, str] | None = None,
        further: tuple[str, ...] = (),
    ) -> None:
        self.openers = (opener,)
        self.closer = closer
        self.quote = quote
        self.marks = (opener, closer, quote, *further)
        self.shape = Shape(
            before=re.escape(f"{opener}call:"), middle="", after=re.escape(closer), string_mark=quote
        )
        if thought:
            self.thought = thought

    def scan(self, text: str) -> Scan:
        calls: list[ToolCall] = []
        at, rest, opener = 0, "", self.openers[0]
        while True:
            opened = text.find(opener, at)
            if opened < 0:
                return Scan(calls=tuple(calls), whole=True, over=False, rest=rest + text[at:])
            rest += text[at:opened]
            head = _HEAD.match(text, opened + len(opener))
            try:
                if head is None:
                    raise _Broken
                value, end = self._value(text, head.end(), 0)
            except _Broken:
                return Scan(calls=tuple(calls), whole=False, over=False, rest=rest)
            if not text.startswith(self.closer, end) or not isinstance(value, dict):
                return Scan(calls=tuple(calls), whole=False, over=False, rest=rest)
            calls.append(ToolCall(name=head[1], arguments=value))
            at = end + len(self.closer)

    def write(self, call: ToolCall) -> str:
        return f"{self.openers[0]}call:{call.name}{self._written(dict(call.arguments))}{self.closer}"

    def _written(self, value: JsonValue) -> str:
        if isinstance(value, str):
            return f"{self.quote}{value}{self.quote}"
        if isinstance(value, Mapping):
            return (
                "{" + ",".join(f"{self._key(key)}:{self._written(each)}" for key, each in value.items()) + "}"
            )
        if isinstance(value, list):
            return "[" + ",".join(map(self._written, value)) + "]"
        return dumps(value)

    def _key(self, name: str) -> str:
        return name if _BARE_KEY.fullmatch(name) else f"{self.quote}{name}{self.quote}"

    def _value(self, text: str, at: int, depth: int) -> tuple[JsonValue, int]:
        if depth > MAX_DEPTH:
            raise _Broken
        if text.startswith(self.quote, at):
            return self._string(text, at)
        if text.startswith("{", at):
            return self._object(text, at + 1, depth)
        if text.startswith("[", at):
            return self._array(text, at + 1, depth)
        scalar = _SCALAR.match(text, at)
        if scalar is None or scalar.end() == len(text):
            raise _Broken
        word = scalar[0]
        if word in _CONSTANTS:
            return _CONSTANTS[word], scalar.end()
        return (int(word) if word.lstrip("-").isdigit() else float(word)), scalar.end()

    def _string(self, text: str, at: int) -> tuple[str, int]:
        start = at + len(self.quote)
        end = text.find(self.quote, start)
        if end < 0:
            raise _Broken
        return text[start:end], end + len(self.quote)

    def _object(self, text: str, at: int, depth: int) -> tuple[JsonValue, int]:
        out: dict[str, JsonValue] = {}
        while not text.startswith("}", at):
            if text.startswith(self.quote, at):
                key, at = self._string(text, at)
            else:
                bare = _KEY.match(text, at)
                if bare is None:
                    raise _Broken
                key, at = bare[0].strip(), bare.end()
            if not text.startswith(":", at):
                raise _Broken
            out[key], at = self._value(text, at + 1, depth + 1)
            at = self._after(text, at, "}")
        return out, at + 1

    def _array(self, text: str, at: int, depth: int) -> tuple[JsonValue, int]:
        out: list[JsonValue] = []
        while not text.startswith("]", at):
            item, at = self._value(text, at, depth + 1)
            out.append(item)
            at = self._after(text, at, "]")
        return out, at + 1

    def _after(self, text: str, at: int, closer: str) -> int:
        if text.startswith(",", at):
            return at + 1
        if not text.startswith(closer, at):
            raise _Broken
        return at


FUNCTION_GEMMA: Final = Gemma("<start_function_call>", "<end_function_call>", "<escape>")
GEMMA_4: Final = Gemma(
    "<|tool_call>",
    "<tool_call|>",
    '<|"|>',
    thought=("<|channel>thought\n", "<channel|>"),
    further=("<|channel>", "<channel|>"),
)
