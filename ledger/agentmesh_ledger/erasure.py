"""What of an entry's content can be erased."""

from __future__ import annotations

from collections.abc import Sequence

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.record import open_entry
from agentmesh_ledger.store.columns import HeadRow
from agentmesh_ledger.store.rows import Rows
from agentmesh_ledger.text import shown


def erasable(rows: Rows, head: HeadRow, index: int, names: Sequence[str] | None) -> tuple[bytes, ...]:
    """The hashes of the entry's parts with these names; of all its parts where none is named.

    Parts that were erased before are among them: to erase them again scrubs the files once more.
    Raises: LedgerError(not_found) where there is no such entry or part; the entry's own faults.
    """
    if not 0 <= index < head.size:
        raise LedgerError("not_found", f"the log has no entry {index}", hint=f"It has {head.size} entries")
    for row in rows.entries(head.log, index, index + 1):
        message = open_entry(index, row.entry, {}).message
        by_name = {part.name: part.hash for part in message.parts}
        for name in names or ():
            if name not in by_name:
                raise LedgerError(
                    "not_found",
                    f"the entry has no part {shown(name)!r}",
                    index=index,
                    hint=f"It has: {', '.join(shown(each) for each in by_name) or 'none'}",
                )
        found = (
            tuple(by_name.values())
            if names is None
            else tuple(by_name[name] for name in dict.fromkeys(names))
        )
        if not found:
            raise LedgerError("not_found", "the entry has no content to erase", index=index)
        return found
    raise LedgerError("index", "the entry is missing", index=index)
