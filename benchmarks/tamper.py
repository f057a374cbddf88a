"""The mutation matrix: every way to alter a record, and the check that catches it. Anything not caught is printed.

    python benchmarks/tamper.py [--mutations 20000] [--databases 3000] [--seed 1] [--jobs N] [--json]
    python benchmarks/tamper.py --only 1234 [--save FILE]     one transcript mutation again, by its number

The auditor names the log's key and, of a transcript with anchors, their blocks, and brings a checkpoint where a row says so. Detected is a LedgerError of a check;
anything else, another exception too, is MISSED and makes the exit status 1. A mutation that leaves the bytes as they
were is drawn again. What the format allows (content withheld, a dialogue shown up to an earlier message) is no
tampering and stands in a table of its own: it must verify, and the evidence must say what is no longer shown.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from random import Random
from types import FrameType

from tampering import databases
from tampering.allowed import ALLOWED
from tampering.anchored import ANCHORED, NAME, anchored_case
from tampering.attack import Attack
from tampering.edits import EDITS
from tampering.forgeries import FORGERIES
from tampering.sample import LOG, Case, cases

from agentmesh_ledger import LedgerError, verify_transcript

UNREAD = "nothing read from it changed"
PATIENCE = 10.0  # seconds for a file that is verified in a hundredth of one
MEMORY = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One mutation: what was done to what, the check that caught it, or else what came of it."""

    number: int
    attack: str
    target: str
    check: str | None
    missed: str | None = None


@lru_cache(maxsize=1)
def the_cases() -> Mapping[str, Case]:
    """The transcripts, made once a process."""
    found = cases()
    return {**found, NAME: anchored_case(found["log"])}


@lru_cache(maxsize=1)
def schedule() -> tuple[tuple[Attack, str], ...]:
    """Each attack on each transcript it makes sense for, as often as it weighs; mutations take them in turn."""
    return tuple(
        (attack, name)
        for attack in (*EDITS, *FORGERIES, *ANCHORED)
        for name in the_cases()
        if attack.case == name or (attack.case is None and name != NAME)
        for _ in range(attack.weight)
    )


def mutation(number: int, seed: int) -> tuple[Attack, Case, bytes]:
    """The mutation of this number: always the same bytes for one seed."""
    attack, name = schedule()[number % len(schedule())]
    case, rng = the_cases()[name], Random(f"{seed}:{number}")
    for _ in range(1000):
        data = attack.make(case, rng)
        if data != case.transcript:
            return attack, case, data
    raise RuntimeError(f"{attack.name} never changes the transcript {name}")


def judge(number: int, *, seed: int) -> Outcome:
    """What the verifier says to the mutation of this number."""
    attack, case, data = mutation(number, seed)
    expect = {"none": None, "older": case.older, "latest": case.notes[-1]}[attack.expect]
    terms = {"keys": [LOG.vkey], "expect": expect, "blocks": case.blocks}
    check, missed = verdict(lambda: verify_transcript(io.BytesIO(data), **terms))
    return Outcome(number=number, attack=attack.name, target=case.name, check=check, missed=missed)


def verdict(verify: Callable[[], object]) -> tuple[str | None, str | None]:
    """The check that refused, or else what happened instead."""
    try:
        with bounded(PATIENCE):
            found = verify()
    except LedgerError as error:
        return (error.reason, None) if error.is_check else (None, f"a fault, not a check: {error}")
    except Exception as error:  # noqa: BLE001  # hostile bytes may raise nothing but LedgerError
        return None, f"{type(error).__name__}: {error}"
    return None, f"accepted: {found}"


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Ends what does not end by itself: a verifier must come to a verdict, whatever the bytes."""

    def give_up(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no verdict after {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def judge_database(number: int, *, seed: int) -> Outcome:
    """What the verifier says to a ledger file; accepted and read as before is neither detected nor missed."""
    name, check, missed, unread = databases.judge(number, seed, verdict)
    return Outcome(
        number=number, attack=name, target="file", check=UNREAD if unread else check, missed=missed
    )


def outcomes(judged: Callable[[int], Outcome], numbers: Iterable[int], jobs: int) -> Iterator[Outcome]:
    """All of them, from as many processes."""
    if jobs == 1:
        yield from map(judged, numbers)
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=bound_memory) as pool:
        yield from pool.map(judged, numbers, chunksize=50)


def bound_memory() -> None:
    """A verifier that a mutation sends to eat all memory is a MemoryError here, and not the end of the machine."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def table(title: str, found: Iterable[Outcome]) -> dict[str, object]:
    """Prints a row for each kind of mutation and what was missed; gives the totals."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    missed: list[Outcome] = []
    total: Counter[str] = Counter()
    for each in found:
        rows[each.attack][each.check or "MISSED"] += 1
        total[each.check or "MISSED"] += 1
        if each.missed is not None:
            missed.append(each)
    print(f"\n{title}\n")
    for name, counts in rows.items():
        checks = ", ".join(f"{check} {count}" for check, count in counts.most_common())
        print(f"{name:55} {sum(counts.values()):6}  {checks}")
    for each in missed:
        print(f"MISSED number {each.number}, {each.attack}, {each.target}: {each.missed}")
    meaningful = sum(total.values()) - total[UNREAD]
    detected = meaningful - len(missed)
    percent = 100 * detected / meaningful if meaningful else 0.0
    print(f"{'total':55} {sum(total.values()):6}  {', '.join(f'{k} {v}' for k, v in total.most_common())}")
    print(f"detected {detected} of {meaningful}: {percent:.4g} %")
    if total[UNREAD]:
        print(f"not counted: {total[UNREAD]} in bytes without meaning ({UNREAD})")
    return {
        "mutations": meaningful,
        "detected": detected,
        "percent": percent,
        "without_meaning": total[UNREAD],
        "checks": dict(total),
        "missed": [asdict(each) for each in missed],
    }


def allowed() -> list[str]:
    """Prints what is no tampering: it verifies, and the evidence says what is no longer shown. Gives the failures."""
    print("\nNo tampering: verifies, and the evidence says so\n")
    failed: list[str] = []
    for each in ALLOWED:
        case = the_cases()[each.case]
        before = verify_transcript(io.BytesIO(case.transcript), keys=[LOG.vkey])
        try:
            after = verify_transcript(io.BytesIO(each.make(case)), keys=[LOG.vkey])
            said = each.says(before, after)
        except LedgerError as error:
            said = None
            print(f"{each.name:55} refused: {error}")
        if said is None:
            failed.append(each.name)
            print(f"{each.name:55} MISSED: the evidence does not say it")
        else:
            print(f"{each.name:55} {said}")
    return failed


def show_one(number: int, seed: int, save: Path | None) -> int:
    """One mutation again: what it is and what became of it."""
    attack, case, data = mutation(number, seed)
    if save is not None:
        save.write_bytes(data)
    outcome = judge(number, seed=seed)
    print(
        f"{attack.name}, transcript {case.name}, {len(data)} bytes, the auditor's checkpoint: {attack.expect}"
    )
    print(f"caught by {outcome.check}" if outcome.missed is None else f"MISSED: {outcome.missed}")
    return int(outcome.missed is not None)


def main(arguments: list[str] | None = None) -> int:
    """Alter, verify, print; 1 where anything was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mutations", type=int, default=20_000, help="of transcripts")
    parser.add_argument("--databases", type=int, default=3_000, help="mutations of a ledger file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", type=int, help="the number of one transcript mutation")
    parser.add_argument("--save", type=Path, help="with --only: where to write the altered transcript")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    if args.only is not None:
        return show_one(args.only, args.seed, args.save)
    started = time.perf_counter()
    title = f"{args.mutations} single mutations of transcripts, seed {args.seed}"
    transcripts = table(title, outcomes(partial(judge, seed=args.seed), range(args.mutations), args.jobs))
    title = f"{args.databases} single mutations of a ledger file, seed {args.seed}"
    files = table(title, outcomes(partial(judge_database, seed=args.seed), range(args.databases), args.jobs))
    silent = allowed()
    seconds = round(time.perf_counter() - started, 1)
    print(f"\n{seconds} s")
    if args.json:
        print(json.dumps({"transcripts": transcripts, "files": files, "silent": silent, "seconds": seconds}))
    return int(bool(transcripts["missed"] or files["missed"] or silent))


if __name__ == "__main__":
    sys.exit(main())
