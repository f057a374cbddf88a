"""Who gets how much of a step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentmesh_models.schedule import N_BATCH, shares

pendings = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 3000)), max_size=40)
batches = st.integers(1, 64)


@given(pendings, batches, st.integers(1, 80))
def test_a_step_is_full_whenever_somebody_could_use_the_room(
    pending: list[int], batch: int, mixed: int
) -> None:
    out = shares(pending, batch=batch, mixed=mixed)
    assert len(out) == len(pending)
    assert all(0 <= given <= count for given, count in zip(out, pending, strict=True))
    single, readers = pending.count(1), [count for count in pending if count > 1]
    room = max(0, batch - single)
    if single:
        room = min(room, max(mixed, len(readers)))
    assert sum(out) == min(batch, single) + min(room, sum(readers))


@given(pendings, batches)
def test_who_decodes_is_served_and_who_reads_gets_at_least_its_even_share(
    pending: list[int], batch: int
) -> None:
    out = shares(pending, batch=batch, mixed=8)
    decoding = [given for given, count in zip(out, pending, strict=True) if count == 1]
    assert sum(decoding) == min(len(decoding), batch)
    reading = [(given, count) for given, count in zip(out, pending, strict=True) if count > 1]
    if len(decoding) + len(reading) <= batch:
        room = batch - len(decoding)
        if decoding:
            room = min(room, max(8, len(reading)))
        for given, count in reading:
            assert given >= max(1, min(count, room // len(reading)))


@given(pendings)
def test_whoever_comes_first_loses_nothing_by_it(pending: list[int]) -> None:
    out = [given for given, count in zip(shares(pending), pending, strict=True) if count > N_BATCH]
    assert out == sorted(out, reverse=True)
    assert not out or out[0] - out[-1] <= 1


@given(st.lists(st.integers(2, 400), min_size=1, max_size=16), st.integers(0, 16))
def test_every_prompt_is_read_within_as_many_steps_as_its_even_share_takes(
    prompts: list[int], decoding: int
) -> None:
    """Those who have read on their part decode for ever."""
    left = list(prompts)
    least = min(96, 256 - decoding - len(prompts)) // len(prompts)
    for _ in range(max(prompts) // least + 2):
        pending = [max(1, count) for count in left] + [1] * decoding
        given = shares(pending)
        assert sum(given) <= N_BATCH and all(given)
        left = [max(0, count - some) for count, some in zip(left, given, strict=False)]
    assert not any(left)


def test_the_rest_of_an_uneven_division_goes_to_the_first() -> None:
    assert shares([100, 100, 100], batch=11) == [4, 4, 3]
    assert shares([2, 100, 100], batch=11) == [2, 5, 4]


def test_a_step_in_which_nobody_decodes_is_not_held_back_by_one_that_waits() -> None:
    assert shares([0, 500]) == [0, N_BATCH]
    assert shares([1, 500], mixed=96) == [1, 96]
