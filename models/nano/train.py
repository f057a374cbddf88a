"""Trains nano on a stream of generated conversations for a given time, and can go on from a checkpoint.

Each worker is a process with one thread: two of them train almost twice as fast as two threads of one.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.multiprocessing
import torch.nn.functional as functional
from conversations import Turn
from generate import conversation
from network import Nano, Shape
from optimiser import Optimiser, rate
from tokenizer import NanoTokenizer
from torch import Tensor
from words import Source

POOL = 500
LONGEST = 640
SAVE_SECONDS = 150
LOG_STEPS = 25
WAIT_SECONDS = 600
"""For how long a worker waits for the others before it gives up."""


class Encoded(NamedTuple):
    """One tree of conversations; each list but the last has one entry a token.

    `owners` numbers the trained turn a token belongs to (-1: none), `branches` the conversation (0: what all share),
    `places` the place in that conversation; `labels` names the trained turns.
    """

    tokens: list[int]
    owners: list[int]
    branches: list[int]
    places: list[int]
    labels: list[str]


def encode(tokenizer: NanoTokenizer, turns: list[Turn]) -> Encoded:
    """`turns` in tokens; what does not fit in `LONGEST` is left out from a trained turn's end on."""
    start, end, line = (
        tokenizer.number["<|im_start|>"],
        tokenizer.number["<|im_end|>"],
        tokenizer.encode("\n"),
    )
    tokens: list[int] = []
    owners: list[int] = []
    branches: list[int] = []
    places: list[int] = []
    labels: list[str] = []
    fits, shared, branch, place = (0, 0), 0, 0, 0
    for index, turn in enumerate(turns):
        if turn.fresh:
            branch, place = branch + 1, shared
        head = [start, *tokenizer.encode(turn.role + "\n")]
        body = [*tokenizer.encode(turn.text), end]
        owner = -1
        if turn.label:
            owner = len(labels)
            labels.append(turn.label)
        owners += [-1] * len(head) + [owner] * len(body) + [-1] * len(line)
        length = len(owners) - len(tokens)
        tokens += head + body + line
        branches += [branch] * length
        places += range(place, place + length)
        place += length
        if index == 0:
            shared = place
        if turn.label and len(tokens) <= LONGEST:
            fits = len(tokens), len(labels)
    count = fits[0]
    return Encoded(tokens[:count], owners[:count], branches[:count], places[:count], labels[: fits[1]])


def batches(tokenizer: NanoTokenizer, seed: int, size: int, mix: dict[str, float]) -> Iterator[list[Encoded]]:
    """Endless batches of about `size` tokens, each of conversations of like length, none made twice."""
    source, shuffle = Source(seed), random.Random(seed)
    while True:
        pool: list[Encoded] = []
        while len(pool) < POOL:
            encoded = encode(tokenizer, conversation(source, **mix))
            if encoded.labels:
                pool.append(encoded)
        pool.sort(key=lambda item: len(item.tokens))
        grouped: list[list[Encoded]] = [[]]
        for item in pool:
            if grouped[-1] and (len(grouped[-1]) + 1) * len(item.tokens) > size:
                grouped.append([])
            grouped[-1].append(item)
        shuffle.shuffle(grouped)
        yield from grouped


class Batch(NamedTuple):
    """What one step reads: `inputs`, `branches` and `places` of shape (batch, time), the rest one entry a target."""

    inputs: Tensor
    branches: Tensor
    places: Tensor
    positions: Tensor
    targets: Tensor
    owners: Tensor
    labels: list[str]


def collate(batch: list[Encoded]) -> Batch:
    """Several trees, filled up to the longest."""
    longest = max(len(item.tokens) for item in batch) - 1
    inputs, branches, places = (torch.zeros(len(batch), longest, dtype=torch.long) for _ in range(3))
    positions, targets, owners, labels = [], [], [], []
    for row, item in enumerate(batch):
        length = len(item.tokens) - 1
        inputs[row, :length] = torch.tensor(item.tokens[:-1])
        branches[row, :length] = torch.tensor(item.branches[:-1])
        places[row, :length] = torch.tensor(item.places[:-1])
        for column in range(1, len(item.tokens)):
            if item.owners[column] >= 0:
                positions.append(row * longest + column - 1)
                targets.append(item.tokens[column])
                owners.append(len(labels) + item.owners[column])
        labels += item.labels
    return Batch(
        inputs, branches, places, torch.tensor(positions), torch.tensor(targets), torch.tensor(owners), labels
    )


BEGINNING = {"copying": 0.9, "easy": 0.8}


class Mix:
    """What the next conversations are made of; copying exercises become fewer once they go well."""

    def __init__(self, now: dict[str, float]) -> None:
        self.now = dict(now)

    def adjust(self, share: Mapping[str, float]) -> None:
        """The easy exercises become fewer first, then all of them; `share` has what was right, by label."""
        now, first, echo = self.now, share.get("first", 0.0), share.get("echo", 0.0)
        if now["easy"] > 0.5 and first > 0.5:
            now["easy"] = 0.2
        elif now["easy"] < 0.5 and now["copying"] > 0.5 and first > 0.6:
            now["copying"] = 0.35
        elif now["copying"] == 0.35 and echo > 0.5:
            now.update(copying=0.12, easy=0.1)
        elif now["copying"] == 0.12 and echo > 0.85:
            now["copying"] = 0.06


class Meter:
    """What happened since the last line of the log: losses, and the share of turns that were right to the token."""

    def __init__(self) -> None:
        self.right: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.losses: list[float] = []

    def add(self, loss: Tensor, logits: Tensor, batch: Batch) -> None:
        """Counts one batch."""
        whole = torch.ones(len(batch.labels))
        whole.scatter_reduce_(0, batch.owners, (logits.argmax(-1) == batch.targets).float(), "amin")
        for label, exact in zip(batch.labels, whole.tolist(), strict=True):
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


class Progress:
    """How far a run is, in memory that all workers share: seconds trained, tokens seen by each, and whether to end."""

    def __init__(self, workers: int) -> None:
        self.seconds = torch.zeros((), dtype=torch.double)
        self.tokens = torch.zeros(workers, dtype=torch.long)
        self.ended = torch.zeros((), dtype=torch.bool)
        for tensor in (self.seconds, self.tokens, self.ended):
            tensor.share_memory_()


class Worker:
    """One process of a run: its own copy of the network and its own stream of conversations."""

    def __init__(
        self,
        index: int,
        options: argparse.Namespace,
        shape: Shape,
        mix: dict[str, float],
        optimiser: Optimiser,
        progress: Progress,
        barrier: Barrier,
    ) -> None:
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        self.index, self.options, self.optimiser = index, options, optimiser
        self.progress, self.barrier = progress, barrier
        self.tokenizer = NanoTokenizer(options.out / "tokenizer.json")
        self.network = Nano(shape).bfloat16()
        self.optimiser.take(self.network)
        self.mix, self.meter = Mix(mix), Meter()
        # Another seed after a restart: no conversation is seen twice.
        seed = 1000 * (options.seed + int(optimiser.steps)) + index
        self.stream = batches(self.tokenizer, seed, options.batch, self.mix.now)

    def step(self) -> None:
        """One batch of each worker, and one improvement of the shared weights by all of them."""
        batch = collate(next(self.stream))
        logits = self.network(batch.inputs, batch.branches, batch.places, batch.positions).float()
        loss = functional.cross_entropy(logits, batch.targets)
        loss.backward()
        self.meter.add(loss, logits.detach(), batch)
        self.optimiser.give(self.index, self.network)
        self.progress.tokens[self.index] += batch.inputs.numel()
        self.barrier.wait(WAIT_SECONDS)
        part = float(self.progress.seconds) / (60 * self.options.minutes)
        self.optimiser.improve(self.index, rate(part, int(self.optimiser.steps)))
        self.barrier.wait(WAIT_SECONDS)
        self.optimiser.take(self.network)

    def run(self) -> None:
        """Steps until the time is over; the first worker keeps the clock, the log and the checkpoint."""
        clock, stored, shown, tokens = time.time(), time.time(), time.time(), int(self.progress.tokens.sum())
        with (self.options.out / f"log{self.index or ''}.txt").open(
            "a", encoding="utf-8", buffering=1
        ) as log:
            while True:
                self.barrier.wait(WAIT_SECONDS)
                if self.progress.ended:
                    break
                if self.index == 0:
                    self.optimiser.steps += 1
                    now = time.time()
                    self.progress.seconds += now - clock
                    clock = now
                self.step()
                steps = int(self.optimiser.steps)
                if steps % LOG_STEPS == 0:
                    now, seen = time.time(), int(self.progress.tokens.sum())
                    print(
                        f"{steps} {float(self.progress.seconds) / 60:.1f}min {seen / 1e6:.2f}M "
                        f"{(seen - tokens) / (now - shown):.0f}/s {self.meter.line()}",
                        file=log,
                    )
                    self.mix.adjust(self.meter.share())
                    self.meter, shown, tokens = Meter(), now, seen
                if self.index == 0:
                    self.progress.ended |= float(self.progress.seconds) > 60 * self.options.minutes
                    if self.progress.ended or time.time() - stored > SAVE_SECONDS:
                        self.save()
                        stored = time.time()

    def save(self) -> None:
        """Writes the checkpoint; the old one stays until the new one is whole."""
        path = self.options.out / "checkpoint.pt"
        waiting = path.with_suffix(".new")
        torch.save(
            {
                "shape": dataclasses.asdict(self.network.shape),
                "seconds": float(self.progress.seconds),
                "tokens": self.progress.tokens.tolist(),
                "mix": self.mix.now,
                "weights": self.optimiser.views(self.optimiser.master),
                "optimiser": self.optimiser.state(),
            },
            waiting,
        )
        waiting.replace(path)


SHAPE_OPTIONS = ("width", "layers", "heads", "hidden")


def shape_of(options: argparse.Namespace, saved: dict[str, Any] | None) -> Shape:
    """The shape of the network: what is asked for, else what the checkpoint has, else the default.

    Raises SystemExit where what is asked for is not the checkpoint's.
    """
    asked = {name: getattr(options, name) for name in SHAPE_OPTIONS if getattr(options, name) is not None}
    if saved is None:
        return Shape(vocabulary=len(NanoTokenizer(options.out / "tokenizer.json").tokens), **asked)
    shape = Shape(**saved["shape"])
    for name, value in asked.items():
        if getattr(shape, name) != value:
            raise SystemExit(
                f"{options.out / 'checkpoint.pt'} has {name} {getattr(shape, name)}, not {value}: "
                f"leave --{name} out to go on with it, or begin in a new folder"
            )
    return shape


def work(
    index: int,
    options: argparse.Namespace,
    shape: Shape,
    mix: dict[str, float],
    optimiser: Optimiser,
    progress: Progress,
    barrier: Barrier,
) -> None:
    """The life of one worker process."""
    Worker(index, options, shape, mix, optimiser, progress, barrier).run()


def train(options: argparse.Namespace) -> None:
    """Runs for `options.minutes` in all; writes `checkpoint.pt` every few minutes and at the end, and a log a worker."""
    torch.manual_seed(options.seed)
    path = options.out / "checkpoint.pt"
    saved = torch.load(path) if path.exists() else None
    shape = shape_of(options, saved)
    optimiser = Optimiser(Nano(shape), options.workers, options.muon_rate, options.adam_rate)
    progress, mix = Progress(options.workers), BEGINNING
    if saved is not None:
        optimiser.load(saved["optimiser"])
        progress.seconds += saved["seconds"]
        progress.tokens[0] = sum(saved["tokens"])
        mix = saved["mix"]
    barrier = torch.multiprocessing.get_context("spawn").Barrier(options.workers)
    torch.multiprocessing.spawn(
        work, (options, shape, mix, optimiser, progress, barrier), nprocs=options.workers
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "out", type=Path, help="folder with tokenizer.json; the checkpoint and the logs go there"
    )
    parser.add_argument("--minutes", type=float, required=True, help="how long to train, restarts included")
    parser.add_argument("--workers", type=int, default=2, help="processes; no more than idle cores")
    parser.add_argument("--batch", type=int, default=3072, help="tokens a batch and worker")
    for name in SHAPE_OPTIONS:
        parser.add_argument(
            f"--{name}", type=int, help=f"default: as in the checkpoint, else {getattr(Shape, name)}"
        )
    parser.add_argument("--muon-rate", type=float, default=0.02)
    parser.add_argument("--adam-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
