"""How the next token is chosen: a function of scores, settings, seed and position, and of nothing else.

Gumbel-max: to every token's score is added noise that follows from (seed, position, token id), and the
largest sum wins. So a token is drawn with its probability, two runs draw the same, and it does not matter
what else runs beside.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from agentmesh_models.chat import Sampling
from agentmesh_models.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MASK: Final = (1 << 64) - 1


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


def choose(logits: NDArray[np.float32], sampling: Sampling, position: int) -> int:
    """The token for `position`. A score of minus infinity is never chosen; ties go to the lowest id."""
    import numpy as np

    if sampling.temperature == 0:
        return int(np.argmax(logits))
    ids, scores = _candidates(logits, sampling)
    sums = scores / sampling.temperature + _gumbel(sampling.seed, position, ids)
    return int(ids[np.argmax(sums)])


def _candidates(
    logits: NDArray[np.float32], sampling: Sampling
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What top-k, then top-p, then min-p leave, on the probabilities at temperature 1; best first."""
    import numpy as np

    ids = np.flatnonzero(np.isfinite(logits))
    if 0 < sampling.top_k < len(ids):
        ids = ids[np.argpartition(-logits[ids], sampling.top_k - 1)[: sampling.top_k]]
    ids = ids[np.lexsort((ids, -logits[ids]))]
    scores = logits[ids].astype(np.float64)
    weights = np.exp(scores - scores[0])
    shares = weights / weights.sum()
    before = np.cumsum(shares) - shares
    keep = (before < sampling.top_p) & (shares >= sampling.min_p * shares[0])
    keep[0] = True
    return ids[keep], scores[keep]


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
