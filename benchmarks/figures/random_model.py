"""Random-weight GGUF files in the shapes of real models: as fast as the real ones, and nothing to download.

The matrices are Q4_0 throughout, made as random blocks rather than by quantising, so that a file is there in
seconds. The tokenizer is a byte-level BPE whose words (" bakemi") are one token each and read back as that
token. Only words can win, unless top-k, top-p and min-p are all off: the rows of all other tokens score next to
nothing, so that no reply ends by itself and every run of a benchmark makes as many tokens as it asked for. `word_count` counts them in a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import gguf
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHATML: Final = (
    "{%- if tools %}{{- '<|im_start|>system\\n' }}"
    "{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}"
    "{{- '# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\n"
    "You are provided with function signatures within <tools></tools> XML tags:\\n<tools>' }}"
    "{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}"
    "{{- '\\n</tools>\\n\\nFor each function call, return a json object within <tool_call></tool_call> XML tags:\\n"
    '<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n\' }}'
    "{%- endif %}"
    "{%- for m in messages %}{%- if not (tools and loop.first and m.role == 'system') %}"
    "{{- '<|im_start|>' + ('user' if m.role == 'tool' else m.role) + '\\n' }}"
    "{%- if m.role == 'tool' %}{{- '<tool_response>\\n' + m.content + '\\n</tool_response>' }}"
    "{%- else %}{{- m.content or '' }}{%- endif %}"
    "{%- for call in m.tool_calls or [] %}"
    '{{- \'<tool_call>\\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}{%- endfor %}"
    "{{- '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
CONTROL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CONTEXT: Final = 32_768
_NORMAL, _CONTROL = 1, 3
_MOSTLY_Q4_0: Final = 2
_BLOCK: Final = 32
_PAIRS: Final = tuple(map("".join, product("bdfghjklmnprstvwxyz", "aeiou")))
_SPACE: Final = "Ġ"  # how byte-level vocabularies write a space
# Nibbles stand for -8 to 7; a random -8 becomes 0, so that the weights' mean is 0.
_FAIR: Final = np.array([8, *range(1, 16)], dtype=np.uint8)
_SPREAD: Final = float(np.std(_FAIR.astype(np.float64) - 8))
_QUIET: Final = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The measures of a decoder. `loudness` is the standard deviation of its scores."""

    architecture: str
    layers: int
    wide: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    rope_base: float
    biases: bool = False
    loudness: float = 2.5


SHAPES: Final[Mapping[str, Shape]] = MappingProxyType(
    {
        # SmolLM2-135M
        "135M": Shape(
            architecture="llama", layers=30, wide=576, heads=9, kv_heads=3, inner=1536,
            vocabulary=49_152, rope_base=100_000.0,
        ),
        # Qwen2.5-0.5B
        "0.5B": Shape(
            architecture="qwen2", layers=24, wide=896, heads=14, kv_heads=2, inner=4864,
            vocabulary=151_936, rope_base=1_000_000.0, biases=True,
        ),
    }
)  # fmt: skip
TINY: Final = Shape(
    architecture="qwen2", layers=2, wide=64, heads=2, kv_heads=1, inner=128,
    vocabulary=2_048, rope_base=10_000.0, biases=True,
)  # fmt: skip
"""No model that anybody has: for tests."""


def word_count(text: str) -> int:
    """How many tokens a reply of such a model holds: each is a space and a word."""
    return text.count(" ")


def words(count: int, seed: int) -> str:
    """So many words drawn at random, each one token in every vocabulary here; the same for the same seed."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(_PAIRS), (count, 2))
    # Words of two syllables come first in the vocabulary, so the smallest one has some of them: those of its first.
    return "".join(f" {_PAIRS[first % 8]}{_PAIRS[second]}" for first, second in picks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Tokens as the file writes them, the merges that make words of bytes, and where the words begin."""

    tokens: tuple[str, ...]
    merges: tuple[str, ...]
    first_word: int

    @property
    def last_word(self) -> int:
        """The place behind the last word; control tokens follow."""
        return len(self.tokens) - len(CONTROL)


def make_vocabulary(size: int) -> Vocabulary:
    """Bytes, syllables, words of one, two and three syllables until it is full, control tokens.

    A syllable is a consonant and a vowel, and nothing else merges inside a word but from its beginning, so
    that a word has one way to be read.
    """
    tokens = [*_byte_alphabet(), *_PAIRS]
    merges = [f"{pair[0]} {pair[1]}" for pair in _PAIRS]
    room = size - len(tokens) - len(CONTROL)
    if room < 9 * len(_PAIRS):
        raise ValueError(f"a vocabulary of {size} tokens has no room for words")
    first_word = len(tokens)
    for stem, pair in islice(_stems(), room):
        tokens.append(f"{stem}{pair}")
        merges.append(f"{stem} {pair}")
    return Vocabulary(tokens=(*tokens, *CONTROL), merges=tuple(merges), first_word=first_word)


def _stems() -> Iterator[tuple[str, str]]:
    stems = [_SPACE]
    while True:
        yield from product(stems, _PAIRS)
        stems = [f"{stem}{pair}" for stem, pair in product(stems, _PAIRS)]


def write_model(path: Path, shape: Shape, *, seed: int = 1) -> None:
    """Write the file, whole or not at all; the same bytes for the same seed and library versions."""
    vocabulary = make_vocabulary(shape.vocabulary)
    partial = path.with_name(f"{path.name}.part")
    out = gguf.GGUFWriter(str(partial), shape.architecture)
    _describe(out, shape, vocabulary)
    _add_weights(out, shape, vocabulary, np.random.default_rng(seed))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    partial.replace(path)


def _describe(out: gguf.GGUFWriter, shape: Shape, vocabulary: Vocabulary) -> None:
    size = len(vocabulary.tokens)
    out.add_name("random")
    out.add_context_length(CONTEXT)
    out.add_embedding_length(shape.wide)
    out.add_block_count(shape.layers)
    out.add_feed_forward_length(shape.inner)
    out.add_head_count(shape.heads)
    out.add_head_count_kv(shape.kv_heads)
    out.add_layer_norm_rms_eps(1e-6)
    out.add_rope_freq_base(shape.rope_base)
    out.add_vocab_size(size)
    out.add_file_type(_MOSTLY_Q4_0)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list([each.encode() for each in vocabulary.tokens])
    out.add_token_types([_NORMAL] * (size - len(CONTROL)) + [_CONTROL] * len(CONTROL))
    out.add_token_merges(list(vocabulary.merges))
    out.add_bos_token_id(size - 3)
    out.add_eos_token_id(size - 1)
    out.add_add_bos_token(False)
    out.add_chat_template(CHATML)


def _add_weights(
    out: gguf.GGUFWriter, shape: Shape, vocabulary: Vocabulary, rng: np.random.Generator
) -> None:
    kind = gguf.GGMLQuantizationType.Q4_0
    keys = shape.wide // shape.heads * shape.kv_heads

    def add(name: str, rows: int, columns: int, gain: float = 1.0) -> None:
        blocks = _blocks(rng, rows, columns, np.full(rows, gain / columns**0.5))
        out.add_tensor(name, blocks, raw_dtype=kind)

    # Rows of words alone are loud enough to be chosen.
    spread = np.full(shape.vocabulary, _QUIET)
    spread[vocabulary.first_word : vocabulary.last_word] = 1.0
    spread *= shape.wide**-0.5
    out.add_tensor("token_embd.weight", _blocks(rng, shape.vocabulary, shape.wide, spread), raw_dtype=kind)
    out.add_tensor("output_norm.weight", np.full(shape.wide, shape.loudness, dtype=np.float32))
    for layer in range(shape.layers):
        name = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            out.add_tensor(f"{name}{norm}.weight", np.ones(shape.wide, dtype=np.float32))
        for part, rows in (("attn_q", shape.wide), ("attn_k", keys), ("attn_v", keys)):
            add(f"{name}{part}.weight", rows, shape.wide)
            if shape.biases:
                out.add_tensor(f"{name}{part}.bias", rng.normal(0, 0.2, rows).astype(np.float32))
        add(f"{name}attn_output.weight", shape.wide, shape.wide)
        add(f"{name}ffn_gate.weight", shape.inner, shape.wide)
        add(f"{name}ffn_up.weight", shape.inner, shape.wide)
        add(f"{name}ffn_down.weight", shape.wide, shape.inner)


def _blocks(
    rng: np.random.Generator, rows: int, columns: int, spread: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Q4_0: of every 32 values one scale in half precision and 16 bytes of two nibbles; `spread` of each row."""
    if columns % _BLOCK:
        raise ValueError(f"Q4_0 has blocks of {_BLOCK}, and a row of {columns} is no number of them")
    count = columns // _BLOCK
    noise = np.frombuffer(rng.bytes(rows * columns // 2), dtype=np.uint8).reshape(rows, count, 16)
    out = np.empty((rows, count, 18), dtype=np.uint8)
    pairs = (_FAIR[:, None] << 4 | _FAIR[None, :]).astype(np.uint8).reshape(256)
    out[:, :, 2:] = pairs[noise]
    scales = (spread / _SPREAD).astype("<f2")
    out[:, :, :2] = scales.view(np.uint8).reshape(rows, 1, 2)
    return out.reshape(rows, count * 18)


def _byte_alphabet() -> list[str]:
    """The 256 bytes as byte-level vocabularies write them: what prints as itself, the rest from U+0100 on."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(spare)) for byte in range(256)]
