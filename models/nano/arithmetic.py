"""What the calculator answers, for the results that training conversations carry."""

from __future__ import annotations

import re
from fractions import Fraction
from math import isqrt, sqrt

_NUMBER = re.compile(r"(?<![\w.])(\d+\.?\d*|\.\d+)")


class NoResult(Exception):
    """The expression has no result short enough to say."""


def _root(value: Fraction) -> Fraction:
    root = Fraction(isqrt(max(0, value.numerator)), isqrt(value.denominator))
    if root * root != value:
        raise NoResult("the root is not exact")
    return root


def value(expression: str) -> Fraction:
    """The exact value of an expression of this recipe's own making; `NoResult` where there is none."""
    if any(int(digits) > 30 for digits in re.findall(r"(?:\*\*|\^) ?\(?(\d+)", expression)):
        raise NoResult("too large")
    text = expression.replace("^", "**").replace(" mod ", " % ")
    text = _NUMBER.sub(r"F('\1')", text)
    text = re.sub(r"(F\('[^']*'\)) ?% of", r"\1 / 100 *", text)
    try:
        found = eval(text, {"__builtins__": {}}, {"F": Fraction, "sqrt": _root})
    except (ZeroDivisionError, OverflowError, TypeError, SyntaxError) as problem:
        raise NoResult(str(problem)) from problem
    if not isinstance(found, Fraction):
        raise NoResult("not a rational")
    return found


def result_text(expression: str) -> str:
    """The calculator's text for `expression`: a decimal, or a fraction with its decimal where that does not end."""
    if re.fullmatch(r"sqrt\(\d+\)", expression) and isqrt(int(expression[5:-1])) ** 2 != int(
        expression[5:-1]
    ):
        return f"about {_rounded(sqrt(int(expression[5:-1])))}"
    found = value(expression)
    rest = found.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest == 1:
        text = str(found.numerator) if found.denominator == 1 else _decimal(found)
    else:
        text = f"{found.numerator}/{found.denominator} (about {_rounded(float(found))})"
    if len(text) > 44:
        raise NoResult("too long to say")
    return text


def _rounded(number: float) -> str:
    return f"{number:.6f}".rstrip("0").rstrip(".")


def _decimal(found: Fraction) -> str:
    places = 0
    while (found * 10**places).denominator != 1:
        places += 1
        if places > 15:
            raise NoResult("too long to say")
    digits = str(abs((found * 10**places).numerator)).rjust(places + 1, "0")
    return ("-" if found < 0 else "") + digits[:-places] + "." + digits[-places:]
