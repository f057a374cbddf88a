"""A grammar as llama.cpp reads it."""

from __future__ import annotations

from typing import Final

from agentmesh_models.grammar.expression import Chars, Node, Ref, Repeat, Rules, Seq, Text

MAX_REPEAT: Final = 512
"""Longer repetitions are written without their bound: llama.cpp makes a rule of each turn and has a limit."""


def write(rules: Rules, root: Node, *, exact: bool = True) -> str:
    """The grammar's text. Unless `exact`, long repetitions lose their bounds, and it allows more than it says.

    The rules must be settled. Alternatives that can never be finished are left out.
    """
    lines = [f"root ::= {_Writer(rules, exact).line(root)}"]
    for name, node in rules.named.items():
        if rules.shortest(node) is not None:
            lines.append(f"{name} ::= {_Writer(rules, exact).line(node)}")
    return "\n".join(lines) + "\n"


def literal(text: str) -> str:
    """`text` as a GBNF literal."""
    out = []
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif char == "\n":
            out.append("\\n")
        elif ord(char) < 32 or ord(char) == 127:
            out.append(f"\\x{ord(char):02X}")
        else:
            out.append(char)
    return '"' + "".join(out) + '"'


class _Writer:
    def __init__(self, rules: Rules, exact: bool) -> None:
        self._rules = rules
        self._exact = exact

    def line(self, node: Node) -> str:
        """A node where nothing stands beside it."""
        if isinstance(node, Seq | Text | Chars | Ref | Repeat):
            return self._written(node)
        options = [each for each in node.options if self._rules.shortest(each) is not None]
        return " | ".join(self._written(each) for each in options) or '""'

    def _written(self, node: Node) -> str:
        if isinstance(node, Text):
            return literal(node.text)
        if isinstance(node, Chars):
            return _klass(node)
        if isinstance(node, Ref):
            return node.name
        if isinstance(node, Seq):
            return " ".join(self._written(each) for each in node.parts) or '""'
        if isinstance(node, Repeat):
            return self._repeat(node)
        options = [each for each in node.options if self._rules.shortest(each) is not None]
        if len(options) == 1:
            return self._written(options[0])
        return f"({' | '.join(self._written(each) for each in options)})"

    def _repeat(self, node: Repeat) -> str:
        low, high = node.low, node.high
        if self._rules.shortest(node.item) is None or high == 0:
            return '""'
        item = self._written(node.item)
        if not isinstance(node.item, Chars | Ref) and not item.startswith("("):
            item = f"({item})"
        if not self._exact:
            low = min(low, MAX_REPEAT)
            high = None if high is None or high > MAX_REPEAT else high
        if high is None and low < 2:
            return item + "*+"[low]
        return item + f"{{{low},{'' if high is None else high}}}"


def _klass(node: Chars) -> str:
    return (
        "["
        + "".join(_code(low) if low == high else f"{_code(low)}-{_code(high)}" for low, high in node.ranges)
        + "]"
    )


def _code(code: int) -> str:
    char = chr(code)
    if code < 127 and char.isalnum():
        return char
    if code < 0x100:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
