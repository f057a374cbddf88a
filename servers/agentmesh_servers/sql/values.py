"""From a database's values to JSON, and no more of them than an answer may hold.

Knows the standard library only: it runs in the process that holds the database.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

Json: TypeAlias = "str | int | float | bool | None | list[Json]"

MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_CELL: Final = 8_192
MAX_NOTES: Final = 20
_MAX_NAME: Final = 200
# A double holds every whole number up to here; JSON is read into doubles by much that reads it.
_EXACT: Final = 2**53


def label(text: object) -> str:
    """A name, type or expression of the database in one line, at most 200 letters."""
    return "".join(each if each.isprintable() else "\ufffd" for each in str(text)[:_MAX_NAME])


class Sheet:
    """Rows as JSON, taken until the limit of rows or bytes is reached.

    `cut` then says which, and `notes` what was done to values that JSON has no form for.
    """

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._room = MAX_ANSWER_BYTES
        self._cell = MAX_CELL
        self._noted: set[str] = set()
        self.columns: list[str] = []
        self.rows: list[list[Json]] = []
        self.notes: list[str] = []
        self.cut = ""

    def name(self, columns: Iterable[str]) -> None:
        """Takes the names of the columns."""
        self.columns = [label(column) for column in columns]
        # One row always fits: with many columns each value gets less.
        self._cell = max(16, min(MAX_CELL, MAX_ANSWER_BYTES // (4 * max(1, len(self.columns)))))

    def add(self, values: Sequence[object]) -> bool:
        """Takes a row; false where it does not fit any more and none should be fetched after it."""
        if len(self.rows) == self._most:
            self.cut = (
                f"the first {self._most} rows are given and there are more: ask for fewer, or count them"
            )
            return False
        row = [self._value(value, column) for column, value in enumerate(values)]
        size = len(json.dumps(row, ensure_ascii=False).encode(errors="replace"))
        if self.rows and size > self._room:
            self.cut = (
                f"{len(self.rows)} rows are given, more would be too long: ask for fewer rows or columns"
            )
            return False
        self._room -= size
        self.rows.append(row)
        return True

    def result(self) -> dict[str, object]:
        """All of it, ready for JSON."""
        return {"columns": self.columns, "rows": self.rows, "cut": self.cut, "notes": self.notes}

    def _value(self, value: object, column: int) -> Json:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            if abs(value) > _EXACT:
                self._note(column, "whole numbers beyond 2^53 are given as text")
                return str(value)
            return value
        if isinstance(value, float):
            if math.isfinite(value):
                return value
            self._note(column, "numbers that JSON does not have are given as text")
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        if isinstance(value, bytes | bytearray | memoryview):
            return self._blob(bytes(value), column)
        if isinstance(value, list | tuple):
            made: list[Json] = [self._value(each, column) for each in value[: self._cell]]
            written = json.dumps(made, ensure_ascii=False)
            return (
                made
                if len(written) <= self._cell and len(made) == len(value)
                else self._text(written, column)
            )
        return self._text(value if isinstance(value, str) else str(value), column)

    def _text(self, text: str, column: int) -> str:
        # Half a character (a lone surrogate) has no UTF-8 form.
        text = text.encode(errors="replace").decode()
        if len(text) <= self._cell:
            return text
        self._note(
            column,
            f"cut to {self._cell:,} letters where there were more (the longest seen has {len(text):,})",
        )
        return text[: self._cell]

    def _blob(self, blob: bytes, column: int) -> str:
        room = self._cell // 4 * 3
        if len(blob) > room:
            self._note(column, f"bytes, given as base64 and cut to the first {room:,} where there were more")
        else:
            self._note(column, "bytes, given as base64")
        return base64.b64encode(blob[:room]).decode()

    def _note(self, column: int, what: str) -> None:
        name = self.columns[column] if column < len(self.columns) else str(column + 1)
        # One note for each column and kind: the figures in it are of the first value that called for it.
        if len(self.notes) < MAX_NOTES and (key := f"{column}{what[:12]}") not in self._noted:
            self._noted.add(key)
            self.notes.append(f"{name}: {what}")
