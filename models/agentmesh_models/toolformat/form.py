"""What a family of models has agreed on for tool calls: how they are written, told from words, and read."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from agentmesh_models.chat import JsonValue, ToolCall

ToolFormat = Literal["hermes", "llama3", "mistral", "gemma", "generic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How calls are spelled, as regular expressions around the name and the arguments.

    A reply's calls are `start`, then calls with `joint` between them, then `end`. A call is `before`, the name,
    `middle`, the arguments, `after`. `string_mark` is how Gemma's values quote strings; None is JSON.
    """

    start: str = ""
    before: str
    middle: str
    after: str
    joint: str = ""
    end: str = ""
    string_mark: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What calls a text holds from its opener on.

    `whole`: every call that was begun is closed. `over`: and after them none can follow. `rest` is what stands
    between or behind the calls that is no call.
    """

    calls: tuple[ToolCall, ...]
    whole: bool
    over: bool
    rest: str = ""


class Form(ABC):
    """One family's form."""

    name: ToolFormat
    parallel: bool
    """Whether one reply may hold several calls."""
    openers: tuple[str, ...]
    """Marks that begin a call wherever they stand."""
    marks: tuple[str, ...]
    """Marks that the family's vocabularies may have as control tokens, the openers among them."""
    shape: Shape
    thought: tuple[str, str] = ("<think>", "</think>")
    """What stands around reasoning."""

    def find(self, text: str, *, fresh: bool) -> int:
        """Where in `text` its first opener begins, -1 for nowhere; `fresh`: it is the reply from its beginning."""
        found = [at for at in (text.find(opener) for opener in self.openers) if at >= 0]
        return min(found, default=-1)

    def undecided(self, text: str, *, fresh: bool) -> int:
        """From where on `text` could still become an opener; its length where it cannot."""
        longest = max(map(len, self.openers)) - 1
        for size in range(min(longest, len(text)), 0, -1):
            if any(opener.startswith(text[-size:]) for opener in self.openers):
                return len(text) - size
        return len(text)

    @abstractmethod
    def scan(self, text: str) -> Scan:
        """Read the calls of a text that begins with an opener."""

    @abstractmethod
    def write(self, call: ToolCall) -> str:
        """A call as the family's models write it."""


def decode_json(text: str, at: int) -> tuple[JsonValue, int]:
    """The JSON value at `at`, white space before it passed over, and where it ends; -1 for none."""
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    try:
        value, end = json.JSONDecoder().raw_decode(text, at)
    except (ValueError, RecursionError):
        return None, -1
    return value, end


def call_of(value: object, key: str) -> ToolCall | None:
    """The call that an object with `name` and `key` is."""
    if not isinstance(value, dict):
        return None
    name, arguments = value.get("name"), value.get(key, {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return ToolCall(name=name, arguments=arguments)
