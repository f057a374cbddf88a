"""A ledger's entries as a transcript: the whole log, or one dialogue with its proofs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from agentmesh_ledger.affairs import ERASE, LOG_DIALOGUE, REVOKE, ROTATE
from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.checks import LogChecks
from agentmesh_ledger.envelope import unseal
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.message import parse_message
from agentmesh_ledger.store.audit import checked_record, open_head
from agentmesh_ledger.store.columns import EntryRow, HeadRow
from agentmesh_ledger.store.contract import Store
from agentmesh_ledger.store.nodes import tree_of
from agentmesh_ledger.store.rows import CHUNK, Rows
from agentmesh_ledger.transcript import Consistency, Header, TranscriptWriter
from agentmesh_ledger.tree import Node, consistency_nodes, fold_proof, inclusion_nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSummary:
    """What was written: entries and withheld parts, under which tree, with which digest in the end line."""

    entries: int
    withheld: int
    tree_size: int
    dialogue: str | None
    digest: str


def export_transcript(
    store: Store, head: HeadRow, out: BinaryIO, *, dialogue: str | None, since: Checkpoint | None
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
        with store.reading() as rows:
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
        with store.reading() as rows:
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
    """The dialogue's entries, and of the log's own affairs those that bear on them (SPEC L-55)."""
    writers: set[str] = set()
    found: set[int] = set()
    for row in _dialogue(rows, head, dialogue):
        writers.add(row.author)
        found.add(row.index)
    if dialogue == LOG_DIALOGUE:
        return sorted(found)
    affairs = [_affair(row) for row in _dialogue(rows, head, LOG_DIALOGUE) if _is_affair(row.kind)]
    erased = [each for each in affairs if each.kind == ERASE and each.about in found]
    writers |= {each.author for each in erased}
    count = -1
    while count != len(writers):  # who revoked one who revoked a writer, and so on
        count = len(writers)
        writers |= {each.author for each in affairs if each.kind == REVOKE and each.about in writers}
    for each in reversed(affairs):
        if each.kind == ROTATE and each.about in writers:
            writers.add(each.author)  # its registration is that of the writer
    found |= {each.place for each in erased}
    found |= {each.place for each in affairs if each.kind != ERASE and each.author in writers}
    return sorted(found)


class _Affair(NamedTuple):
    """An entry about keys or erased content: whom or which entry it is about."""

    place: int
    kind: str
    author: str
    about: str | int | None


def _is_affair(kind: str) -> bool:
    return kind.startswith("key.") or kind == ERASE


def _affair(row: EntryRow) -> _Affair:
    facts = parse_message(unseal(row.entry).payload).facts
    about = facts.get({ERASE: "entry", REVOKE: "agent", ROTATE: "new"}.get(row.kind, ""))
    # The column may lie about the kind; what is selected is held against it later.
    return _Affair(row.index, row.kind, row.author, about if isinstance(about, str | int) else None)


def _dialogue(rows: Rows, head: HeadRow, dialogue: str) -> Iterator[EntryRow]:
    seq = 0
    while chunk := rows.dialogue_entries(head.log, dialogue, seq, CHUNK):
        yield from (row for row in chunk if row.index < head.size)
        seq = chunk[-1].seq + 1


def _proofs(
    rows: Rows, head: HeadRow, indices: Sequence[int], since: Checkpoint | None
) -> tuple[dict[int, list[bytes]], Consistency | None]:
    """All proofs, from the tiles of the tree: a long log is not read for a short dialogue."""
    pieces: dict[int, list[list[Node]]] = {index: inclusion_nodes(index, head.size) for index in indices}
    grown = None if since is None else consistency_nodes(since.size, head.size)
    wanted = {node for piece in pieces.values() for nodes in piece for node in nodes}
    wanted |= {node for nodes in grown or () for node in nodes}
    tree = tree_of(rows, head)
    hashes = {node: tree.node(node) for node in sorted(wanted)}
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
