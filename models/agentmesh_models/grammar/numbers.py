"""Numbers between bounds, as digits."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from math import ceil, floor
from typing import Final

from agentmesh_models.grammar.expression import (
    DIGIT,
    NEVER,
    Chars,
    Node,
    Repeat,
    Text,
    alt,
    chars,
    optional,
    seq,
)

MOST: Final = 10**18 - 1
"""Integers are written no longer than this where their schema sets no bound."""
_FAR: Final = 10**60  # beyond, no number is worth writing
MAX_LISTED: Final = 256
_FRACTION_BELOW: Final = 10**9  # beyond, six digits of a fraction can round up to the next integer
_SIGN: Final = optional("-")
_WHOLE: Final = alt(["0", seq(chars("1-9"), Repeat(DIGIT, 0, 14))])
_FRACTION: Final = seq(Repeat(DIGIT, 0, 5), chars("1-9"))  # never zero: it lies between two integers

ANY_INTEGER: Final = seq(_SIGN, _WHOLE)
ANY_NUMBER: Final = seq(
    _SIGN,
    _WHOLE,
    optional(seq(".", Repeat(DIGIT, 1, 15))),
    optional(seq(chars("eE"), optional(chars("-+")), Repeat(DIGIT, 1, 2))),
)


def integers(low: int | None, high: int | None) -> Node:
    """Every integer from `low` to `high`."""
    if low is None and high is None:
        return ANY_INTEGER
    if (low is not None and low > _FAR) or (high is not None and high < -_FAR):
        return NEVER
    if high is not None and high > MOST and (low is None or low <= MOST):
        high = MOST  # what is longer is allowed, but never written
    if low is not None and low < -MOST and (high is None or high >= -MOST):
        low = -MOST
    least = -MOST if low is None else low
    most = max(MOST, least + MOST) if high is None else high
    least = min(least, most - MOST) if low is None else least
    options: list[Node | str] = []
    if least < 0:
        options.append(seq("-", _naturals(max(1, -most), -least)))
    if most >= 0:
        options.append(_naturals(max(0, least), most))
    return alt(options)


def multiples(step: int, low: int | None, high: int | None, rule: Callable[[Node], Node]) -> Node:
    """Multiples of `step` from `low` to `high`; of a long or an open list the beginning only, if it has bounds.

    `rule` makes a rule of a node that stands in several places.
    """
    if low is None and high is None and step <= 64:
        return seq(_SIGN, _divisible(step, rule))
    if low is None and high is None:
        low = 0
    if low is None:
        high = 0 if high is None else high
        first = high // step * step
        values = range(first, first - MAX_LISTED * step, -step)
    else:
        first = -(-low // step) * step
        last = first + (MAX_LISTED - 1) * step
        values = range(first, (last if high is None else min(high, last)) + 1, step)
    return alt([str(value) for value in values])


def decimals(low: Decimal | None, high: Decimal | None, *, above: bool, below: bool) -> Node:
    """Decimal numbers from `low` to `high`; `above` and `below` say that the bound itself is not among them."""
    options: list[Node | str] = []
    if (low is not None and low > _FAR) or (high is not None and high < -_FAR):
        return NEVER
    if high is not None and high > MOST and (low is None or low <= MOST):
        high, below = None, False
    if low is not None and low < -MOST and (high is None or high >= -MOST):
        low, above = None, False
    if high is None or high >= 0:
        start = low is None or low < 0
        options.append(
            _positive(Decimal(0) if low is None or start else low, high, above and not start, below)
        )
    if low is None or low < 0:
        end = high is None or high > 0
        least = Decimal(0) if high is None or end else -high
        most = None if low is None else -low
        options.append(seq("-", _positive(least, most, (below and not end) or least == 0, above)))
    return alt(options)


def shortened(places: int) -> Node:
    """Any number with at most `places` digits behind the point."""
    return seq(_SIGN, _WHOLE, optional(seq(".", Repeat(DIGIT, 1, places))))


def _positive(low: Decimal, high: Decimal | None, above: bool, below: bool) -> Node:
    options: list[Node | str] = []
    ceiling = Decimal(MOST) if high is None else high
    first, last = ceil(low), floor(ceiling)
    whole_low, whole_high = first + (above and first == low), last - (below and last == ceiling)
    if whole_low <= whole_high:
        options.append(_naturals(whole_low, whole_high))
    inner = min(last - 1, _FRACTION_BELOW)
    if first <= inner:
        options.append(seq(_naturals(first, inner), ".", _FRACTION))
    return alt([*options, *_edges(low, ceiling, above, below)])


def _edges(low: Decimal, high: Decimal, above: bool, below: bool) -> list[Node | str]:
    """The numbers that share their whole part with a bound that is no integer."""
    places = max(_places(low), _places(high), 2)
    scale = 10**places
    if places > 12 or low >= _FRACTION_BELOW:
        return []
    start, end = int(low * scale) + above, int(min(high, Decimal(_FRACTION_BELOW)) * scale) - below
    if start > end:
        return []
    (one, least), (two, most) = divmod(start, scale), divmod(end, scale)
    if one == two:
        return [seq(f"{one}.", _padded(least, most, places))]
    out: list[Node | str] = []
    if low != int(low):
        out.append(seq(f"{one}.", _padded(least, scale - 1, places)))
    if high != int(high) and high < _FRACTION_BELOW:
        out.append(seq(f"{two}.", _padded(0, most, places)))
    return out


def _places(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _naturals(low: int, high: int) -> Node:
    """Integers from `low` (0 or more) to `high`, without leading zeros."""
    if low > high:
        return NEVER
    options: list[Node | str] = []
    for width in range(len(str(low)), len(str(high)) + 1):
        least = max(low, 10 ** (width - 1) if width > 1 else 0)
        options.append(_between(str(least), str(min(high, 10**width - 1))))
    return alt(options)


def _padded(low: int, high: int, width: int) -> Node:
    return _between(f"{low:0{width}d}", f"{high:0{width}d}")


def _between(low: str, high: str) -> Node:
    """Digits from `low` to `high`, which are of one length."""
    rest = len(low) - 1
    if low == high:
        return Text(low)
    if rest == 0:
        return Chars(((ord(low), ord(high)),))
    if low[0] == high[0]:
        return seq(low[0], _between(low[1:], high[1:]))
    options: list[Node | str] = []
    first, last = int(low[0]), int(high[0])
    if low[1:] != "0" * rest:
        options.append(seq(low[0], _between(low[1:], "9" * rest)))
        first += 1
    if high[1:] != "9" * rest:
        options.append(seq(high[0], _between("0" * rest, high[1:])))
        last -= 1
    if first <= last:
        options.append(seq(Chars(((48 + first, 48 + last),)), Repeat(DIGIT, rest, rest)))
    return alt(options)


def _divisible(step: int, rule: Callable[[Node], Node]) -> Node:
    """Multiples of a small number, up to some length: what is left over after each digit decides the next."""
    known: dict[tuple[int, int], Node] = {}

    def after(left: int, digits: int) -> Node:
        if (left, digits) not in known:
            options: list[Node | str] = [Text("")] if left == 0 else []
            if digits:
                by_rest: dict[int, list[tuple[int, int]]] = {}
                for digit in range(10):
                    by_rest.setdefault((left * 10 + digit) % step, []).append((48 + digit, 48 + digit))
                options += [
                    seq(Chars(tuple(each)), after(rest, digits - 1)) for rest, each in by_rest.items()
                ]
            known[left, digits] = rule(alt(options))
        return known[left, digits]

    return alt(["0", *(seq(str(digit), after(digit % step, 5)) for digit in range(1, 10))])
