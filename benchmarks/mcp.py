"""What MCP costs with us: each figure a ratio against the plain SDK, measured in the same run.

    python benchmarks/mcp.py [--quick] [--only NAME] [--calls N] [--rounds N] [--seconds S] [--dir FOLDER] [--parts]
                             [--json]

- signed_stdio_per_plain: a call whose request and result are signed, checked and recorded by both sides, each in its own
  ledger (SQLite, synchronous FULL) / the same call of the same tool between the SDK's own client and server, over
  standard input and output; medians of calls taken in turn, one here, one there.
- signed_http_per_plain: the same over streamable HTTP.
- waiting_stdio_per_plain, waiting_http_per_plain: the same in the same run, where each answer waits until the record of it is
  durable (`Signing.lag` of 0), on both sides. Otherwise it may lag 50 ms behind, and many calls share a commit.
- mesh64_per_plain: calls a second of 64 assistants at once, each an MCP client with a connection of its own over HTTP,
  that ask an agent of a mesh with a scripted model (`agentmesh serve --http`, every answer a recorded dialogue) / those
  of the same 64 at a server of the SDK whose tool gives the same answer at once; medians of rounds taken in turn.

With --parts a further kind of call takes its turns: signed and checked, recorded by nobody. What the ledgers cost is the rest.

Servers are processes of their own; all clients are in this one, which on two cores is as much the limit as the servers are.
The folder should be on a real disk: on tmpfs a commit costs nothing. A busy machine makes nonsense of all of it.
Exits with 0 also where a bound is missed.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # This file has the name of the SDK, and its folder stands first on the path: `import mcp` would find it.
    sys.path.append(sys.path.pop(0))

import argparse
import json
import logging
import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median, quantiles
from typing import Any, Final

import anyio
from figures.bystanders import moment, others
from figures.calls import ANSWER, Kind, Transport
from figures.figure import Figure
from figures.hosts import SERVER, listening, rates_in_turn, times_in_turn

STDIO: Final = "signed_stdio_per_plain"
HTTP: Final = "signed_http_per_plain"
MESH: Final = "mesh64_per_plain"
NAMES: Final = (STDIO, HTTP, MESH)
WAITING: Final = {STDIO: "waiting_stdio_per_plain", HTTP: "waiting_http_per_plain"}
MOST: Final = {STDIO: 1.5, HTTP: 1.4}
LEAST: Final = {MESH: 0.6}
ASSISTANTS: Final = 64
_STEPS: Final = 100_000
_MESH: Final = """\
[mesh]
name = "benchmark"

[agents.front]
model = "scripted:steps.json"
role = "You calculate."
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much is measured: timed calls after so many untimed, and rounds of so many seconds."""

    calls: int
    warm: int
    rounds: int
    seconds: float


FULL: Final = Extent(calls=800, warm=100, rounds=5, seconds=6.0)
QUICK: Final = Extent(calls=100, warm=20, rounds=1, seconds=2.0)


def call_figures(
    name: str, transport: Transport, folder: Path, extent: Extent, kinds: Sequence[Kind]
) -> list[Figure]:
    """Signed calls beside plain ones: those that do not wait for the ledgers, those that do."""
    measure = partial(times_in_turn, calls=extent.calls, warm=extent.warm, kinds=kinds)
    taken = anyio.run(measure, transport, folder, _environment())
    plain, figures = taken["plain"], []
    for kind, called in (("signed", name), ("waiting", WAITING[name])):
        signed = taken[kind]
        said = (
            f"{_ms(median(signed))} / {_ms(median(plain))}, {extent.calls} calls of each in turn; "
            f"95 % within {_ms(_p95(signed))} / {_ms(_p95(plain))}"
        )
        if "unrecorded" in taken:
            said += f"; signed and not recorded {_ms(median(taken['unrecorded']))}"
        figures.append(Figure(name=called, value=median(signed) / median(plain), most=MOST[name], said=said))
    return figures


def mesh_figure(folder: Path, extent: Extent) -> Figure:
    """64 assistants at a mesh, and at a plain server."""
    mesh = folder / "mesh"
    mesh.mkdir()
    (mesh / "mesh.toml").write_text(_MESH)
    (mesh / "steps.json").write_text(json.dumps([{"say": ANSWER}] * _STEPS))
    environment = _environment()
    plain_command = [str(SERVER), "plain", "http", str(folder)]
    mesh_command = ["-m", "agentmesh", "serve", str(mesh), "--http", "127.0.0.1:0"]
    with listening(plain_command, environment) as plain, listening(mesh_command, environment) as ours:
        before = moment([os.getpid(), plain[1], ours[1]])
        measure = partial(
            rates_in_turn, count=ASSISTANTS, rounds=extent.rounds, seconds=extent.seconds, say=_say
        )
        found = anyio.run(measure, {"plain": plain[0], "mesh": ours[0]})
        busy = others(before, moment([os.getpid(), plain[1], ours[1]]))
    rates = {name: [rate for rate, _ in each] for name, each in found.items()}
    waits = {name: [second for _, taken in each for second in taken] for name, each in found.items()}
    each = [one / other for one, other in zip(rates["mesh"], rates["plain"], strict=True)]
    said = (
        f"{median(rates['mesh']):.0f}/s / {median(rates['plain']):.0f}/s; rounds {min(each):.3g} to {max(each):.3g}; "
        f"a call takes {_ms(median(waits['mesh']))} / {_ms(median(waits['plain']))}"
    )
    if busy is not None:
        said += f"; others kept {busy:.2f} cores busy"
    return Figure(name=MESH, value=median(each), least=LEAST[MESH], said=said)


def _environment() -> dict[str, str]:
    """What servers are started with: MCP gives a child nothing but the path and the like; this folder hides the SDK."""
    here = Path(__file__).resolve().parent
    found = [each for each in sys.path if each and Path(each).resolve() != here]
    return os.environ | {"PYTHONPATH": os.pathsep.join(found)}


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"


def _p95(taken: Sequence[float]) -> float:
    return quantiles(taken, n=20)[-1]


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"  {text}", file=sys.stderr, flush=True)


def _machine() -> str:
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.2f}"
    )


def measured(name: str, folder: Path, extent: Extent, *, parts: bool) -> list[Figure]:
    """One figure, or two that are made of the same calls."""
    kinds: list[Kind] = ["plain", "signed", "waiting", *(["unrecorded"] if parts else [])]  # type: ignore[list-item]
    if name == MESH:
        return [mesh_figure(folder, extent)]
    return call_figures(name, "stdio" if name == STDIO else "http", folder, extent, kinds)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, and with --json one object as the last line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="half a minute; nothing to quote")
    parser.add_argument("--only", choices=NAMES)
    parser.add_argument("--calls", type=int, help="timed calls of each kind")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="how long a round is")
    parser.add_argument("--dir", type=Path, help="where the ledgers are made; default: a folder for this run")
    parser.add_argument(
        "--parts", action="store_true", help="what of it are the statements, what the ledgers"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    usual = QUICK if args.quick else FULL
    extent = Extent(
        calls=args.calls or usual.calls,
        warm=usual.warm,
        rounds=args.rounds or usual.rounds,
        seconds=args.seconds or usual.seconds,
    )
    # The SDK's clients tell each request at level INFO; nobody listens, and it is still formatted.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    figures: list[Figure] = []
    machine = _machine()
    print(machine, flush=True)
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        for name in NAMES:
            if args.only in (None, name):
                for figure in measured(name, Path(folder), extent, parts=args.parts):
                    figures.append(figure)
                    print(figure.line(), flush=True)
    found: dict[str, Any] = {
        **{each.name: each.value for each in figures},
        "missed": [each.name for each in figures if not each.kept],
        "said": {each.name: each.said for each in figures},
        "machine": machine,
    }
    if args.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
