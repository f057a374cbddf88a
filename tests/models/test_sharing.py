"""Threads divided among those that are active."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_models import ModelError
from agentmesh_models.sharing import Lease, ThreadBudget


def test_the_first_get_what_does_not_divide_and_all_of_it_comes_back() -> None:
    told: list[tuple[str, int]] = []
    budget = ThreadBudget(8)
    a, b, c = (budget.lease(lambda count, name=name: told.append((name, count))) for name in "abc")
    a.begin()
    assert told == [] and a.threads == 8
    b.begin()
    c.begin()
    assert (a.threads, b.threads, c.threads) == (3, 3, 2)
    a.end()
    assert (b.threads, c.threads) == (4, 4)
    b.end()
    c.end()
    assert budget.active == 0 and told[-1] == ("c", 8)
    a.begin()
    assert a.threads == 8 and told[-1] == ("a", 8)


def test_several_requests_of_one_engine_are_one_share() -> None:
    budget = ThreadBudget(4)
    a, b = (budget.lease(lambda count: None) for _ in range(2))
    a.begin()
    a.begin()
    b.begin()
    assert (a.threads, b.threads) == (2, 2)
    a.end()
    assert b.threads == 2
    a.end()
    assert b.threads == 4


def test_an_engine_opened_with_other_threads_is_told_its_share() -> None:
    told: list[int] = []
    lease = ThreadBudget(4).lease(told.append, now=1)
    lease.begin()
    assert told == [4]


def test_no_threads_are_no_budget() -> None:
    with pytest.raises(ModelError, match="at least 1"):
        ThreadBudget(0)


@given(st.integers(1, 16), st.lists(st.integers(0, 5), max_size=60))
def test_whoever_is_active_has_a_thread_and_together_no_more_than_there_are(
    total: int, turns: list[int]
) -> None:
    budget = ThreadBudget(total)
    leases = [budget.lease(lambda count: None) for _ in range(6)]
    active: list[Lease] = []
    for turn in turns:
        lease = leases[turn]
        if lease in active:
            lease.end()
            active.remove(lease)
        else:
            lease.begin()
            active.append(lease)
        shares = [each.threads for each in active]
        assert budget.active == len(active)
        assert not shares or (min(shares) >= 1 and max(shares) - min(shares) <= 1)
        assert not shares or sum(shares) == max(total, len(active))
