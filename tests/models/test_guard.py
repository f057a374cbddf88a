"""The guard over calls in a large vocabulary, where masks are dear: it takes what the grammar allows, like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentmesh_models import ToolSpec, binding
from agentmesh_models.grammar import call_grammar
from agentmesh_models.grammar.guard import Guard, Vocabulary, vocabulary
from agentmesh_models.toolformat import HERMES, split_calls

np = pytest.importorskip("numpy", reason="scores are numpy arrays")
pytest.importorskip("llama_cpp", reason="llama-cpp-python masks vocabularies")

SAY = ToolSpec(
    name="say",
    parameters={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
)


@pytest.fixture(scope="module")
def words(make_random_model: Callable[..., Path]) -> Iterator[Vocabulary]:
    binding.load()
    many = tuple(f"<|reserved_{number}|>" for number in range(17_000))
    weights = binding.Weights(make_random_model("large", "{# tools #}", many), gpu_layers=0)
    yield vocabulary(weights, HERMES)
    weights.close()


@pytest.mark.parametrize("seed", range(4))
def test_noise_over_a_large_vocabulary_makes_a_whole_call(words: Vocabulary, seed: int) -> None:
    guard = Guard(words, call_grammar([SAY]))
    rng = np.random.default_rng(seed)
    data, left = b"", 90
    while not guard.complete and left:
        logits = rng.normal(0, 1, words.weights.n_vocab).astype(np.float32)
        token = guard.choose(
            logits.copy(), lambda scores: int(np.argmax(scores)), int(np.argmax(logits)), left
        )
        assert guard.allows(token)
        guard.accept(token)
        data += words.piece(token)
        left -= 1
    guard.close()
    assert guard.complete and split_calls(data.decode(), [SAY])[1][0].name == "say"


def test_where_the_scores_hold_nothing_that_may_come_the_shortest_end_is_taken(words: Vocabulary) -> None:
    guard = Guard(words, call_grammar([SAY]))
    nothing = np.full(words.weights.n_vocab, -np.inf, dtype=np.float32)
    data = b""
    while not guard.complete:
        token = guard.choose(nothing.copy(), lambda scores: int(np.argmax(scores)), 0, 300)
        guard.accept(token)
        data += words.piece(token)
    guard.close()
    assert data.decode() == call_grammar([SAY]).shortest


def test_texts_are_spelled_with_marks_and_byte_by_byte_where_it_must_be(words: Vocabulary) -> None:
    for text in ("", "plain", "é🙂", '<tool_call>\n{"name": "'):
        tokens = words.spell(text.encode())
        assert tokens is not None and b"".join(map(words.piece, tokens)) == text.encode()
    broken = words.spell(b"\xa9}")  # the rest of a character
    assert broken is not None and b"".join(map(words.piece, broken)) == b"\xa9}"


def test_a_model_s_vocabulary_is_looked_through_once(words: Vocabulary) -> None:
    assert vocabulary(words.weights, HERMES) is words
    assert all(words.weights.is_end(token) for token in words.ends) and words.ends


class SentencePieces:
    """A vocabulary that begins every text with a space, as SentencePiece's do, and has bytes to fall back on."""

    def __init__(self) -> None:
        self._table = [bytes([byte]) for byte in range(256)] + [b" ", b"call", b' {"', b"}}"]
        self.n_vocab = len(self._table)

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        return [256, *text.encode()]

    def piece(self, token: int) -> bytes:
        return self._table[token]

    def is_end(self, token: int) -> bool:
        return False


def test_a_vocabulary_that_adds_spaces_spells_without_them() -> None:
    words = Vocabulary(SentencePieces(), HERMES)  # type: ignore[arg-type]
    tokens = words.spell(b'call {"}}\xc3\xa9')
    assert tokens == [257, 258, 259, 0xC3, 0xA9]
