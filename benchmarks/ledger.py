"""How fast the ledger is: each figure a ratio against the primitive's own rate, taken in the same run.

    python benchmarks/ledger.py [--entries 1000000] [--quick] [--dir FOLDER] [--transcript] [--peers] [--json]

- append_per_sign: durable signed appends/s of 64 concurrent writers, SQLite with synchronous FULL, messages with a
  text of 600 bytes / signatures a second that PyNaCl makes on one core. By threads and by tasks; the better one counts.
- latency_per_commit: one writer's append / a bare SQLite FULL commit of one row of 600 bytes, taken in turn.
- verify_per_limit: entries/s of a transcript verified with all cores / (cores x PyNaCl's verifications/s on one).
- append_growth: appends/s by 64 writers onto a ledger of --entries / onto one of 10,000, taken in turn.
- memory_growth: peak resident memory of a process, children included, that verifies the one / the other.
- inclusion_tiles: tiles read for one inclusion proof in the big one, median, nothing cached.
Medians of rounds taken in turn. Between rounds the big ledger is filled in bulk, a thousand messages a commit.
The folder should be on a real disk: on tmpfs a commit costs nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from figures.figure import Figure, machine, report
from figures.primitive import BareCommit, sign_rate, verify_rate
from figures.proving import prove
from figures.reading import has_jobs, read
from figures.workload import Desk

SMALL = 10_000


def append_figure(folder: Path, rounds: int, seconds: float) -> Figure:
    """64 writers against the bare signature."""
    signs, threads, tasks = [], [], []
    with closing(Desk(folder)) as desk:
        desk.by_threads(seconds / 4)
        desk.by_tasks(seconds / 4)
        for _ in range(rounds):
            signs.append(sign_rate())
            threads.append(desk.by_threads(seconds))
            tasks.append(desk.by_tasks(seconds))
            signs.append(sign_rate())
    best = {"64 threads": median(threads), "64 tasks": median(tasks)}
    name = max(best, key=lambda each: best[each])
    both = ", ".join(f"{each} {rate:.0f}/s" for each, rate in best.items())
    return Figure(
        name="append_per_sign",
        value=best[name] / median(signs),
        least=0.28,
        said=f"{name}; {both}; PyNaCl signs {median(signs):.0f}/s",
    )


def latency_figure(folder: Path, count: int) -> Figure:
    """One writer against a bare commit."""
    ours, bare = [], []
    commit = BareCommit(folder / "bare.db")
    with closing(Desk(folder)) as desk, closing(commit):
        desk.log.append([desk.draft(0)])
        for _ in range(count):
            draft = desk.draft(0)
            started = time.perf_counter()
            desk.log.append([draft])
            ours.append(time.perf_counter() - started)
            started = time.perf_counter()
            commit()
            bare.append(time.perf_counter() - started)
    return Figure(
        name="latency_per_commit",
        value=median(ours) / median(bare),
        most=2.0,
        said=f"append {1000 * median(ours):.2f} ms, bare commit {1000 * median(bare):.2f} ms",
    )


def verify_figure(folder: Path, entries: int, rounds: int) -> Figure:
    """A transcript against the bare verification on every core."""
    path = folder / "log.transcript.jsonl"
    with closing(Desk(folder)) as desk:
        desk.fill(entries)
        with path.open("wb") as out:
            desk.log.export(out)
    cores, limits, all_cores, one_core = os.cpu_count() or 1, [], [], []
    for _ in range(rounds):
        limits.append(verify_rate())
        all_cores.append(read(path).rate)
        limits.append(verify_rate())
        if has_jobs(path):
            one_core.append(read(path, jobs=1).rate)
    limit = median(limits)
    said = f"{median(all_cores):.0f} entries/s of {entries}; PyNaCl verifies {limit:.0f}/s on one of {cores} cores"
    if one_core:
        said += f"; with jobs=1 {median(one_core):.0f}/s, {median(one_core) / limit:.2f} of one core"
    return Figure(name="verify_per_limit", value=median(all_cores) / (cores * limit), least=0.70, said=said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """The figures of a big ledger beside a small one."""

    figures: tuple[Figure, ...]
    entries: int
    verified_seconds: float
    bytes: int


def growth_figures(
    folder: Path, entries: int, rounds: int, seconds: float, *, transcript: bool, say: Callable[[str], None]
) -> Grown:
    """Two ledgers, one filled to `entries`: appending in turn, verifying each, and proofs in the big one."""
    with closing(Desk(_made(folder / "small"))) as small, closing(Desk(_made(folder / "big"))) as big:
        started = time.perf_counter()
        small.fill(SMALL)
        big.fill(entries, lambda size: say(f"{size} of {entries} entries"))
        say(f"filled in {time.perf_counter() - started:.0f} s")
        rates: dict[str, list[float]] = {"small": [], "big": []}
        small.by_threads(seconds / 4)
        big.by_threads(seconds / 4)
        for _ in range(rounds):
            rates["small"].append(small.by_threads(seconds))
            rates["big"].append(big.by_threads(seconds))
        proving = prove(big.log, 200)
        paths = [(small.path, big.path)]
        if transcript:
            paths.append((_exported(small), _exported(big)))
    readings = [(read(one), read(other)) for one, other in paths]
    say(f"verified {readings[0][1].entries} entries in {readings[0][1].seconds:.0f} s")
    grown = median(rates["big"]) / median(rates["small"])
    peaks = [(one.peak, other.peak) for one, other in readings]
    worst = max((other / one for one, other in peaks if one), default=None)
    said_peaks = ", ".join(f"{other / 2**20:.0f} MiB / {one / 2**20:.0f} MiB" for one, other in peaks)
    figures = (
        Figure(
            name="append_growth",
            value=grown,
            least=0.9,
            said=f"{median(rates['big']):.0f}/s / {median(rates['small']):.0f}/s, by 64 threads",
        ),
        Figure(
            name="memory_growth",
            value=worst,
            most=1.3,
            said=said_peaks + (", file and transcript" * transcript),
        ),
        Figure(
            name="inclusion_tiles",
            value=None if proving is None else proving.tiles,
            most=5,
            said="no tiles here"
            if proving is None
            else f"at most {proving.most_tiles}; {proving.milliseconds:.2f} ms a proof, checked",
        ),
    )
    last = readings[0][1]
    return Grown(
        figures=figures,
        entries=last.entries,
        verified_seconds=last.seconds,
        bytes=(folder / "big" / "ledger.db").stat().st_size,
    )


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _exported(desk: Desk) -> Path:
    path = desk.path.with_name("log.transcript.jsonl")
    with path.open("wb") as out:
        desk.log.export(out)
    return path


def measure(args: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Every figure, printed as it comes."""
    rounds, seconds = (2, 1.0) if args.quick else (5, 4.0)
    entries = min(args.entries, 20_000) if args.quick else args.entries
    figures: list[Figure] = []

    def say(text: str) -> None:
        if sys.stderr.isatty() or args.verbose:
            print(f"  {text}", file=sys.stderr, flush=True)

    def note(*found: Figure) -> None:
        figures.extend(found)
        for each in found:
            print(each.line(), flush=True)

    note(append_figure(_made(folder / "append"), rounds, seconds))
    note(latency_figure(_made(folder / "latency"), 100 if args.quick else 500))
    note(verify_figure(_made(folder / "verify"), 5_000 if args.quick else 200_000, rounds))
    shutil.rmtree(folder / "verify")
    grown = growth_figures(folder, entries, rounds, seconds, transcript=args.transcript, say=say)
    note(*grown.figures)
    print(
        f"the ledger of {grown.entries} entries, {grown.bytes / 2**30:.2f} GiB, verifies in {grown.verified_seconds:.0f} s"
    )
    print(machine())
    return report(
        figures,
        entries=grown.entries,
        verified_seconds=grown.verified_seconds,
        bytes=grown.bytes,
        machine=machine(),
    )


def main() -> int:
    """Measure, print a table, and with --json one object as the last line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=1_000_000, help="of the big ledger")
    parser.add_argument(
        "--quick", action="store_true", help="a minute: 20,000 entries, few rounds; no result to quote"
    )
    parser.add_argument("--dir", type=Path, help="a folder on the disk to be measured")
    parser.add_argument("--transcript", action="store_true", help="memory of verifying transcripts, too")
    parser.add_argument("--peers", action="store_true", help="other libraries' logs beside it, see peers.py")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        found = measure(args, Path(folder))
    if args.peers:
        import peers

        found["peers"] = peers.measure(args.dir, quick=args.quick)
    if args.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
