"""TOML changed in its text: one table comes or goes, every other line stays as it is.

tomlkit keeps comments when a file is read and written, but takes the ones between two tables for the first one's: they
would go with it (0.15.2). The standard library reads; statements are found here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from agentmesh.hosts.fault import ConfigFault
from agentmesh.hosts.quoting import Entry, Value, quoted, written

KeyPath: TypeAlias = tuple[str, ...]

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_KEY: Final = re.compile(r'[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|\'[^\'\n]*+\'')
_DOT: Final = re.compile(r"[ \t]*+\.[ \t]*+")
_GAP: Final = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_PIECE: Final = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+"{3,5}'
    r"|'''(?:[^']|'(?!''))*+'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*+"'
    r"|'[^'\n]*+'"
    r"|#[^\n]*+|[\[\]{}]|\n|[^\"'#\[\]{}\n]++",
    re.DOTALL,
)
_PLACE: Final = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")
# The standard library would compare nan with itself, and reads no number of many thousands of digits.
_AS_WRITTEN: Final = str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statement:
    """A header or a pair: the whole key it gives, and its lines from the first to the end of the last."""

    path: KeyPath
    start: int
    end: int


def read(text: str) -> dict[object, object]:
    """The table in a text. Raises: ConfigFault."""
    try:
        return {key: value for key, value in tomllib.loads(text, parse_float=_AS_WRITTEN).items()}
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        line = int(place[1]) if place and place[1] else text.count("\n") + 1
        said = _PLACE.sub("", str(error))
        raise ConfigFault(f"is not TOML: {said[:1].lower()}{said[1:]}", line=line) from None
    except (RecursionError, ValueError) as error:
        raise ConfigFault(f"is not TOML that can be read: {type(error).__name__}") from None


def put(text: str, section: str, name: str, entry: Entry) -> str:
    """The text with `entry` as the table [section.name]: at the end, or in the place of the one that is there."""
    newline = "\r\n" if "\r\n" in text else "\n"
    block = _table(section, name, entry).replace("\n", newline)
    old = [each for each in _statements(text) if each.path[:2] == (section, name)]
    if old:
        start = old[0].start
        without = _without(text, old)
        # What stood before the first of them is untouched, so the place is the same. A line follows, or nothing.
        ending = newline if old[0].end < len(text) or text.endswith("\n") else ""
        head = without[:start]
        return head + ("" if not head or head.endswith("\n") else newline) + block + ending + without[start:]
    if not text:
        return block + newline
    if text.endswith("\n"):
        return f"{text}{newline}{block}{newline}"
    return f"{text}{newline}{newline}{block}"


def drop(text: str, section: str, name: str) -> str:
    """The text without the table [section.name] and the tables in it. Raises: ConfigFault, where there is none."""
    old = [each for each in _statements(text) if each.path[:2] == (section, name)]
    if not old:
        raise ConfigFault(f"has no entry {name!r}")
    start = old[0].start
    without = _without(text, old)
    head, rest = without[:start], without[start:]
    # The empty line that parts a table from what is before it goes with it.
    for ending in ("\n", "\r\n"):
        if head.endswith(f"\n{ending}"):
            head = head[: -len(ending)]
            break
    if not head:
        # At the very beginning it is the one that parts it from what comes after.
        rest = rest.removeprefix("\r").removeprefix("\n")
    if not rest and not text.endswith("\n"):
        head = head.removesuffix("\n").removesuffix("\r")
    return head + rest


def _without(text: str, statements: list[_Statement]) -> str:
    for each in sorted(statements, key=lambda each: each.start, reverse=True):
        text = text[: each.start] + text[each.end :]
    return text


def _table(section: str, name: str, entry: Entry) -> str:
    lines = [f"[{_key(section)}.{_key(name)}]"]
    lines += [f"{_key(key)} = {_value(value)}" for key, value in entry.items()]
    return "\n".join(lines)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else quoted(name)


def _value(value: Value) -> str:
    return written(value, _inline)


def _inline(table: dict[str, str]) -> str:
    if not table:
        return "{}"
    return "{ " + ", ".join(f"{_key(key)} = {quoted(each)}" for key, each in table.items()) + " }"


def _statements(text: str) -> Iterator[_Statement]:
    """The headers and pairs of a text that tomllib reads, in order."""
    at = 0
    table: KeyPath = ()
    while True:
        at = _gap(text, at)
        if at >= len(text):
            return
        start = text.rfind("\n", 0, at) + 1
        is_header = text[at] == "["
        if is_header:
            at += 2 if text.startswith("[[", at) else 1
        path, at = _path(text, at)
        if is_header:
            table = path
            at = text.find("\n", at)
            at = len(text) if at < 0 else at + 1
        else:
            at = _end_of_value(text, at)
            path = (*table, *path)
        yield _Statement(path=path, start=start, end=at)


def _path(text: str, at: int) -> tuple[KeyPath, int]:
    parts: list[str] = []
    while True:
        while text[at : at + 1] in (" ", "\t"):
            at += 1
        found = _KEY.match(text, at)
        if found is None:
            raise ConfigFault(
                "is TOML in a form that is not understood here", line=text.count("\n", 0, at) + 1
            )
        parts.append(_unquoted(found[0]))
        dot = _DOT.match(text, found.end())
        if dot is None:
            return tuple(parts), found.end()
        at = dot.end()


def _unquoted(key: str) -> str:
    return key if _BARE.fullmatch(key) else str(tomllib.loads(f"key = {key}")["key"])


def _end_of_value(text: str, at: int) -> int:
    """Past the line on which a value ends: the first line end that no string or bracket goes over."""
    depth = 0
    while at < len(text):
        found = _PIECE.match(text, at)
        if found is None:
            raise ConfigFault(
                "is TOML in a form that is not understood here", line=text.count("\n", 0, at) + 1
            )
        at = found.end()
        piece = found[0]
        if piece in ("[", "{"):
            depth += 1
        elif piece in ("]", "}"):
            depth -= 1
        elif piece == "\n" and depth == 0:
            return at
    return at


def _gap(text: str, at: int) -> int:
    found = _GAP.match(text, at)
    return found.end() if found else at
