"""A ledger's entries as a transcript: the whole log, or one dialogue with its proofs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.checks import LogChecks
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.message import LOG_DIALOGUE
from agentmesh_ledger.store.audit import checked_record, open_head
from agentmesh_ledger.store.database import Database
from agentmesh_ledger.store.rows import CHUNK, EntryRow, HeadRow, Rows
from agentmesh_ledger.transcript import Consistency, Header, TranscriptWriter
from agentmesh_ledger.tree import Node, collect, consistency_nodes, fold_proof, inclusion_nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSummary:
    """What was written: entries and withheld parts, under which tree, with which digest in the end line."""

    entries: int
    withheld: int
    tree_size: int
    dialogue: str | None
    digest: str


def export_transcript(
    database: Database, head: HeadRow, out: BinaryIO, *, dialogue: str | None, since: Checkpoint | None
) -> ExportSummary:
    """Writes the transcript of the log as it stood at this head.

    Memory grows with the length of a selected dialogue (its proofs), not with that of the log.
    Every entry passes the checks of the verifier before it is written, so that nobody is handed a transcript
    which does not verify. Raises: LedgerError; what was written until then is no transcript.
    """
    checks = LogChecks(open_head(head), dialogue=dialogue)
    indices: list[int] | None = None
    proofs: dict[int, list[bytes]] = {}
    consistency: Consistency | None = None
    if dialogue is not None:
        with database.reading() as rows:
            indices = _selected(rows, head, dialogue)
            proofs, consistency = _proofs(rows, head, indices, since)
    header = Header(
        origin=head.origin,
        vkeys=(head.vkey,),
        checkpoint=head.checkpoint,
        tree_size=head.size,
        dialogue=dialogue,
        consistency=consistency,
    )
    writer = TranscriptWriter(out, header)
    chosen: Sequence[int] = range(head.size) if indices is None else indices
    while checks.entries < len(chosen):
        count = checks.entries
        # A transaction a chunk: a slow reader of the output must not hold the database's log file.
        with database.reading() as rows:
            chunk = rows.with_content(head.log, _entries(rows, head, chosen[count : count + CHUNK]))
        for row, found in chunk:
            proof = proofs.get(row.index)
            record = checked_record(checks, row, found, proof)
            writer.entry(row.index, row.entry, record.message.parts, found, proof)
    checks.finish()
    return ExportSummary(
        entries=checks.entries,
        withheld=checks.withheld,
        tree_size=head.size,
        dialogue=dialogue,
        digest=writer.end(),
    )


def _selected(rows: Rows, head: HeadRow, dialogue: str) -> list[int]:
    """The dialogue's entries, and the key entries of those who speak in it."""
    authors: set[str] = set()
    found: list[int] = []
    for row in _dialogue(rows, head, dialogue):
        authors.add(row.author)
        found.append(row.index)
    if dialogue != LOG_DIALOGUE:
        for row in _dialogue(rows, head, LOG_DIALOGUE):
            if row.author in authors and row.kind.startswith("key."):
                found.append(row.index)
    return sorted(found)


def _dialogue(rows: Rows, head: HeadRow, dialogue: str) -> Iterator[EntryRow]:
    seq = 0
    while chunk := rows.dialogue_entries(head.log, dialogue, seq, CHUNK):
        yield from (row for row in chunk if row.index < head.size)
        seq = chunk[-1].seq + 1


def _proofs(
    rows: Rows, head: HeadRow, indices: Sequence[int], since: Checkpoint | None
) -> tuple[dict[int, list[bytes]], Consistency | None]:
    """All proofs from one pass over the leaf hashes."""
    pieces: dict[int, list[list[Node]]] = {index: inclusion_nodes(index, head.size) for index in indices}
    grown = None if since is None else consistency_nodes(since.size, head.size)
    wanted = {node for piece in pieces.values() for nodes in piece for node in nodes}
    wanted |= {node for nodes in grown or () for node in nodes}
    hashes = collect(wanted, rows.leaves(head.log, head.size))
    proofs = {index: fold_proof(piece, hashes) for index, piece in pieces.items()}
    if since is None or grown is None:
        return proofs, None
    proof = tuple(fold_proof(grown, hashes))
    return proofs, Consistency(size=since.size, root=since.root, proof=proof)


def _entries(rows: Rows, head: HeadRow, indices: Sequence[int]) -> list[EntryRow]:
    wanted = set(indices)
    by_index: dict[int, EntryRow] = {}
    for index in indices:
        if index in by_index:
            continue
        # Neighbours come in one query; a dialogue's entries mostly are.
        found = rows.entries(head.log, index, index + CHUNK)
        by_index.update((row.index, row) for row in found if row.index in wanted)
        if index not in by_index:
            raise LedgerError("index", "the entry is missing", index=index)
    return [by_index[index] for index in indices]
