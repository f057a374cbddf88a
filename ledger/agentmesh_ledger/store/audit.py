"""Verification of a ledger file: the same checks as for a transcript, and that the database says no more."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from agentmesh_ledger.checkpoint import SignedCheckpoint, open_checkpoint
from agentmesh_ledger.checks import LogChecks
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.note import VerifierKey, parse_vkey
from agentmesh_ledger.record import Opening, Record
from agentmesh_ledger.store.database import Database
from agentmesh_ledger.store.rows import CHUNK, EntryRow, HeadRow, Rows, Totals
from agentmesh_ledger.text import shown
from agentmesh_ledger.verify import Verified, evidence, open_expected, require_pinned


def verify_ledger(
    path: str | os.PathLike[str],
    *,
    origin: str | None = None,
    keys: Sequence[str] = (),
    expect: str | None = None,
) -> Verified:
    """The evidence that a ledger file gives, everything recomputed from the stored bytes.

    Reads one consistent state while writers go on. `origin` picks the log where a file holds several.
    Raises: LedgerError; `is_check` tells damaged content from a file that cannot be read.
    """
    audit = LedgerAudit(path, origin=origin, keys=keys, expect=expect)
    for _ in audit:
        pass
    return audit.verified()


class LedgerAudit:
    """A ledger file being verified: iterate over its records once, then ask for the evidence."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        origin: str | None = None,
        keys: Sequence[str] = (),
        expect: str | None = None,
    ) -> None:
        self._path = Path(path)
        self._origin = origin
        self._pins = tuple(parse_vkey(key) for key in keys)
        self._note = expect
        self._result: Verified | None = None

    def __iter__(self) -> Iterator[Record]:
        database = Database.open(self._path, read_only=True)
        try:
            with database.reading() as rows:
                yield from self._run(rows)
        finally:
            database.close()

    def verified(self) -> Verified:
        """The evidence.

        Raises: LedgerError(truncated) before the last record has been taken.
        """
        if self._result is None:
            raise LedgerError("truncated", "the ledger has not been read to its end")
        return self._result

    def _run(self, rows: Rows) -> Iterator[Record]:
        # First: the pages of a file made for it can be walked for ever, and this walks each but once.
        damage = rows.damage()
        if damage is not None:
            raise LedgerError("corrupt", f"the database is damaged: {shown(damage)}", path=str(self._path))
        head = choose_head(rows.heads(), self._origin, self._path)
        signed = open_head(head, self._pins)
        require_pinned(signed, self._pins)
        checks = LogChecks(signed, expect=open_expected(self._note, signed.keys))
        opened = 0
        while checks.entries < head.size:
            start = checks.entries
            chunk = rows.entries(head.log, start, min(start + CHUNK, head.size))
            if not chunk:
                raise LedgerError("index", "the entry is missing", index=start)
            for row, openings in rows.with_content(head.log, chunk):
                if row.index != checks.entries:
                    raise LedgerError("index", "the entry is missing", index=checks.entries)
                yield checked_record(checks, row, openings)
                opened += len(openings)
        checks.finish()
        _require_nothing_else(rows.totals(head.log), entries=head.size, parts=opened)
        self._result = evidence(checks, signed, pinned=bool(self._pins))


def choose_head(heads: Sequence[HeadRow], origin: str | None, path: Path) -> HeadRow:
    """The log of this origin, or the only one.

    Raises: LedgerError(corrupt, store, origin).
    """
    if not heads:
        raise LedgerError("corrupt", "the ledger has no head", path=str(path))
    if origin is None and len(heads) == 1:
        return heads[0]
    for head in heads:
        if head.origin == origin:
            return head
    origins = ", ".join(shown(head.origin) for head in heads)
    if origin is None:
        # A check, not wrong usage: no command makes a second log in a file, so someone added it.
        raise LedgerError(
            "store", "the file holds several logs", path=str(path), found=origins, expected="one origin"
        )
    raise LedgerError(
        "origin", "this is the ledger of another log", path=str(path), expected=shown(origin), found=origins
    )


def open_head(head: HeadRow, pins: Sequence[VerifierKey] = ()) -> SignedCheckpoint:
    """The signed checkpoint of a head row whose other columns agree with it.

    Raises: LedgerError(checkpoint, log_key, root, store).
    """
    own = parse_vkey(head.vkey)
    signed = open_checkpoint(head.checkpoint, tuple(dict.fromkeys((own, *pins))))
    if own not in signed.keys:
        raise LedgerError("log_key", "the key in the head did not sign the checkpoint")
    checkpoint = signed.checkpoint
    if (head.origin, head.size) != (checkpoint.origin, checkpoint.size):
        raise LedgerError(
            "store",
            "the head's columns are not those of its checkpoint",
            expected=f"{checkpoint.origin} {checkpoint.size}",
            found=f"{shown(head.origin)} {head.size}",
        )
    if head.tree().root() != checkpoint.root:
        raise LedgerError("root", "the stored edge of the tree does not have the checkpoint's root")
    return signed


def checked_record(
    checks: LogChecks, row: EntryRow, found: dict[bytes, Opening], proof: Sequence[bytes] | None = None
) -> Record:
    """The next record, from a row whose other columns say what its signed bytes say.

    Raises: LedgerError with `index` set.
    """
    record = checks.entry(row.index, row.entry, found, proof)
    message = record.message
    derived = (record.leaf_hash, message.dialogue, message.seq, message.kind, message.author)
    if (row.leaf, row.dialogue, row.seq, row.kind, row.author) != derived:
        raise LedgerError("store", "the entry's columns are not what its signed bytes say", index=row.index)
    return record


def _require_nothing_else(totals: Totals, *, entries: int, parts: int) -> None:
    """Counts instead of a look for what is odd: a row of any kind that was not read above is one too many."""
    if totals.entries != entries or totals.stray_entries:
        raise LedgerError(
            "index",
            "there are entries that no checkpoint covers",
            expected=str(entries),
            found=str(totals.entries + totals.stray_entries),
        )
    if totals.parts != parts or totals.stray_parts:
        raise LedgerError(
            "part",
            "there is content of no entry",
            expected=str(parts),
            found=str(totals.parts + totals.stray_parts),
        )
