"""Standard error of a process that serves: nobody has to read it.

A host may leave the pipe to fill up, or close its end; to write into it would then hold up, or fail, every dialogue.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

MOST_WAITING: Final = 1_000_000
"""Bytes that wait to be written; what comes beyond is left out, and counted."""
_LAST_WORDS: Final = 1.0  # seconds that the end of the process waits for what was said


class Aside:
    """Takes lines, and writes them in a thread of its own. Never blocks and never raises."""

    def __init__(self, descriptor: int, encoding: str = "utf-8") -> None:
        self._descriptor = descriptor
        self._encoding = encoding
        self._lines: deque[bytes] = deque()
        self._waiting = 0
        self._left_out = 0
        self._closed = False
        self._news = threading.Condition()
        # A daemon: one that is held up by a full pipe must not keep the process.
        self._thread = threading.Thread(target=self._write, name="standard-error", daemon=True)
        self._thread.start()

    def say(self, line: str) -> None:
        """Write the line, soon."""
        data = f"{line}\n".encode(self._encoding, "backslashreplace")
        with self._news:
            if self._lines and self._waiting + len(data) > MOST_WAITING:
                self._left_out += 1
                return
            self._lines.append(data)
            self._waiting += len(data)
            self._news.notify()

    def close(self) -> None:
        """Returns when all is written, or when that takes too long."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join(_LAST_WORDS)

    def _write(self) -> None:
        while data := self._next():
            while data:
                try:
                    # Not through `sys.stderr`: whoever waits in there holds a lock that the interpreter's end wants.
                    data = data[os.write(self._descriptor, data) :]
                except OSError:  # nobody is there any more to read it
                    break

    def _next(self) -> bytes:
        """The next to be written; nothing once it is closed and all is written."""
        with self._news:
            while not self._lines and not self._closed:
                self._news.wait()
            if not self._lines:
                return b""
            data = self._lines.popleft()
            self._waiting -= len(data)
            if self._left_out:
                self._lines.appendleft(f"agentmesh: {self._left_out} lines were left out\n".encode())
                self._waiting += len(self._lines[0])
                self._left_out = 0
            return data


@contextmanager
def standard_error() -> Iterator[Aside]:
    """Standard error, for as long as the block runs."""
    if sys.stderr is None:  # it was closed from the start: its number may be the ledger's by now
        aside = Aside(os.open(os.devnull, os.O_WRONLY))
    else:
        aside = Aside(sys.stderr.fileno(), sys.stderr.encoding)
    try:
        yield aside
    finally:
        aside.close()
