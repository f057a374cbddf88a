"""Whether a published log goes on from what an auditor knows of it; if not, in which way it lies."""

from __future__ import annotations

from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.text import shown
from agentmesh_ledger.tiles import TileHashes
from agentmesh_ledger.tree import verify_consistency


def require_continued(
    hashes: TileHashes, head: Checkpoint, brought: Checkpoint | None, seen: Checkpoint | None
) -> None:
    """Refuses a log that is not a continuation of what the auditor knows of it (SPEC L-38, L-78).

    `brought` is a checkpoint of the auditor's, `seen` the newest one that the log itself showed before.
    Raises: LedgerError: origin for another log; consistency where it shrank, forked or rewrote what was there; root
        where its hash tiles are not those of its own checkpoint; tile where they are not there.
    """
    known = [
        (each, whose)
        for each, whose in ((brought, "your checkpoint"), (seen, "the one it showed before"))
        if each is not None
    ]
    for each, whose in known:
        if each.origin != head.origin:
            raise LedgerError(
                "origin",
                f"this is another log than that of {whose}",
                expected=shown(each.origin),
                found=head.origin,
            )
        if each.size > head.size:
            raise LedgerError(
                "consistency",
                f"the log is shorter than {whose} says: it was cut, rolled back or forked",
                expected=f"at least {each.size} entries",
                found=str(head.size),
            )
        if each.size == head.size and each.root != head.root:
            raise LedgerError(
                "consistency",
                f"the log is forked: it signed another tree of {head.size} entries than {whose}",
                expected=each.root.hex(),
                found=head.root.hex(),
            )
    root = hashes.root()
    if root != head.root:
        raise LedgerError(
            "root",
            "the hash tiles are not those that the checkpoint was signed for",
            expected=head.root.hex(),
            found=root.hex(),
        )
    for each, whose in known:
        try:
            verify_consistency(each.size, head.size, hashes.consistency(each.size), each.root, head.root)
        except LedgerError as error:
            if error.reason != "consistency":
                raise
            raise LedgerError(
                "consistency",
                f"the first {each.size} entries are not those of {whose}: history was rewritten",
                expected=each.root.hex(),
                found=hashes.root(each.size).hex(),
            ) from error
