"""What is offered for gas stays under the cap, whatever the chain and its node say."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_ledger.anchor.fees import GWEI, Fees, bumped, first_fees, in_gwei, wei

amounts = st.integers(min_value=0, max_value=10**16)
caps = st.integers(min_value=1, max_value=10**15)


def test_there_is_room_for_the_base_fee_to_double() -> None:
    assert first_fees(10 * GWEI, 2 * GWEI, 50 * GWEI) == Fees(max_fee=22 * GWEI, tip=2 * GWEI)
    assert first_fees(10 * GWEI, None, 50 * GWEI) == Fees(max_fee=20 * GWEI + GWEI // 10, tip=GWEI // 10)


def test_the_cap_cuts_the_room_and_then_the_tip() -> None:
    assert first_fees(30 * GWEI, 2 * GWEI, 50 * GWEI) == Fees(max_fee=50 * GWEI, tip=2 * GWEI)
    assert first_fees(49 * GWEI, 2 * GWEI, 50 * GWEI) == Fees(max_fee=50 * GWEI, tip=GWEI)
    assert first_fees(50 * GWEI, 2 * GWEI, 50 * GWEI) is None


@given(amounts, st.none() | amounts, caps)
def test_no_first_offer_is_above_the_cap(base: int, suggested: int | None, cap: int) -> None:
    fees = first_fees(base, suggested, cap)
    if fees is None:
        assert base >= cap
    else:
        assert 0 < fees.tip <= fees.max_fee <= cap and fees.max_fee > base


@given(amounts, st.none() | amounts, caps, amounts, amounts)
def test_a_replacement_offers_an_eighth_more_of_both_or_there_is_none(
    base: int, suggested: int | None, cap: int, max_fee: int, tip: int
) -> None:
    old = Fees(max_fee=max(max_fee, tip), tip=min(max_fee, tip))
    fees = bumped(old, base, suggested, cap)
    if fees is not None:
        assert fees.tip <= fees.max_fee <= cap
        assert fees.max_fee * 8 >= old.max_fee * 9 and fees.tip * 8 >= old.tip * 9
        assert fees.max_fee > old.max_fee and fees.tip > old.tip
    else:
        assert old.max_fee * 9 > cap * 8 - 8 or old.max_fee >= cap


@pytest.mark.parametrize(
    ("fee", "text"),
    [
        (0, "0 gwei"),
        (1, "0.000000001 gwei"),
        (GWEI, "1 gwei"),
        (1_500_000_000, "1.5 gwei"),
        (100 * GWEI, "100 gwei"),
    ],
)
def test_fees_are_said_in_gwei(fee: int, text: str) -> None:
    assert in_gwei(fee) == text


def test_a_cap_may_be_a_part_of_a_gwei() -> None:
    assert wei(Decimal("0.05")) == 50_000_000 and wei(Decimal("1e-9")) == 1
