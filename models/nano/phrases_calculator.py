"""Questions for the calculator, each with the expression it asks for."""

from __future__ import annotations

import re

from words import SMALL_NUMBERS, THINGS, Source, capital, city, decimal, lines, person, pseudo, whole

_PLAIN_CHAIN = re.compile(r"\{\w\}(?: \+ \{\w\})+|\{\w\}(?: \* \{\w\})+")
_MONEY = re.compile(r"(\{[abcxyz]\}) (dollars|euros|\{d\})(?=[ .,?:;]|$)")
_SIGNS = {"dollars": "$", "euros": "€"}


def in_order(form: str, expression: str) -> str:
    """`expression` with the operands of a plain sum or product in the order in which `form` mentions them."""
    if not _PLAIN_CHAIN.fullmatch(expression):
        return expression
    sign = f" {expression.split()[1]} "
    return sign.join(sorted(expression.split(sign), key=form.find))


def with_signs(s: Source, form: str) -> str:
    """`form` with its amounts as $5 in place of 5 dollars, now and then."""
    if s.chance(0.7):
        return form
    sign = s.any("$$€£")
    return _MONEY.sub(lambda found: _SIGNS.get(found[2], sign) + found[1], form)


DIRECT_FORMS = lines("calculator_direct")

# Each word problem: text, then the expression. {n} {m} people, {t} things, {a} {b} {c} numbers, {x} {y} money, {p} percent.


def _pairs(name: str) -> dict[str, str]:
    pairs = (line.rsplit("|", 1) for line in lines(name))
    return {form: in_order(form, expression) for form, expression in pairs}


_PROBLEM = _pairs("calculator_problems")
_PERCENT = _pairs("calculator_percent")
_PROBLEM_KEYS = list(_PROBLEM)
_PERCENT_KEYS = list(_PERCENT)

_SPOKEN = {
    "+": ("plus", "plus", "added to", "and", "+"),
    "-": ("minus", "minus", "take away", "less", "-"),
    "*": ("times", "times", "multiplied by", "x", "×", "by", "*"),
    "/": ("divided by", "divided by", "over", "÷", "/"),
}
# Spoken forms whose operands are named one by one; the second of a pair is the expression.
_NAMED = _pairs("calculator_named")
_NAMED_KEYS = list(_NAMED)
# Imperatives that carry their own verb.
_COMMANDS = _pairs("calculator_commands")
_COMMAND_KEYS = list(_COMMANDS)


def operand(s: Source) -> str:
    """A number as it stands in an expression: without commas, sometimes negative or with a point."""
    roll = s.random.random()
    if roll < 0.8:
        return str(whole(s))
    return decimal(s) if roll < 0.96 else f"-{whole(s)}"


def written(s: Source, value: str) -> str:
    """How a person may type `value`: with thousands commas, now and then."""
    if value.isdigit() and len(value) > 3 and s.chance(0.35):
        return f"{int(value):,}"
    return value


def symbolic(s: Source) -> str:
    """An expression in signs, the way people space it."""
    join = s.any((" {} ", " {} ", " {} ", "{}"))
    sign = lambda: join.format(s.any("+-**/*"))  # noqa: E731
    a, b, c, d = (operand(s).lstrip("-") if s.chance(0.7) else operand(s) for _ in range(4))
    roll = s.random.random()
    if roll < 0.52:
        return f"{a}{sign()}{b.lstrip('-')}"
    if roll < 0.68:
        return f"{a}{sign()}{b.lstrip('-')}{sign()}{c.lstrip('-')}"
    if roll < 0.78:
        return f"({a}{sign()}{b.lstrip('-')}){sign()}{c.lstrip('-')}"
    if roll < 0.85:
        return f"{a}{sign()}({b}{sign()}{c.lstrip('-')})"
    if roll < 0.88:
        return f"({a}{sign()}{b.lstrip('-')}){sign()}({c}{sign()}{d.lstrip('-')})"
    if roll < 0.93:
        return f"{s.int(2, 99)}{join.format(s.any(('**', '^')))}{s.int(2, 20)}"
    if roll < 0.95:
        return f"sqrt({s.int(2, 30) ** 2})"
    if roll < 0.975:
        return f"{s.int(1, 99)}% of {a.lstrip('-')}"
    return f"{a}{sign()}{b.lstrip('-')}{sign()}{c.lstrip('-')}{sign()}{d.lstrip('-')}"


def spoken_pair(s: Source) -> tuple[str, str]:
    """Two or three numbers joined by words; the expression has the signs."""
    a, b = operand(s), operand(s).lstrip("-")
    sign = s.any("+-*/")
    text, expression = f"{written(s, a)} {s.any(_SPOKEN[sign])} {written(s, b)}", f"{a} {sign} {b}"
    if sign == "*" and s.chance(0.12):
        text = f"{a}{s.any('x×')}{b}"
    if s.chance(0.15):
        third, other = operand(s).lstrip("-"), s.any("+-*/")
        text, expression = f"{text} {s.any(_SPOKEN[other])} {third}", f"{expression} {other} {third}"
    if s.chance(0.06):
        small, value = s.any(list(SMALL_NUMBERS.items()))
        large, second = s.any(list(SMALL_NUMBERS.items()))
        text, expression = f"{small} {s.any(_SPOKEN[sign][:2])} {large}", f"{value} {sign} {second}"
    return text, expression


def _fill(s: Source, form: str, expression: str) -> tuple[str, str]:
    """`form` and `expression` with the same numbers; people and things in the form only."""
    numbers = {key: str(s.int(2, 99)) if s.chance(0.6) else str(max(2, whole(s))) for key in "abc"}
    numbers |= {
        key: numbers[key] if s.chance(0.5) else operand(s).lstrip("-") for key in "abc" if s.chance(0.15)
    }
    numbers["d"], numbers["e"] = str(s.int(2, 12)), str(s.int(2, 12))
    numbers["q"] = str(s.int(2, 40) ** 2) if s.chance(0.8) else operand(s).lstrip("-")
    numbers["p"] = s.any(
        (str(s.int(1, 99)), str(s.int(1, 20) * 5), f"{s.int(1, 19)}.5", str(s.int(100, 300)))
    )
    for key in "xyz":
        numbers[key] = s.any(
            (str(whole(s)), decimal(s), f"{s.int(1, 99)}.{s.int(0, 99):02d}", str(s.int(2, 200)))
        )
    for first, second in ("ab", "xy"):
        if expression.startswith(
            (f"{{{first}}} - {{{second}}}", f"({{{first}}} - {{{second}}}")
        ) and s.chance(0.85):
            numbers[first], numbers[second] = sorted(
                (numbers[first], numbers[second]), key=float, reverse=True
            )
    shown = {key: written(s, value) for key, value in numbers.items()}
    if "% of" not in expression and s.chance(0.08):
        spelled, value = s.any(list(SMALL_NUMBERS.items()))
        key = s.any("abc")
        numbers[key], shown[key] = str(value), spelled
    people = [person(s).split()[0] for _ in range(3)]
    if s.chance(0.1):
        people[0] = s.any(
            ("My brother", "My sister", "A friend", "A farmer", "A teacher", "A baker", "A shop", "A boy")
        )
    thing = s.any(THINGS) if s.chance(0.85) else pseudo(s, 2) + "s"
    text = with_signs(s, form).format(n=people[0], m=people[1], o=people[2], t=thing, city=city(s), **shown)
    if text.startswith("My") and " my" not in text:
        text = capital(text)
    return text, expression.format(**numbers)


def direct(s: Source, kind: float | None = None) -> tuple[str, str]:
    """A question that names the operation."""
    roll = s.random.random() if kind is None else kind
    if roll < 0.38:
        text = expression = symbolic(s)
    elif roll < 0.62:
        text, expression = spoken_pair(s)
    else:
        key = s.pick(_NAMED_KEYS)
        text, expression = _fill(s, key, _NAMED[key])
    question = s.pick(DIRECT_FORMS).format(e=text)
    return (capital(question) if s.chance(0.5) else question), expression


def question(s: Source) -> tuple[str, dict[str, object]]:
    """One question for `evaluate` and the arguments it asks for."""
    roll = s.random.random()
    if roll < 0.42:
        text, expression = direct(s)
    elif roll < 0.54:
        key = s.pick(_COMMAND_KEYS)
        text, expression = _fill(s, key, _COMMANDS[key])
    elif roll < 0.67:
        key = s.pick(_PERCENT_KEYS)
        text, expression = _fill(s, key, _PERCENT[key])
    else:
        key = s.pick(_PROBLEM_KEYS)
        text, expression = _fill(s, key, _PROBLEM[key])
        if s.chance(0.08):
            text = text.rstrip("?.")
    return text, {"expression": expression}


ALL_FORMS = [*DIRECT_FORMS, *_PROBLEM_KEYS, *_PERCENT_KEYS, *_NAMED_KEYS, *_COMMAND_KEYS]
