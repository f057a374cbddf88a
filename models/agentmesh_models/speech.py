"""A reply as it grows: bytes become whole characters, words are told from tool calls."""

from __future__ import annotations

import codecs
from typing import Final

from agentmesh_models.toolformat import OPENER

_WHITE: Final = " \t\r\n"


class Speech:
    """Takes the reply's bytes and says what may be shown of them.

    With `watch`, nothing is shown that could still become the opener of a call, nor white space that may turn
    out to stand before one; from the opener on nothing is shown at all. All that was shown, joined, is
    `words`.
    """

    def __init__(self, *, watch: bool) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._watch = watch
        self._shown = 0
        self.text = ""

    def add(self, data: bytes) -> str:
        """Take bytes; returns the text that may be shown now, often none."""
        self.text += self._decoder.decode(data)
        return self._show(self._safe())

    def end(self) -> str:
        """The reply is over; returns what was held back and is to be shown after all."""
        self.text += self._decoder.decode(b"", final=True)
        if self.opened:
            return ""
        return self._show(len(self.text))

    @property
    def opened(self) -> bool:
        """Whether a call has been opened."""
        return self._watch and OPENER in self.text

    @property
    def words(self) -> str:
        """What was shown so far."""
        return self.text[: self._shown]

    def _safe(self) -> int:
        if not self._watch:
            return len(self.text)
        at = self.text.find(OPENER)
        if at < 0:
            at = len(self.text)
            for size in range(min(len(OPENER) - 1, at), 0, -1):
                if self.text.endswith(OPENER[:size]):
                    at -= size
                    break
        while at > self._shown and self.text[at - 1] in _WHITE:
            at -= 1
        return at

    def _show(self, until: int) -> str:
        if until <= self._shown:
            return ""
        piece = self.text[self._shown : until]
        self._shown = until
        return piece
