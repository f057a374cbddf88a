"""Copying exercises: dense practice in writing again what stands in the prompt, before any tool is learnt."""

from __future__ import annotations

from conversations import Turn
from phrases_calculator import symbolic
from phrases_notes import note_text
from schemas import call_text
from words import FUNCTION_WORDS, Source, capital, clock_time, code, date, decimal, pseudo, whole, word


def _item(s: Source) -> str:
    makers = (
        pseudo,
        word,
        word,
        lambda s: capital(pseudo(s)),
        lambda s: str(whole(s)),
        decimal,
        code,
        date,
        clock_time,
    )
    if s.chance(0.12):
        return s.any(FUNCTION_WORDS)
    if s.chance(0.08):
        return s.any(
            (
                "0.333333",
                "100000",
                "0.142857",
                "1000000",
                "66.666667",
                "0.001",
                "1111",
                str(s.int(10**6, 10**12)),
            )
        )
    return s.any(makers)(s)


def text(s: Source, count: int) -> str:
    """`count` random items with spaces and now and then punctuation."""
    return " ".join(_item(s) + s.any(("", "", "", "", "", ",", ".", ";", "?")) for _ in range(count))


def first_words(s: Source) -> list[Turn]:
    """The easiest exercise: short rows of words to echo, several in one conversation."""
    turns: list[Turn] = []
    for _ in range(s.int(3, 6)):
        said = " ".join(s.any((pseudo, word, lambda s: capital(pseudo(s))))(s) for _ in range(s.int(1, 6)))
        turns += [Turn("user", said), Turn("assistant", said, "first")]
    return turns


def figures(s: Source) -> list[Turn]:
    """Numbers, sums, times and codes to echo: digits are single tokens and the easiest to lose one's place in."""
    turns: list[Turn] = []
    makers = (symbolic, symbolic, lambda s: str(whole(s)), decimal, clock_time, date, code)
    for _ in range(s.int(3, 6)):
        said = s.any((" ", ", ", " and ")).join(s.any(makers)(s) for _ in range(s.any((1, 1, 2, 3))))
        turns += [Turn("user", said), Turn("assistant", said, "figures")]
    return turns


def primer(s: Source, easy: float = 0.1) -> list[Turn]:
    """One exercise: an echo, or a question passed on unchanged; `easy` is the share of easy ones."""
    if s.chance(easy):
        return first_words(s)
    if s.chance(0.3):
        return figures(s)
    roll = s.random.random()
    turns: list[Turn] = []
    if roll < 0.6:
        for _ in range(s.int(1, 2)):
            said = text(s, s.int(3, 16)) if s.chance(0.75) else note_text(s)
            turns += [Turn("user", said), Turn("assistant", said, "echo")]
    else:
        names = [pseudo(s) for _ in range(s.int(1, 3))]
        turns.append(Turn("system", " ".join(f"ask_{name}" for name in names)))
        for _ in range(2):
            name, said = s.any(names), text(s, s.int(3, 10))
            shown = s.any((said, f'"{said}"', f"{said}?")) if len(names) == 1 else f"{name}: {said}"
            inner = said if len(names) > 1 or shown[0] == '"' else shown
            turns += [
                Turn("user", shown),
                Turn("assistant", call_text(f"ask_{name}", {"question": inner}), "pass"),
            ]
    return turns
