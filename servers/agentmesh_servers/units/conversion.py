"""Conversion between units, in exact rational arithmetic; only the wording of a result is rounded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from functools import cache
from math import isfinite
from typing import Final

from agentmesh_servers.errors import ServersError
from agentmesh_servers.units.table import Unit, units

SIGNIFICANT: Final = 10
_PLAIN_RANGE: Final = (Fraction(1, 10**12), Fraction(10) ** 21)


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A value in another unit; `exact` says whether `result` is all of it."""

    text: str
    result: str
    unit: str
    value: str
    from_unit: str
    exact: bool


def convert(value: float, from_unit: str, to_unit: str) -> Converted:
    """The value in the other unit.

    A float is taken for the shortest decimal that names it, so that 0.1 means one tenth.

    Raises:
        ServersError: `bad_input` for units of two dimensions, a value that is not finite or below absolute zero;
            `not_found` for an unknown unit, with the nearest ones.
    """
    if not isfinite(value):
        raise ServersError("bad_input", "the value must be a finite number")
    source, target = find_unit(from_unit), find_unit(to_unit)
    if source.dimension != target.dimension:
        raise ServersError(
            "bad_input",
            f"{source.plural} measure {source.dimension} and {target.plural} measure {target.dimension}: "
            f"convert to a unit of {source.dimension}, such as {_examples(source)}",
        )
    given = Fraction(repr(value))
    basic = given * source.size + source.zero
    if source.dimension == "temperature" and basic < 0:
        raise ServersError(
            "bad_input", f"{number_text(given)[0]} {source.plural} is below absolute zero: check the value"
        )
    result, exact = number_text((basic - target.zero) / target.size)
    return Converted(
        text=f"{result} {target.plural}",
        result=result,
        unit=target.plural,
        value=number_text(given, significant=17)[0],
        from_unit=source.plural,
        exact=exact,
    )


def find_unit(name: str) -> Unit:
    """The unit of that name, plural, spelling or symbol.

    A symbol is first looked for as it is written, since MB and Mb differ; only then without regard to case.
    """
    written = " ".join(name.split())
    exactly = _by_symbol().get(written)
    if exactly is not None:
        return exactly
    candidates = _by_folded().get(_folded(written), ())
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        choice = " or ".join(f"{unit.plural} ({unit.symbols[0]})" for unit in candidates)
        raise ServersError("bad_input", f"{written!r} is ambiguous: write {choice}")
    raise ServersError("not_found", _advice(written))


def number_text(number: Fraction, *, significant: int = SIGNIFICANT) -> tuple[str, bool]:
    """The number as a decimal of at most that many significant digits, and whether that is all of it.

    Digits before the decimal point are never rounded away, and zeros at the end are left out.
    """
    if number == 0:
        return "0", True
    size = abs(number)
    exponent = _magnitude(size)
    places = max(0, significant - 1 - exponent)
    if not _PLAIN_RANGE[0] <= size < _PLAIN_RANGE[1]:
        return _scientific(number, exponent, significant)
    scaled = round(size * 10**places)
    digits = str(scaled).rjust(places + 1, "0")
    text = f"{digits[:-places]}.{digits[-places:]}".rstrip("0").rstrip(".") if places else digits
    return ("-" if number < 0 else "") + text, Fraction(text) == size


def _scientific(number: Fraction, exponent: int, significant: int) -> tuple[str, bool]:
    scaled = round(abs(number) / Fraction(10) ** (exponent - significant + 1))
    if scaled >= 10**significant:
        scaled, exponent = scaled // 10, exponent + 1
    digits = str(scaled)
    text = f"{digits[0]}.{digits[1:]}".rstrip("0").rstrip(".") + f"e{exponent:+d}"
    return ("-" if number < 0 else "") + text, Fraction(text) == abs(number)


def _magnitude(size: Fraction) -> int:
    """The power of ten that the first significant digit stands for."""
    guess = len(str(size.numerator)) - len(str(size.denominator))
    return guess if size >= Fraction(10) ** guess else guess - 1


@cache
def _by_symbol() -> dict[str, Unit]:
    return {symbol: unit for unit in units() for symbol in unit.symbols}


@cache
def _by_folded() -> dict[str, tuple[Unit, ...]]:
    table: dict[str, dict[str, Unit]] = {}
    for unit in units():
        for name in (unit.singular, unit.plural, *unit.symbols, *unit.names):
            table.setdefault(_folded(name), {})[unit.singular] = unit
    return {name: tuple(found.values()) for name, found in table.items()}


def _folded(name: str) -> str:
    return re.sub(r"[\s_.\-]+", " ", name.replace("μ", "µ")).strip().casefold()


def _examples(unit: Unit) -> str:
    return " or ".join(
        [other.plural for other in units() if other.dimension == unit.dimension and other != unit][:2]
    )


def _advice(name: str) -> str:
    shown = name if len(name) <= 40 else name[:37] + "..."
    if re.fullmatch(r"(year|month|yr|decade|centur)(s|y|ies)?", _folded(name)):
        return f"{shown!r} has no fixed length: convert days or weeks instead"
    near = get_close_matches(_folded(name)[:60], _by_folded(), n=3, cutoff=0.7)
    plurals = list(dict.fromkeys(unit.plural for match in near for unit in _by_folded()[match]))
    if plurals:
        return f"no unit is called {shown!r}: did you mean {' or '.join(plurals)}?"
    return f"no unit is called {shown!r}: give a name or symbol such as kilometers, lb or °F"
