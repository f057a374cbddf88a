"""The network: a small Llama, written so that a CPU trains it fast."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How large a network is; `context` counts tokens."""

    vocabulary: int = 2048
    width: int = 256
    layers: int = 5
    heads: int = 8
    hidden: int = 512
    context: int = 1024
    theta: float = 10000.0


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    # Half-split rotation is faster here; `export.py` permutes the rows to the interleaved form llama.cpp expects.
    left, right = x.chunk(2, -1)
    return torch.cat((left * cosine - right * sine, left * sine + right * cosine), -1)


class Block(nn.Module):
    """Attention and a gated feed-forward layer, each after a norm and added to the stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.head_width = shape.heads, shape.width // shape.heads
        self.attention_norm, self.hidden_norm = (nn.RMSNorm(shape.width, eps=EPSILON) for _ in range(2))
        self.query, self.key, self.value, self.output = (
            nn.Linear(shape.width, shape.width, bias=False) for _ in range(4)
        )
        self.gate, self.up = (nn.Linear(shape.width, shape.hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, hidden: Tensor) -> Tensor:
        """`x` of shape (batch, time, width), one layer further on; `hidden` is -inf where a place may not look."""
        batch, time, _ = x.shape
        normal = self.attention_norm(x)
        split = (batch, time, self.heads, self.head_width)
        query = _rotate(self.query(normal).view(split), cosine, sine).transpose(1, 2)
        key = _rotate(self.key(normal).view(split), cosine, sine).transpose(1, 2)
        value = self.value(normal).view(split).transpose(1, 2)
        # Written out: on a CPU the backward pass of the fused attention takes longer than all the rest.
        scores = (query * self.head_width**-0.5) @ key.transpose(2, 3) + hidden
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, time, -1)
        x = x + self.output(mixed)
        normal = self.hidden_norm(x)
        return x + self.down(functional.silu(self.gate(normal)) * self.up(normal))


class Nano(nn.Module):
    """The whole network, with the embedding also as its output layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=EPSILON)
        head_width = shape.width // shape.heads
        frequency = 1.0 / shape.theta ** (torch.arange(0, head_width, 2).float() / head_width)
        angle = torch.outer(torch.arange(shape.context).float(), frequency)
        self.register_buffer("cosine", angle.cos(), persistent=False)
        self.register_buffer("sine", angle.sin(), persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                spread = 0.02 if name.startswith("embedding") else 0.7 / math.sqrt(weight.shape[1])
                if name.endswith(("output.weight", "down.weight")):
                    spread /= math.sqrt(2 * shape.layers)
                nn.init.normal_(weight, 0, spread)

    def forward(self, tokens: Tensor, branches: Tensor, places: Tensor, positions: Tensor) -> Tensor:
        """Logits at `positions`, counted through the flattened batch; the rest of shape (batch, time).

        A token sees what stands before it in branch 0, which all share, and in its own branch.
        """
        x = self.embedding(tokens)
        cosine, sine = self.cosine[places][:, :, None], self.sine[places][:, :, None]
        other = (branches[:, None, :] != 0) & (branches[:, None, :] != branches[:, :, None])
        time = tokens.shape[1]
        ahead = torch.ones(time, time, dtype=torch.bool).triu(1)
        hidden = torch.zeros(other.shape, dtype=x.dtype).masked_fill_(other | ahead, -math.inf)[:, None]
        for block in self.blocks:
            x = block(x, cosine, sine, hidden)
        return functional.linear(self.norm(x).flatten(0, 1)[positions], self.embedding.weight)
