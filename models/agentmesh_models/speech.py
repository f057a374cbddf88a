"""A reply as it grows: bytes become whole characters; words, thoughts and tool calls are told apart."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from agentmesh_models.chat import Finish, ReasoningDelta, TextDelta, ToolCall, ToolSpec
from agentmesh_models.toolformat.form import Form, Scan
from agentmesh_models.toolformat.schema import trim

_WHITE: Final = " \t\r\n"
_CLOSING: Final = frozenset(">]}")  # no family's call ends otherwise
Delta = TextDelta | ReasoningDelta


class Speech:
    """Takes the reply's bytes and says what may be shown of them.

    A thought stands at the reply's beginning, between its marks, or was opened by the prompt (`thinking`). With
    `watch`, no words are shown that could still become the opener of a call, nor white space that may turn out
    to stand before one; from the opener on nothing is shown at all. What was shown, joined, is `words` and
    `reasoning`. Control tokens that are marks of the form must come as their written text.
    """

    def __init__(self, *, form: Form, watch: bool, thinking: bool = False, parallel: bool = True) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._form = form
        self._watch = watch
        self._parallel = parallel and form.parallel
        self._thinking = thinking
        self._may_think = not thinking
        self._body: int | None = None if thinking else 0
        self._shown = 0
        self._call = -1
        self._scanned = -1
        self._scan: Scan | None = None
        self.text = ""
        self.words = ""
        self.reasoning = ""

    def add(self, data: bytes) -> tuple[Delta, ...]:
        """Take bytes; returns the pieces that may be shown now, often none."""
        return self._take(self._decoder.decode(data), final=False)

    def end(self) -> tuple[Delta, ...]:
        """The reply is over; returns what was held back and is to be shown after all."""
        return self._take(self._decoder.decode(b"", final=True), final=True)

    @property
    def opened(self) -> bool:
        """Whether a call has been opened."""
        return self._call >= 0

    @property
    def whole(self) -> bool:
        """Whether there are calls, all of them closed."""
        return self.opened and self._scanning().whole and bool(self._scanning().calls)

    @property
    def complete(self) -> bool:
        """Whether the last call has just been closed, and the reply is over: no other may follow."""
        if not self.opened or self.text[-1:] not in _CLOSING:
            return False
        return self.whole and (self._scanning().over or not self._parallel)

    def calls(self, tools: Sequence[ToolSpec]) -> tuple[ToolCall, ...]:
        """The calls of the reply that can be read, without stray spaces around their texts."""
        known = {tool.name: tool.parameters for tool in tools}
        found = self._scanning().calls if self.opened else ()
        return tuple(
            replace(each, arguments=trim(each.arguments, known.get(each.name, {}))) for each in found
        )

    def finish(self, *, ended: bool) -> Finish:
        """How the reply finished; `ended`: the model ended it, rather than its limit."""
        if self.whole:
            return "call"
        return "stop" if ended else "length"

    def _scanning(self) -> Scan:
        if self._scan is None or self._scanned != len(self.text):
            self._scan, self._scanned = self._form.scan(self.text[self._call :]), len(self.text)
        return self._scan

    def _take(self, text: str, *, final: bool) -> tuple[Delta, ...]:
        self.text += text
        out: list[Delta] = []
        if self._may_think:
            self._look_for_thought(final)
        if self._thinking:
            thought = self._think(final)
            if thought:
                self.reasoning += thought
                out.append(ReasoningDelta(text=thought))
        if self._body is not None and not self._may_think:
            words = self._speak(final)
            if words:
                self.words += words
                out.append(TextDelta(text=words))
        return tuple(out)

    def _look_for_thought(self, final: bool) -> None:
        """Whether the reply begins with a thought, as soon as that can be told."""
        opener = self._form.thought[0]
        begun = self.text.lstrip(_WHITE)
        if begun.startswith(opener):
            self._thinking, self._may_think, self._body = True, False, None
            self._shown = len(self.text) - len(begun) + len(opener)
        elif final or not opener.startswith(begun):
            self._may_think = False

    def _think(self, final: bool) -> str:
        closer = self._form.thought[1]
        at = self.text.find(closer, max(0, self._shown - len(closer)))
        until = at
        if at < 0:
            until = len(self.text) if final else len(self.text) - _overlap(self.text, closer)
        if not self.reasoning:  # white space around a thought is none of it
            while self._shown < until and self.text[self._shown] in _WHITE:
                self._shown += 1
        thought = self._piece(_trimmed(self.text, self._shown, until))
        if at >= 0:
            self._thinking = False
            self._body = self._shown = at + len(closer)
        return thought

    def _speak(self, final: bool) -> str:
        """The next of the words, up to what could be a call."""
        if self._body and not self.words:
            while self._shown < len(self.text) and self.text[self._shown] in _WHITE:
                self._shown += 1
        if self.opened:
            return ""
        until = len(self.text)
        if self._watch:
            until = self._unopened(final)
            if self.opened or not final:
                until = _trimmed(self.text, self._shown, until)
        return self._piece(until)

    def _unopened(self, final: bool) -> int:
        """Up to where the text is words; notes where a call begins."""
        body = self._body or 0
        fresh = not self.text[body : self._shown].strip(_WHITE)
        since = body if fresh else max(body, self._shown - 1)
        window = self.text[since:]
        at = self._form.find(window, fresh=fresh)
        if at >= 0:
            self._call = since + at
            return self._call
        return len(self.text) if final else since + self._form.undecided(window, fresh=fresh)

    def _piece(self, until: int) -> str:
        piece = self.text[self._shown : until]
        self._shown = max(self._shown, until)
        return piece


def _trimmed(text: str, start: int, end: int) -> int:
    """`end` without the white space before it, as far as `start`."""
    while end > start and text[end - 1] in _WHITE:
        end -= 1
    return end


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of `text` begin `mark`."""
    return next(
        (size for size in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:size])), 0
    )
