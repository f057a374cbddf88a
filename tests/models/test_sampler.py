"""Sampling: a function of scores, settings, seed and position."""

from __future__ import annotations

import math

import pytest

from agentmesh_models import ModelError, Sampling
from agentmesh_models.sampler import check, choose

np = pytest.importorskip("numpy", reason="numpy comes with llama-cpp-python")

FREE = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)


def scores(*values: float) -> object:
    return np.array(values, dtype=np.float32)


def test_temperature_zero_takes_the_best_and_the_lowest_of_equals() -> None:
    assert choose(scores(1.0, 3.0, 3.0, 2.0), Sampling(), 0) == 1  # type: ignore[arg-type]


def test_the_same_seed_and_position_choose_the_same_and_others_do_not() -> None:
    logits = np.zeros(1000, dtype=np.float32)
    one = [choose(logits, FREE, position) for position in range(20)]
    assert one == [choose(logits, FREE, position) for position in range(20)]
    assert len(set(one)) > 15
    other = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=1 << 63)
    assert one != [choose(logits, other, position) for position in range(20)]


def test_tokens_are_drawn_with_their_probabilities() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2], dtype=np.float32))
    drawn = np.bincount([choose(logits, FREE, position) for position in range(20_000)], minlength=3) / 20_000
    assert np.abs(drawn - [0.5, 0.3, 0.2]).max() < 0.02


def test_a_low_temperature_sharpens() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2], dtype=np.float32))
    cold = Sampling(temperature=0.1, top_k=0, top_p=1.0, min_p=0.0)
    drawn = [choose(logits, cold, position) for position in range(2_000)]
    assert drawn.count(0) > 1_950


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        (Sampling(temperature=5.0, top_k=2, top_p=1.0, min_p=0.0), {0, 1}),
        (Sampling(temperature=5.0, top_k=0, top_p=0.7, min_p=0.0), {0, 1}),
        (Sampling(temperature=5.0, top_k=0, top_p=1.0, min_p=0.5), {0, 1}),
        (Sampling(temperature=5.0, top_k=1, top_p=1.0, min_p=0.0), {0}),
        (Sampling(temperature=5.0, top_k=0, top_p=0.01, min_p=0.0), {0}),
    ],
)
def test_each_cut_leaves_what_it_should(sampling: Sampling, allowed: set[int]) -> None:
    logits = np.log(np.array([0.5, 0.3, 0.1, 0.1], dtype=np.float32))
    assert {choose(logits, sampling, position) for position in range(500)} == allowed


def test_what_a_grammar_forbids_is_never_drawn() -> None:
    logits = scores(-math.inf, 0.0, -math.inf, 0.0)
    assert {choose(logits, FREE, position) for position in range(200)} == {1, 3}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=-1.0),
        Sampling(temperature=math.nan),
        Sampling(temperature=math.inf),
        Sampling(top_p=0.0),
        Sampling(top_p=1.5),
        Sampling(min_p=1.0),
        Sampling(top_k=-1),
    ],
)
def test_settings_that_mean_nothing_are_refused(sampling: Sampling) -> None:
    with pytest.raises(ModelError) as caught:
        check(sampling)
    assert caught.value.reason == "bad_request"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("top_k", [0, 40])
@pytest.mark.parametrize("score", [float("nan"), float("-inf")])
def test_without_any_score_there_is_an_error_and_no_token(
    temperature: float, top_k: int, score: float
) -> None:
    scores = np.full(100, score, dtype=np.float32)
    with pytest.raises(ModelError) as caught:
        choose(scores, Sampling(temperature=temperature, top_k=top_k), 3)
    assert caught.value.reason == "decode_failed"
