"""What an answer costs, in whole micro-units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agentmesh.mesh.spec import PriceSpec
from agentmesh_ledger.usage.receipt import MAX_AMOUNT

_THOUSAND: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What an answer took, and its price in micro-units of the unit."""

    tokens: int
    milliseconds: int
    price: int
    unit: str


def used_at(price: PriceSpec, *, tokens: int, seconds: float, unit: str) -> Used:
    """What is billed for an answer of so many tokens that took so long."""
    tokens, milliseconds = min(tokens, MAX_AMOUNT), min(max(0, round(seconds * _THOUSAND)), MAX_AMOUNT)
    due = min(price_of(price, tokens=tokens, milliseconds=milliseconds), MAX_AMOUNT)
    return Used(tokens=tokens, milliseconds=milliseconds, price=due, unit=unit)


def price_of(price: PriceSpec, *, tokens: int, milliseconds: int) -> int:
    """The price at these rates: whatever is begun of a micro-unit counts as one, once for the whole answer."""
    thousandths = price.call * _THOUSAND + price.thousand_tokens * tokens + price.second * milliseconds
    return -(-thousandths // _THOUSAND)
