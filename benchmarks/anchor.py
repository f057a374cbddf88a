"""What anchoring costs on an EVM chain, what one transaction carries, and that checking it asks nobody.

    AGENTMESH_NPM=FOLDER python benchmarks/anchor.py [--entries 1000000] [--quick] [--dir FOLDER] [--json]

    npm install --prefix FOLDER @foundry-rs/anvil

- gas_event_only, gas_monotonic: gas of a checkpoint, as an event only / with the check that only a larger size follows,
  after the first; the dearest of several roots and sizes, those whose every byte is non-zero among them.
- messages_per_transaction: entries of a real ledger whose checkpoint one transaction has anchored.
- gas_many_per_ten: gas of that transaction / of the one that anchors a ledger of 10 entries.
- connections_offline: connections tried by a fresh process that verifies transcripts of both ledgers with their anchors, where
  every one is refused; no figure where one does not verify.
- witness_per_nacl: checkpoints that a witness cosigns in a second of its processor time, over HTTP / the rate at which PyNaCl
  verifies one signature and makes one; by itself: `benchmarks/anchoring/witness.py`.
The chain is anvil with the rules it has by itself. What gas costs is no matter of the machine; the last figure is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from figures.evm import CHAIN, Node, calldata, gas, running
from figures.figure import Figure, machine, report
from figures.workload import ORIGIN, WRITERS, Desk

from agentmesh_ledger import Draft, DraftPart, Ledger
from agentmesh_ledger.anchor.evidence import verify_evidence
from agentmesh_ledger.anchor.receipt import evidence_from_receipts
from agentmesh_ledger.checkpoint import Checkpoint, parse_checkpoint
from agentmesh_ledger.checks import first_link
from agentmesh_ledger.jcs import canonical
from agentmesh_ledger.note import parse_note

LINK: Final = first_link(ORIGIN)
# Everything that could reach another machine raises; the last line says how often it was tried.
_ALONE: Final = """
import json, sys
tried = []
def refuse(event, arguments):
    if event.startswith("socket."):
        tried.append(event)
        raise OSError("no network here")
sys.addaudithook(refuse)
from agentmesh_ledger.__main__ import main
status = main(sys.argv[1:])
print(json.dumps({"status": status, "tried": tried}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A ledger's checkpoint that is anchored and recorded, a transcript of one dialogue, and what it took."""

    size: int
    gas: int
    block: str
    transcript: Path
    filled: float  # seconds
    checked: float  # milliseconds, of the evidence alone


def checkpoints() -> Iterator[tuple[int, bytes]]:
    """Sizes that rise, and roots: such as are, and the dearest that there can be."""
    for size in (1, 10, 1_000_000, 2**53 - 1, 0x0102030405060708, 2**63 + 1, 2**64 - 1):
        yield size, os.urandom(32) if size < 2**53 else b"\xff" * 32


def gas_figures(node: Node, address: str) -> list[Figure]:
    """Event only and with the check, beside a transaction of the same bytes that does nothing."""
    announced, anchored, bare = [], [], []
    for size, root in checkpoints():
        announced.append(gas(node.mined(calldata("announce", LINK, size, root), address)))
        anchored.append(gas(node.mined(calldata("anchor", LINK, size, root), address)))
        bare.append(gas(node.mined(calldata("anchor", LINK, size, root), node.account(9))))
    first, later = anchored[0], anchored[1:]
    return [
        Figure(
            name="gas_event_only",
            value=max(announced),
            most=25_000,
            said=f"median {median(announced):.0f}; the same bytes sent to no contract: {median(bare):.0f}, "
            f"{median(announced) / median(bare):.2f} times as much",
        ),
        Figure(
            name="gas_monotonic",
            value=max(later),
            most=36_000,
            said=f"median {median(later):.0f}, {median(later) / median(bare):.2f} times as much; the first: {first}",
        ),
    ]


def head(log: Ledger) -> Checkpoint:
    """The ledger's last checkpoint."""
    return parse_checkpoint(parse_note(log.checkpoint()).text)


def publish(
    folder: Path, node: Node, address: str, entries: int, sender: int, say: Callable[[str], None]
) -> Published:
    """A ledger of `entries`, anchored twice: with its first two entries, so that a slot is there, and whole."""
    folder.mkdir()
    started = time.perf_counter()
    with closing(Desk(folder)) as desk:
        desk.log.append([desk.draft(0)])
        point = head(desk.log)
        node.mined(calldata("anchor", LINK, point.size, point.root), address, sender)
        _fill(desk, entries, say)
        filled = time.perf_counter() - started
        point = head(desk.log)
        receipt = node.mined(calldata("anchor", LINK, point.size, point.root), address, sender)
        block, receipts = node.block(receipt["blockHash"])
        evidence = evidence_from_receipts(
            block,
            receipts,
            transaction=receipt["transactionHash"],
            chain=CHAIN,
            origin=ORIGIN,
            size=point.size,
            root=point.root,
            contract=address,
        )
        checked = []
        for _ in range(20):
            started = time.perf_counter()
            found = verify_evidence(evidence, origin=ORIGIN, size=point.size, root=point.root)
            checked.append(1000 * (time.perf_counter() - started))
        facts = {
            "type": "evm",
            "chain": CHAIN,
            "contract": found.contract,
            "sender": found.sender,
            "size": point.size,
            "root": point.root.hex(),
            "block": found.block,
            "block_hash": found.block_hash,
            "tx": receipt["transactionHash"],
        }
        part = DraftPart(
            name="evidence", type="application/vnd.agentmesh.anchor.v1+json", data=canonical(evidence)
        )
        author = desk.draft(0).author
        desk.log.append([Draft(author=author, kind="anchor", dialogue="log", facts=facts, parts=(part,))])
        path = folder / "one.transcript.jsonl"
        with path.open("wb") as out:
            desk.log.export(out, dialogue=_dialogue(entries))
    return Published(
        size=point.size,
        gas=gas(receipt),
        block=found.block_hash,
        transcript=path,
        filled=filled,
        checked=median(checked),
    )


def _fill(desk: Desk, entries: int, say: Callable[[str], None]) -> None:
    """To at least so many entries; a few of them by the first writer alone, who is registered, and exactly so many."""
    if entries < 10 * WRITERS:
        desk.log.append([desk.draft(0) for _ in range(entries - desk.log.size)])
    else:
        desk.fill(entries, lambda size: say(f"{size} of {entries} entries"))


def _dialogue(entries: int) -> str:
    """One that the first writer has ended by then, and not long before."""
    return f"d0.{max(0, entries // WRITERS // 100 - 1) if entries >= 10 * WRITERS else 0}"


def offline_figure(published: list[Published]) -> Figure:
    """The transcripts, verified where no connection can be made, each under the block that the chain has."""
    tried, seconds = 0, []
    for each in published:
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _ALONE, str(each.transcript), "--block", each.block],
            capture_output=True,
            text=True,
            timeout=600,
        )
        seconds.append(time.perf_counter() - started)
        told = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {"status": done.returncode}
        if told["status"] != 0 or each.block not in done.stdout:
            return Figure(name="connections_offline", value=None, most=0, said=done.stderr.strip()[-300:])
        tried += len(told["tried"])
    size = published[-1].transcript.stat().st_size
    return Figure(
        name="connections_offline",
        value=tried,
        most=0,
        said=f"a dialogue of the ledger of {published[-1].size}: {size / 1024:.0f} KiB, verified in {seconds[-1]:.1f} s "
        f"with the start of Python, of which the evidence {published[-1].checked:.1f} ms",
    )


def witness_figure(seconds: float, folder: Path) -> Figure:
    """The witness over HTTP with its state on the disk, in a process of its own."""
    from anchoring.witness import measure as cosigned  # web servers, which the other figures do without

    found = cosigned(seconds, folder)
    return Figure(
        name="witness_per_nacl",
        value=found["witness_per_nacl"],
        least=0.25,
        said=f"{found['witness_per_cpu_second']:.0f} a second of its processor time, PyNaCl {found['nacl_per_second']:.0f}; "
        f"without HTTP {found['witness_core_per_nacl']:.2f} of it",
    )


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every figure, printed as it comes."""
    entries = min(args.entries, 20_000) if args.quick else args.entries
    figures: list[Figure] = []

    def say(text: str) -> None:
        if sys.stderr.isatty() or args.verbose:
            print(f"  {text}", file=sys.stderr, flush=True)

    def note(*found: Figure) -> None:
        figures.extend(found)
        for each in found:
            print(each.line(), flush=True)

    with running() as node:
        address = node.deploy()
        note(*gas_figures(node, address))
        ten = publish(folder / "ten", node, address, 10, 1, say)
        many = publish(folder / "many", node, address, entries, 2, say)
        version = node.ask("web3_clientVersion")
    note(
        Figure(
            name="messages_per_transaction",
            value=many.size,
            least=1_000_000,
            said=f"a ledger of {many.size} entries, made in {many.filled:.0f} s; gas {many.gas}, of {ten.size} entries {ten.gas}",
        ),
        Figure(
            name="gas_many_per_ten",
            value=many.gas / ten.gas,
            most=1.01,
            said=f"{many.gas - ten.gas:+} gas: a byte that is not zero costs 12 more than one that is",
        ),
        offline_figure([ten, many]),
    )
    note(witness_figure(1 if args.quick else 10, folder))
    where = f"{machine()}, {version}"
    print(where)
    return report(figures, entries=many.size, gas_of_ten=ten.gas, gas_of_many=many.gas, machine=where)


def main() -> int:
    """Measure, print a table, and with --json one object as the last line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=1_000_000, help="of the large ledger")
    parser.add_argument("--quick", action="store_true", help="20,000 entries; no result to quote")
    parser.add_argument("--dir", type=Path, help="a folder for the ledgers")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        found = measure(args, Path(folder))
    if args.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
