"""Where each key of a TOML text stands: `tomllib` gives values without places, and a mistake needs its line.

Written for text that `tomllib` has accepted, or has refused only because a key is given twice; on other text the
scan stops early and gives what it found.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL = re.compile(r"'[^'\n]*'")
_LONG_BASIC = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''(?:[^']|'(?!''))*'{3,5}", re.DOTALL)
_PLAIN = re.compile(r"[^,\]}#\n]+")
_SPACE = re.compile(r"[ \t\r]*")
_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """A key or table that is given a second time."""

    path: KeyPath
    line: int
    first: int
    table: bool


@dataclass(slots=True)
class Places:
    """The lines at which keys stand, counted from 1. Array elements have their index as the last part of the path."""

    lines: dict[KeyPath, int] = field(default_factory=dict)
    repeated: list[Repeated] = field(default_factory=list)

    def line(self, path: KeyPath) -> int | None:
        """The line of a key, or of the nearest table or array that holds it."""
        for end in range(len(path), 0, -1):
            found = self.lines.get(path[:end])
            if found is not None:
                return found
        return None


def find_places(text: str) -> Places:
    """The places of all keys in a TOML text. Never raises."""
    scan = _Scan(text)
    try:
        scan.document()
    except (_Stop, RecursionError):
        # tomllib says what is wrong with the text; the places found so far still help.
        pass
    return scan.places


class _Stop(Exception):
    """The text is no TOML from here on."""


class _Scan:
    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.places = Places()
        self._given: dict[KeyPath, int] = {}
        self._arrays: dict[KeyPath, int] = {}
        self._line = 1
        self._counted = 0

    def document(self) -> None:
        prefix: KeyPath = ()
        while True:
            self._skip(_GAP)
            if self.at >= len(self.text):
                return
            if self.text.startswith("[[", self.at):
                prefix = self._array_header()
            elif self._peek() == "[":
                prefix = self._header()
            else:
                self._pair(prefix)

    def _header(self) -> KeyPath:
        line = self._here()
        self._take("[")
        path = self._resolve(self._key())
        self._take("]")
        self._note(path, line, table=True)
        return path

    def _array_header(self) -> KeyPath:
        line = self._here()
        self._take("[[")
        path = self._resolve(self._key())
        self._take("]]")
        index = self._arrays.get(path, -1) + 1
        self._arrays[path] = index
        self.places.lines.setdefault(path, line)
        self._note((*path, index), line, table=True)
        return (*path, index)

    def _resolve(self, key: tuple[str, ...]) -> KeyPath:
        """A header's path, through the last element of each array of tables that it names on its way."""
        path: KeyPath = ()
        for number, part in enumerate(key):
            path = (*path, part)
            if path in self._arrays and number < len(key) - 1:
                path = (*path, self._arrays[path])
        return path

    def _pair(self, prefix: KeyPath) -> None:
        line = self._here()
        path = (*prefix, *self._key())
        self._take("=")
        self._note(path, line, table=False)
        self._skip(_SPACE)
        self._value(path)

    def _note(self, path: KeyPath, line: int, *, table: bool) -> None:
        for end in range(1, len(path)):
            self.places.lines.setdefault(path[:end], line)
        if path in self._given:
            self.places.repeated.append(Repeated(path=path, line=line, first=self._given[path], table=table))
            return
        self._given[path] = line
        # A table's own header is a better place than a key of a table inside it that came before.
        self.places.lines[path] = line

    def _key(self) -> tuple[str, ...]:
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            parts.append(self._key_part())
            self._skip(_SPACE)
            if self._peek() != ".":
                return tuple(parts)
            self.at += 1

    def _key_part(self) -> str:
        if found := _BARE.match(self.text, self.at):
            self.at = found.end()
            return found[0]
        if found := _LITERAL.match(self.text, self.at):
            self.at = found.end()
            return found[0][1:-1]
        if found := _BASIC.match(self.text, self.at):
            self.at = found.end()
            return _unquoted(found[0])
        raise _Stop

    def _value(self, path: KeyPath) -> None:
        start = self._peek()
        if start == "[":
            self._array(path)
        elif start == "{":
            self._inline_table(path)
        elif not any(self._skip(form) for form in (_LONG_BASIC, _LONG_LITERAL, _BASIC, _LITERAL, _PLAIN)):
            raise _Stop

    def _array(self, path: KeyPath) -> None:
        self._take("[")
        index = 0
        while True:
            self._skip(_GAP)
            if self._peek() == "]":
                self.at += 1
                return
            self.places.lines[(*path, index)] = self._here()
            self._value((*path, index))
            index += 1
            self._skip(_GAP)
            if self._peek() == ",":
                self.at += 1
            elif self._peek() != "]":
                raise _Stop

    def _inline_table(self, path: KeyPath) -> None:
        self._take("{")
        while True:
            self._skip(_GAP)
            if self._peek() == "}":
                self.at += 1
                return
            self._pair(path)
            self._skip(_GAP)
            if self._peek() == ",":
                self.at += 1
            elif self._peek() != "}":
                raise _Stop

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _take(self, mark: str) -> None:
        if not self.text.startswith(mark, self.at):
            raise _Stop
        self.at += len(mark)

    def _skip(self, form: re.Pattern[str]) -> bool:
        found = form.match(self.text, self.at)
        if found is None:
            return False
        self.at = found.end()
        return True

    def _here(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line


def _unquoted(quoted: str) -> str:
    try:
        return str(tomllib.loads(f"key = {quoted}")["key"])
    except tomllib.TOMLDecodeError:
        raise _Stop from None
