"""What a transaction offers for its gas (EIP-1559): never above a cap, and 12.5 % more where it is stuck."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from typing import Final

from agentmesh_ledger.errors import LedgerError

GWEI: Final = 10**9
_MOST: Final = (
    10**15
)  # a million gwei: an error of the node or of the operator, and still a number SQLite can hold
_USUAL_TIP: Final = GWEI // 10  # where the node suggests nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Fees:
    """In wei for each unit of gas: the most that is paid, and what of it goes to whoever makes the block."""

    max_fee: int
    tip: int


def wei(gwei: Decimal) -> int:
    """A fee given in gwei, in wei.

    Raises: LedgerError(refused) where it is none, or more than a million gwei.
    """
    try:
        found = int((gwei * GWEI).to_integral_value(ROUND_FLOOR))
    except (InvalidOperation, ValueError, OverflowError):
        found = 0
    if not 0 < found <= _MOST:
        raise LedgerError("refused", "the highest fee is a number of gwei, above 0 and at most a million")
    return found


def in_gwei(fee: int) -> str:
    """A fee for people: `1.5 gwei`."""
    text = f"{Decimal(fee) / GWEI:.9f}".rstrip("0").rstrip(".")
    return f"{text} gwei"


def first_fees(base: int, suggested: int | None, cap: int) -> Fees | None:
    """What to offer now: room for the base fee to double, within the cap; None where the base fee alone is at the cap.

    A tip that would go above the cap is cut.
    """
    if base >= cap:
        return None
    tip = min(max(_USUAL_TIP if suggested is None else suggested, 1), cap - base)
    return Fees(max_fee=min(cap, 2 * base + tip), tip=tip)


def bumped(old: Fees, base: int, suggested: int | None, cap: int) -> Fees | None:
    """What to offer in the place of a transaction that is stuck; None where the cap leaves no room for that.

    Nodes take a replacement only where both fees rise by a tenth (geth) or an eighth (Erigon, Nethermind): hence an eighth.
    """
    least = Fees(max_fee=_eighth_more(old.max_fee), tip=_eighth_more(old.tip))
    if least.max_fee > cap or least.tip > cap:
        return None
    wanted = first_fees(base, suggested, cap) or least
    max_fee = max(least.max_fee, wanted.max_fee)
    return Fees(max_fee=max_fee, tip=min(max_fee, max(least.tip, wanted.tip)))


def _eighth_more(fee: int) -> int:
    return max(fee + 1, -(-fee * 9 // 8))
