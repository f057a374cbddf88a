"""The units: what each measures, what it is called, and how large it is.

Sizes are exact, from the definitions of the SI, of the international yard and pound (1959) and of NIST SP 811.
US customary measures carry the plain name, imperial ones say so. Years and months are left out: they differ in
length, and a conversion that is right on average is wrong on every day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit of a dimension: `size` in the dimension's first unit, `zero` where its scale begins there."""

    dimension: str
    singular: str
    plural: str
    size: Fraction
    zero: Fraction = Fraction(0)
    symbols: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


# dimension: lines of "singular | plural | size | symbols | other names", the lists apart by commas
_LINES: Final = {
    "length": """
        meter | meters | 1 | m | metre, metres
        kilometer | kilometers | 1000 | km, kms | kilometre, kilometres
        centimeter | centimeters | 0.01 | cm | centimetre, centimetres
        millimeter | millimeters | 0.001 | mm | millimetre, millimetres
        micrometer | micrometers | 0.000001 | µm, um | micrometre, micrometres, micron, microns
        nanometer | nanometers | 0.000000001 | nm | nanometre, nanometres
        inch | inches | 0.0254 | in, " |
        foot | feet | 0.3048 | ft, ' |
        yard | yards | 0.9144 | yd, yds |
        mile | miles | 1609.344 | mi | statute mile, statute miles
        nautical mile | nautical miles | 1852 | nmi |
        light-year | light-years | 9460730472580800 | ly | light year, light years
    """,
    "mass": """
        kilogram | kilograms | 1 | kg, kgs | kilogramme, kilogrammes, kilo, kilos
        gram | grams | 0.001 | g | gramme, grammes
        milligram | milligrams | 0.000001 | mg | milligramme, milligrammes
        microgram | micrograms | 0.000000001 | µg, ug, mcg | microgramme, microgrammes
        metric ton | metric tons | 1000 | t | tonne, tonnes, metric tonne, metric tonnes
        ounce | ounces | 0.028349523125 | oz |
        pound | pounds | 0.45359237 | lb, lbs | pound mass
        stone | stone | 6.35029318 | st | stones
        ton | tons | 907.18474 | | short ton, short tons, us ton, us tons
        long ton | long tons | 1016.0469088 | | imperial ton, imperial tons
        carat | carats | 0.0002 | ct |
    """,
    "volume": """
        liter | liters | 1 | L, l | litre, litres
        milliliter | milliliters | 0.001 | mL, ml | millilitre, millilitres
        centiliter | centiliters | 0.01 | cL, cl | centilitre, centilitres
        deciliter | deciliters | 0.1 | dL, dl | decilitre, decilitres
        cubic meter | cubic meters | 1000 | m3, m³, m^3 | cubic metre, cubic metres
        cubic centimeter | cubic centimeters | 0.001 | cm3, cm³, cm^3, cc | cubic centimetre, cubic centimetres
        gallon | gallons | 3.785411784 | gal | us gallon, us gallons
        quart | quarts | 0.946352946 | qt | us quart, us quarts
        pint | pints | 0.473176473 | pt | us pint, us pints
        cup | cups | 0.2365882365 | | us cup, us cups
        fluid ounce | fluid ounces | 0.0295735295625 | fl oz, floz | us fluid ounce, us fluid ounces
        tablespoon | tablespoons | 0.01478676478125 | tbsp |
        teaspoon | teaspoons | 0.00492892159375 | tsp |
        imperial gallon | imperial gallons | 4.54609 | | uk gallon, uk gallons
        imperial pint | imperial pints | 0.56826125 | | uk pint, uk pints
        imperial fluid ounce | imperial fluid ounces | 0.0284130625 | | uk fluid ounce, uk fluid ounces
        cubic inch | cubic inches | 0.016387064 | in3, in³, in^3 |
        cubic foot | cubic feet | 28.316846592 | ft3, ft³, ft^3 |
    """,
    "time": """
        second | seconds | 1 | s, sec, secs |
        millisecond | milliseconds | 0.001 | ms |
        microsecond | microseconds | 0.000001 | µs, us |
        nanosecond | nanoseconds | 0.000000001 | ns |
        minute | minutes | 60 | min, mins |
        hour | hours | 3600 | h, hr, hrs |
        day | days | 86400 | d |
        week | weeks | 604800 | wk, wks |
        fortnight | fortnights | 1209600 | |
    """,
    "speed": """
        meter per second | meters per second | 1 | m/s, mps | metre per second, metres per second
        kilometer per hour | kilometers per hour | 5/18 | km/h, kph, kmh, km/hr | kilometre per hour, kilometres per hour
        mile per hour | miles per hour | 0.44704 | mph, mi/h |
        foot per second | feet per second | 0.3048 | ft/s, fps |
        knot | knots | 463/900 | kn, kt, kts | nautical mile per hour, nautical miles per hour
    """,
    "area": """
        square meter | square meters | 1 | m2, m², m^2, sqm | square metre, square metres
        square kilometer | square kilometers | 1000000 | km2, km², km^2 | square kilometre, square kilometres
        square centimeter | square centimeters | 0.0001 | cm2, cm², cm^2 | square centimetre, square centimetres
        square millimeter | square millimeters | 0.000001 | mm2, mm², mm^2 | square millimetre, square millimetres
        hectare | hectares | 10000 | ha |
        acre | acres | 4046.8564224 | ac |
        square inch | square inches | 0.00064516 | in2, in², in^2, sq in |
        square foot | square feet | 0.09290304 | ft2, ft², ft^2, sq ft, sqft |
        square yard | square yards | 0.83612736 | yd2, yd², yd^2, sq yd |
        square mile | square miles | 2589988.110336 | mi2, mi², mi^2, sq mi |
    """,
    "data": """
        byte | bytes | 1 | B |
        bit | bits | 0.125 | b |
        kilobyte | kilobytes | 1000 | kB, KB |
        megabyte | megabytes | 1000000 | MB |
        gigabyte | gigabytes | 1000000000 | GB |
        terabyte | terabytes | 1000000000000 | TB |
        petabyte | petabytes | 1000000000000000 | PB |
        kibibyte | kibibytes | 1024 | KiB |
        mebibyte | mebibytes | 1048576 | MiB |
        gibibyte | gibibytes | 1073741824 | GiB |
        tebibyte | tebibytes | 1099511627776 | TiB |
        kilobit | kilobits | 125 | kb, kbit, Kb |
        megabit | megabits | 125000 | Mb, Mbit |
        gigabit | gigabits | 125000000 | Gb, Gbit |
    """,
    "energy": """
        joule | joules | 1 | J |
        kilojoule | kilojoules | 1000 | kJ |
        megajoule | megajoules | 1000000 | MJ |
        calorie | calories | 4.184 | cal | small calorie, small calories
        kilocalorie | kilocalories | 4184 | kcal | food calorie, food calories
        watt hour | watt hours | 3600 | Wh | watt-hour, watt-hours
        kilowatt hour | kilowatt hours | 3600000 | kWh | kilowatt-hour, kilowatt-hours
        british thermal unit | british thermal units | 1055.05585262 | BTU, btus |
    """,
    "power": """
        watt | watts | 1 | W |
        milliwatt | milliwatts | 0.001 | mW |
        kilowatt | kilowatts | 1000 | kW |
        megawatt | megawatts | 1000000 | MW |
        horsepower | horsepower | 745.69987158227022 | hp | mechanical horsepower
    """,
    "pressure": """
        pascal | pascals | 1 | Pa |
        hectopascal | hectopascals | 100 | hPa |
        kilopascal | kilopascals | 1000 | kPa |
        megapascal | megapascals | 1000000 | MPa |
        bar | bars | 100000 | |
        millibar | millibars | 100 | mbar |
        atmosphere | atmospheres | 101325 | atm | standard atmosphere, standard atmospheres
        pound per square inch | pounds per square inch | 8896443230521/1290320000 | psi |
        millimeter of mercury | millimeters of mercury | 133.322387415 | mmHg | millimetre of mercury, millimetres of mercury
        torr | torr | 20265/152 | |
    """,
}

_TEMPERATURES: Final = (
    Unit(
        dimension="temperature", singular="kelvin", plural="kelvins", size=Fraction(1), symbols=("K",),
        names=("degree kelvin", "degrees kelvin"),
    ),
    Unit(
        dimension="temperature", singular="degree Celsius", plural="degrees Celsius", size=Fraction(1),
        zero=Fraction(27315, 100), symbols=("°C", "ºC", "C", "deg C"),
        names=("celsius", "centigrade", "degree centigrade", "degrees centigrade", "degree c", "degrees c"),
    ),
    Unit(
        dimension="temperature", singular="degree Fahrenheit", plural="degrees Fahrenheit", size=Fraction(5, 9),
        zero=Fraction(45967, 180), symbols=("°F", "ºF", "F", "deg F"),
        names=("fahrenheit", "degree f", "degrees f"),
    ),
)  # fmt: skip


def units() -> tuple[Unit, ...]:
    """Every unit, by dimension, the dimension's first unit first."""
    return _UNITS


def _read_lines() -> Iterator[Unit]:
    for dimension, lines in _LINES.items():
        for line in lines.strip().splitlines():
            singular, plural, size, symbols, names = (part.strip() for part in line.split("|"))
            yield Unit(
                dimension=dimension,
                singular=singular,
                plural=plural,
                size=Fraction(size),
                symbols=_apart(symbols),
                names=_apart(names),
            )
    yield from _TEMPERATURES


def _apart(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


_UNITS: Final = tuple(_read_lines())
