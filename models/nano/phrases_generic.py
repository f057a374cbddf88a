"""Simple invented tools of one or two parameters, so that a tool of somebody's own has a chance."""

from __future__ import annotations

from schemas import Schema, tool
from words import Source, capital, city, date, person, pseudo, title, whole, word

VERBS = "get find book send create delete update list open close start stop check order cancel add remove track play show".split()
OBJECTS = """weather recipe ticket door lamp song meeting reminder task flight hotel room taxi letter email message photo
file invoice user customer cart coupon stock contract lesson book movie game score plant pump sensor camera alarm heater
printer robot bike route museum concert event doctor workout meal coffee word parcel order account report""".split()
TEXT = "city name date title person color topic item place".split()
NUMBER = "count amount size price level hours".split()
KEYS = "status total price count name time score balance distance result".split()


def _value(s: Source, name: str) -> object:
    if name in NUMBER:
        return whole(s)
    makers = {
        "city": city,
        "place": city,
        "name": person,
        "person": person,
        "date": date,
        "title": title,
        "topic": title,
    }
    return makers.get(name, word)(s)


def make_tool(s: Source) -> tuple[Schema, str, list[str]]:
    """An invented tool: its schema, what it does in words, its parameters."""
    verb, item = s.word(VERBS), s.word(OBJECTS) if s.chance(0.85) else pseudo(s, 2)
    names = s.sample(TEXT, 1) if s.chance(0.6) else [s.any(TEXT), s.any(NUMBER)]
    described = {
        name: ("number" if name in NUMBER else "string", s.any(("The {}", "{} of the {o}", "Which {}")).format(capital(name) if s.chance(0.2) else name, o=item))
        for name in names
    }  # fmt: skip
    described = {name: (kind, capital(text)) for name, (kind, text) in described.items()}
    action = f"{verb} {s.any(('a ', 'the ', ''))}{item}"
    return (
        tool(f"{verb}_{item}", f"{capital(action)}{s.any(('.', '.', ''))}", **described),
        f"{verb} the {item}",
        names,
    )


def ask(s: Source, action: str, names: list[str]) -> tuple[str, dict[str, object]]:
    """A request for an invented tool and its arguments."""
    values = {name: _value(s, name) for name in names}
    prepositions = {
        "city": "in",
        "place": "at",
        "date": "on",
        "name": "named",
        "person": "for",
        "title": "called",
    }
    parts = []
    for name, value in values.items():
        if name in prepositions and s.chance(0.6):
            parts.append(f"{prepositions[name]} {value}")
        else:
            parts.append(
                s.any(("with {n} {v}", "with the {n} {v}", "{n} {v}", "with {n} set to {v}")).format(
                    n=name, v=value
                )
            )
    verb, _, rest = action.partition(" ")
    form = s.any(
        (
            "{a} {p}.",
            "{a} {p}",
            "Please {a} {p}.",
            "Can you {a} {p}?",
            "I want to {a} {p}.",
            "{a}, {p}",
            "could you {a} {p}",
        )
    )
    text = form.format(
        a=f"{verb} {s.any((rest, rest, rest.replace('the ', 'a '), rest.replace('the ', '')))}",
        p=" ".join(parts),
    )
    return (capital(text) if s.chance(0.7) else text), values


def result(s: Source) -> tuple[str, str]:
    """A tool's answer and nano's sentence for it."""
    text = s.any(
        (
            word,
            title,
            lambda s: str(whole(s)),
            lambda s: f"{whole(s)} {word(s)}s",
            lambda s: capital(" ".join(word(s) for _ in range(s.int(2, 5)))),
        )
    )(s)
    return text, f"The result is {text}."
