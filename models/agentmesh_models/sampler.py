"""How the next token is chosen: a function of scores, settings, seed, position and what was said, and of nothing else.

Gumbel-max: to every token's score is added noise that follows from (seed, position, token id), and the
largest sum wins. So a token is drawn with its probability, two runs draw the same, and it does not matter
what else runs beside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from agentmesh_models.chat import Sampling
from agentmesh_models.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Logits = NDArray[np.float32]

MOST_PENALTY_WINDOW: Final = 1 << 20
_MASK: Final = (1 << 64) - 1
_GROUP: Final = 32


def check(sampling: Sampling) -> None:
    """Raises `ModelError` "bad_request" for settings that mean nothing."""
    if not (math.isfinite(sampling.temperature) and 0 <= sampling.temperature <= 100):
        raise ModelError("bad_request", f"temperature must be from 0 to 100, not {sampling.temperature}")
    if not 0 < sampling.top_p <= 1:
        raise ModelError("bad_request", f"top_p must be above 0 and at most 1, not {sampling.top_p}")
    if not 0 <= sampling.min_p < 1:
        raise ModelError("bad_request", f"min_p must be at least 0 and below 1, not {sampling.min_p}")
    if sampling.top_k < 0:
        raise ModelError("bad_request", f"top_k must be at least 0 (0: all), not {sampling.top_k}")
    if not 0 < sampling.repeat_penalty <= 100:
        raise ModelError(
            "bad_request", f"repeat_penalty must be above 0 and at most 100, not {sampling.repeat_penalty}"
        )
    for name in ("frequency_penalty", "presence_penalty"):
        if not abs(getattr(sampling, name)) <= 100:
            raise ModelError("bad_request", f"{name} must be from -100 to 100, not {getattr(sampling, name)}")
    if not 0 <= sampling.penalty_window <= MOST_PENALTY_WINDOW:
        raise ModelError(
            "bad_request",
            f"penalty_window must be from 0 to {MOST_PENALTY_WINDOW} tokens, not {sampling.penalty_window}",
        )


def choose(logits: Logits, sampling: Sampling, position: int, before: Sequence[int] = ()) -> int:
    """The token for `position`, `before` being the tokens up to there.

    A score of minus infinity is never chosen; ties go to the lowest id.

    Raises:
        ModelError: "decode_failed"; there is no score to go by, as with a damaged file whose scores are no numbers.
    """
    import numpy as np

    logits = _penalised(logits, sampling, before)
    if sampling.temperature == 0:
        best = int(np.argmax(logits))
        if not math.isfinite(logits[best]):
            raise _nothing()
        return best
    ids, scores = _candidates(logits, sampling)
    return int(ids[np.argmax(_sums(ids, scores, sampling, position))])


def margin(logits: Logits, sampling: Sampling, position: int, before: Sequence[int], token: int) -> float:
    """By how much `token` was behind the one that these scores choose: 0 where it is that one.

    For a token that top-k, top-p or min-p cut off, how far its score is from the cut counts too. The unit is that of scores divided by the temperature (at temperature 0, of scores). Infinite for a token with a
    score of minus infinity.
    """
    import numpy as np

    logits = _penalised(logits, sampling, before)
    if sampling.temperature == 0:
        return float(np.max(logits) - logits[token])
    ids, scores = _candidates(logits, sampling)
    best = float(np.max(_sums(ids, scores, sampling, position)))
    own = np.array([token], dtype=np.int64)
    behind = best - float(_sums(own, logits[own].astype(np.float64), sampling, position)[0])
    cut = (float(scores.min()) - float(logits[token])) / sampling.temperature
    return max(0.0, behind) + max(0.0, cut)


def _sums(
    ids: NDArray[np.int64], scores: NDArray[np.float64], sampling: Sampling, position: int
) -> NDArray[np.float64]:
    return scores / sampling.temperature + _gumbel(sampling.seed, position, ids)


def _penalised(logits: Logits, sampling: Sampling, before: Sequence[int]) -> Logits:
    """The scores with the penalties taken off: those themselves where there are none."""
    import numpy as np

    plain = (
        sampling.repeat_penalty == 1 and sampling.frequency_penalty == 0 and sampling.presence_penalty == 0
    )
    if plain or not sampling.penalty_window or not before:
        return logits
    recent = np.asarray(before[-sampling.penalty_window :], dtype=np.int64)
    ids, counts = np.unique(recent, return_counts=True)
    scores = logits[ids].astype(np.float64)
    scores = np.where(scores > 0, scores / sampling.repeat_penalty, scores * sampling.repeat_penalty)
    scores -= counts * sampling.frequency_penalty + sampling.presence_penalty
    out = logits.copy()
    out[ids] = scores.astype(np.float32)
    return out


def _candidates(logits: Logits, sampling: Sampling) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What top-k, then top-p, then min-p leave, on the probabilities at temperature 1; best first."""
    import numpy as np

    ids = _best(logits, sampling.top_k) if sampling.top_k else np.flatnonzero(np.isfinite(logits))
    if not len(ids):
        raise _nothing()
    ids = ids[np.lexsort((ids, -logits[ids]))]
    scores = logits[ids].astype(np.float64)
    weights = np.exp(scores - scores[0])
    shares = weights / weights.sum()
    before = np.cumsum(shares) - shares
    keep = (before < sampling.top_p) & (shares >= sampling.min_p * shares[0])
    keep[0] = True
    return ids[keep], scores[keep]


def _nothing() -> ModelError:
    return ModelError(
        "decode_failed", "the model gives no token a score that is a number: its file may be damaged"
    )


def _best(logits: Logits, count: int) -> NDArray[np.int64]:
    """The ids of the `count` largest finite scores, of equal ones the lowest ids; in no order.

    The `count`-th largest of the maxima of disjoint groups is not above the `count`-th largest score: only what
    reaches it need be looked at. Sorting all of 150,000 scores would take as long as a small model's step.
    """
    import numpy as np

    ids: NDArray[np.int64]
    whole = len(logits) // _GROUP * _GROUP
    # Group i is every (whole / _GROUP)-th score from i on: a maximum along this axis goes at memory's speed.
    peaks = logits[:whole].reshape(_GROUP, -1).max(axis=0)
    floor = np.partition(peaks, -count)[-count] if count < len(peaks) else -np.inf
    ids = np.flatnonzero(logits >= floor) if np.isfinite(floor) else np.arange(len(logits))
    ids = ids[np.isfinite(logits[ids])]
    if count < len(ids):
        scores = logits[ids]
        least = np.partition(scores, -count)[-count]
        above = ids[scores > least]
        ids = np.concatenate((above, ids[scores == least][: count - len(above)]))
    return ids


def _gumbel(seed: int, position: int, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Gumbel noise from a counter: SplitMix64's finaliser over (seed, position, id)."""
    import numpy as np

    base = _mix((seed & _MASK) ^ _mix(position + 1))
    with np.errstate(over="ignore"):
        x = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(base)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    uniform = ((x >> np.uint64(11)).astype(np.float64) + 0.5) / float(1 << 53)
    noise: NDArray[np.float64] = -np.log(-np.log(uniform))
    return noise


def _mix(value: int) -> int:
    value = (value * 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
