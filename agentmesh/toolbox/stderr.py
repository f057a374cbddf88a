"""The last words of a server that runs as a process: the end of its standard error, kept for error messages."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

KEPT_BYTES: Final = 4_096
_CHUNK: Final = 4_096


class LastWords:
    """Drains a pipe so that its writer never blocks on it, and keeps only the end.

    A thread of its own reads, since a pipe cannot be awaited on every platform; it ends when the last holder of
    the writing end is gone.
    """

    def __init__(self, reading_end: int) -> None:
        self._reading_end = reading_end
        self._kept = b""
        self._drained = threading.Event()
        threading.Thread(target=self._drain, name="server stderr", daemon=True).start()

    def wait(self, seconds: float) -> None:
        """Block until the writer is gone, at most that long."""
        self._drained.wait(seconds)

    def text(self) -> str:
        """The end of what was written so far."""
        return self._kept.decode("utf-8", errors="replace")

    def _drain(self) -> None:
        try:
            while chunk := os.read(self._reading_end, _CHUNK):
                self._kept = (self._kept + chunk)[-KEPT_BYTES:]
        finally:
            os.close(self._reading_end)
            self._drained.set()


@contextmanager
def captured_stderr() -> Iterator[tuple[TextIO, LastWords]]:
    """A file to give a process as its standard error, and what was written to it last."""
    reading_end, writing_end = os.pipe()
    words = LastWords(reading_end)
    with os.fdopen(writing_end, "w") as file:
        yield file, words
