from __future__ import annotations

from agentmesh.toolbox.backoff import Backoff


def test_the_waits_double_up_to_a_bound_and_end() -> None:
    waits = list(Backoff(tries=7, first=0.25, most=2.0, draw=lambda: 0.0).waits())
    assert waits == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]


def test_chance_shortens_them_by_half_at_most() -> None:
    whole = list(Backoff(tries=20, draw=lambda: 0.0).waits())
    for wait, most in zip(Backoff(tries=20).waits(), whole, strict=True):
        assert most / 2 <= wait <= most


def test_one_try_waits_for_nothing() -> None:
    assert list(Backoff().waits()) == []
