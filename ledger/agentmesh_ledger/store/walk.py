"""The rows of one log in order, as they are judged: entries with their columns and content."""

from __future__ import annotations

from collections.abc import Iterator

from agentmesh_ledger.affairs import LOG_DIALOGUE
from agentmesh_ledger.anchor.recorded import ANCHOR
from agentmesh_ledger.judge import Row, missing_row
from agentmesh_ledger.store.columns import HeadRow
from agentmesh_ledger.store.rows import CHUNK, Rows


class Walk:
    """Reads a log once; `entries` and `parts` are how many rows there were, `anchors` where its anchors are recorded."""

    def __init__(self, rows: Rows, head: HeadRow) -> None:
        self._rows = rows
        self._head = head
        self.entries = 0
        self.parts = 0
        self.anchors: list[int] = []

    def chunks(self) -> Iterator[list[Row]]:
        """The entries from 0 on, in bounded chunks. Where one is missing, a row without an entry stands for it."""
        index, size, log = 0, self._head.size, self._head.log
        while index < size:
            stop = min(index + CHUNK, size)
            chunk = self._rows.entries(log, index, stop)
            found: list[Row] = []
            for row, openings in self._rows.with_content(log, chunk):
                found += [missing_row(each) for each in range(index, row.index)]
                content = [(digest, each.salt, each.data) for digest, each in openings.items()]
                columns = (row.leaf, row.dialogue, row.seq, row.kind, row.author)
                found.append((row.index, row.entry, *columns, content))
                index = row.index + 1
                if row.kind == ANCHOR and row.dialogue == LOG_DIALOGUE:
                    self.anchors.append(row.index)
                self.entries += 1
                self.parts += len(content)
            if not chunk:
                found = [missing_row(each) for each in range(index, stop)]
                index = stop
            yield found
