"""What a grammar is made of: texts, characters, sequences, choices, repetitions, and rules by name.

One tree serves three readers: llama.cpp's GBNF is written from it, the automaton walks it, and the shortest text
that it allows is worked out here. What can never be finished counts as not being there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Ranges = tuple[tuple[int, int], ...]
"""Code points, first and last of each run, in order and apart."""

LAST: Final = 0x10FFFF
MAX_SHORTEST: Final = 100_000
"""Characters: what is longer even at its shortest counts as what can never be finished."""


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """Exactly this text."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Chars:
    """One character out of these."""

    ranges: Ranges

    def holds(self, code: int) -> bool:
        """Whether the code point is among them."""
        return any(low <= code <= high for low, high in self.ranges)


@dataclass(frozen=True, slots=True, eq=False)
class Seq:
    """One after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Alt:
    """One of several; none at all matches nothing."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Repeat:
    """`item` at least `low` and at most `high` times; None is without end."""

    item: Node
    low: int
    high: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Ref:
    """What the rule of this name says."""

    name: str


Node = Text | Chars | Seq | Alt | Repeat | Ref
EMPTY: Final = Seq(())
NEVER: Final = Alt(())
DIGIT: Final = Chars(((48, 57),))
HEX: Final = Chars(((48, 57), (65, 70), (97, 102)))


def seq(*parts: Node | str) -> Node:
    """One after the other; strings are texts."""
    nodes: list[Node] = []
    for each in parts:
        node = Text(each) if isinstance(each, str) else each
        if isinstance(node, Text) and nodes and isinstance(nodes[-1], Text):
            nodes[-1] = Text(nodes[-1].text + node.text)
        elif not isinstance(node, Text) or node.text:
            nodes.append(node)
    return nodes[0] if len(nodes) == 1 else Seq(tuple(nodes))


def alt(options: Sequence[Node | str]) -> Node:
    """One of several; strings are texts."""
    nodes = tuple(Text(each) if isinstance(each, str) else each for each in options)
    return nodes[0] if len(nodes) == 1 else Alt(nodes)


def optional(node: Node | str) -> Node:
    """Once or not at all."""
    return Alt((Text(node) if isinstance(node, str) else node, EMPTY))


def chars(text: str) -> Chars:
    """One of these characters; `a-z` is a run."""
    codes: set[int] = set()
    at = 0
    while at < len(text):
        if text[at + 1 : at + 2] == "-" and at + 2 < len(text):
            codes.update(range(ord(text[at]), ord(text[at + 2]) + 1))
            at += 3
        else:
            codes.add(ord(text[at]))
            at += 1
    return Chars(merged([(code, code) for code in codes]))


def merged(ranges: Sequence[tuple[int, int]]) -> Ranges:
    """The same code points in order, with runs that touch made one."""
    out: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if out and low <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], high))
        else:
            out.append((low, high))
    return tuple(out)


def without(ranges: Ranges, taken: Ranges) -> Ranges:
    """What of `ranges` is not in `taken`."""
    out = list(ranges)
    for low, high in taken:
        out = [
            part
            for first, last in out
            for part in ((first, min(last, low - 1)), (max(first, high + 1), last))
            if part[0] <= part[1]
        ]
    return merged(out)


def common(ranges: Ranges, others: Ranges) -> Ranges:
    """What is in both."""
    return without(ranges, without(((0, LAST),), others))


class Rules:
    """The named rules of one grammar, and what the shortest text of each node is."""

    def __init__(self) -> None:
        self.named: dict[str, Node] = {}
        self._shortest: dict[str, str | None] = {}
        self._known: dict[int, str | None] = {}
        self._settled = False

    def settle(self) -> None:
        """Work out the shortest text of every rule; to be called once, when all rules are there."""
        self._shortest = dict.fromkeys(self.named)
        changed = True
        while changed:
            changed = False
            for name, node in self.named.items():
                before, now = self._shortest[name], self._least(node)
                if now is not None and (before is None or size(now) < size(before)):
                    self._shortest[name] = now
                    changed = True
        self._settled = True

    def shortest(self, node: Node) -> str | None:
        """The shortest text that `node` allows, counted in UTF-8 bytes; None where it allows none."""
        key = id(node)
        if key not in self._known:
            self._known[key] = self._least(node)
        return self._known[key]

    def _least(self, node: Node) -> str | None:
        if isinstance(node, Text):
            return node.text
        if isinstance(node, Chars):
            return _plainest(node.ranges)
        if isinstance(node, Ref):
            return self._shortest[node.name]
        if isinstance(node, Repeat):
            if node.low == 0:
                return ""
            once = self._of(node.item)
            return None if once is None or len(once) * node.low > MAX_SHORTEST else once * node.low
        if isinstance(node, Seq):
            parts = [self._of(each) for each in node.parts]
            if None in parts or sum(len(each or "") for each in parts) > MAX_SHORTEST:
                return None
            return "".join(each for each in parts if each)
        texts = [text for text in map(self._of, node.options) if text is not None]
        return min(texts, key=size) if texts else None

    def _of(self, node: Node) -> str | None:
        return self.shortest(node) if self._settled else self._least(node)


def size(text: str) -> int:
    """Its length in bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _plainest(ranges: Ranges) -> str | None:
    """A character that stands for all: a letter, a digit, or else the first there is."""
    for code in (97, 48, 32):
        if any(low <= code <= high for low, high in ranges):
            return chr(code)
    return chr(ranges[0][0]) if ranges else None
