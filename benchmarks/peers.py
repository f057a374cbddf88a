"""Other libraries' logs beside ours: appends and verifications a second, and what each promises for them.

    PYTHONPATH=FOLDER NODE_PATH=FOLDER/node_modules python benchmarks/peers.py [--quick] [--dir FOLDER] [--json]

    pip install --target FOLDER checkpointed-local-log signet-auth
    npm install --prefix FOLDER hypercore

One writer, one message of 600 bytes at a time, each waited for; then the whole is verified by the library's own means.
What is not installed is said to be so. The numbers do not compare without the promises, which stand beside them; they
were read from the sources of the named versions, and calls of fsync counted by strace.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from figures.primitive import MESSAGE
from figures.reading import read
from figures.workload import Desk


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One log's rates, in entries a second, and its promises in words."""

    name: str
    appends: float | None
    verifies: float | None
    promises: str


def rate(once: Callable[[int], object], count: int) -> float:
    """Calls a second."""
    started = time.perf_counter()
    for number in range(count):
        once(number)
    return count / (time.perf_counter() - started)


def agentmesh(folder: Path, count: int) -> Peer:
    """Ours, by the same rule."""
    with closing(Desk(folder)) as desk:
        desk.log.append([desk.draft(0)])
        appends = rate(lambda _: desk.log.append([desk.draft(0)]), count)
    return Peer(
        name="agentmesh, one writer",
        appends=appends,
        verifies=read(folder / "ledger.db").rate,
        promises="synced before it returns; each message signed by its author; each commit under a signed checkpoint",
    )


def agentmesh_many(folder: Path, seconds: float) -> Peer:
    """Ours with 64 threads, which share commits."""
    with closing(Desk(folder)) as desk:
        desk.by_threads(seconds / 4)
        appends = desk.by_threads(seconds)
    return Peer(
        name="agentmesh, 64 writers",
        appends=appends,
        verifies=read(folder / "ledger.db").rate,
        promises="the same; messages that wait together share a commit",
    )


def checkpointed_local_log(folder: Path, count: int) -> Peer:
    """`checkpointed-local-log`: its SQLite backend, and its Merkle mountain range over what was read back."""
    promises = (
        "synced before it returns (SQLite, WAL); stores 32-byte identities, no content; entries unsigned; "
        "checkpoints signed on request only (none here), verified: the tree's hashes"
    )
    if importlib.util.find_spec("cll") is None:
        return Peer(name="checkpointed-local-log", appends=None, verifies=None, promises=promises)
    from cll.checkpoint import core
    from cll.checkpoint.store import MemoryNodeStore
    from cll.log import AppendInput, sqlite

    path = folder / "cll.db"
    sqlite.init(path, "bench")
    with closing(sqlite.open(path, "bench")) as store:
        appends = rate(
            lambda number: store.append(
                AppendInput(sha256(MESSAGE + str(number).encode()).digest(), datetime.now(UTC))
            ),
            count,
        )
        nodes, started, seen = MemoryNodeStore(), time.perf_counter(), 0
        while entries := store.scan_entries(seen, 1000):
            for entry in entries:
                core.add_leaf(nodes, core.leaf_hash(entry.value))
            seen += len(entries)
        verifies = seen / (time.perf_counter() - started)
    return Peer(name="checkpointed-local-log", appends=appends, verifies=verifies, promises=promises)


def signet_auth(folder: Path, count: int) -> Peer:
    """`signet-auth`: receipts signed and written to its audit file, then its chain and signatures verified."""
    promises = (
        "never synced; each receipt signed; hash chain without a tree; no checkpoint: a cut tail is not seen"
    )
    if importlib.util.find_spec("signet_auth") is None:
        return Peer(name="signet-auth", appends=None, verifies=None, promises=promises)
    import signet_auth as signet

    place = str(folder / "signet")
    agent = signet.SigningAgent.create("bench", owner="bench", signet_dir=place)
    text = MESSAGE.decode()
    appends = rate(lambda _: agent.sign("say", params={"text": text}), count)
    started = time.perf_counter()
    chain = signet.audit_verify_chain(place)
    key = signet.load_verifying_key(place, "bench")
    signatures = signet.audit_verify_signatures(place, trusted_agent_keys=[key])
    verifies = count / (time.perf_counter() - started)
    if not chain.valid or (signatures.valid, signatures.total) != (count, count):
        raise RuntimeError("signet-auth does not verify what it wrote")
    return Peer(name="signet-auth", appends=appends, verifies=verifies, promises=promises)


_HYPERCORE = """
const Hypercore = require('hypercore')
async function main (folder, count) {
  const core = new Hypercore(folder)
  await core.ready()
  const block = Buffer.alloc(600, 'x')
  const started = process.hrtime.bigint()
  for (let i = 0; i < count; i++) await core.append(block)
  const written = process.hrtime.bigint()
  const found = await core.core.audit()
  const audited = process.hrtime.bigint()
  if (!found || found.corrupt || found.droppedBlocks) throw new Error('the audit fails')
  const seconds = [written - started, audited - written].map((each) => Number(each) / 1e9)
  console.log(JSON.stringify(seconds.map((each) => count / each)))
  await core.close()
}
main(process.argv[1], Number(process.argv[2]))
"""


def hypercore(folder: Path, count: int) -> Peer:
    """`hypercore` under node: appends, then its audit, which hashes the tree and the blocks again."""
    promises = "not synced by append (RocksDB's default); one writer; only tree heads signed; audit checks no signature"
    node = shutil.which("node")
    if node is None:
        return Peer(name="hypercore", appends=None, verifies=None, promises=promises)
    words = [node, "-e", _HYPERCORE, str(folder / "hypercore"), str(count)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    if done.returncode:
        if "Cannot find module 'hypercore'" not in done.stderr:
            raise RuntimeError(f"hypercore: {done.stderr[-500:]}")
        return Peer(name="hypercore", appends=None, verifies=None, promises=promises)
    appends, verifies = json.loads(done.stdout)
    return Peer(name="hypercore", appends=appends, verifies=verifies, promises=promises)


def measure(place: Path | None, *, quick: bool) -> list[dict[str, object]]:
    """Every peer in turn, printed; rates as they are, None where it is not installed."""
    count, seconds = (200, 1.0) if quick else (2000, 4.0)
    with tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        for each in ("one", "many"):
            (folder / each).mkdir()
        peers = [
            agentmesh(folder / "one", count),
            agentmesh_many(folder / "many", seconds),
            checkpointed_local_log(folder, count),
            signet_auth(folder, count),
            hypercore(folder, count),
        ]
    for peer in peers:
        rates = "not installed"
        if peer.appends is not None and peer.verifies is not None:
            rates = f"{peer.appends:7.0f} appends/s {peer.verifies:7.0f} verified/s"
        print(f"{peer.name:24} {rates:38} {peer.promises}")
    return [asdict(peer) for peer in peers]


def main() -> int:
    """Measure, print a table, and with --json one object as the last line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--dir", type=Path, help="a folder on the disk to be measured")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(args.dir, quick=args.quick)
    if args.json:
        print(json.dumps({"peers": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
