"""How far a long piece of work is, on a terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, Self, TextIO

_WIDTH: Final = 30
_REDRAW: Final = 0.1  # seconds


class Bar:
    """A line that says how far it is, drawn over itself on a terminal; silent anywhere else.

    A context manager: the line is gone at the end.
    """

    def __init__(self, terminal: TextIO | None, what: str = "entries") -> None:
        self._terminal = terminal if terminal is not None and terminal.isatty() else None
        self._what = what
        self._next = 0.0
        self._drawn = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def draw(self, done: int, total: int) -> None:
        """Draws the line anew, at most ten times a second."""
        now = time.monotonic()
        if self._terminal is None or now < self._next:
            return
        self._next = now + _REDRAW
        filled = _WIDTH * done // max(total, 1)
        line = f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {done} of {total} {self._what}"
        self._terminal.write("\r" + line.ljust(self._drawn))
        self._terminal.flush()
        self._drawn = len(line)

    def clear(self) -> None:
        """Takes the line away."""
        if self._terminal is not None and self._drawn:
            self._terminal.write("\r" + " " * self._drawn + "\r")
            self._terminal.flush()
            self._drawn = 0
