"""Inclusion proofs out of a ledger's stored tiles: how many tiles one reads, and how long it takes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random
from statistics import median

from agentmesh_ledger import Ledger
from agentmesh_ledger.checkpoint import open_checkpoint
from agentmesh_ledger.note import parse_vkey
from agentmesh_ledger.tree import verify_inclusion


@dataclass(frozen=True, slots=True, kw_only=True)
class Proving:
    """Medians over proofs of random entries, each held against the signed checkpoint; and the most tiles of any."""

    tiles: float
    most_tiles: int
    milliseconds: float


def prove(log: Ledger, count: int) -> Proving | None:
    """Proofs of so many random entries, nothing cached from one to the next; None where there are no tiles yet."""
    try:
        from agentmesh_ledger.store.nodes import StoredTiles
        from agentmesh_ledger.tiles import TileHashes
    except ImportError:
        return None
    signed = open_checkpoint(log.checkpoint(), [parse_vkey(log.vkey())]).checkpoint
    rng, tiles, seconds = Random(1), [], []
    for _ in range(count):
        index = rng.randrange(signed.size)
        started = time.perf_counter()
        with log._store.reading() as rows:
            (head,) = rows.heads()
            hashes = TileHashes(StoredTiles(rows, head), signed.size)
            proof = hashes.inclusion(index)
            (entry,) = rows.entries(head.log, index, index + 1)
        verify_inclusion(index, signed.size, entry.leaf, proof, signed.root)
        seconds.append(time.perf_counter() - started)
        tiles.append(hashes.reads)
    return Proving(tiles=median(tiles), most_tiles=max(tiles), milliseconds=1000 * median(seconds))
