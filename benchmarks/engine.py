"""How fast the engine is: each figure a ratio against a peer that runs in the same run, on the same file and threads.

    python benchmarks/engine.py [--quick] [--only NAME] [--shape 135M|0.5B] [--threads N] [--temperature T]
                                [--rounds N] [--dir FOLDER] [--where] [--json]

- single_per_loop: tokens/s one agent's reply is decoded with / those of a bare loop over llama.cpp's low-level
  calls with the same sampling.
- single_per_completion: the same / llama-cpp-python's `create_completion(stream=True)`.
- batched8_per_loop: tokens/s of 8 agents at once, while all of them decode / the bare loop's, 8 in a batch.
- batched8_per_sequential: the same / our own tokens/s with the same 8 one after another.
- batched8_per_xllamacpp: 8 requests at once, everything included / llama.cpp's own server with 8 slots (xllamacpp).
- evaluated_per_distinct: tokens evaluated in a dialogue of 4 agents and 12 turns / different tokens in it, that is
  the nodes of the tree of all prompts and replies. Beside it what a layout of its own for each agent costs.
- ttft12_per_ttft2: time to the first token of that dialogue's turn 12 / of turn 2.
- cancel_decoding, cancel_reading: from a cancellation until the engine has done with it, that is the next request is
  served, in decode steps / amid a long prefill, in prompt chunks.

The models have random weights, in the shapes of SmolLM2-135M and Qwen2.5-0.5B, all Q4_0; the benchmark writes them.
No reply ends before its limit, so all make the same number of tokens. Each contestant is a process of its own; they
take turns, the order is turned round from round to round, and a figure is the median of the rounds' ratios. A busy
machine makes nonsense of all of it: nothing else should run. Exits with 0 also where a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any, Final

from figures.bystanders import Moment, moment, others
from figures.contest import SLOTS, SPIN, Conditions, Contestant, Kind, NotInstalled, Prompt, Run
from figures.figure import Figure
from figures.random_model import SHAPES, words, write_model

os.environ.update(SPIN)  # this process reads vocabularies with the same library

N_CTX: Final = 4096
TURNS: Final = 12
QUIET: Final = 0.15  # cores that others may keep busy


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A run that takes part in rounds: who, how many requests of how many words, how many tokens each."""

    kind: Kind
    requests: int
    words: int
    tokens: int
    together: bool = True
    whole: bool = False

    def rate(self, run: Run) -> float:
        """The tokens a second that count."""
        return run.whole_rate if self.whole else run.rate


TASKS: Final[Mapping[str, Task]] = MappingProxyType(
    {
        "one agent": Task(kind="ours", requests=1, words=64, tokens=96),
        "bare loop, 1": Task(kind="bare", requests=1, words=64, tokens=96),
        "create_completion": Task(kind="completion", requests=1, words=64, tokens=96),
        "8 agents": Task(kind="ours", requests=SLOTS, words=32, tokens=64),
        "bare loop, 8": Task(kind="bare", requests=SLOTS, words=32, tokens=64),
        "8 in turn": Task(kind="ours", requests=SLOTS, words=32, tokens=64, together=False),
        "8 agents, all in": Task(kind="ours", requests=SLOTS, words=120, tokens=64, whole=True),
        "xllamacpp, all in": Task(kind="xllamacpp", requests=SLOTS, words=120, tokens=64, whole=True),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """One task's rate over another's, and the least that is wanted of each shape.

    `beside` are two tasks whose ratio says what could be had at all.
    """

    ours: str
    peer: str
    least: Mapping[str, float]
    beside: tuple[str, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """All that have to be run for it."""
        return (self.ours, self.peer, *self.beside)


RATIOS: Final[Mapping[str, Ratio]] = MappingProxyType(
    {
        "single_per_loop": Ratio(ours="one agent", peer="bare loop, 1", least={"135M": 0.95, "0.5B": 0.95}),
        "single_per_completion": Ratio(
            ours="one agent", peer="create_completion", least={"135M": 1.0, "0.5B": 1.0}
        ),
        "batched8_per_loop": Ratio(ours="8 agents", peer="bare loop, 8", least={"135M": 0.90, "0.5B": 0.90}),
        "batched8_per_sequential": Ratio(
            ours="8 agents",
            peer="8 in turn",
            least={"135M": 1.6, "0.5B": 1.8},
            beside=("bare loop, 8", "bare loop, 1"),
        ),
        "batched8_per_xllamacpp": Ratio(
            ours="8 agents, all in", peer="xllamacpp, all in", least={"135M": 1.1, "0.5B": 1.1}
        ),
    }
)
DIALOGUE: Final = ("evaluated_per_distinct", "ttft12_per_ttft2")
CANCEL: Final = ("cancel_decoding", "cancel_reading")
NAMES: Final = (*RATIOS, *DIALOGUE, *CANCEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much is measured; `long` is the words of the prompt whose reading is cancelled."""

    rounds: int
    dialogues: int
    tries: int
    long: int
    tokens: int | None = None  # a reply; None: what the task says


QUICK: Final = Extent(rounds=1, dialogues=1, tries=3, long=768, tokens=24)
FULL: Final = Extent(rounds=6, dialogues=5, tries=9, long=2048)


class Prompts:
    """Questions that were never asked before, with the tokens that the model's template makes of them."""

    def __init__(self, path: Path) -> None:
        from figures.bare import Tokenizer

        self._tokenizer = Tokenizer(str(path))
        self._seed = 0

    def take(self, count: int, size: int) -> list[Prompt]:
        """So many, of so many words each."""
        return [self._next(size) for _ in range(count)]

    def _next(self, size: int) -> Prompt:
        self._seed += 1
        text = words(size, self._seed).strip()
        chat = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
        return Prompt(text=text, tokens=self._tokenizer.tokens(chat))

    def close(self) -> None:
        """Give the vocabulary back."""
        self._tokenizer.close()


class Field:
    """The contestants of one model, each started when it is first needed."""

    def __init__(self, stack: ExitStack, conditions: Conditions) -> None:
        self._stack = stack
        self._conditions = conditions
        self._started: dict[Kind, Contestant | None] = {}
        self.missing: dict[Kind, str] = {}

    def get(self, kind: Kind) -> Contestant | None:
        """The contestant; None where its library is not installed."""
        if kind not in self._started:
            try:
                self._started[kind] = self._stack.enter_context(Contestant(kind, self._conditions))
            except NotInstalled as error:
                self._started[kind], self.missing[kind] = None, str(error)
        return self._started[kind]

    def now(self) -> Moment | None:
        """The processor time that was spent until now, by all and by the contestants."""
        return moment([os.getpid(), *(each.pid for each in self._started.values() if each is not None)])


def race(
    field: Field, prompts: Prompts, names: Sequence[str], extent: Extent, say: Callable[[str], None]
) -> dict[str, list[float]]:
    """The rates of each task in each round; the first round warms up and is left out."""
    rates: dict[str, list[float]] = {name: [] for name in names}
    for each in range(extent.rounds + 1):
        for name in names if each % 2 else reversed(names):
            task = TASKS[name]
            contestant = field.get(task.kind)
            if contestant is None:
                continue
            asked = prompts.take(task.requests, task.words)
            run = contestant.run(asked, extent.tokens or task.tokens, together=task.together)
            if each:
                rates[name].append(task.rate(run))
        say(f"round {each} of {extent.rounds}")
    return rates


def race_figures(
    shape: str, rates: Mapping[str, Sequence[float]], wanted: Sequence[str], missing: Mapping[Kind, str]
) -> Iterator[Figure]:
    """Ratios of rounds, each of two runs near one another in time."""
    for name in wanted:
        if name not in RATIOS:
            continue
        ratio = RATIOS[name]
        least = ratio.least[shape]
        ours, peer = rates[ratio.ours], rates[ratio.peer]
        if not peer:
            yield Figure(
                name=name, value=None, least=least, said=f"not installed: {', '.join(missing.values())}"
            )
            continue
        each = [one / other for one, other in zip(ours, peer, strict=True)]
        said = (
            f"{ratio.ours} {median(ours):.1f}/s, {ratio.peer} {median(peer):.1f}/s; "
            f"rounds {min(each):.3g} to {max(each):.3g}"
        )
        if ratio.beside:
            said += f"; ({') / ('.join(ratio.beside)}) is {_quotient(rates, *ratio.beside):.3g}"
        yield Figure(name=name, value=median(each), least=least, said=said)


def _quotient(rates: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    return median(a / b for a, b in zip(rates[one], rates[other], strict=True))


def dialogue_figures(ours: Contestant, count: int, wanted: Sequence[str]) -> Iterator[Figure]:
    """Dialogues in both layouts, each told once; every one of a task of its own."""
    shared = [_dialogue(ours, "shared", seed) for seed in range(1, count + 1)]
    apart = _dialogue(ours, "apart", count + 1)
    once = _dialogue(ours, "shared", count + 2, at_once=True)
    if DIALOGUE[0] in wanted:
        spent = shared[0]["evaluated"]
        yield Figure(
            name=DIALOGUE[0],
            value=median(each["evaluated"] / each["distinct"] for each in shared),
            most=1.15,
            said=f"{spent} of {shared[0]['distinct']} (the engine says {shared[0]['told']}); a layout for each agent: "
            f"{apart['evaluated']} of {apart['distinct']}, {apart['evaluated'] / spent:.2f} times as many, "
            f"{apart['seconds'] / median(each['seconds'] for each in shared):.2f} times the time; "
            f"all four at once: {once['evaluated']} of {once['distinct']}",
        )
    if DIALOGUE[1] in wanted:
        early, late = (median(each["first"][turn - 1] for each in shared) for turn in (2, TURNS))
        yield Figure(
            name=DIALOGUE[1],
            value=median(each["first"][TURNS - 1] / each["first"][1] for each in shared),
            most=1.5,
            said=f"{1000 * early:.0f} ms at {shared[0]['prompts'][1]} tokens, "
            f"{1000 * late:.0f} ms at {shared[0]['prompts'][-1]}; with a layout for each agent "
            f"{1000 * apart['first'][1]:.0f} ms and {1000 * apart['first'][-1]:.0f} ms",
        )


def _dialogue(ours: Contestant, layout: str, seed: int, *, at_once: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = ours.ask(
        "dialogue", layout=layout, seed=seed, turns=TURNS, tokens=40, at_once=at_once
    )
    return found


def cancel_figures(ours: Contestant, extent: Extent, wanted: Sequence[str]) -> Iterator[Figure]:
    """Requests given up while they decode, and amid a long prompt."""
    found = ours.ask("cancel", tries=extent.tries, long=extent.long)
    step, chunk = found["step"], found["chunk"]
    for name, times, unit in ((CANCEL[0], found["decoding"], step), (CANCEL[1], found["reading"], chunk)):
        if name in wanted:
            yield Figure(
                name=name,
                value=median(times) / unit,
                most=1.0,
                said=f"{1000 * median(times):.1f} ms, at most {1000 * max(times):.1f}; "
                f"a decode step {1000 * step:.1f} ms, a chunk {1000 * chunk:.0f} ms",
            )


def measure(
    path: Path, shape: str, conditions: Conditions, extent: Extent, args: argparse.Namespace
) -> dict[str, Any]:
    """Every figure of one model, printed as it comes."""
    wanted = [name for name in NAMES if args.only in (None, name)]
    figures: list[Figure] = []

    def note(found: Iterator[Figure]) -> None:
        for each in found:
            figures.append(each)
            print(each.line(), flush=True)

    names = [name for name in TASKS if any(name in RATIOS[each].tasks for each in wanted if each in RATIOS)]
    rates: dict[str, list[float]] = {}
    where: dict[str, Any] = {}
    with ExitStack() as stack:
        field, prompts = Field(stack, conditions), Prompts(path)
        stack.callback(prompts.close)
        # Started at once, so that loading is not taken for somebody else's work.
        for kind in sorted({"ours", *(TASKS[name].kind for name in names)}):
            field.get(kind)
        before = field.now()
        if names:
            rates = race(field, prompts, names, extent, _say)
            note(race_figures(shape, rates, wanted, field.missing))
        ours = field.get("ours")
        assert ours is not None
        if set(wanted) & set(DIALOGUE):
            note(dialogue_figures(ours, extent.dialogues, wanted))
        if set(wanted) & set(CANCEL):
            note(cancel_figures(ours, extent, wanted))
        busy = others(before, field.now())
        if busy is not None:
            little = ": the figures mean little" if busy > QUIET else ""
            print(f"others kept {busy:.2f} cores busy meanwhile{little}", flush=True)
        if args.where:
            where = ours.ask("where", tokens=64)
            _print_where(where)
    return {
        **{each.name: each.value for each in figures},
        "missed": [each.name for each in figures if not each.kept],
        "said": {each.name: each.said for each in figures},
        "others_busy": busy,
        "rates": {name: median(each) for name, each in rates.items() if each},
        **({"where": where} if where else {}),
    }


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"  {text}", file=sys.stderr, flush=True)


def _print_where(where: Mapping[str, Any]) -> None:
    for size in ("1", str(SLOTS)):
        parts = ", ".join(f"{name} {value:.3f}" for name, value in where[size].items() if name != "steps")
        print(f"{size} at once, ms of a step: {parts}")
    print("\n".join(where["profile"]))


def _machine() -> str:
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.2f}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, and with --json one object as the last line."""
    from agentmesh_models.threads import thread_count

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a minute: one shape, few rounds; nothing to quote"
    )
    parser.add_argument("--only", choices=NAMES, help="one figure, and the contestants that it needs")
    parser.add_argument("--shape", choices=tuple(SHAPES), action="append", help="default: all")
    parser.add_argument("--threads", type=int, help="default: the cores that are idle now")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--dir", type=Path, help="where the models are kept; default: a folder for this run")
    parser.add_argument("--where", action="store_true", help="where a step's time goes")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    extent = QUICK if args.quick else FULL
    if args.rounds:
        extent = replace(extent, rounds=args.rounds)
    threads = thread_count(args.threads)
    found: dict[str, Any] = {"machine": _machine(), "threads": threads, "temperature": args.temperature}
    with tempfile.TemporaryDirectory() as own:
        folder = args.dir or Path(own)
        folder.mkdir(parents=True, exist_ok=True)
        for shape in args.shape or (["135M"] if args.quick else SHAPES):
            path = folder / f"random-{shape}.gguf"
            if not path.exists():
                write_model(path, SHAPES[shape])
            conditions = Conditions(
                model=str(path), threads=threads, n_ctx=N_CTX, temperature=args.temperature
            )
            print(
                f"{shape}, Q4_0, {threads} threads, temperature {args.temperature:g}; {_machine()}",
                flush=True,
            )
            found[shape] = measure(path, shape, conditions, extent, args)
    if args.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
