"""Rational numbers that stay small enough to be worth writing down.

A `Value` is exact, or, once a root was taken that does not come out even, an approximation carried to 60
significant digits. Every operation raises `ServersError` before it would compute a number of more than
1,000 digits; nothing here takes more than a few milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, factorial, floor, isqrt, log10
from typing import Final, NoReturn

from agentmesh_servers.errors import ServersError

MAX_DIGITS: Final = 1_000
MAX_PLAIN_DECIMALS: Final = 30
_MAX_BITS: Final = int(MAX_DIGITS / log10(2)) + 1
_MAX_FACTORIAL: Final = 449  # 450! has more than MAX_DIGITS digits
_CARRIED_DIGITS: Final = 60
_TRUSTED_DIGITS: Final = 50  # of those carried, what many roundings leave right
_SHOWN_DECIMALS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A number, and whether it is the number or only close to it."""

    number: Fraction
    exact: bool = True


def add(left: Value, right: Value) -> Value:
    return _settle(left.number + right.number, exact=left.exact and right.exact)


def subtract(left: Value, right: Value) -> Value:
    return _settle(left.number - right.number, exact=left.exact and right.exact)


def multiply(left: Value, right: Value) -> Value:
    return _settle(left.number * right.number, exact=left.exact and right.exact)


def divide(left: Value, right: Value) -> Value:
    _refuse_zero(right)
    return _settle(left.number / right.number, exact=left.exact and right.exact)


def floor_divide(left: Value, right: Value) -> Value:
    _refuse_zero(right)
    exact = left.exact and right.exact
    return _settle(Fraction(floor(_near_whole(left.number / right.number, exact=exact))), exact=exact)


def modulo(left: Value, right: Value) -> Value:
    _refuse_zero(right)
    exact = left.exact and right.exact
    quotient = _near_whole(left.number / right.number, exact=exact)
    return _settle((quotient - floor(quotient)) * right.number, exact=exact)


def negate(value: Value) -> Value:
    return Value(number=-value.number, exact=value.exact)


def percent(value: Value) -> Value:
    return _settle(value.number / 100, exact=value.exact)


def power(left: Value, right: Value) -> Value:
    """`left` to the power of `right`, which must be whole or one half."""
    if right.number == Fraction(1, 2):
        return square_root(left)
    if right.number.denominator != 1:
        raise ServersError("undefined", "only whole exponents are exact: use sqrt() for a power of 0.5")
    exponent = right.number.numerator
    base = left.number
    if base == 0 and exponent < 0:
        _refuse_zero(left)
    if base in (0, 1, -1):
        return Value(number=base ** (exponent % 2 if base == -1 else min(abs(exponent), 1)), exact=left.exact)
    if not left.exact:
        return _power_of_approximation(left, exponent)
    widest = max(base.numerator.bit_length(), base.denominator.bit_length())
    if (widest - 1) * abs(exponent) > _MAX_BITS:
        _too_large()
    return _settle(base**exponent, exact=True)


def square_root(value: Value) -> Value:
    """The square root: exact where numerator and denominator are squares, else to 60 digits."""
    number = value.number
    if number < 0:
        raise ServersError("undefined", "a negative number has no real square root: check the sign")
    top, bottom = isqrt(number.numerator), isqrt(number.denominator)
    if top * top == number.numerator and bottom * bottom == number.denominator:
        return Value(number=Fraction(top, bottom), exact=value.exact)
    shift = max(0, _CARRIED_DIGITS + _digits(number.denominator) - _digits(number.numerator) // 2)
    root = isqrt(number.numerator * 10 ** (2 * shift) // number.denominator)
    return _settle(Fraction(root, 10**shift), exact=False)


def factorial_of(value: Value) -> Value:
    number = value.number
    if number.denominator != 1 or number < 0:
        raise ServersError("undefined", "a factorial needs a whole number that is not negative, such as 5!")
    if number > _MAX_FACTORIAL:
        _too_large()
    return Value(number=Fraction(factorial(number.numerator)), exact=value.exact)


def absolute(value: Value) -> Value:
    return Value(number=abs(value.number), exact=value.exact)


def round_down(value: Value) -> Value:
    return Value(number=Fraction(floor(_near_whole(value.number, exact=value.exact))), exact=value.exact)


def round_up(value: Value) -> Value:
    return Value(number=Fraction(ceil(_near_whole(value.number, exact=value.exact))), exact=value.exact)


def round_half_away(value: Value) -> Value:
    """Rounds to the nearest whole number, halves away from zero as taught in school."""
    halves = _near_whole(2 * abs(value.number), exact=value.exact)
    whole = Fraction(floor((halves + 1) / 2))
    return Value(number=whole if value.number >= 0 else -whole, exact=value.exact)


def literal(whole: str, decimals: str, exponent: str) -> Value:
    """The number written `whole.decimals` times ten to the `exponent`, any of them possibly empty."""
    scale = int(exponent or "0") - len(decimals) if len(exponent) <= 5 else MAX_DIGITS + 1
    if abs(scale) > MAX_DIGITS:
        _too_large()
    mantissa = int(whole + decimals)
    number = Fraction(mantissa * 10**scale) if scale >= 0 else Fraction(mantissa, 10**-scale)
    return _settle(number, exact=True)


def exact_text(number: Fraction) -> str | None:
    """The number as a decimal that ends within 30 places, or None when there is none."""
    places = _decimal_places(number.denominator)
    if places is None or places > MAX_PLAIN_DECIMALS:
        return None
    scaled = abs(number.numerator) * 10**places // number.denominator
    digits = str(scaled).rjust(places + 1, "0")
    whole, decimals = (digits[:-places], digits[-places:]) if places else (digits, "")
    sign = "-" if number < 0 else ""
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def rounded_text(number: Fraction) -> str:
    """The number to six decimals; to six significant digits when it is tiny or huge."""
    size = abs(number)
    sign = "-" if number < 0 else ""
    if size == 0 or Fraction(1, 1_000) <= size < 10**21:
        scaled = floor(size * 10**_SHOWN_DECIMALS + Fraction(1, 2))
        digits = str(scaled).rjust(_SHOWN_DECIMALS + 1, "0")
        return f"{sign}{digits[:-_SHOWN_DECIMALS]}.{digits[-_SHOWN_DECIMALS:]}"
    exponent = _digits(size.numerator) - _digits(size.denominator)
    exponent -= size < Fraction(10) ** exponent
    scaled = floor(size / Fraction(10) ** (exponent - _SHOWN_DECIMALS) + Fraction(1, 2))
    if scaled >= 10 ** (_SHOWN_DECIMALS + 1):
        scaled, exponent = scaled // 10, exponent + 1
    digits = str(scaled)
    return f"{sign}{digits[0]}.{digits[1:]}e{exponent:+d}"


def _power_of_approximation(base: Value, exponent: int) -> Value:
    """Squares and multiplies, so that each step is rounded before the next can grow."""
    if abs(exponent) >= 1 << 64:
        _too_large()
    product, square = Value(number=Fraction(1), exact=False), base
    for bit in reversed(bin(abs(exponent))[2:]):
        if bit == "1":
            product = multiply(product, square)
        square = multiply(square, square)
    return product if exponent >= 0 else divide(Value(number=Fraction(1)), product)


def _settle(number: Fraction, *, exact: bool) -> Value:
    if not exact:
        number = _carried(number)
    if max(number.numerator.bit_length(), number.denominator.bit_length()) > _MAX_BITS:
        _too_large()
    return Value(number=number, exact=exact)


def _near_whole(number: Fraction, *, exact: bool) -> Fraction:
    """`number`, or the whole number that an approximation cannot be told from: sqrt(5)^2 is 5, and its floor is not 4."""
    whole = Fraction(round(number))
    near = not exact and abs(number - whole) <= max(abs(number), Fraction(1)) / 10**_TRUSTED_DIGITS
    return whole if near else number


def _carried(number: Fraction) -> Fraction:
    if number == 0:
        return number
    place = _CARRIED_DIGITS - (_digits(abs(number.numerator)) - _digits(number.denominator))
    scale = Fraction(10) ** place
    return Fraction(round(number * scale)) / scale


def _digits(number: int) -> int:
    return len(str(number))


def _decimal_places(denominator: int) -> int | None:
    """How many decimals a fraction of that denominator has; None when it does not end."""
    twos = (denominator & -denominator).bit_length() - 1
    rest, fives = denominator >> twos, 0
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    return max(twos, fives) if rest == 1 else None


def _refuse_zero(value: Value) -> None:
    if value.number == 0:
        raise ServersError(
            "undefined", "division by zero: change the expression so that it divides by something else"
        )


def _too_large() -> NoReturn:
    raise ServersError("too_large", f"the numbers grow beyond {MAX_DIGITS:,} digits: use smaller ones")
