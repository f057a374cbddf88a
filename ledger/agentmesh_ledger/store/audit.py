"""Verification of a ledger file: the same checks as for a transcript, and that the database says no more."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from agentmesh_ledger.anchor.shown import AnchorChecks
from agentmesh_ledger.checkpoint import SignedCheckpoint, open_checkpoint
from agentmesh_ledger.checks import LogChecks
from agentmesh_ledger.crew import Crew
from agentmesh_ledger.errors import Check, LedgerError
from agentmesh_ledger.findings import Findings, Progress, examine
from agentmesh_ledger.judge import Terms, require_columns
from agentmesh_ledger.note import VerifierKey, parse_vkey
from agentmesh_ledger.policy import Policy, PolicyEvidence
from agentmesh_ledger.record import Opening, Outline, Record
from agentmesh_ledger.run import Run
from agentmesh_ledger.store.anchors import verify_anchors
from agentmesh_ledger.store.columns import EntryRow, HeadRow, Totals
from agentmesh_ledger.store.contract import Store
from agentmesh_ledger.store.nodes import TileChecks, tree_of
from agentmesh_ledger.store.opening import open_store
from agentmesh_ledger.store.rows import Rows
from agentmesh_ledger.store.schema import whole_blocks
from agentmesh_ledger.store.walk import Walk
from agentmesh_ledger.text import shown
from agentmesh_ledger.verify import (
    Verified,
    evidence,
    open_expected,
    pinned_keys,
    require_pinned,
    witnessed,
)

_STEP: Final = 4096  # entries whose places are counted at once


def verify_ledger(
    path: str | os.PathLike[str],
    *,
    origin: str | None = None,
    keys: Sequence[str] = (),
    expect: str | None = None,
    policy: Policy | None = None,
    cosigned: Mapping[str, str] | None = None,
    blocks: Sequence[str] = (),
    limit: int = 20,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Verified:
    """The evidence that a ledger file gives, everything recomputed from the stored bytes.

    Reads one consistent state while writers go on. `origin` picks the log where a file holds several.
    `keys`, `expect`, `policy`, `blocks`, `limit`, `jobs` and `progress` are those of `verify_transcript`. `cosigned` has, by origin, the
    notes that were cosigned and stand beside the keys of logs (`KeyStore.cosigned_notes`), read before this is called: one counts for
    a policy where the log continues it.
    Raises: LedgerError, the first failure, with the `others`; `is_check` tells damaged content from a file that
        cannot be read.
    """
    audit = LedgerAudit(
        path, origin=origin, keys=keys, expect=expect, policy=policy, cosigned=cosigned, blocks=blocks
    )
    return audit.examined(limit=limit, jobs=jobs, progress=progress)


class LedgerAudit:
    """A ledger file being verified: iterate over its records once, then ask for the evidence."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        origin: str | None = None,
        keys: Sequence[str] = (),
        expect: str | None = None,
        policy: Policy | None = None,
        cosigned: Mapping[str, str] | None = None,
        blocks: Sequence[str] = (),
        store: Store | None = None,
    ) -> None:
        """`store` is one that is open already and stays so; then the path is not looked at."""
        self._place = path
        self._store = store
        self._origin = origin
        self._pins = pinned_keys(keys, policy)
        self._policy = policy
        self._cosigned: Mapping[str, str] = {} if cosigned is None else cosigned
        self._witnessed: PolicyEvidence | None = None
        self._note = expect
        self._blocks = blocks
        self._anchors: AnchorChecks | None = None
        self._result: Verified | None = None

    def __iter__(self) -> Iterator[Record]:
        with self._opened() as store, store.reading() as rows:
            yield from self._run(rows, store.place)

    def verified(self) -> Verified:
        """The evidence.

        Raises: LedgerError(truncated) before the last record has been taken.
        """
        if self._result is None:
            raise LedgerError("truncated", "the ledger has not been read to its end")
        return self._result

    def examined(self, *, limit: int, jobs: int | None, progress: Progress | None) -> Verified:
        """Reads all there is, on behind failures, and gives the evidence; instead of iterating.

        Raises: LedgerError, as `verify_ledger` says.
        """
        with self._opened() as store, store.reading() as rows:
            return self._examined(rows, store.place, Findings(limit), jobs, progress)

    @contextmanager
    def _opened(self) -> Iterator[Store]:
        if self._store is not None:
            yield self._store
            return
        store = open_store(self._place, read_only=True)
        try:
            yield store
        finally:
            store.close()

    def _examined(
        self, rows: Rows, place: str, findings: Findings, jobs: int | None, progress: Progress | None
    ) -> Verified:
        head, signed, checks = self._begin(rows, place)
        walk, tiles = Walk(rows, head), TileChecks(rows, head)

        def take(seen: Outline) -> None:
            checks.take(seen)
            if not findings.any:  # behind a failure every tile is another one
                tiles.leaf(seen.leaf_hash)

        def take_run(run: Run) -> bool:
            if not checks.take_run(run):
                return False
            for place, leaf in enumerate(run.leaf_hashes(), run.first):
                if findings.any:
                    break
                try:
                    tiles.leaf(leaf)
                except LedgerError as error:
                    error.locate(index=place)
                    findings.add(error)
            return True

        with Crew(Terms(checkpoint=signed.checkpoint, proof=False), "rows", jobs) as crew:
            judged = crew.judged(walk.chunks(), head.size)
            if examine(checks, judged, findings, take=take, take_run=take_run, progress=progress):
                for error in checks.endings():
                    findings.add(error)
                try:
                    _require_whole(rows, head, walk, None if findings.any else tiles)
                except LedgerError as error:
                    findings.add(error)
        findings.settle()  # behind a failure what an anchor claims of the tree would be another one
        for fault in self._anchor_faults(rows, head, walk):
            findings.add(fault)
        findings.settle()
        self._result = self._evidence(checks, signed)
        return self._result

    def _run(self, rows: Rows, place: str) -> Iterator[Record]:
        head, signed, checks = self._begin(rows, place)
        walk, tiles = Walk(rows, head), TileChecks(rows, head)
        for chunk in walk.chunks():
            for index, entry, leaf, dialogue, seq, kind, author, content in chunk:
                if entry is None:
                    raise LedgerError("index", "the entry is missing", index=index)
                found = {digest: Opening(salt=salt, data=data) for digest, salt, data in content}
                record = checks.entry(index, entry, found)
                require_columns(record, leaf, dialogue, seq, kind, author)
                tiles.leaf(record.leaf_hash)
                yield record
        checks.finish()
        _require_whole(rows, head, walk, tiles)
        for error in self._anchor_faults(rows, head, walk):
            raise error
        self._result = self._evidence(checks, signed)

    def _anchor_faults(self, rows: Rows, head: HeadRow, walk: Walk) -> Iterator[LedgerError]:
        self._anchors = AnchorChecks(head.origin, self._blocks)
        yield from verify_anchors(rows, head, walk.anchors, self._anchors)
        yield from self._anchors.endings()

    def _evidence(self, checks: LogChecks, signed: SignedCheckpoint) -> Verified:
        return evidence(
            checks, signed, pinned=bool(self._pins), policy=self._witnessed, anchors=self._anchors
        )

    def _begin(self, rows: Rows, place: str) -> tuple[HeadRow, SignedCheckpoint, LogChecks]:
        # First: the pages of a file made for it can be walked for ever, and this walks each but once.
        damage = rows.damage()
        if damage is not None:
            raise LedgerError("corrupt", f"the database is damaged: {shown(damage)}", path=place)
        head = choose_head(rows.heads(), self._origin, place)
        signed = require_pinned(open_head(head, self._pins), self._pins)
        self._witnessed = self._judged(rows, head, signed)
        return head, signed, LogChecks(signed, expect=open_expected(self._note, signed.keys))

    def _judged(self, rows: Rows, head: HeadRow, signed: SignedCheckpoint) -> PolicyEvidence | None:
        """Who witnessed the checkpoint in the head, or else the one kept with its cosignatures (SPEC L-128)."""
        note = None if self._policy is None else self._cosigned.get(head.origin)
        if note is not None:
            # Before anything else: it is signed by this log's key, whoever witnessed it.
            require_continued(rows, head, note, signed.keys)
        try:
            return witnessed(head.checkpoint, signed, self._policy)
        except LedgerError as error:
            if note is None or error.reason != "policy":
                raise
        return witnessed(note, signed, self._policy)


def require_continued(rows: Rows, head: HeadRow, note: str, keys: Sequence[VerifierKey]) -> None:
    """Refuses a log that does not continue the checkpoint that was cosigned. The tiles are held to the entries later.

    Raises: LedgerError(rollback, consistency); (checkpoint, log_key) where the note is none of the log.
    """
    try:
        cosigned = open_checkpoint(note, keys).checkpoint
    except LedgerError as error:
        raise LedgerError(error.reason, f"the cosigned checkpoint beside the key: {error.message}") from error
    if cosigned.size > head.size:
        raise LedgerError(
            "rollback",
            "the log is shorter than its cosigned checkpoint says: it was cut, or put back from an older copy",
            expected=f"at least {cosigned.size} entries",
            found=str(head.size),
        )
    root = tree_of(rows, head).root(cosigned.size)
    if root != cosigned.root:
        raise LedgerError(
            "consistency",
            f"the first {cosigned.size} entries are not those of the log's cosigned checkpoint: it was forked",
            expected=cosigned.root.hex(),
            found=root.hex(),
        )


def choose_head(heads: Sequence[HeadRow], origin: str | None, place: str) -> HeadRow:
    """The log of this origin, or the only one.

    Raises: LedgerError(corrupt, origin).
    """
    if not heads:
        raise LedgerError("corrupt", "the ledger has no head", path=place)
    if origin is None and len(heads) == 1:
        return heads[0]
    for head in heads:
        if head.origin == origin:
            return head
    origins = ", ".join(shown(head.origin) for head in heads)
    if origin is None:
        raise LedgerError(
            "origin",
            "the database holds several logs: name the one you mean",
            path=place,
            hint=f"It has: {origins}",
        )
    raise LedgerError(
        "origin", "this is the ledger of another log", path=place, expected=shown(origin), found=origins
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
    require_columns(record, row.leaf, row.dialogue, row.seq, row.kind, row.author)
    return record


def _require_whole(rows: Rows, head: HeadRow, walk: Walk, tiles: TileChecks | None) -> None:
    """Refuses what stands in the database and was not come by; tiles None: what is wrong with them follows from other things."""
    totals = rows.totals(head.log)
    if tiles is not None:
        tiles.finish()
    known, placed = totals.tiles, totals.places
    if tiles is not None:
        known, placed = tiles.tiles, whole_blocks(head.size) if rows.has_places else 0
        _require_placed(rows, head, placed)
    _require_nothing_else(totals, entries=walk.entries, parts=walk.parts, tiles=known, places=placed)


def _require_placed(rows: Rows, head: HeadRow, placed: int) -> None:
    """Holds the places of the first entries, which were read, to what these say."""
    for start in range(0, placed, _STEP):
        stop = min(start + _STEP, placed)
        found = rows.count_placed(head.log, start, stop)
        if found != stop - start:
            raise LedgerError(
                "store",
                "messages do not stand in their places in their dialogues",
                index=start,
                expected=f"{stop - start} of the entries {start} to {stop - 1}",
                found=str(found),
            )


def _require_nothing_else(totals: Totals, *, entries: int, parts: int, tiles: int, places: int) -> None:
    """Counts instead of a look for what is odd: a row of any kind that was not read above is one too many."""
    counts: tuple[tuple[Check, str, int, int, int], ...] = (
        (
            "index",
            "there are entries that no checkpoint covers",
            entries,
            totals.entries,
            totals.stray_entries,
        ),
        ("part", "there is content of no entry", parts, totals.parts, totals.stray_parts),
        ("store", "there are tiles that no tree of the entries has", tiles, totals.tiles, totals.stray_tiles),
        ("store", "there are places of no entry", places, totals.places, totals.stray_places),
    )
    for check, what, wanted, own, stray in counts:
        if own != wanted or stray:
            raise LedgerError(check, what, expected=str(wanted), found=str(own + stray))
