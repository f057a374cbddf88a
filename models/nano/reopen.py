"""Makes a training folder out of a GGUF that `export.py` and `quantise.py` wrote, so that it can be trained further."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import gguf
import torch
from export import LAYER_NAMES
from network import Nano, Shape
from optimiser import Optimiser
from tokenizer import NanoTokenizer
from torch import Tensor

MIX = {"copying": 0.06, "easy": 0.1}
"""A model that has been trained copies already."""


def halves(weight: Tensor, heads: int) -> Tensor:
    """`weight` with the rows of each head in the order that training rotates them: the inverse of `export.interleaved`."""
    head_width = weight.shape[0] // heads
    return weight.view(heads, head_width // 2, 2, -1).transpose(1, 2).reshape(weight.shape)


def tokenizer_of(reader: gguf.GGUFReader) -> dict[str, Any]:
    """The tokenizer in the form of `tokenizer.json`."""
    tokens, types, merges = (
        reader.fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type", "merges")
    )
    return {"tokens": tokens, "types": types, "merges": [merge.split(" ") for merge in merges]}


def weights_of(reader: gguf.GGUFReader, shape: Shape) -> dict[str, Tensor]:
    """The weights in float32, under the names that training gives them."""
    stored = {
        tensor.name: torch.tensor(gguf.quants.dequantize(tensor.data, tensor.tensor_type)).float()
        for tensor in reader.tensors
    }
    weights = {"embedding.weight": stored["token_embd.weight"], "norm.weight": stored["output_norm.weight"]}
    for layer in range(shape.layers):
        here, there = f"blocks.{layer}.", f"blk.{layer}."
        weights[here + "attention_norm.weight"] = stored[there + "attn_norm.weight"]
        weights[here + "hidden_norm.weight"] = stored[there + "ffn_norm.weight"]
        for name, source in LAYER_NAMES.items():
            weight = stored[f"{there}{source}.weight"]
            weights[f"{here}{name}.weight"] = (
                halves(weight, shape.heads) if name in ("query", "key") else weight
            )
    return weights


def reopen(source: Path, folder: Path) -> Shape:
    """Writes `tokenizer.json` and `checkpoint.pt` into `folder` from the GGUF `source`; returns the network's shape."""
    reader = gguf.GGUFReader(source)
    (folder / "tokenizer.json").write_text(
        json.dumps(tokenizer_of(reader), ensure_ascii=False), encoding="utf-8"
    )
    number = {
        key: int(reader.fields[f"llama.{name}"].contents())
        for key, name in {
            "width": "embedding_length", "layers": "block_count", "heads": "attention.head_count", "hidden": "feed_forward_length",
        }.items()
    }  # fmt: skip
    shape = Shape(vocabulary=len(NanoTokenizer(folder / "tokenizer.json").tokens), **number)
    network = Nano(shape)
    network.load_state_dict(weights_of(reader, shape))
    optimiser = Optimiser(network, workers=1, muon_rate=0, adam_rate=0)
    torch.save(
        {
            "shape": dataclasses.asdict(shape),
            "seconds": 0.0,
            "tokens": [0],
            "mix": MIX,
            "weights": optimiser.views(optimiser.master),
            "optimiser": optimiser.state(),
        },
        folder / "checkpoint.pt",
    )
    return shape


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="the GGUF")
    parser.add_argument("folder", type=Path, help="an empty folder for the training")
    options = parser.parse_args()
    print(reopen(options.source, options.folder))


if __name__ == "__main__":
    main()
