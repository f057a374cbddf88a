"""JSON as small models write it: single quotes, Python's constants, trailing commas, keys without quotes."""

from __future__ import annotations

import re
from typing import Final

from agentmesh_models.chat import JsonValue

MAX_DEPTH: Final = 32
_SPACE: Final = re.compile(r"[ \t\r\n]*+")
_DOUBLE: Final = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_SINGLE: Final = re.compile(r"'((?:[^'\\]|\\.)*+)'", re.DOTALL)
_NUMBER: Final = re.compile(r"[-+]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][-+]?\d{1,3})?(?![\w.])")
_WORD: Final = re.compile(r"[A-Za-z_][\w$-]{0,199}")
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_SURROGATES: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_SHORT: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0", "\n": ""}
_CONSTANTS: Final[dict[str, JsonValue]] = {
    "true": True,
    "True": True,
    "false": False,
    "False": False,
    "null": None,
    "None": None,
    "undefined": None,
}


class Unreadable(Exception):
    """No value stands there; `at` is how far reading went."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


def read_value(text: str, at: int) -> tuple[JsonValue, int]:
    """The value that begins at `at` (white space before it is passed over), and where it ends.

    Raises:
        Unreadable: there is none, it is not closed, or it nests deeper than `MAX_DEPTH`.
    """
    return _value(text, at, 0)


def parse(text: str) -> JsonValue:
    """The one value that `text` is.

    Raises:
        Unreadable: it is none, or something follows it.
    """
    value, end = _value(text, 0, 0)
    if skip(text, end) != len(text):
        raise Unreadable(end)
    return value


def skip(text: str, at: int) -> int:
    """The first place from `at` on that is no white space."""
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _value(text: str, at: int, depth: int) -> tuple[JsonValue, int]:
    at = skip(text, at)
    start = text[at : at + 1]
    if depth > MAX_DEPTH or not start:
        raise Unreadable(at)
    if start == "{":
        return _object(text, at + 1, depth)
    if start == "[":
        return _array(text, at + 1, depth)
    if start in "\"'":
        return _string(text, at)
    number = _NUMBER.match(text, at)
    if number:
        return _number(number[0]), number.end()
    word = _WORD.match(text, at)
    if word and word[0] in _CONSTANTS:
        return _CONSTANTS[word[0]], word.end()
    raise Unreadable(at)


def _object(text: str, at: int, depth: int) -> tuple[JsonValue, int]:
    out: dict[str, JsonValue] = {}
    while True:
        at = skip(text, at)
        if text.startswith("}", at):
            return out, at + 1
        key, at = _key(text, at)
        at = skip(text, at)
        if not text.startswith(":", at):
            raise Unreadable(at)
        out[key], at = _value(text, at + 1, depth + 1)
        at = _after(text, at, "}")


def _array(text: str, at: int, depth: int) -> tuple[JsonValue, int]:
    out: list[JsonValue] = []
    while True:
        at = skip(text, at)
        if text.startswith("]", at):
            return out, at + 1
        item, at = _value(text, at, depth + 1)
        out.append(item)
        at = _after(text, at, "]")


def _after(text: str, at: int, closer: str) -> int:
    """Where reading goes on after a member: behind its comma, or at the closer."""
    at = skip(text, at)
    if text.startswith(",", at):
        return at + 1
    if text.startswith(closer, at):
        return at
    raise Unreadable(at)


def _key(text: str, at: int) -> tuple[str, int]:
    if text.startswith(('"', "'"), at):
        return _string(text, at)
    word = _WORD.match(text, at)
    if not word:
        raise Unreadable(at)
    return word[0], word.end()


def _string(text: str, at: int) -> tuple[str, int]:
    found = (_DOUBLE if text[at] == '"' else _SINGLE).match(text, at)
    if not found:
        raise Unreadable(len(text))
    body = found[1]
    if "\\" in body:
        body = _SURROGATES.sub(_joined, _ESCAPE.sub(_unescaped, body))
    return body, found.end()


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    return _SHORT.get(code, code)


def _joined(match: re.Match[str]) -> str:
    high, low = match[0][0], match[0][1]
    return chr(0x10000 + ((ord(high) - 0xD800) << 10) + (ord(low) - 0xDC00))


def _number(text: str) -> JsonValue:
    bare = text.lstrip("+")
    if bare.lstrip("-").isdigit():
        return int(bare)
    value = float(bare)
    return value if abs(value) != float("inf") else 0.0
