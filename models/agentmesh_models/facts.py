"""What a model file says of itself in numbers: its shape, its cache, and the memory it needs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agentmesh_models.gguf import ArrayPlace, GgufFile
from agentmesh_models.memory import PARALLEL, memory_needed
from agentmesh_models.toolformat import detect

_TEMPLATE: Final = "tokenizer.chat_template"
_F16: Final = 2

# ggml's names of tensor types, as people know them from the names of files (ggml.h of llama.cpp).
_TYPES: Final[Mapping[int, str]] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
    29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip

# general.file_type, as llama.cpp writes it (llama_ftype in llama.h).
_FILE_TYPES: Final[Mapping[int, str]] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS",
    20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M",
    28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A model in numbers; None is what the file does not tell. Sizes in bytes."""

    name: str | None
    architecture: str
    parameters: int
    quantisation: str
    bits_per_weight: float
    context: int | None
    embedding: int | None
    layers: int | None
    heads: int | None
    kv_heads: int | None
    kv_bytes: int | None
    """Of the cache for one token, in f16; for layers with a sliding window this is more than they use."""
    window: int | None
    vocabulary: int | None
    tokenizer: str | None
    template_digest: str | None
    tool_format: str | None
    licence: str | None
    weights: int
    read_a_step: int
    """Of the weights, what one decode step reads: no table of embeddings beside an output matrix, no idle experts."""

    def memory(self, n_ctx: int, *, parallel: int = PARALLEL, gpu_layers: int = 0) -> int | None:
        """Bytes of main memory that an engine takes, about; None where the file does not tell the shape of the cache."""
        return None if self.kv_bytes is None else self.need(n_ctx, parallel=parallel, gpu_layers=gpu_layers)

    def need(self, n_ctx: int, *, parallel: int = PARALLEL, gpu_layers: int = 0) -> int:
        """As `memory`, but at least what the rest needs where the cache is not told."""
        return memory_needed(
            weights=self.weights,
            kv_bytes=self.kv_bytes,
            vocabulary=self.vocabulary or 0,
            n_ctx=n_ctx,
            layers=self.layers,
            parallel=parallel,
            gpu_layers=gpu_layers,
        )


def read_facts(file: GgufFile) -> Facts:
    """The facts of a file that `read_gguf` has read.

    Raises:
        ModelError: the file changed since.
    """
    arch = file.text("general.architecture") or "?"
    template = file.text(_TEMPLATE)
    parameters = sum(_elements(each.shape) for each in file.tensors)
    weights = sum(each.size for each in file.tensors)
    heads = _each_layer(file, f"{arch}.attention.head_count")
    kv_heads = _each_layer(file, f"{arch}.attention.head_count_kv") or heads
    return Facts(
        name=file.text("general.name"),
        architecture=arch,
        parameters=parameters,
        quantisation=_quantisation(file),
        bits_per_weight=round(8 * weights / parameters, 2) if parameters else 0.0,
        context=file.context_length,
        embedding=file.number(f"{arch}.embedding_length"),
        layers=file.number(f"{arch}.block_count"),
        heads=max(heads, default=None),
        kv_heads=max(kv_heads, default=None),
        kv_bytes=_kv_bytes(file, arch, kv_heads, max(heads, default=0)),
        window=file.number(f"{arch}.attention.sliding_window"),
        vocabulary=_vocabulary(file, arch),
        tokenizer=_tokenizer(file),
        template_digest=None
        if template is None
        else hashlib.sha256(template.encode("utf-8", "surrogatepass")).hexdigest(),
        tool_format=None if template is None else detect(template),
        licence=file.text("general.license"),
        weights=weights,
        read_a_step=_read_a_step(file, arch),
    )


def _read_a_step(file: GgufFile, arch: str) -> int:
    experts, busy = file.number(f"{arch}.expert_count"), file.number(f"{arch}.expert_used_count")
    has_output = any(each.name == "output.weight" for each in file.tensors)
    total = 0
    for each in file.tensors:
        if each.name == "token_embd.weight" and has_output:
            continue
        idle = experts and busy and "_exps." in each.name
        total += each.size * busy // experts if idle and experts and busy else each.size
    return total


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for each in shape:
        count *= each
    return count


def _each_layer(file: GgufFile, key: str) -> tuple[int, ...]:
    """A number of every layer: the file has one for all, or an array; empty where it has neither."""
    one = file.number(key)
    if one is not None:
        return (one,)
    return file.numbers(key)


def _kv_bytes(file: GgufFile, arch: str, kv_heads: tuple[int, ...], heads: int) -> int | None:
    layers, embedding = file.number(f"{arch}.block_count"), file.number(f"{arch}.embedding_length")
    if not layers or not kv_heads:
        return None
    plain = embedding // heads if embedding and heads else None
    key = file.number(f"{arch}.attention.key_length") or plain
    value = file.number(f"{arch}.attention.value_length") or plain
    if key is None or value is None:
        return None
    all_heads = kv_heads[0] * layers if len(kv_heads) == 1 else sum(kv_heads)
    return all_heads * (key + value) * _F16


def _quantisation(file: GgufFile) -> str:
    told = file.number("general.file_type")
    if told is not None and told in _FILE_TYPES:
        return _FILE_TYPES[told]
    by_bytes: Counter[int] = Counter()
    for each in file.tensors:
        by_bytes[each.kind] += each.size
    most = by_bytes.most_common(1)
    return _TYPES.get(most[0][0], "?") if most else "?"


def _vocabulary(file: GgufFile, arch: str) -> int | None:
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    return tokens.count if isinstance(tokens, ArrayPlace) else file.number(f"{arch}.vocab_size")


def _tokenizer(file: GgufFile) -> str | None:
    parts = [file.text("tokenizer.ggml.model"), file.text("tokenizer.ggml.pre")]
    return " / ".join(each for each in parts if each) or None
