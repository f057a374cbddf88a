"""Word problems put together from parts, so that no two need be alike; each with its expression."""

from __future__ import annotations

from phrases_calculator import in_order, with_signs
from words import SMALL_NUMBERS, THINGS, Source, capital, decimal, lines, person, pseudo, whole

START = lines("problems_start")
MORE = lines("problems_more")
LESS = lines("problems_less")
HOW_MANY = lines("problems_how_many")
ALTOGETHER = lines("problems_altogether")
GROUPS = lines("problems_groups")
PRICE = lines("problems_price")
RATE = lines("problems_rate")
SHARE = lines("problems_share")
COMPARE = lines("problems_compare")
BOTH = lines("problems_both")
# Verbs in the third person, each with its plain form.
VERBS = dict(line.split(" ") for line in lines("problems_verbs"))

_PLACES = "basket box shop garden room bag jar tree house drawer store library kitchen warehouse truck bus car".split()
_GROUPS = "box bag crate basket shelf carton row packet jar tray table bucket".split()
_ITEMS = "ticket book pen coffee shirt lamp plant chair sandwich notebook phone cake game bike pizza toy apple candle".split()
_PEOPLE = "friends children people students kids guests players brothers teams neighbours girls boys".split()
_VEHICLES = "car train bus bike plane ship truck boat runner horse".split()
_PLURALS = {"boxs": "boxes", "shelfs": "shelves", "sandwichs": "sandwiches"}


def _person_words(text: str) -> tuple[str, bool]:
    """The pronoun for the subject of `text`, and whether verbs after it take an s."""
    first = text.split()[0]
    if first in ("I", "We", "They"):
        return first if first == "I" else first.lower(), False
    return "", True


def _verb(text: str, third: bool) -> str:
    """`text` with its {verbs} in the third person, or in the plain form."""
    for verb, plain in VERBS.items():
        text = text.replace("{" + verb + "}", verb if third else plain)
    return text


def _numbers(s: Source, falling: bool = False) -> dict[str, str]:
    """Numbers for a, b, c and x; with `falling`, a is usually the largest."""
    values = [s.int(2, 60) if s.chance(0.6) else max(2, whole(s)) for _ in range(3)]
    if falling and s.chance(0.85):
        values.sort(reverse=True)
    found = dict(zip("abc", map(str, values), strict=True))
    if s.chance(0.06):
        found[s.any("ab")] = decimal(s).lstrip("0") or "2"
    found["x"] = s.any((str(s.int(2, 200)), decimal(s), f"{s.int(1, 99)}.{s.int(0, 99):02d}"))
    return found


def _typed(s: Source, numbers: dict[str, str]) -> dict[str, str]:
    """How the numbers are typed; a small one may be a word, and `numbers` then follows it."""
    shown = dict(numbers)
    if s.chance(0.12):
        spelled, value = s.any(list(SMALL_NUMBERS.items()))
        key = s.any("ab")
        shown[key], numbers[key] = spelled, str(value)
    for key, value in shown.items():
        if value.isdigit() and len(value) > 3 and s.chance(0.35):
            shown[key] = f"{int(value):,}"
    return shown


def _fill(s: Source, text: str, shown: dict[str, str]) -> str:
    things = [s.any(THINGS) if s.chance(0.85) else pseudo(s, 2) + "s" for _ in range(2)]
    people = [person(s).split()[0] for _ in range(2)]
    filled = with_signs(s, text).format(
        n=people[0], m=people[1], q="her" if s.chance(0.5) else "him", t=things[0], t2=things[1], l=s.any(_PLACES), g=s.any(_GROUPS), u=s.any(_ITEMS),
        k=s.any(("brother", "sister", "friend", "neighbour", "son", "daughter")), o=s.any(("farmer", "baker", "teacher", "shop", "school", "florist")),
        F=s.any(_PEOPLE), v=s.any(_VEHICLES), D=s.any(("km", "miles", "kilometers", "km", "miles", "meters")),
        d=s.any(("dollars", "euros", "dollars", "pounds", "cents")), p="{p}", **shown,
    )  # fmt: skip
    for wrong, right in _PLURALS.items():
        filled = filled.replace(wrong, right)
    return filled


def _story(s: Source) -> tuple[str, str]:
    """Somebody has things, one or two changes follow, and how many are left is asked."""
    numbers = _numbers(s, falling=True)
    shown = _typed(s, numbers)
    start = s.pick(START)
    subject, third = _person_words(start)
    pronoun = subject or s.any(("he", "she", "they"))
    third = third and pronoun != "they"
    expression, text = numbers["a"], start
    for index, key in enumerate("bc" if s.chance(0.35) else "b"):
        more = s.chance(0.45)
        change = s.pick(MORE if more else LESS).replace("{b}", "{" + key + "}")
        joint = (
            s.any((". ", ". ", " and ", ", ", ". Then ", " and then ", " but "))
            if index == 0
            else s.any((". Then ", " and ", ", and then "))
        )
        if joint.startswith(". ") and joint == ". ":
            change = change.replace("{p}", "{P}") if change.startswith("{p}") else capital(change)
        text += joint + change.replace("then then", "then")
        expression += f" {'+' if more else '-'} {numbers[key]}"
    question, joint = s.pick(HOW_MANY), s.any((". ", ". ", ". ", ", ", " - "))
    text += joint + (question if joint == ". " else question[0].lower() + question[1:])
    text = _verb(text, third)
    text = text.replace("{P}", capital(pronoun)).replace("{p}", pronoun)
    if not third and start.split()[0] in ("I", "We", "They"):
        text = text.replace(" {n} ", f" {pronoun} ")
    text = text.replace("then then ", "then ")
    return _fill(s, text, shown), expression


_SIMPLE = (
    (PRICE, "{a} * {x}"),
    (RATE, "{a} * {b}"),
    (SHARE, "{a} / {b}"),
    (COMPARE, "{a} - {b}"),
    (BOTH, "{a} + {b}"),
)


def problem(s: Source) -> tuple[str, str]:
    """A word problem and its expression."""
    roll = s.random.random()
    if roll < 0.4:
        return _story(s)
    if roll < 0.5:
        numbers = _numbers(s)
        shown = _typed(s, numbers)
        opening, question = s.pick(GROUPS), s.pick(ALTOGETHER)
        expression = in_order(opening, "{a} * {b}").format(**numbers)
        if opening.endswith(","):
            question = question[0].lower() + question[1:]
        elif s.chance(0.2):
            less = s.chance(0.5)
            opening += s.any(
                (" {c} are sold.", " {c} are broken.", " {c} are eaten.")
                if less
                else (" {c} more lie on the floor.", " {m} brings {c} more.", " Then {c} more come.")
            )
            expression += f" {'-' if less else '+'} {numbers['c']}"
        return _fill(s, _verb(f"{opening} {question}", True), shown), expression
    forms, pattern = s.any(_SIMPLE)
    numbers = _numbers(s, falling=pattern in ("{a} - {b}", "{a} / {b}"))
    shown = _typed(s, numbers)
    form = s.pick(forms)
    return _fill(s, _verb(form, True), shown), in_order(form, pattern).format(**numbers)


ALL_FORMS = [*START, *MORE, *LESS, *HOW_MANY, *ALTOGETHER, *GROUPS, *PRICE, *RATE, *SHARE, *COMPARE, *BOTH]
