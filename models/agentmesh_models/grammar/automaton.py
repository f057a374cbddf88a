"""A grammar at work in Python: where a text stands in it, and what would end it soonest.

llama.cpp's own sampler knows the same grammar and is fast over a whole vocabulary, but cannot be asked what is
still missing, and lets overlong bytes and surrogates through. This one is asked about the one token that was drawn.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Final

from agentmesh_models.grammar.expression import (
    LAST,
    Alt,
    Chars,
    Node,
    Ref,
    Repeat,
    Rules,
    Seq,
    Text,
    common,
    size,
)

MAX_DEPTH: Final = 600
"""Frames on one stack: what nests deeper is refused, so that every JSON reader can follow."""


class _Frame:
    """A node in progress and what comes after it. `at`: characters, parts or turns that are done."""

    __slots__ = ("at", "closure", "depth", "node", "shut", "under")

    def __init__(self, node: Node, at: int, under: _Frame | None) -> None:
        self.node = node
        self.at = at
        self.under = under
        self.depth: int = 1 if under is None else under.depth + 1
        self.closure: _Tops | None = None
        self.shut: str | None = None


_Tops = tuple["_Frame | None", ...]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a text stands: all that may follow, and the bytes of a character that has begun."""

    tops: _Tops
    pending: bytes = b""

    @property
    def complete(self) -> bool:
        """Whether the text may end here."""
        return not self.pending and None in self.tops


class Automaton:
    """Walks the rules of one settled grammar. Positions are values: any of them may be gone on from again."""

    def __init__(self, rules: Rules, root: Node, *, lead: str = "") -> None:
        """`lead` is a text before everything else."""
        self._rules = rules
        self._frames: dict[tuple[int, int, int], _Frame] = {}
        self._steps: dict[tuple[_Tops, str], _Tops] = {}
        self._lead = Text(lead)
        self.start = Position(self._closure(self._frame(self._lead, 0, self._frame(root, 0, None))))

    def advance(self, position: Position, data: bytes) -> Position | None:
        """The position after `data`; None where the grammar or UTF-8 does not allow it."""
        whole = position.pending + data
        try:
            text, used = codecs.utf_8_decode(whole, "strict", False)
        except UnicodeDecodeError:
            return None
        tops = position.tops
        for char in text:
            tops = self._step(tops, char)
            if not tops:
                return None
        pending = whole[used:]
        if pending and self._finish(tops, pending) is None:
            return None
        return Position(tops, pending)

    def closing(self, position: Position) -> bytes:
        """The shortest that ends the text from here, in bytes."""
        tops, lead = position.tops, b""
        if position.pending:
            char = self._finish(tops, position.pending)
            if char is None:
                return b""
            lead = char.encode()[len(position.pending) :]
            tops = self._step(tops, char)
        texts = ["" if top is None else self._shut(top) for top in tops]
        return lead + min(texts, key=size, default="").encode()

    def _step(self, tops: _Tops, char: str) -> _Tops:
        key = (tops, char)
        known = self._steps.get(key)
        if known is not None:
            return known
        out: dict[_Frame | None, None] = {}
        for top in tops:
            if top is None:
                continue
            node = top.node
            if isinstance(node, Text):
                if node.text[top.at] == char:
                    out.update(dict.fromkeys(self._closure(self._frame(node, top.at + 1, top.under))))
            elif isinstance(node, Chars) and node.holds(ord(char)):
                out.update(dict.fromkeys(self._closure(top.under)))
        made = tuple(each for each in out if each is None or each.depth <= MAX_DEPTH)
        self._steps[key] = made
        return made

    def _finish(self, tops: _Tops, pending: bytes) -> str | None:
        """A character that begins with these bytes and may stand here."""
        low, high = _span(pending)
        for top in tops:
            if top is None:
                continue
            node = top.node
            if isinstance(node, Text):
                if low <= ord(node.text[top.at]) <= high:
                    return node.text[top.at]
            elif isinstance(node, Chars):
                found = common(node.ranges, ((low, high),))
                if found:
                    return chr(found[0][0])
        return None

    def _frame(self, node: Node, at: int, under: _Frame | None) -> _Frame:
        key = (id(node), at, id(under))
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = _Frame(node, at, under)
        return frame

    def _closure(self, frame: _Frame | None) -> _Tops:
        """The frames that wait for a character once `frame` has its turn; None where the text may end."""
        if frame is None:
            return (None,)
        if frame.closure is None:
            out: dict[_Frame | None, None] = {}
            seen: set[_Frame] = set()
            todo: list[_Frame | None] = [frame]
            while todo:
                each = todo.pop()
                if each is None:
                    out[None] = None
                elif each not in seen:
                    seen.add(each)
                    if isinstance(each.node, Chars) or (
                        isinstance(each.node, Text) and each.at < len(each.node.text)
                    ):
                        out[each] = None
                    else:
                        todo += self._within(each)
            frame.closure = tuple(out)
        return frame.closure

    def _within(self, frame: _Frame) -> list[_Frame | None]:
        """What a frame that waits for no character itself leads to."""
        node, at, under = frame.node, frame.at, frame.under
        if isinstance(node, Ref):
            return [self._frame(self._rules.named[node.name], 0, under)]
        if isinstance(node, Alt):
            return [self._frame(each, 0, under) for each in node.options if self._possible(each)]
        if isinstance(node, Seq):
            if at == len(node.parts):
                return [under]
            rest = under if at + 1 == len(node.parts) else self._frame(node, at + 1, under)
            return [self._frame(node.parts[at], 0, rest)]
        if isinstance(node, Repeat):
            out: list[_Frame | None] = [under] if at >= node.low else []
            if (node.high is None or at < node.high) and self._possible(node.item):
                turns = min(at + 1, node.low) if node.high is None else at + 1
                out.append(self._frame(node.item, 0, self._frame(node, turns, under)))
            return out
        return [under]

    def _possible(self, node: Node) -> bool:
        return self._rules.shortest(node) is not None

    def _shut(self, frame: _Frame) -> str:
        """The shortest text from `frame` to the end of everything."""
        chain: list[_Frame] = []
        each: _Frame | None = frame
        while each is not None and each.shut is None:
            chain.append(each)
            each = each.under
        text = "" if each is None or each.shut is None else each.shut
        for each in reversed(chain):
            text = each.shut = self._own(each) + text
        return text

    def _own(self, frame: _Frame) -> str:
        node = frame.node
        if isinstance(node, Text):
            return node.text[frame.at :]
        if isinstance(node, Seq):
            return "".join(self._rules.shortest(each) or "" for each in node.parts[frame.at :])
        if isinstance(node, Repeat):
            return (self._rules.shortest(node.item) or "") * max(0, node.low - frame.at)
        return self._rules.shortest(node) or ""


def _span(pending: bytes) -> tuple[int, int]:
    """The code points whose UTF-8 begins with these bytes, as far as the form allows them."""
    first = pending[0]
    total, least = (2, 0x80) if first < 0xE0 else (3, 0x800) if first < 0xF0 else (4, 0x10000)
    value = first & (0xFF >> (total + 1))
    for byte in pending[1:]:
        value = value << 6 | byte & 0x3F
    missing = 6 * (total - len(pending))
    return max(value << missing, least), min(value << missing | (1 << missing) - 1, LAST)
