"""The weights and what the optimiser remembers, in memory that all training processes share.

Each process writes the gradient of its own batch, then improves its own share of the tensors from the mean of all
gradients: Muon for the matrices, Adam for the embedding and the norms.
"""

from __future__ import annotations

import math

import torch
from network import Nano
from torch import Tensor

MUON_MOMENTUM = 0.95
ADAM_FIRST, ADAM_SECOND = 0.9, 0.97
DECAY = 0.01


def orthogonal(gradient: Tensor) -> Tensor:
    """Nearly the nearest matrix with orthogonal rows, by four Newton-Schulz steps in bfloat16 (Muon's update)."""
    x = gradient.bfloat16()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(4):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.T if tall else x).float()


class Optimiser:
    """Masters of all weights in float32, the moments, and one gradient a process; every tensor is shared memory."""

    def __init__(self, network: Nano, workers: int, muon_rate: float, adam_rate: float) -> None:
        weights = dict(network.named_parameters())
        self.shapes = {name: weight.shape for name, weight in weights.items()}
        self.workers, self.muon_rate, self.adam_rate = workers, muon_rate, adam_rate
        self.master = torch.cat([weight.detach().float().flatten() for weight in weights.values()])
        self.first, self.second = torch.zeros_like(self.master), torch.zeros_like(self.master)
        self.gradients = torch.zeros(workers, len(self.master))
        self.steps = torch.zeros((), dtype=torch.long)
        for tensor in (self.master, self.first, self.second, self.gradients, self.steps):
            tensor.share_memory_()

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """`flat` cut into tensors of the weights' shapes, by name; they share its memory."""
        parts = flat.split([shape.numel() for shape in self.shapes.values()])
        return {
            name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    @torch.no_grad()
    def give(self, worker: int, network: Nano) -> None:
        """Takes the gradients out of `network` as those of process `worker`."""
        slot = self.views(self.gradients[worker])
        for name, weight in network.named_parameters():
            if weight.grad is None:
                slot[name].zero_()
            else:
                slot[name].copy_(weight.grad)
            weight.grad = None

    @torch.no_grad()
    def take(self, network: Nano) -> None:
        """Writes the masters into `network`, in its own precision."""
        master = self.views(self.master)
        for name, weight in network.named_parameters():
            weight.copy_(master[name])

    @torch.no_grad()
    def improve(self, worker: int, rate: float) -> None:
        """Improves the share of process `worker` at `rate` times the full learning rates; `steps` counts this one."""
        gradient = self.gradients.mean(0)
        clip = min(1.0, 1.0 / (float(gradient.norm()) + 1e-6))
        gradients, masters = self.views(gradient), self.views(self.master)
        first, second = self.views(self.first), self.views(self.second)
        for index, (name, shape) in enumerate(self.shapes.items()):
            if index % self.workers != worker:
                continue
            if len(shape) == 2 and name != "embedding.weight":
                momentum = first[name].mul_(MUON_MOMENTUM).add_(gradients[name])
                update = orthogonal(gradients[name] + MUON_MOMENTUM * momentum)
                scale = max(1.0, shape[0] / shape[1]) ** 0.5
                masters[name].mul_(1 - DECAY * self.muon_rate * rate)
                masters[name].add_(update, alpha=-self.muon_rate * rate * scale)
                continue
            clipped, count = gradients[name] * clip, int(self.steps)
            first[name].mul_(ADAM_FIRST).add_(clipped, alpha=1 - ADAM_FIRST)
            second[name].mul_(ADAM_SECOND).addcmul_(clipped, clipped, value=1 - ADAM_SECOND)
            mean, square = first[name] / (1 - ADAM_FIRST**count), second[name] / (1 - ADAM_SECOND**count)
            masters[name].addcdiv_(mean, square.sqrt().add_(1e-8), value=-self.adam_rate * rate)

    def state(self) -> dict[str, Tensor]:
        """All there is to go on from."""
        return {"master": self.master, "first": self.first, "second": self.second, "steps": self.steps}

    def load(self, state: dict[str, Tensor]) -> None:
        """Goes on from `state`."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


def rate(part: float, steps: int) -> float:
    """The share of the full learning rates at `part` of the training (0 to 1): a warm-up of 30 steps, then a cosine."""
    falling = 0.5 * (1 + math.cos(math.pi * min(1.0, part)))
    return min(1.0, (steps + 1) / 30) * (0.01 + 0.99 * falling)
