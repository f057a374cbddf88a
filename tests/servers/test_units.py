from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh_servers import ServersError
from agentmesh_servers.units.conversion import convert, find_unit, number_text
from agentmesh_servers.units.table import units

_INCH = Fraction(254, 10_000)
_POUND = Fraction(45_359_237, 100_000_000)
_GRAVITY = Fraction(980_665, 100_000)


@pytest.mark.parametrize(
    ("value", "source", "target", "text"),
    [
        (10, "miles", "kilometers", "16.09344 kilometers"),
        (10, "mi", "km", "16.09344 kilometers"),
        (1, "Kilometre", "metres", "1000 meters"),
        (100, "C", "F", "212 degrees Fahrenheit"),
        (-40, "degrees celsius", "fahrenheit", "-40 degrees Fahrenheit"),
        (0, "°C", "K", "273.15 kelvins"),
        (98.6, "fahrenheit", "celsius", "37 degrees Celsius"),
        (0.1, "m", "cm", "10 centimeters"),
        (5, "feet", "inches", "60 inches"),
        (100, "km", "miles", "62.13711922 miles"),
        (1, "gallon", "litres", "3.785411784 liters"),
        (60, "mph", "km/h", "96.56064 kilometers per hour"),
        (2, "hours", "minutes", "120 minutes"),
        (1, "MB", "KiB", "976.5625 kibibytes"),
        (8, "Mb", "MB", "1 megabytes"),
        (1, "kWh", "MJ", "3.6 megajoules"),
        (1, "torr", "mmHg", "0.9999998575 millimeters of mercury"),
        (1, "bar", "psi", "14.50377377 pounds per square inch"),
        (12345678901234, "m", "cm", "1234567890123400 centimeters"),
        (1e300, "m", "km", "1e+297 kilometers"),
        (1, "nm", "light-years", "1.057000834e-25 light-years"),
        (-5, "kg", "g", "-5000 grams"),
        (0, "kg", "g", "0 grams"),
    ],
)
def test_a_value_is_converted(value: float, source: str, target: str, text: str) -> None:
    assert convert(value, source, target).text == text


@pytest.mark.parametrize(
    ("value", "source", "target", "reason", "words"),
    [
        (1, "kilograms", "meters", "bad_input", ("measure mass", "measure length", "grams")),
        (1, "smoot", "meters", "not_found", ("'smoot'",)),
        (1, "kilmeters", "m", "not_found", ("did you mean kilometers",)),
        (1, "mb", "kB", "bad_input", ("megabytes (MB)", "megabits (Mb)")),
        (1, "years", "days", "not_found", ("no fixed length",)),
        (-300, "C", "F", "bad_input", ("absolute zero",)),
        (float("nan"), "m", "cm", "bad_input", ("finite",)),
        (float("inf"), "m", "cm", "bad_input", ("finite",)),
        (1, "x" * 5_000, "m", "not_found", ("...",)),
        (1, "", "m", "not_found", ("''",)),
    ],
)
def test_a_mistake_is_answered_with_advice(
    value: float, source: str, target: str, reason: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(ServersError) as caught:
        convert(value, source, target)
    assert caught.value.reason == reason
    assert all(word in caught.value.message for word in words)
    assert len(caught.value.message) < 250


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mile", 5280 * 12 * _INCH),
        ("yard", 36 * _INCH),
        ("nautical mile", Fraction(1852)),
        ("light-year", Fraction(299_792_458 * 31_557_600)),
        ("ounce", _POUND / 16),
        ("stone", 14 * _POUND),
        ("ton", 2000 * _POUND),
        ("long ton", 2240 * _POUND),
        ("gallon", 231 * _INCH**3 * 1000),
        ("fluid ounce", 231 * _INCH**3 * 1000 / 128),
        ("teaspoon", 231 * _INCH**3 * 1000 / 768),
        ("cubic inch", _INCH**3 * 1000),
        ("cubic foot", (12 * _INCH) ** 3 * 1000),
        ("imperial gallon", Fraction("4.54609")),
        ("mile per hour", 5280 * 12 * _INCH / 3600),
        ("knot", Fraction(1852, 3600)),
        ("acre", 43_560 * (12 * _INCH) ** 2),
        ("square mile", (5280 * 12 * _INCH) ** 2),
        ("square yard", (36 * _INCH) ** 2),
        ("horsepower", 550 * 12 * _INCH * _POUND * _GRAVITY),
        ("pound per square inch", _POUND * _GRAVITY / _INCH**2),
        ("torr", Fraction(101_325, 760)),
        ("british thermal unit", Fraction("1055.05585262")),
    ],
)
def test_a_size_follows_from_its_definition(name: str, size: Fraction) -> None:
    assert find_unit(name).size == size


def test_every_unit_is_found_by_each_of_its_names() -> None:
    for unit in units():
        for name in (unit.singular, unit.plural, *unit.symbols, *unit.names):
            assert find_unit(name) == unit, name


def test_no_name_but_bits_and_bytes_is_ambiguous_without_its_case() -> None:
    ambiguous: set[str] = set()
    for unit in units():
        for name in (unit.singular, unit.plural, *unit.symbols, *unit.names):
            try:
                find_unit(name.lower() + " ")
            except ServersError:
                ambiguous.add(name.lower())
    assert ambiguous <= {"kb", "mb", "gb", "mw"}


@settings(deadline=None)
@given(
    st.floats(allow_nan=False, allow_infinity=False, min_value=0, max_value=1e15),
    st.sampled_from(units()),
    st.data(),
)
def test_there_and_back_is_the_same_value(value: float, unit: object, data: st.DataObject) -> None:
    source = find_unit(unit.plural)  # type: ignore[attr-defined]  # a Unit, whose class is not public
    target = data.draw(st.sampled_from([other for other in units() if other.dimension == source.dimension]))
    there = convert(value, source.plural, target.plural)
    if not there.exact:
        return
    given_value = Fraction(repr(value))
    expected = (given_value * source.size + source.zero - target.zero) / target.size
    assert Fraction(there.result) == expected


@settings(deadline=None)
@given(st.fractions(), st.integers(1, 20))
def test_a_wording_is_within_half_a_unit_of_its_last_digit(number: Fraction, significant: int) -> None:
    text, exact = number_text(number, significant=significant)
    assert (Fraction(text) == number) is exact
    assert abs(Fraction(text) - number) <= abs(number) * Fraction(1, 2 * 10 ** (significant - 1))
