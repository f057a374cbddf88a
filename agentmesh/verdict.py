"""Does what an agent said agree with what a tool found? Judged in code, because small models judge numbers at chance.

Pure functions over text. A claim agrees when the tool's number stands in it; numbers that already stood in the task
do not count, for a claim that repeats the question would agree with anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal, TypeAlias

Judgement: TypeAlias = Literal["agree", "disagree", "unclear"]

# A sign counts only where it cannot be an operator or a hyphen; thousands commas are allowed.
_NUMBER = re.compile(
    r"(?<![\w.])(?:(?<![\d)])[-−])?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w])|(?<![\w.])\.\d+"
)

_ABOUT = re.compile(r"\(about ([^)]*)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was judged: the claim's numbers that count, the tool's number, and the judgement."""

    judgement: Judgement
    claimed: tuple[str, ...]
    found: str


def numbers(text: str) -> tuple[Decimal, ...]:
    """The numbers that stand in `text`, in order."""
    return tuple(Decimal(m.group().replace(",", "").replace("−", "-")) for m in _NUMBER.finditer(text))


def judge(*, task: str, claim: str, found: str) -> Verdict:
    """Compare an answer with a tool's result. Numbers decide; without any, the tool's text must stand in the claim."""
    wanted = numbers(_decimal(found))
    if not wanted:
        held = _plain(found) != "" and _plain(found) in _plain(claim)
        return Verdict(judgement="agree" if held else "unclear", claimed=(), found=found)
    asked = set(numbers(task))
    said = numbers(claim)
    counted = tuple(n for n in said if n not in asked) or said
    claimed = tuple(_show(n) for n in counted)
    if not counted:
        return Verdict(judgement="unclear", claimed=(), found=_show(wanted[0]))
    same = any(_same(n, wanted[0]) for n in counted)
    return Verdict(judgement="agree" if same else "disagree", claimed=claimed, found=_show(wanted[0]))


def verdict_text(*, tool: str, found: str, verdicts: Mapping[str, Verdict]) -> str:
    """One sentence a person can read: what the tool found, and who agrees with it."""
    said = [
        f"{name} disagrees (says {', '.join(v.claimed)})"
        if v.judgement == "disagree"
        else f"{name} agrees"
        if v.judgement == "agree"
        else f"{name} gives nothing to compare"
        for name, v in verdicts.items()
    ]
    return f"{tool} says {found}: {'; '.join(said)}."


def _decimal(found: str) -> str:
    """Of `1/3 (about 0.333333)` the decimal, which is what a claim can be held against."""
    about = _ABOUT.search(found)
    return about.group(1) if about else found


def _same(a: Decimal, b: Decimal) -> bool:
    """Equal, or as near as the coarser was rounded, where the coarser has two decimals or more."""
    if a == b:
        return True
    exponents = (a.as_tuple().exponent, b.as_tuple().exponent)
    places = min(-e for e in exponents if isinstance(e, int))
    # Fractions, since decimal arithmetic would round numbers of more than 28 digits.
    return places >= 2 and abs(Fraction(a) - Fraction(b)) * 2 <= Fraction(1, 10**places)


def _show(number: Decimal) -> str:
    return format(number, "f")


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")
