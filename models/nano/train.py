"""Trains nano on a stream of generated conversations until a given time of day, and can go on from a checkpoint."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import math
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as functional
from conversations import Turn
from generate import conversation
from network import Nano, Shape
from tokenizer import NanoTokenizer
from torch import Tensor
from words import Source

POOL = 500
LONGEST = 640
SAVE_SECONDS = 150
Encoded = tuple[list[int], list[int], list[str]]


def encode(tokenizer: NanoTokenizer, turns: list[Turn]) -> Encoded:
    """Tokens, for each the number of the trained turn it belongs to (-1: none), and the labels of those turns."""
    start, end, line = (
        tokenizer.number["<|im_start|>"],
        tokenizer.number["<|im_end|>"],
        tokenizer.encode("\n"),
    )
    tokens: list[int] = []
    owners: list[int] = []
    labels: list[str] = []
    for turn in turns:
        head = [start, *tokenizer.encode(turn.role + "\n")]
        body = [*tokenizer.encode(turn.text), end]
        owner = -1
        if turn.label:
            owner = len(labels)
            labels.append(turn.label)
        tokens += head + body + line
        owners += [-1] * len(head) + [owner] * len(body) + [-1] * len(line)
    return tokens, owners, labels


def batches(tokenizer: NanoTokenizer, seed: int, size: int, mix: dict[str, float]) -> Iterator[list[Encoded]]:
    """Endless batches of about `size` tokens, each of conversations of like length, none made twice."""
    source, shuffle = Source(seed), random.Random(seed)
    while True:
        pool: list[Encoded] = []
        while len(pool) < POOL:
            encoded = encode(tokenizer, conversation(source, **mix))
            if len(encoded[0]) <= LONGEST:
                pool.append(encoded)
        pool.sort(key=lambda item: len(item[0]))
        grouped: list[list[Encoded]] = [[]]
        for item in pool:
            if grouped[-1] and (len(grouped[-1]) + 1) * len(item[0]) > size:
                grouped.append([])
            grouped[-1].append(item)
        shuffle.shuffle(grouped)
        yield from grouped


def collate(batch: list[Encoded]) -> tuple[Tensor, Tensor, Tensor, Tensor, list[str]]:
    """Inputs, positions with a target, targets, the turn of each target, and the turns' labels."""
    longest = max(len(item[0]) for item in batch) - 1
    inputs = torch.zeros(len(batch), longest, dtype=torch.long)
    positions, targets, owners, labels = [], [], [], []
    for row, (tokens, turns, names) in enumerate(batch):
        inputs[row, : len(tokens) - 1] = torch.tensor(tokens[:-1])
        for column in range(1, len(tokens)):
            if turns[column] >= 0:
                positions.append(row * longest + column - 1)
                targets.append(tokens[column])
                owners.append(len(labels) + turns[column])
        labels += names
    return inputs, torch.tensor(positions), torch.tensor(targets), torch.tensor(owners), labels


def orthogonal(gradient: Tensor) -> Tensor:
    """The nearest matrix with orthogonal rows, by four Newton-Schulz steps (the Muon optimiser's update)."""
    x = gradient
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(4):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if tall else x


class Optimiser:
    """Muon for the matrices, Adam for the embedding and the norms."""

    def __init__(self, network: Nano, muon_rate: float, adam_rate: float) -> None:
        self.weights = dict(network.named_parameters())
        self.master = {name: weight.detach() for name, weight in self.weights.items()}
        self.muon_rate, self.adam_rate = muon_rate, adam_rate
        matrices = [
            name for name, weight in self.master.items() if weight.dim() == 2 and name != "embedding.weight"
        ]
        self.momentum = {name: torch.zeros_like(self.master[name]) for name in matrices}
        others = [name for name in self.master if name not in self.momentum]
        self.first = {name: torch.zeros_like(self.master[name]) for name in others}
        self.second = {name: torch.zeros_like(self.master[name]) for name in others}
        self.steps = 0

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step at `rate` times the full learning rates; the gradients are used up."""
        self.steps += 1
        gradients = {name: weight.grad for name, weight in self.weights.items() if weight.grad is not None}
        norm = math.sqrt(sum(float(gradient.pow(2).sum()) for gradient in gradients.values()))
        clip = min(1.0, 1.0 / (norm + 1e-6))
        for name, gradient in gradients.items():
            master = self.master[name]
            if name in self.momentum:
                momentum = self.momentum[name].mul_(0.95).add_(gradient)
                update = orthogonal(gradient + 0.95 * momentum)
                scale = max(1.0, master.shape[0] / master.shape[1]) ** 0.5
                master.mul_(1 - 0.01 * self.muon_rate * rate).add_(
                    update, alpha=-self.muon_rate * rate * scale
                )
            else:
                first = self.first[name].mul_(0.9).add_(gradient * clip, alpha=0.1)
                second = self.second[name].mul_(0.97).addcmul_(gradient * clip, gradient * clip, value=0.03)
                first, second = first / (1 - 0.9**self.steps), second / (1 - 0.97**self.steps)
                master.addcdiv_(first, second.sqrt().add_(1e-8), value=-self.adam_rate * rate)
            self.weights[name].grad = None

    def state(self) -> dict[str, object]:
        """All there is to go on from."""
        return {
            "master": self.master, "momentum": self.momentum, "first": self.first, "second": self.second,
            "steps": self.steps,
        }  # fmt: skip

    def load(self, state: dict[str, object]) -> None:
        """Goes on from `state`."""
        for name in ("master", "momentum", "first", "second"):
            for key, tensor in state[name].items():  # type: ignore[attr-defined]
                getattr(self, name)[key].copy_(tensor)
        self.steps = int(state["steps"])  # type: ignore[call-overload]


class Run:
    """A training run in a folder: the network, how far it is, and the mix of what it sees."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.path = options.out / "checkpoint.pt"
        self.tokenizer = NanoTokenizer(options.out / "tokenizer.json")
        self.shape = Shape(
            vocabulary=len(self.tokenizer.tokens), layers=options.layers, hidden=options.hidden
        )
        self.network = Nano(self.shape)
        self.optimiser = Optimiser(self.network, options.muon_rate, options.adam_rate)
        self.begun, self.tokens = time.time(), 0
        self.mix = {"copying": 0.9, "easy": 0.8}
        self.until = datetime.datetime.fromisoformat(options.until).timestamp()
        if self.path.exists():
            saved = torch.load(self.path)
            self.optimiser.load(saved["optimiser"])
            self.begun, self.tokens, self.mix = saved["begun"], saved["tokens"], saved["mix"]

    def part(self) -> float:
        """How much of the time is over, 0 to 1."""
        return (time.time() - self.begun) / (self.until - self.begun)

    def save(self) -> None:
        """Writes the checkpoint; the old one stays until the new one is whole."""
        held = {
            "shape": dataclasses.asdict(self.shape),
            "begun": self.begun,
            "tokens": self.tokens,
            "mix": self.mix,
        }
        waiting = self.path.with_suffix(".new")
        torch.save({**held, "optimiser": self.optimiser.state()}, waiting)
        waiting.replace(self.path)

    def step(self, batch: list[Encoded], meter: Meter) -> None:
        """Learns from one batch: the rate warms up, then falls with the cosine of the time that is over."""
        inputs, positions, targets, owners, labels = collate(batch)
        logits = self.network(inputs, positions)
        loss = functional.cross_entropy(logits, targets)
        loss.backward()
        meter.add(loss, logits.detach(), targets, owners, labels)
        falling = 0.5 * (1 + math.cos(math.pi * min(1.0, self.part())))
        self.optimiser.step(min(1.0, (self.optimiser.steps + 1) / 30) * (0.01 + 0.99 * falling))
        self.tokens += inputs.numel()

    def adjust(self, share: Mapping[str, float]) -> None:
        """Fewer copying exercises once they go well: the easy ones first, then all of them."""
        mix, first, echo = self.mix, share.get("first", 0.0), share.get("echo", 0.0)
        if mix["easy"] > 0.5 and first > 0.5:
            mix["easy"] = 0.2
        elif mix["easy"] < 0.5 and mix["copying"] > 0.5 and first > 0.6:
            mix["copying"] = 0.35
        elif mix["copying"] == 0.35 and echo > 0.5:
            mix.update(copying=0.12, easy=0.1)
        elif mix["copying"] == 0.12 and echo > 0.85:
            mix["copying"] = 0.07


class Meter:
    """What happened since the last line of the log: losses, and the share of turns that were right to the token."""

    def __init__(self) -> None:
        self.right: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.losses: list[float] = []

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor, owners: Tensor, labels: list[str]) -> None:
        """Counts one batch."""
        whole = torch.ones(len(labels))
        whole.scatter_reduce_(0, owners, (logits.argmax(-1) == targets).float(), "amin")
        for label, exact in zip(labels, whole.tolist(), strict=True):
            self.right[label][0] += exact
            self.right[label][1] += 1
        self.losses.append(loss.item())

    def share(self) -> dict[str, float]:
        """The share of right turns by label."""
        return {label: good / count for label, (good, count) in sorted(self.right.items())}

    def line(self) -> str:
        """The counts in words."""
        cells = " ".join(f"{label}:{share:.2f}" for label, share in self.share().items())
        return f"loss {sum(self.losses) / len(self.losses):.4f} | {cells}"


def train(options: argparse.Namespace) -> None:
    """Runs until `options.until`; writes `checkpoint.pt` every few minutes and at the end, and a log."""
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    run, meter = Run(options), Meter()
    stream = batches(run.tokenizer, options.seed + run.optimiser.steps, options.batch, run.mix)
    stored = shown = time.time()
    before = run.tokens
    with (options.out / "log.txt").open("a", encoding="utf-8", buffering=1) as log:
        while time.time() < run.until:
            run.step(next(stream), meter)
            if run.optimiser.steps % 25 == 0:
                speed = (run.tokens - before) / (time.time() - shown)
                place = f"{run.optimiser.steps} {run.part():.3f} {run.tokens / 1e6:.2f}M {speed:.0f}/s"
                print(f"{place} {meter.line()}", file=log)
                run.adjust(meter.share())
                meter, shown, before = Meter(), time.time(), run.tokens
            if time.time() - stored > SAVE_SECONDS:
                run.save()
                stored = time.time()
        run.save()
        print("done", file=log)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "out", type=Path, help="folder with tokenizer.json; the checkpoint and the log go there"
    )
    parser.add_argument("--until", required=True, help="when to end, as 2026-11-24T01:25:00+00:00")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4096, help="tokens a batch")
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--muon-rate", type=float, default=0.02)
    parser.add_argument("--adam-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
