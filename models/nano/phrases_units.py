"""Questions for the unit converter; numbers as JSON numbers, units as typed."""

from __future__ import annotations

from words import Source, capital, decimal, lines, whole

FORMS = lines("units_convert")
FAMILIES = [
    line.split(", ")
    for line in """meters, kilometers, miles, feet, inches, centimeters, yards, metres, kilometres, millimeters, centimetres, nautical miles
km, m, cm, mm, mi, ft, in, yd, miles, feet, inches, meters, kilometers, yards
kilograms, grams, pounds, ounces, tonnes, tons, stone, milligrams, stones
kg, g, lb, lbs, oz, mg, pounds, ounces, grams, kilograms, kilos
celsius, fahrenheit, kelvin
°C, fahrenheit, °F, celsius, Celsius, Fahrenheit, kelvin
F, celsius, C, fahrenheit, Celsius, Fahrenheit, K
kg, kilograms, pounds, lbs, stone, grams, ounces, lb, oz, tonnes
km, miles, kilometers, meters, m, feet, ft, inches, cm, yards, mi
ml, liters, cups, gallons, tablespoons, teaspoons, pints, litres, l
days, weeks, hours, minutes, seconds, years, months
Celsius, Fahrenheit, Kelvin
°C, °F, K
C, F
liters, gallons, milliliters, cups, pints, litres, quarts, tablespoons, teaspoons, fluid ounces, millilitres
l, ml, L, mL, gal, cups, pints, tbsp, tsp, liters, litres, gallons
seconds, minutes, hours, days, weeks, years, milliseconds
s, min, h, ms, seconds, minutes, hours, days
square meters, square feet, acres, hectares, square miles, square kilometers, square metres
m2, ft2, km2, acres, hectares
bytes, kilobytes, megabytes, gigabytes, terabytes, bits
KB, MB, GB, TB, kB, bytes
km/h, mph, m/s, knots, kph
kilometers per hour, miles per hour, meters per second, knots
joules, kilojoules, calories, kilocalories, kilowatt hours, watt hours
J, kJ, cal, kcal, kWh
watts, kilowatts, horsepower, megawatts
W, kW, hp
pascals, bar, psi, atmospheres, kilopascals
Pa, kPa, bar, psi, atm""".splitlines()
]
_SINGULAR = {
    "meters": "meter", "kilometers": "kilometer", "miles": "mile", "feet": "foot", "inches": "inch", "yards": "yard",
    "kilograms": "kilogram", "pounds": "pound", "ounces": "ounce", "grams": "gram", "liters": "liter", "gallons": "gallon",
    "cups": "cup", "pints": "pint", "hours": "hour", "minutes": "minute", "days": "day", "weeks": "week", "acres": "acre",
    "gigabytes": "gigabyte", "megabytes": "megabyte", "kilometres": "kilometre", "litres": "litre", "metres": "metre",
    "tonnes": "tonne", "hectares": "hectare", "knots": "knot", "years": "year", "centimeters": "centimeter",
}  # fmt: skip


def number(s: Source) -> tuple[str, int | float]:
    """A number as typed, and as JSON has it."""
    roll = s.random.random()
    if roll < 0.05:
        return "1", 1
    if roll < 0.62:
        value: int | float = whole(s)
        text = f"{value:,}" if value >= 1000 and s.chance(0.35) else str(value)
    elif roll < 0.97:
        text = decimal(s)
        value = float(text)
        if "0000" in text or "e" in repr(value) or (text[0] != "." and repr(value) != text):
            text, value = "2.5", 2.5
    else:
        text, value = s.any(
            (("half a", 0.5), ("one", 1), ("two", 2), ("three", 3), ("ten", 10), ("a hundred", 100))
        )
    if s.chance(0.04) and text[0].isdigit():
        return f"-{text}", -value
    return text, value


def question(s: Source) -> tuple[str, dict[str, object]]:
    """A question for `convert`."""
    family = s.any(FAMILIES)
    source, target = s.sample(family, 2)
    text, value = number(s)
    temperature = source.lower() in ("celsius", "fahrenheit", "kelvin", "c", "f", "k", "°c", "°f")
    shown = source
    if temperature and source.lower() in ("celsius", "fahrenheit") and s.chance(0.45):
        shown = f"degrees {source}"
    if temperature and s.chance(0.15) and text[0].isdigit():
        text, value = f"-{text}", -value
    if value == 1 or text == "half a":
        source = _SINGULAR.get(source, source)
        shown = source if not temperature else shown
        if value == 1 and s.chance(0.5):
            text = s.any(("a", "1", "one")) if source[0] not in "aeiouh" else "one"
    form = s.pick(FORMS)
    if len(source) < 4 and source.isascii() and text[-1].isdigit() and s.chance(0.3) and "{v} {a}" in form:
        form = form.replace("{v} {a}", "{v}{a}")
    sentence = form.format(v=text, a=shown, b=target)
    if temperature and not sentence.startswith(("How many",)) and target.lower() in ("celsius", "fahrenheit"):
        if s.chance(0.2):
            sentence = form.format(v=text, a=shown, b=f"degrees {target}")
    sentence = capital(sentence) if s.chance(0.3) else sentence
    return sentence, {"value": value, "from_unit": source, "to_unit": target}


ALL_FORMS = FORMS
