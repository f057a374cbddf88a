"""The `anchor` entries of a stored log: held to its tree, and chosen for a transcript."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agentmesh_ledger.affairs import LOG_DIALOGUE
from agentmesh_ledger.anchor.lines import MAX_ANCHORS, AnchorLine
from agentmesh_ledger.anchor.recorded import ANCHOR, RecordedAnchor, recorded_anchor, recorded_evidence
from agentmesh_ledger.anchor.shown import AnchorChecks, AnchorClaim
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.record import Record, open_entry
from agentmesh_ledger.store.columns import HeadRow
from agentmesh_ledger.store.nodes import tree_of
from agentmesh_ledger.store.rows import CHUNK, Rows
from agentmesh_ledger.text import shown
from agentmesh_ledger.tiles import TileHashes


def verify_anchors(
    rows: Rows, head: HeadRow, indices: Iterable[int], checks: AnchorChecks
) -> Iterator[LedgerError]:
    """Holds the `anchor` entries at these places to their evidence, and that to the tree; what fails, each with its index.

    For a log whose entries and tiles were verified in the same transaction.
    """
    tree = tree_of(rows, head)
    for index in indices:
        try:
            _hold(_record(rows, head, index), tree, checks)
        except LedgerError as error:
            error.locate(index=index)
            yield error


def _record(rows: Rows, head: HeadRow, index: int) -> Record:
    ((row, openings),) = rows.with_content(head.log, rows.entries(head.log, index, index + 1))
    return open_entry(row.index, row.entry, openings)


def _hold(record: Record, tree: TileHashes, checks: AnchorChecks) -> None:
    claimed = recorded_anchor(record)
    if claimed is None:
        kind = shown(str(record.message.facts.get("type", "?")), 40)
        what = f"an anchor of the type {kind}"
        checks.claim(AnchorClaim(what=what, why="its type is not known here", index=record.index))
        return
    root = tree.root(claimed.size)
    if root != claimed.root:
        raise LedgerError(
            "anchor",
            f"the entry claims another root of the first {claimed.size} entries than they have",
            expected=root.hex(),
            found=claimed.root.hex(),
        )
    evidence = recorded_evidence(record)
    if evidence is None:
        checks.claim(
            AnchorClaim(
                what=str(claimed),
                why="its evidence is withheld or was erased",
                size=claimed.size,
                index=record.index,
            )
        )
        return
    found = checks.hold(evidence, size=claimed.size, root=root, index=record.index)
    if found is not None:
        claimed.require(found)


def _anchor_records(rows: Rows, head: HeadRow) -> Iterator[Record]:
    """The entries of the kind `anchor` among the log's own affairs, in order and without their content.

    Raises: LedgerError where one of them is not as it was signed.
    """
    seq = 0
    while chunk := rows.dialogue_entries(head.log, LOG_DIALOGUE, seq, CHUNK):
        seq = chunk[-1].seq + 1
        for row in chunk:
            if row.kind == ANCHOR and row.index < head.size:
                yield open_entry(row.index, row.entry, {})


class AnchorChoice:
    """The recorded anchors that a transcript shows: those of which the evidence is there and holds.

    `head` is the log as it stands, `size` that of the checkpoint the transcript is under: an anchor of a checkpoint is
    recorded behind it. Raises, as it is asked: LedgerError where an entry is not as it was signed.
    """

    def __init__(self, rows: Rows, head: HeadRow, size: int) -> None:
        self._rows, self._head, self._size = rows, head, size
        self._tree = tree_of(rows, head)
        self._checks = AnchorChecks(head.origin)

    def newest(self) -> list[AnchorLine]:
        """The newest of the whole log, by rising size, as many as a transcript may show."""
        found: dict[object, AnchorLine] = {}
        for each in sorted(self._claimed(), key=lambda each: (each.size, each.index), reverse=True):
            # One that was recorded later stands for it: the chain dropped the block of the first.
            if (each.place, each.size) not in found and len(found) < MAX_ANCHORS:
                line = self._line(each, proof=False)
                if line is not None:
                    found[each.place, each.size] = line
        return _in_order(found.values())

    def covering(self, last: int) -> list[AnchorLine]:
        """The earliest and the newest at each place that have the entry of this index among those published.

        The earliest says most. The newest stands for it where the chain has dropped its block, of which the log may say nothing.
        """
        claimed = [each for each in self._claimed() if each.size > last]
        # Of one size the one that was recorded last, in both.
        first = self._one_a_place(sorted(claimed, key=lambda each: (each.size, -each.index)))
        newest = self._one_a_place(sorted(claimed, key=lambda each: (-each.size, -each.index)))
        return _in_order([*first, *newest])

    def _one_a_place(self, claimed: Iterable[RecordedAnchor]) -> Iterable[AnchorLine]:
        found: dict[object, AnchorLine] = {}
        for each in claimed:
            if each.place not in found and len(found) < MAX_ANCHORS // 2:
                line = self._line(each, proof=True)
                if line is not None:
                    found[each.place] = line
        return found.values()

    def _claimed(self) -> Iterator[RecordedAnchor]:
        for record in _anchor_records(self._rows, self._head):
            try:
                claimed = recorded_anchor(record)
            except LedgerError:  # what claims nothing sound is left out here; `verify` tells of it
                continue
            if claimed is not None and claimed.complete and claimed.size <= self._size:
                yield claimed

    def _line(self, claimed: RecordedAnchor, *, proof: bool) -> AnchorLine | None:
        """The line of an anchor; None where its evidence is gone, or does not show what is claimed."""
        size = claimed.size
        record = _record(self._rows, self._head, claimed.index)
        try:
            evidence = recorded_evidence(record)
            root = self._tree.root(size)
            if evidence is None or root != claimed.root:
                return None
            found = self._checks.hold(evidence, size=size, root=root)
            if found is not None:
                claimed.require(found)
                if found.block is None:
                    return None
        except LedgerError as error:
            if error.reason != "anchor":
                raise
            return None
        grown = tuple(self._tree.consistency(size, self._size)) if proof else None
        return AnchorLine(size=size, root=root, evidence=evidence, proof=grown)


def _in_order(lines: Iterable[AnchorLine]) -> list[AnchorLine]:
    """The lines as a transcript has them, none of them twice."""
    different = {line.encode(): line for line in lines}
    return [line for _, line in sorted(different.items(), key=lambda each: (each[1].size, each[0]))]
