"""Words of a reply that may be shown at once, and those held back: a call written as text must not appear among them."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Final

from agentmesh_models.chat import ReasoningDelta, TextDelta, ToolSpec

_THINK: Final = "<think>"
_THOUGHT: Final = "</think>"
_OPENERS: Final = (
    "<tool_call", "<function", "<|tool_call", "<|python_tag|>", "<start_function_call", "[TOOL_CALLS]",
    "```", '{"', "{'", "{\n", "[{", "[ {",
)  # fmt: skip


class Words:
    """The text of one reply. From the first mark that may open a call on, everything is held until the end."""

    def __init__(self, tools: Sequence[ToolSpec]) -> None:
        named = tuple(mark for tool in tools for mark in (f"[{tool.name}(", f"{tool.name}(", f"{tool.name}["))
        self._openers = (*_OPENERS, *named) if tools else ()
        self._longest = max((len(mark) for mark in self._openers), default=0)
        self._raw = ""
        self._thinking: bool | None = None
        self._shown = 0
        self._held = False
        self._searched = 0
        self.text = ""
        self.reasoning = ""

    def think(self, piece: str) -> ReasoningDelta:
        """Take in a piece that the endpoint itself calls reasoning."""
        self.reasoning += piece
        return ReasoningDelta(text=piece)

    def add(self, piece: str) -> Iterator[TextDelta | ReasoningDelta]:
        """Take in a piece of the text; yields what of it is certain."""
        if self._thinking is None or self._thinking:
            self._raw += piece
            piece = yield from self._after_thoughts()
        if piece:
            self.text += piece
            if safe := self._safe():
                yield TextDelta(text=safe)

    def thoughts_left(self) -> Iterator[TextDelta | ReasoningDelta]:
        """At the end: what was held because it could have become a mark, and did not."""
        raw, self._raw = self._raw, ""
        if self._thinking:
            if raw:
                yield self.think(raw)
        else:
            self.text += raw

    def rest(self, words: str) -> Iterator[TextDelta]:
        """At the end: the part of `words` that was not shown yet."""
        shown = self.text[: self._shown]
        left = words[len(shown) :] if words.startswith(shown) else ""
        if left:
            yield TextDelta(text=left)

    def _after_thoughts(self) -> Generator[ReasoningDelta, None, str]:
        """Yield thoughts between marks at the beginning; returns the text after them, once that is certain."""
        if self._thinking is None:
            start = self._raw.lstrip()
            if _THINK.startswith(start[: len(_THINK)]) and len(start) < len(_THINK):
                return ""
            self._thinking = start.startswith(_THINK)
            if not self._thinking:
                text, self._raw = self._raw, ""
                return text
            self._raw = start[len(_THINK) :]
        thought, mark, after = self._raw.partition(_THOUGHT)
        if not mark:
            certain = len(thought) - _begun(thought, _THOUGHT)
            thought, self._raw = thought[:certain], thought[certain:]
        if thought:
            yield self.think(thought)
        if not mark:
            return ""
        self._thinking, self._raw = False, ""
        return after.lstrip("\n")

    def _safe(self) -> str:
        if self._held:
            return ""
        until = len(self.text)
        if self._openers:
            # A mark may have begun in what was searched before.
            start = max(self._shown, self._searched - self._longest)
            found = [at for mark in self._openers if (at := self.text.find(mark, start)) >= 0]
            self._searched = until
            if found:
                self._held, until = True, min(found)
            else:
                until -= max(_begun(self.text, mark) for mark in self._openers)
            while until > self._shown and self.text[until - 1].isspace():
                until -= 1
        piece = self.text[self._shown : max(until, self._shown)]
        self._shown = max(until, self._shown)
        return piece


def _begun(text: str, mark: str) -> int:
    """How many characters at the end of `text` may be the beginning of `mark`."""
    for size in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:size]):
            return size
    return 0
