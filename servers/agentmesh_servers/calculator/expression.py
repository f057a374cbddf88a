"""Arithmetic expressions: text in, an exact value and its wording out.

A tokenizer and a parser by precedence of our own; text is never given to Python to evaluate. Length, depth and
the size of numbers are bounded, so hostile text costs milliseconds.

Precedence, loosest first: `+ -`, then `* / // % of`, then the unary signs, then `^ **` (from the right), then the
postfix `%` and `!`. A `%` that an operand follows is the remainder, any other is percent: `7 % 3` is 1,
`15% of 240` is 36, `50% - 3` is -2.5.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agentmesh_servers.calculator import rational
from agentmesh_servers.calculator.rational import Value
from agentmesh_servers.errors import ServersError

MAX_LENGTH: Final = 1_000
MAX_DEPTH: Final = 50

_TOKEN: Final = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<number>(?:(?P<whole>[0-9]+)(?:\.(?P<decimals>[0-9]*))?|\.(?P<only>[0-9]+))(?:[eE](?P<exponent>[+-]?[0-9]+))?)"
    r"|(?P<word>[A-Za-z_]+)"
    r"|(?P<sign>\*\*|//|[-+*/%^()!=,×÷−–·⋅√])"
)
_HEXADECIMAL: Final = re.compile(r"(?<![0-9.])0[xX][0-9A-Fa-f]")
_SPELLED: Final = {
    "**": "^", "×": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-", "–": "-", "√": "sqrt",
    "x": "*", "of": "*", "times": "*", "plus": "+", "minus": "-", "mod": "mod",
}  # fmt: skip
_BINARY: Final[dict[str, tuple[int, Callable[[Value, Value], Value]]]] = {
    "+": (1, rational.add),
    "-": (1, rational.subtract),
    "*": (2, rational.multiply),
    "/": (2, rational.divide),
    "//": (2, rational.floor_divide),
    "mod": (2, rational.modulo),
}
_FUNCTIONS: Final[dict[str, Callable[[Value], Value]]] = {
    "sqrt": rational.square_root,
    "abs": rational.absolute,
    "floor": rational.round_down,
    "ceil": rational.round_up,
    "round": rational.round_half_away,
}
_END: Final = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What an expression is equal to: `text` for a reader, the rest for a program."""

    text: str
    result: str
    decimal: str
    exact: bool


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    written: str = ""
    value: Value | None = None


def evaluate(expression: str) -> Result:
    """The value of an expression, exactly.

    Raises:
        ServersError: `bad_input` for text that is no expression, `undefined` for a division by zero and its like,
            `too_large` for anything beyond the bounds.
    """
    return _worded(compute(expression))


def compute(expression: str) -> Value:
    """The value of an expression as a number. Raises as `evaluate` does."""
    if len(expression) > MAX_LENGTH:
        raise ServersError("too_large", f"an expression may have {MAX_LENGTH:,} characters: split it")
    parser = _Parser(_tokens(expression))
    return parser.whole()


def _tokens(expression: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(expression):
        if _HEXADECIMAL.match(expression, position):
            # Read as 0 times 10, it would be answered wrongly rather than refused.
            raise ServersError("bad_input", "write numbers in decimal: 16, not 0x10")
        match = _TOKEN.match(expression, position)
        if match is None:
            raise ServersError(
                "bad_input",
                f"{expression[position]!r} is not part of arithmetic: use numbers and + - * / % ^ ( )",
            )
        position = match.end()
        if match["number"] is not None:
            value = rational.literal(
                match["whole"] or "0", match["decimals"] or match["only"] or "", match["exponent"] or ""
            )
            tokens.append(_Token("number", match["number"], match["number"], value))
        elif match["space"] is None:
            tokens.append(_sign(match[0]))
    if tokens and tokens[-1].text == "=":
        tokens.pop()
    return tokens


def _sign(text: str) -> _Token:
    if text == ",":
        raise ServersError("bad_input", "write numbers without commas: 1234.5, not 1,234.5")
    plain = _SPELLED.get(text.lower(), text.lower())
    if plain in _FUNCTIONS:
        return _Token("function", plain, text)
    if text[0].isalpha() and plain == text.lower() and plain != "mod" or text[0] == "_":
        known = ", ".join(_FUNCTIONS)
        raise ServersError(
            "bad_input", f"{text!r} is not known here: write numbers and operators only (functions: {known})"
        )
    return _Token("sign", plain, text)


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def whole(self) -> Value:
        if not self._tokens:
            raise ServersError("bad_input", "the expression is empty: give one such as 17 * 23")
        value = self._sum(1)
        if self._peek().text != _END:
            raise self._unexpected()
        return value

    def _peek(self, ahead: int = 0) -> _Token:
        place = self._next + ahead
        return self._tokens[place] if place < len(self._tokens) else _Token("end", _END)

    def _sum(self, least: int) -> Value:
        """A chain of binary operators that bind at least as tightly as `least`, from the left."""
        left = self._signed()
        while True:
            operator = self._infix()
            if operator is None or _BINARY[operator][0] < least:
                return left
            self._next += 1
            strength, apply = _BINARY[operator]
            left = apply(left, self._sum(strength + 1))

    def _infix(self) -> str | None:
        text = self._peek().text
        if text == "%":
            return "mod"  # a percent sign was taken with its operand, so this one has an operand after it
        return text if text in _BINARY else None

    def _signed(self) -> Value:
        negative = False
        while self._peek().text in ("+", "-"):
            negative ^= self._peek().text == "-"
            self._next += 1
        value = self._power()
        return rational.negate(value) if negative else value

    def _power(self) -> Value:
        base = self._postfix()
        if self._peek().text != "^":
            return base
        self._next += 1
        with _Deeper(self):
            return rational.power(base, self._signed())

    def _postfix(self) -> Value:
        value = self._operand()
        while True:
            if self._peek().text == "!":
                value = rational.factorial_of(value)
            elif self._peek().text == "%" and not self._operand_at(1):
                value = rational.percent(value)
            else:
                return value
            self._next += 1

    def _operand_at(self, ahead: int) -> bool:
        token = self._peek(ahead)
        return token.kind in ("number", "function") or token.text == "("

    def _operand(self) -> Value:
        token = self._peek()
        if token.value is not None:
            self._next += 1
            return token.value
        if token.kind == "function":
            self._next += 1
            if self._peek().text != "(" and token.text != "sqrt":
                raise ServersError(
                    "bad_input", f"put what {token.text} is of in parentheses: {token.text}(2)"
                )
            with _Deeper(self):
                return _FUNCTIONS[token.text](self._operand())
        if token.text == "(":
            return self._bracketed()
        raise self._unexpected()

    def _bracketed(self) -> Value:
        self._next += 1
        with _Deeper(self):
            value = self._sum(1)
        if self._peek().text != ")":
            raise self._unexpected() if self._peek().kind != "end" else _unclosed()
        self._next += 1
        return value

    def _unexpected(self) -> ServersError:
        token = self._peek()
        if token.kind == "end":
            return ServersError(
                "bad_input", "the expression stops too early: something is missing at its end"
            )
        before = self._tokens[self._next - 1].written if self._next else ""
        if self._operand_at(0) and before:
            return ServersError("bad_input", f"put an operator between {before!r} and {token.written!r}")
        where = f"after {before!r}" if before else "at the start"
        return ServersError("bad_input", f"{token.written!r} does not fit {where}: check the expression")


class _Deeper:
    """Counts nesting, so that the parser's own recursion stays far from Python's limit."""

    def __init__(self, parser: _Parser) -> None:
        self._parser = parser

    def __enter__(self) -> None:
        self._parser._depth += 1
        if self._parser._depth > MAX_DEPTH:
            raise ServersError("too_large", f"nested more than {MAX_DEPTH} deep: split the expression")

    def __exit__(self, *_: object) -> None:
        self._parser._depth -= 1


def _unclosed() -> ServersError:
    return ServersError("bad_input", "a parenthesis is not closed: add ')'")


def _worded(value: Value) -> Result:
    about = rational.rounded_text(value.number)
    plain = rational.exact_text(value.number)
    if not value.exact:
        return Result(text=f"about {about}", result=about, decimal=about, exact=False)
    if plain is not None:
        return Result(text=plain, result=plain, decimal=plain, exact=True)
    ratio = f"{value.number.numerator}/{value.number.denominator}"
    return Result(text=f"{ratio} (about {about})", result=ratio, decimal=about, exact=True)
