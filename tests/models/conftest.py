"""What the models' tests share: small model files made on the spot, and a checker of arguments."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentmesh_models.grammar.expression import Chars, Node, Ref, Repeat, Rules, Seq, Text

CHATML = (
    "{%- if tools %}{{- '<|im_start|>system\\n# Tools\\n<tools>\\n' }}"
    "{%- for tool in tools %}{{- tool | tojson }}\n{% endfor %}"
    "{{- '</tools>\\nUse <tool_call>.<|im_end|>\\n' }}{%- endif %}"
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the user's own cache."""
    monkeypatch.setenv("AGENTMESH_CACHE", str(tmp_path_factory.mktemp("cache")))


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_bytes(
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    template: str | None = CHATML,
    data: bytes = bytes(128),
    layers: int | None = None,
    tokens: Sequence[bytes] = (b"a", b"<s>", b"</s>"),
) -> bytes:
    """A whole GGUF file, byte by byte: five kinds of metadata and two small tensors."""
    pairs = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("llama.context_length") + struct.pack("<II", 4, 512),
        text("some.flag") + struct.pack("<IB", 7, 1),
        text("some.float") + struct.pack("<If", 6, 0.5),
        text("tokenizer.ggml.tokens")
        + struct.pack("<IIQ", 9, 8, len(tokens))
        + b"".join(struct.pack("<Q", len(each)) + each for each in tokens),
        text("tokenizer.ggml.scores") + struct.pack("<IIQ3f", 9, 6, 3, 0.0, 1.0, 2.0),
        text("tokenizer.ggml.bos_token_id") + struct.pack("<II", 4, 1),
    ]
    if layers is not None:
        pairs.append(text("llama.block_count") + struct.pack("<II", 4, layers))
    if template is not None:
        pairs.append(text("tokenizer.chat_template") + struct.pack("<I", 8) + text(template))
    tensors = [
        text("token_embd.weight") + struct.pack("<IQQIQ", 2, 4, 4, 0, 0),
        text("output_norm.weight") + struct.pack("<IQIQ", 1, 4, 0, 64),
    ]
    head = (
        magic + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join(pairs) + b"".join(tensors)
    )
    return head + bytes(-len(head) % 32) + data


@pytest.fixture
def make_gguf(tmp_path: Path) -> Callable[..., Path]:
    """Writes a crafted GGUF file; takes the keywords of `gguf_bytes`."""

    def make(**changes: Any) -> Path:
        path = tmp_path / "crafted.gguf"
        path.write_bytes(gguf_bytes(**changes))
        return path

    return make


MARKS = (
    '<tool_call>\n{"name": "',
    "<tool_call>",
    "call>{",
    "x<tool",
    "\n<tool_",
    '"}}\n</tool_call>',
    '": "',
    '", "',
)
"""Tokens that straddle the marks of calls."""


@pytest.fixture(scope="session")
def random_model(make_random_model: Callable[..., Path]) -> Path:
    """Random weights: at temperature 1 it writes noise, and its tokens straddle every mark there is."""
    return make_random_model("random", CHATML)


@pytest.fixture(scope="session")
def make_random_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a model of random weights with a chat template, further control tokens and a context length."""
    pytest.importorskip("gguf", reason="gguf writes the random-weight model")
    pytest.importorskip("numpy", reason="numpy makes the random weights")

    def make(
        name: str,
        template: str,
        control: tuple[str, ...] = (),
        n_ctx: int = 1024,
        kind: str = "F32",
    ) -> Path:
        path = tmp_path_factory.mktemp("random") / f"{name}.gguf"
        _write_random_model(path, template, control, n_ctx, kind)
        return path

    return make


@pytest.fixture(scope="session")
def blocks_model(make_random_model: Callable[..., Path]) -> Path:
    """Random weights in blocks of 32, as Q4_0 has them: what is evaluated together changes no bits."""
    return make_random_model("blocks", CHATML, n_ctx=2048, kind="Q4_0")


@pytest.fixture(scope="session")
def small_blocks_model(make_random_model: Callable[..., Path]) -> Path:
    """The same with a context of 256 tokens."""
    return make_random_model("small", CHATML, n_ctx=256, kind="Q4_0")


@pytest.fixture(scope="session")
def company_model(make_random_model: Callable[..., Path]) -> Path:
    """Random weights of 32 bits: their sums depend on what is evaluated together."""
    return make_random_model("company", CHATML, n_ctx=2048)


def _write_random_model(path: Path, template: str, control: tuple[str, ...], n_ctx: int, kind: str) -> None:
    import gguf
    import numpy as np

    ends = ["<|im_start|>", "<|im_end|>"]
    marks = [mark for mark in MARKS if mark not in control]  # llama.cpp aborts where a token stands twice
    tokens = [*_byte_alphabet(), *marks, *control, "ou", *ends]
    types = [1] * 256 + [4] * len(marks) + [3] * len(control) + [1, 3, 3]
    wide, layers, heads, inner, vocab = 64, 2, 2, 128, len(tokens)
    out = gguf.GGUFWriter(str(path), "llama")
    out.add_name("random")
    out.add_context_length(n_ctx)
    out.add_embedding_length(wide)
    out.add_block_count(layers)
    out.add_feed_forward_length(inner)
    out.add_head_count(heads)
    out.add_head_count_kv(heads)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(wide // heads)
    out.add_vocab_size(vocab)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list([each.encode() for each in tokens])
    out.add_token_types(types)
    out.add_token_merges(["o u"])
    out.add_bos_token_id(vocab - 2)
    out.add_eos_token_id(vocab - 1)
    out.add_add_bos_token(False)
    out.add_chat_template(template)
    rng = np.random.default_rng(7)

    def noise(name: str, *shape: int) -> None:
        values = rng.normal(0, 0.5, shape).astype(np.float32)
        if kind == "F32":
            out.add_tensor(name, values)
        else:
            coded = gguf.GGMLQuantizationType[kind]
            out.add_tensor(name, gguf.quants.quantize(values, coded), raw_dtype=coded)

    noise("token_embd.weight", vocab, wide)
    out.add_tensor("output_norm.weight", np.full(wide, 0.15, dtype=np.float32))
    for layer in range(layers):
        name = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            out.add_tensor(f"{name}{norm}.weight", np.ones(wide, dtype=np.float32))
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            noise(f"{name}{part}.weight", wide, wide)
        noise(f"{name}ffn_gate.weight", inner, wide)
        noise(f"{name}ffn_up.weight", inner, wide)
        noise(f"{name}ffn_down.weight", wide, inner)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def _byte_alphabet() -> list[str]:
    """The 256 byte tokens as the GPT-2 vocabulary writes them."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(spare)) for byte in range(256)]


@pytest.fixture(scope="session")
def derive() -> Callable[[Rules, Node, random.Random], str]:
    """Makes a random text of a grammar: what a model without any sense might write."""
    return _derive


def _derive(rules: Rules, node: Node, rng: random.Random, depth: int = 0) -> str:
    if isinstance(node, Text):
        return node.text
    if isinstance(node, Chars):
        low, high = rng.choice(node.ranges)
        return chr(rng.randint(low, min(high, low + 90)) if rng.random() < 0.9 else rng.randint(low, high))
    if isinstance(node, Ref):
        return _derive(rules, rules.named[node.name], rng, depth + 1)
    if isinstance(node, Seq):
        return "".join(_derive(rules, each, rng, depth + 1) for each in node.parts)
    if isinstance(node, Repeat):
        possible = rules.shortest(node.item) is not None
        most = node.low + 3 if node.high is None else node.high
        edge = (
            rng.choice([node.low, most, rng.randint(node.low, most)]) if depth < 40 and possible else node.low
        )
        return "".join(_derive(rules, node.item, rng, depth + 1) for _ in range(edge))
    options = [each for each in node.options if rules.shortest(each) is not None]
    if depth > 60:
        return min((rules.shortest(each) or "" for each in options), key=len)
    return _derive(rules, rng.choice(options), rng, depth + 1)


@pytest.fixture(scope="session")
def conforms() -> Callable[[object, Any, Mapping[str, Any]], bool]:
    """Whether a value fits a schema: the part of JSON Schema that the grammar promises, written anew."""
    return _conforms


def _conforms(value: object, schema: Any, root: Mapping[str, Any]) -> bool:
    if not isinstance(schema, dict) or not schema:
        return True
    if "$ref" in schema:
        target: Any = root
        for step in schema["$ref"][2:].split("/"):
            target = target[step]
        return _conforms(value, target, root)
    if "const" in schema and value != schema["const"]:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    for key in ("anyOf", "oneOf"):
        if key in schema and not any(_conforms(value, each, root) for each in schema[key]):
            return False
    kinds = schema.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    return (not kinds or any(_is(value, kind) for kind in kinds)) and _inside(value, schema, root)


def _is(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    types: dict[str, Any] = {
        "string": str, "integer": int, "number": (int, float),
        "null": type(None), "array": list, "object": dict,
    }  # fmt: skip
    return kind in types and isinstance(value, types[kind])


def _inside(value: object, schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    if isinstance(value, str):
        return schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
    if isinstance(value, list):
        bounded = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        return bounded and all(_conforms(each, schema.get("items"), root) for each in value)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        if any(name not in value for name in schema.get("required", [])):
            return False
        if known and value.keys() - known.keys():
            return False
        rest = schema.get("additionalProperties")
        return all(_conforms(each, known.get(name, rest), root) for name, each in value.items())
    return True
