"""How values are spelled: JSON with Python's spacing, or the way of Gemma's function calls."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

from agentmesh_models.chat import JsonValue
from agentmesh_models.grammar.expression import (
    HEX,
    NEVER,
    Alt,
    Chars,
    Node,
    Ranges,
    Repeat,
    Seq,
    Text,
    alt,
    chars,
    common,
    merged,
    seq,
    without,
)

# What may stand in a string as it is: no control characters, and no surrogates, which UTF-8 cannot hold.
_PLAIN: Final[Ranges] = ((0x20, 0x7E), (0x80, 0xD7FF), (0xE000, 0x10FFFF))
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_.$-]+")
_ESCAPES: Final = {34: '\\"', 92: "\\\\", 10: "\\n", 9: "\\t", 13: "\\r", 8: "\\b", 12: "\\f"}


class Dialect(ABC):
    """One way to spell values. Raw nodes speak of a string's characters, encoded ones of how they are written."""

    comma: str
    colon: str
    unbounded: Node
    """Any string's characters, any number of them."""
    character: Node
    """One character of any string."""

    @abstractmethod
    def quoted(self, content: Node) -> Node:
        """A string of this encoded content."""

    @abstractmethod
    def one_of(self, ranges: Ranges) -> Node:
        """One character out of these, encoded."""

    @abstractmethod
    def constant(self, value: JsonValue) -> Node:
        """Exactly this value."""

    @abstractmethod
    def key(self, name: str) -> Node:
        """A member's name."""

    @property
    @abstractmethod
    def free_key(self) -> Node:
        """The name of a member that no schema names."""

    @abstractmethod
    def key_of(self, content: Node) -> Node:
        """A member's name of this encoded content."""

    def encoded(self, node: Node) -> Node:
        """A raw node as it is written inside of a string."""
        if isinstance(node, Text):
            return seq(*(self.one_of(((ord(char), ord(char)),)) for char in node.text))
        if isinstance(node, Chars):
            return self.one_of(node.ranges)
        if isinstance(node, Seq):
            return Seq(tuple(self.encoded(each) for each in node.parts))
        if isinstance(node, Repeat):
            return Repeat(self.encoded(node.item), node.low, node.high)
        if isinstance(node, Alt):
            return Alt(tuple(self.encoded(each) for each in node.options))
        return node


class _Json(Dialect):
    comma = ", "
    colon = ": "

    def __init__(self) -> None:
        self._plain = without(_PLAIN, ((34, 34), (92, 92)))
        unicode = alt([seq(chars("0-9a-cefA-CEF"), Repeat(HEX, 3, 3)), seq(chars("dD"), chars("0-7"), Repeat(HEX, 2, 2))])  # fmt: skip
        escaped = seq("\\", alt([chars('"\\/bfnrt'), seq("u", unicode)]))
        self.character = alt([Chars(self._plain), escaped])
        self.unbounded = Repeat(self.character, 0, None)

    def quoted(self, content: Node) -> Node:
        return seq('"', content, '"')

    def one_of(self, ranges: Ranges) -> Node:
        options: list[Node | str] = []
        plain = common(ranges, self._plain)
        if plain:
            code = plain[0][0]
            options.append(Text(chr(code)) if plain == ((code, code),) else Chars(plain))
        for low, high in common(ranges, ((0, 31), (34, 34), (92, 92), (127, 127))):
            options += [_ESCAPES.get(code, f"\\u{code:04x}") for code in range(low, high + 1)]
        return alt(options)

    def constant(self, value: JsonValue) -> Node:
        text = json.dumps(value, ensure_ascii=False)
        return Text(text) if not re.search("[\ud800-\udfff]", text) else Text(json.dumps(value))

    def key(self, name: str) -> Node:
        return self.constant(name)

    @property
    def free_key(self) -> Node:
        return self.quoted(self.unbounded)

    def key_of(self, content: Node) -> Node:
        return self.quoted(content)


class Gemma(Dialect):
    """Strings stand raw between two equal marks, and hold neither them nor, where their length counts, any `<`."""

    comma = ","
    colon = ":"

    def __init__(self, mark: str) -> None:
        self.mark = mark
        inside = without(merged([*_PLAIN, (9, 10)]), ((60, 60),))
        second = ord(mark[1])
        self._plain = inside
        self.character = Chars(inside)
        after = Chars(without(inside, ((second, second),)))
        self.unbounded = Repeat(alt([Chars(inside), seq("<", after)]), 0, None)

    def quoted(self, content: Node) -> Node:
        return seq(self.mark, content, self.mark)

    def one_of(self, ranges: Ranges) -> Node:
        found = common(ranges, self._plain)
        return Chars(found) if found else NEVER

    def constant(self, value: JsonValue) -> Node:
        if isinstance(value, str):
            clean = self.mark not in value + self.mark[:-1] and not re.search("[\ud800-\udfff]", value)
            return self.quoted(Text(value)) if clean else NEVER
        if isinstance(value, Mapping):
            members = [seq(self.key(name), self.colon, self.constant(each)) for name, each in value.items()]
            return seq("{", *self._joined(members), "}")
        if isinstance(value, list | tuple):
            return seq("[", *self._joined([self.constant(each) for each in value]), "]")
        return Text(json.dumps(value))

    def key(self, name: str) -> Node:
        return Text(name) if _BARE_KEY.fullmatch(name) else self.constant(name)

    @property
    def free_key(self) -> Node:
        return seq(chars("A-Za-z_"), Repeat(chars("A-Za-z0-9_"), 0, 40))

    def key_of(self, content: Node) -> Node:
        return self.quoted(content)

    def _joined(self, nodes: list[Node]) -> list[Node]:
        return [
            part for at, node in enumerate(nodes) for part in ([Text(self.comma), node] if at else [node])
        ]


JSON: Final[Dialect] = _Json()
