"""Writes a checkpoint as a GGUF in half precision, with the tokenizer and the chat template in its metadata."""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import numpy as np
import torch
from network import EPSILON, Shape
from tokenizer import NanoTokenizer
from torch import Tensor

LAYER_NAMES = {
    "value": "attn_v", "output": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
    "query": "attn_q", "key": "attn_k",
}  # fmt: skip
MOSTLY_F16 = 1


def interleaved(weight: Tensor, heads: int) -> Tensor:
    """`weight` with the rows of each head in the order that llama.cpp rotates them: pairs beside each other."""
    head_width = weight.shape[0] // heads
    return weight.view(heads, 2, head_width // 2, -1).transpose(1, 2).reshape(weight.shape)


def half(weight: Tensor) -> np.ndarray:
    """`weight` as float16."""
    return weight.numpy().astype(np.float16)


def single(weight: Tensor) -> np.ndarray:
    """`weight` as float32, which llama.cpp wants for norms."""
    return weight.numpy().astype(np.float32)


def write_metadata(writer: gguf.GGUFWriter, shape: Shape, tokenizer: NanoTokenizer, template: str) -> None:
    """Everything but the weights."""
    writer.add_name("nano")
    writer.add_context_length(2 * shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(shape.theta)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(MOSTLY_F16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([token.encode() for token in tokenizer.tokens])
    writer.add_token_types(tokenizer.types)
    writer.add_token_merges([f"{left} {right}" for left, right in tokenizer.merges])
    writer.add_bos_token_id(tokenizer.number["<|endoftext|>"])
    writer.add_eos_token_id(tokenizer.number["<|im_end|>"])
    writer.add_pad_token_id(tokenizer.number["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)


def export(folder: Path, out: Path, template: str) -> int:
    """Writes `out` from the checkpoint in `folder`; returns the number of training steps behind it."""
    saved = torch.load(folder / "checkpoint.pt", map_location="cpu")
    weights, shape = saved["weights"], Shape(**saved["shape"])
    writer = gguf.GGUFWriter(str(out), "llama")
    write_metadata(writer, shape, NanoTokenizer(folder / "tokenizer.json"), template)
    writer.add_tensor("token_embd.weight", half(weights["embedding.weight"]))
    writer.add_tensor("output_norm.weight", single(weights["norm.weight"]))
    for layer in range(shape.layers):
        here, there = f"blocks.{layer}.", f"blk.{layer}."
        writer.add_tensor(there + "attn_norm.weight", single(weights[here + "attention_norm.weight"]))
        writer.add_tensor(there + "ffn_norm.weight", single(weights[here + "hidden_norm.weight"]))
        for name, target in LAYER_NAMES.items():
            weight = weights[f"{here}{name}.weight"]
            rotated = name in ("query", "key")
            writer.add_tensor(
                f"{there}{target}.weight", half(interleaved(weight, shape.heads) if rotated else weight)
            )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return int(saved["optimiser"]["steps"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the training folder")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    template = (Path(__file__).parent / "template.jinja").read_text(encoding="utf-8")
    print(f"{options.out}: {export(options.folder, options.out, template)} steps")


if __name__ == "__main__":
    main()
