"""Whether this machine's arithmetic gives the same bits alone and in company, found out by trying.

A model's scores for a token should depend on the tokens before it and on nothing else: not on what other
requests are evaluated beside it, nor on how its prompt was cut into steps. With weights in blocks of 32 (Q4_0, Q5_1,
Q8_0, IQ4_NL) on a CPU that holds to the last bit, where the output's weights are not K-quants as long as few scores are asked for at once. With K-quants and with 16- and 32-bit weights llama.cpp's matrix
product sums in an order that depends on how many tokens there are, and a graphics card promises nothing. So an engine
asks when it has loaded:

- "free": the same bits in any company and cut. Everything is batched, any prefix is shared.
- "aligned": not so. Each prompt is evaluated by itself, cut at multiples of `ALIGNED` tokens, and only whole such
  pieces are shared; those who decode share an evaluation as far as that changes nothing (`Probed.together`). Then
  again the same request gives the same bits, whatever else runs.
- "loose": nothing is promised, and everything is batched and shared all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from agentmesh_models.context import Context, Row

if TYPE_CHECKING:
    from agentmesh_models.context import Rows

Invariance = Literal["free", "aligned", "loose"]
ALIGNED: Final = 32
_FEW: Final = 9
_MORE: Final = 45
_MOST_TOGETHER: Final = 256
_STEPS: Final = (16, 7, 3, 2)
"""Up to 7 rows llama.cpp multiplies K-quants as it does one, up to 3 where it has repacked them; with 16 it uses every
way that it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What a probe found. The scores of at most `together` tokens may be asked for at once: more change bits."""

    invariance: Invariance
    together: int

    @property
    def grain(self) -> int:
        """In units of how many tokens prefixes are shared."""
        return ALIGNED if self.invariance == "aligned" else 1


LOOSE: Final = Probed(invariance="loose", together=_MOST_TOGETHER)


def probe(context: Context, *, n_vocab: int) -> Probed:
    """Evaluate some tokens together, one by one and in company, and compare bits; leaves the context empty.

    Costs some 150 evaluated tokens at most.
    """
    if context.n_batch < _MORE + 3 or context.n_cells < 4 * _MORE:
        return Probed(invariance="aligned", together=1)
    try:
        free = _is_free(context, n_vocab)
        together = _together(context, n_vocab)
        return Probed(invariance="free" if free else "aligned", together=together)
    finally:
        context.clear()


def _is_free(context: Context, n_vocab: int) -> bool:
    """Whether prompts may be cut in any way and share their steps: looked at through few scores at a time, for how
    many scores are asked for is another question."""
    first, second = _tokens(n_vocab, 1), _tokens(n_vocab, 2)
    whole = context.evaluate(_rows(first[:_FEW], 0, 0, wanted=2)).copy()
    for at in range(_FEW):
        alone = context.evaluate(_rows(first[at : at + 1], at, 1))
        if at >= _FEW - 2 and not _equal(alone, whole[at - _FEW + 2 :][:1]):
            return False
    # One goes on by a long piece while the other, in the same step, goes on by single tokens of its own.
    company = [*_rows(second[:3], 0, 2, wanted=0), *_rows(first[_FEW:], _FEW, 0, wanted=2)]
    beside = context.evaluate(company).copy()
    context.evaluate(_rows(first[_FEW : _FEW + 2], _FEW, 1))
    apart = context.evaluate(_rows(first[_FEW + 2 : -1], _FEW + 2, 1)).copy()
    last = context.evaluate(_rows(first[-1:], _MORE - 1, 1))
    return _equal(beside[:1], apart) and _equal(beside[1:], last)


def _together(context: Context, n_vocab: int) -> int:
    """How many single tokens of as many sequences give the bits that each gives by itself."""
    context.clear()
    most = _STEPS[0]
    tokens = _tokens(n_vocab, 1)
    context.evaluate(_rows(tokens[:_FEW], 0, 0))
    alone: list[bytes] = []
    for at in range(most):
        context.copy(0, 1, 0, _FEW)
        alone.append(context.evaluate(_rows([tokens[_FEW + at]], _FEW, 1)).tobytes())
        context.drop(1)
    for count in _STEPS:
        rows: list[Row] = []
        for at in range(count):
            context.copy(0, 1 + at, 0, _FEW)
            rows += _rows([tokens[_FEW + at]], _FEW, 1 + at)
        scores = context.evaluate(rows)
        if all(scores[at].tobytes() == alone[at] for at in range(count)):
            return _MOST_TOGETHER if count == most else count
        for at in range(count):
            context.drop(1 + at)
    return 1


def _tokens(n_vocab: int, salt: int) -> list[int]:
    """Some tokens, spread over the vocabulary."""
    return [(7919 * (at + 1) + 104729 * salt) % n_vocab for at in range(_MORE)]


def _rows(tokens: Sequence[int], start: int, sequence: int, *, wanted: int = 1) -> list[Row]:
    """Rows of which the last `wanted` ask for scores."""
    first = len(tokens) - wanted
    return [
        Row(token=token, position=start + at, sequence=sequence, wanted=at >= first)
        for at, token in enumerate(tokens)
    ]


def _equal(left: Rows, right: Rows) -> bool:
    """Bit for bit, so that minus zero is not zero."""
    return left.tobytes() == right.tobytes()
