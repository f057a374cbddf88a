"""A ledger's entries as a transcript: the whole log, or one dialogue with its proofs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, NamedTuple

from agentmesh_ledger.affairs import ERASE, LOG_DIALOGUE, REVOKE, ROTATE
from agentmesh_ledger.anchor.lines import AnchorLine
from agentmesh_ledger.checkpoint import Checkpoint, open_checkpoint
from agentmesh_ledger.checks import LogChecks
from agentmesh_ledger.envelope import unseal
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.message import parse_message
from agentmesh_ledger.store.anchors import AnchorChoice
from agentmesh_ledger.store.audit import checked_record, open_head
from agentmesh_ledger.store.columns import EntryRow, HeadRow
from agentmesh_ledger.store.contract import Store
from agentmesh_ledger.store.nodes import tree_of
from agentmesh_ledger.store.rows import CHUNK, Rows
from agentmesh_ledger.transcript import Consistency, Header, TranscriptWriter
from agentmesh_ledger.tree import Node, consistency_nodes, fold_proof, inclusion_nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSummary:
    """What was written: entries and withheld parts, under which tree, with which digest in the end line, and anchors."""

    entries: int
    withheld: int
    tree_size: int
    dialogue: str | None
    digest: str
    anchors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What stands in front of the entries, and which entries they are; None: all."""

    indices: list[int] | None
    proofs: dict[int, list[bytes]]
    consistency: Consistency | None
    anchors: list[AnchorLine]


def export_transcript(
    store: Store,
    newest: HeadRow,
    out: BinaryIO,
    *,
    dialogue: str | None,
    since: Checkpoint | None,
    under: str | None = None,
) -> ExportSummary:
    """Writes the transcript of the log as it stands, or as it stood when it signed the note `under`.

    Memory grows with the length of a selected dialogue (its proofs) and with the anchors shown, not with that of the log.
    Every entry passes the checks of the verifier before it is written, and so does the evidence of every anchor, so that
    nobody is handed a transcript which does not verify. Raises: LedgerError; what was written until then is no transcript.
    """
    with store.reading() as rows:
        head = newest if under is None else _head_under(rows, newest, under)
        plan = _planned(rows, newest, head, dialogue, since)
    checks = LogChecks(open_head(head), dialogue=dialogue)
    header = Header(
        origin=head.origin,
        vkeys=(head.vkey,),
        checkpoint=head.checkpoint,
        tree_size=head.size,
        dialogue=dialogue,
        consistency=plan.consistency,
        anchors=len(plan.anchors),
    )
    writer = TranscriptWriter(out, header)
    for line in plan.anchors:
        writer.anchor(line)
    chosen: Sequence[int] = range(head.size) if plan.indices is None else plan.indices
    while checks.entries < len(chosen):
        count = checks.entries
        # A transaction a chunk: a slow reader of the output must not hold the database's log file.
        with store.reading() as rows:
            chunk = rows.with_content(head.log, _entries(rows, head, chosen[count : count + CHUNK]))
        for row, found in chunk:
            proof = plan.proofs.get(row.index)
            record = checked_record(checks, row, found, proof)
            writer.entry(row.index, row.entry, record.message.parts, found, proof)
    checks.finish()
    return ExportSummary(
        entries=checks.entries,
        withheld=checks.withheld,
        tree_size=head.size,
        dialogue=dialogue,
        digest=writer.end(),
        anchors=len(plan.anchors),
    )


def last_selected(store: Store, head: HeadRow, dialogue: str | None) -> int:
    """The index of the last entry that a transcript of the dialogue would show, or of the whole log; -1: of none."""
    if dialogue is None:
        return head.size - 1
    with store.reading() as rows:
        return max(_selected(rows, head, dialogue), default=-1)


def _head_under(rows: Rows, newest: HeadRow, note: str) -> HeadRow:
    """The head of the log as it was under this note, which is the log's own and which the log continues.

    Raises: LedgerError(log_key, checkpoint, consistency).
    """
    checkpoint = open_checkpoint(note, open_head(newest).keys).checkpoint
    size = checkpoint.size
    if size > newest.size:
        raise LedgerError(
            "consistency",
            "the log is shorter than this checkpoint says: it was cut, rolled back or forked",
            expected=f"at least {size} entries",
            found=str(newest.size),
        )
    edge = tree_of(rows, newest).edge(size)
    head = replace(newest, size=size, checkpoint=note, edge=b"".join(edge))
    root = head.tree().root()
    if root != checkpoint.root:
        raise LedgerError(
            "consistency",
            "the log does not continue this checkpoint: history was rewritten",
            expected=checkpoint.root.hex(),
            found=root.hex(),
        )
    return head


def _planned(
    rows: Rows, newest: HeadRow, head: HeadRow, dialogue: str | None, since: Checkpoint | None
) -> _Plan:
    # Of the newest state: where a checkpoint was published is recorded behind it.
    choice = AnchorChoice(rows, newest, head.size)
    if dialogue is None:
        return _Plan(indices=None, proofs={}, consistency=None, anchors=choice.newest())
    indices = _selected(rows, head, dialogue)
    proofs, consistency = _proofs(rows, head, indices, since)
    last = max((row.index for row in _dialogue(rows, head, dialogue)), default=head.size)
    return _Plan(indices=indices, proofs=proofs, consistency=consistency, anchors=choice.covering(last))


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
