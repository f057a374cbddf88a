"""Regular expressions of schemas (ECMA-262's, the regular part of them) as grammar nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agentmesh_models.grammar.expression import (
    EMPTY,
    LAST,
    Chars,
    Node,
    Ranges,
    Repeat,
    Text,
    alt,
    chars,
    merged,
    seq,
    without,
)
from agentmesh_models.grammar.lengths import span

MAX_PATTERN: Final = 2_000
MAX_TURNS: Final = 4_000
_DEPTH: Final = 40
_DIGIT: Final = chars("0-9").ranges
_WORD: Final = chars("A-Za-z0-9_").ranges
_SPACE: Final = chars(" \t\n\r\f\v").ranges
_ASCII: Final[Ranges] = ((0, 127),)
# Engines do not agree which characters beyond ASCII are digits, word characters and white space: where a class
# excludes them, only characters that all agree about are written.
_LETTERS: Final[Ranges] = ((0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x17F))
_CLASSES: Final[dict[str, Ranges]] = {
    "d": _DIGIT,
    "w": _WORD,
    "s": _SPACE,
    "D": merged([*without(_ASCII, _DIGIT), *_LETTERS]),
    "W": without(_ASCII, _WORD),
    "S": merged([*without(_ASCII, merged([*_SPACE, (0x1C, 0x1F)])), *_LETTERS]),
}
_PROPERTIES: Final[dict[str, Ranges]] = {
    "L": chars("A-Za-z").ranges,
    "Letter": chars("A-Za-z").ranges,
    "Lu": chars("A-Z").ranges,
    "Ll": chars("a-z").ranges,
    "N": _DIGIT,
    "Nd": _DIGIT,
}
# What an excluding class and the dot let through: no control characters, though they might have them.
_ANY: Final[Ranges] = ((0x20, 0x7E), (0xA0, 0x2027), (0x202A, 0xD7FF), (0xE000, LAST))
_CONTROL: Final = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11, "0": 0}


class Unsupported(Exception):
    """The pattern holds something that is not regular, or that this reader does not know."""


def read_pattern(pattern: str) -> Node:
    """A raw node for the strings in which `pattern` is found, as JSON Schema means it: anchors only if it has them.

    Raises:
        Unsupported: a look-around, a back reference, an anchor in the middle, an unknown escape, or bad syntax.
    """
    if len(pattern) > MAX_PATTERN:
        raise Unsupported("too long")
    reader = _Reader(pattern)
    node = reader.alternatives(0)
    if reader.at < len(pattern):
        raise Unsupported(f"{pattern[reader.at]!r} at {reader.at}")
    return node


@dataclass(slots=True)
class _Reader:
    pattern: str
    at: int = 0

    def alternatives(self, depth: int) -> Node:
        if depth > _DEPTH:
            raise Unsupported("groups nest too deeply")
        options = [self._sequence(depth)]
        while self._take("|"):
            options.append(self._sequence(depth))
        return alt(options)

    def _sequence(self, depth: int) -> Node:
        """One alternative; at the outside, what is not anchored may have anything around it."""
        anchored = self._take("^")
        if anchored and depth:
            raise Unsupported("an anchor inside of a group")
        parts: list[Node] = []
        closed = False
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            if self._take("$"):
                closed = True
                if depth or (self.at < len(self.pattern) and self.pattern[self.at] != "|"):
                    raise Unsupported("an anchor in the middle")
                break
            parts.append(self._quantified(self._atom(depth)))
        if depth == 0:
            around = Repeat(Chars(_ANY), 0, None)
            parts = [*([] if anchored else [around]), *parts, *([] if closed else [around])]
        return seq(*parts) if parts else EMPTY

    def _atom(self, depth: int) -> Node:
        char = self._next()
        if char == "(":
            return self._group(depth)
        if char == "[":
            return _one_of(self._klass())
        if char == ".":
            return Chars(_ANY)
        if char == "\\":
            return _one_of(self._escape())
        if char in "*+?{" or char == "^":
            raise Unsupported(f"{char!r} at {self.at - 1}")
        return Text(char)

    def _group(self, depth: int) -> Node:
        if self._take("?"):
            if self._take("P<") or (
                self._follows("<") and not self._follows("<=") and not self._follows("<!")
            ):
                end = self.pattern.find(">", self.at)
                if end < 0:
                    raise Unsupported("a group without an end")
                self.at = end + 1
            elif not self._take(":"):
                raise Unsupported("a look-around or a flag")
        node = self.alternatives(depth + 1)
        if not self._take(")"):
            raise Unsupported("a group without an end")
        return node

    def _quantified(self, node: Node) -> Node:
        low, high = self._turns()
        if (low, high) == (1, 1):
            return node
        self._take("?")  # lazy or not, the strings are the same
        if self._follows("+") or self._follows("*"):
            raise Unsupported("a quantifier of a quantifier")
        if span(node)[0] == 0 and high != 1:
            raise Unsupported("a repetition of what may be empty")  # llama.cpp takes it for left recursion
        return Repeat(node, low, high)

    def _turns(self) -> tuple[int, int | None]:
        for mark, turns in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(mark):
                return turns
        if not self._take("{"):
            return 1, 1
        end = self.pattern.find("}", self.at)
        low, comma, high = self.pattern[self.at : end].partition(",")
        if end < 0 or not low.isdigit() or (high and not high.isdigit()):
            raise Unsupported("a brace that is no quantifier")
        self.at = end + 1
        least = int(low[:6])
        most = None if comma and not high else int(high[:6]) if comma else least
        if least > MAX_TURNS or (most is not None and (most > MAX_TURNS or most < least)):
            raise Unsupported("a repetition beyond all measure")
        return least, most

    def _klass(self) -> Ranges:
        negated = self._take("^")
        found: list[tuple[int, int]] = []
        first = True
        while first or not self._follows("]"):
            if self.at >= len(self.pattern) or (first and self._follows("]")):
                raise Unsupported("a class without an end")
            first = False
            low = self._member(negated)
            if self._follows("-") and not self._follows("-]") and len(low) == 1 and low[0][0] == low[0][1]:
                self.at += 1
                high = self._member(negated)
                if len(high) != 1 or high[0][0] != high[0][1] or high[0][0] < low[0][0]:
                    raise Unsupported("a run without an end")
                low = ((low[0][0], high[0][0]),)
            found += low
        self.at += 1
        ranges = merged(found)
        return without(_ANY, ranges) if negated else ranges

    def _member(self, negated: bool) -> Ranges:
        char = self._next()
        if char != "\\":
            return ((ord(char), ord(char)),)
        kind = self.pattern[self.at : self.at + 1]
        if negated and kind and kind in "DWSpP":
            raise Unsupported("a class that excludes an excluding one")
        if negated and kind and kind in "dws":
            self.at += 1
            return merged([*_CLASSES[kind], (128, LAST)])
        if kind == "b":
            self.at += 1
            return ((8, 8),)
        return self._escape()

    def _escape(self) -> Ranges:
        char = self._next()
        if char in _CLASSES:
            return _CLASSES[char]
        if char in _CONTROL:
            return ((_CONTROL[char], _CONTROL[char]),)
        if char == "p" and self._take("{"):
            name, _, rest = self.pattern[self.at :].partition("}")
            if name in _PROPERTIES:
                self.at = len(self.pattern) - len(rest)
                return _PROPERTIES[name]
        if char in "xu":
            size = 2 if char == "x" else 4
            digits = self.pattern[self.at : self.at + size]
            if len(digits) == size and all(each in "0123456789abcdefABCDEF" for each in digits):
                self.at += size
                return ((int(digits, 16), int(digits, 16)),)
        if char.isalnum():
            raise Unsupported(f"the escape \\{char}")
        return ((ord(char), ord(char)),)

    def _next(self) -> str:
        if self.at >= len(self.pattern):
            raise Unsupported("it breaks off")
        self.at += 1
        return self.pattern[self.at - 1]

    def _follows(self, text: str) -> bool:
        return self.pattern.startswith(text, self.at)

    def _take(self, text: str) -> bool:
        if not self._follows(text):
            return False
        self.at += len(text)
        return True


def _one_of(ranges: Ranges) -> Node:
    alone = len(ranges) == 1 and ranges[0][0] == ranges[0][1]
    return Text(chr(ranges[0][0])) if alone else Chars(ranges)
