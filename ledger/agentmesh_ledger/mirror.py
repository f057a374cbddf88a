"""A published log verified from its tiles: every entry once, in one pass, and from there on only what is new.

Memory does not grow with the log but for what `LogChecks` keeps of authors and dialogues.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agentmesh_ledger.checkpoint import Checkpoint, SignedCheckpoint, parse_checkpoint
from agentmesh_ledger.checks import LogChecks
from agentmesh_ledger.continuity import require_continued
from agentmesh_ledger.crew import Crew
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.findings import Findings, Progress, examine
from agentmesh_ledger.judge import SOUND, EntryRow, Judged, Terms
from agentmesh_ledger.kept import Kept, read_kept, write_kept
from agentmesh_ledger.note import parse_note, parse_vkey
from agentmesh_ledger.policy import Policy, PolicyEvidence, trusted_checkpoint
from agentmesh_ledger.record import Outline
from agentmesh_ledger.resume import parse_standing
from agentmesh_ledger.tilelog import Files, TileLog, open_files
from agentmesh_ledger.tiles import WIDTH, TileHashes, split_tile, tile_width
from agentmesh_ledger.tree import leaf_hash
from agentmesh_ledger.verify import Verified, beyond, evidence, open_expected

KEEP_EVERY: Final = 64  # bundles: a second or two of work lost at worst
_AHEAD: Final = 4  # bundles fetched before they are needed, where the log is far away
_KEEP_SHARE: Final = 20  # at most a twentieth of the time goes into keeping the state


@dataclass(frozen=True, slots=True, kw_only=True)
class TilesVerified:
    """What was shown of a published log.

    `log` is the evidence as of a whole log; `since` how many of its entries earlier runs had verified, and
    `policy` who witnessed the checkpoint, where a policy was given. `files` and `bytes` were read for it.
    """

    log: Verified
    since: int
    policy: PolicyEvidence | None
    files: int
    bytes: int


def verify_tiles(
    source: str | os.PathLike[str] | Files,
    *,
    keys: Sequence[str] = (),
    expect: str | None = None,
    state: Path | None = None,
    policy: Policy | None = None,
    limit: int = 20,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> TilesVerified:
    """The evidence that a tlog-tiles directory or URL gives (SPEC L-35, L-36, L-38).

    `keys` are vkeys of the log; a policy may name them instead. `expect` is the note of a checkpoint that the log
    must continue. With `state`, a file, the next run begins where this one came to, be it interrupted, and a log
    that shows another history than before is refused. `limit`, `jobs` and `progress` are as for `verify_transcript`.
    Raises: LedgerError, the first failure, with the `others`; where the surroundings are at fault, what was verified so far is kept in the state.
    """
    log = TileLog(open_files(source) if isinstance(source, str | os.PathLike) else source)
    kept = None if state is None else read_kept(state)
    note = log.checkpoint()
    trusted = trusted_checkpoint(note, tuple(map(parse_vkey, keys)), policy)
    signed = trusted.signed
    brought = open_expected(expect, signed.keys)
    hashes = TileHashes(log, signed.checkpoint.size)
    require_continued(hashes, signed.checkpoint, brought, None if kept is None else _seen(kept))
    run = _Run(log, hashes, signed, note, kept, state)
    since = run.checks.entries
    run.all_entries(limit, jobs, progress)
    return TilesVerified(
        log=replace(
            evidence(run.checks, signed, pinned=True, policy=trusted.policy),
            complete=_completeness(signed.checkpoint, brought, since, trusted.policy),
            expected_size=None if brought is None else brought.size,
        ),
        since=since,
        policy=trusted.policy,
        files=log.reads,
        bytes=log.bytes,
    )


def _seen(kept: Kept) -> Checkpoint:
    return parse_checkpoint(parse_note(kept.seen).text)


class _Run:
    """One pass over the entries that are not verified yet.

    The hash tiles are bound to the checkpoint by its root and one another, and each entry to its leaf hash in them;
    so a wrong tile and a wrong entry are told apart, and none hides another.
    """

    def __init__(
        self,
        log: TileLog,
        hashes: TileHashes,
        signed: SignedCheckpoint,
        note: str,
        kept: Kept | None,
        state: Path | None,
    ) -> None:
        self._log, self._hashes, self._note, self._state = log, hashes, note, state
        self._size = signed.checkpoint.size
        self._verified = None if kept is None else kept.verified
        self._bundles: deque[_Bundle] = deque()  # fetched, and not yet judged
        self.checks = _resumed(kept, signed, hashes, state)
        self._sound = self.checks.entries  # entries that may be kept as verified
        self._kept_at, self._cost = time.monotonic(), 0.0
        # At once: a checkpoint that was seen binds the log, even if this run is cut off.
        self._keep()

    def all_entries(self, limit: int, jobs: int | None, progress: Progress | None) -> None:
        """Verifies all from where the checks stand to the checkpoint, on behind each failure up to the limit.

        Raises: LedgerError.
        """
        findings = Findings(limit)
        start = self.checks.entries
        with Crew(Terms(checkpoint=self.checks.checkpoint, proof=False), "entries", jobs) as crew:
            judged = crew.judged(self._chunks(start, findings), self._size - start)
            examine(self.checks, self._held(judged, findings, progress), findings)
        if self.checks.entries == self._sound:
            self._keep()  # also where the source failed: what is verified stays so
        findings.settle()
        self.checks.finish()
        self._verified = self._note
        self._keep()

    def _chunks(self, start: int, findings: Findings) -> Iterator[list[EntryRow]]:
        """The entries from `start` on, bundle by bundle."""
        begin, stop = start // WIDTH, -(-self._size // WIDTH) if start < self._size else 0
        for number in range(begin, stop):
            for soon in range(number + (_AHEAD if number > begin else 1), min(stop, number + _AHEAD + 1)):
                self._log.prepare(soon, tile_width(0, soon, self._size))
            width = tile_width(0, number, self._size)
            entries = self._log.bundle(number, width)
            first = number * WIDTH
            bundle = _Bundle(number=number, leaves=split_tile(self._hashes.tile(0, number)))
            try:
                self._require_tiles(number, width)
            except LedgerError as error:
                if not error.is_check:
                    raise
                bundle.leaves, bundle.fault = None, error
            for index in range(first, start):  # verified before, in a narrower bundle: the same bytes still
                bundle.hold(index, leaf_hash(entries[index - first]), findings)
            self._bundles.append(bundle)
            yield [(first + place, entry) for place, entry in enumerate(entries) if first + place >= start]

    def _require_tiles(self, number: int, width: int) -> None:
        """Holds the tile of a bundle, and those above it that end with it, against the ones above them."""
        level = 0
        while width == WIDTH:
            self._hashes.require_above(level, number)
            if (number + 1) % WIDTH:
                return
            level, number = level + 1, number // WIDTH

    def _held(
        self, judged: Iterable[Judged], findings: Findings, progress: Progress | None
    ) -> Iterator[Judged]:
        """Gives on what was judged, and when it has been taken holds the leaf hashes against the tile."""
        for chunk in judged:
            bundle = self._bundles.popleft()
            if bundle.fault is not None:  # only now: workers may be behind with the bundles before
                findings.add(bundle.fault)
            yield chunk
            for index, leaf in _leaves(chunk):
                bundle.hold(index, leaf, findings)
            self._sound += chunk.count if bundle.is_sound else 0
            if progress is not None:
                progress(min(self._size, (bundle.number + 1) * WIDTH), self._size)
            if (bundle.number + 1) % KEEP_EVERY == 0 and self.checks.entries == self._sound:
                self._keep_timely()

    def _keep_timely(self) -> None:
        now = time.monotonic()
        if now - self._kept_at >= _KEEP_SHARE * self._cost:
            self._keep()
            self._kept_at = time.monotonic()
            self._cost = self._kept_at - now

    def _keep(self) -> None:
        if self._state is not None:
            write_kept(
                self._state, Kept(seen=self._note, verified=self._verified, checks=self.checks.state())
            )


def _leaves(chunk: Judged) -> list[tuple[int, bytes]]:
    """The index and the leaf hash of each entry that is sound by itself: of one that is not no more need be said."""
    if chunk.run is not None:
        return list(enumerate(chunk.run.leaf_hashes(), chunk.run.first))
    sound = [Outline._make(each) for each in chunk.outcomes() if len(each) == SOUND]
    return [(seen.place, seen.leaf_hash) for seen in sound]


@dataclass(slots=True)
class _Bundle:
    """A bundle under way: the leaf hashes of its tile, None where the tile itself is wrong, and then the `fault`."""

    number: int
    leaves: list[bytes] | None
    fault: LedgerError | None = None
    is_sound: bool = True

    def hold(self, index: int, leaf: bytes, findings: Findings) -> None:
        """Holds an entry's leaf hash against the tile."""
        wanted = leaf if self.leaves is None else self.leaves[index % WIDTH]
        self.is_sound &= self.leaves is not None and leaf == wanted
        if leaf != wanted:
            findings.add(
                LedgerError(
                    "tile",
                    "the entry is not the one that the tree holds there",
                    index=index,
                    expected=wanted.hex(),
                    found=leaf.hex(),
                )
            )


def _resumed(
    kept: Kept | None, signed: SignedCheckpoint, hashes: TileHashes, state: Path | None
) -> LogChecks:
    """The checks from where they were left, their entries shown to be the beginning of this tree."""
    if kept is None:
        return LogChecks(signed)
    try:
        standing = parse_standing(kept.checks)
    except LedgerError as error:
        raise LedgerError(
            "unreadable",
            f"the state file is of another version: {error.message}",
            path=str(state),
            hint="Remove it and verify the log from its start",
        ) from error
    checks = LogChecks.resumed(kept.checks, signed)
    if hashes.edge(standing.size) != list(standing.edge):
        raise LedgerError(
            "consistency", f"the {standing.size} entries verified before are not those of this tree"
        )
    return checks


def _completeness(
    head: Checkpoint, brought: Checkpoint | None, since: int, policy: PolicyEvidence | None
) -> str:
    text = f"all {head.size} entries under the checkpoint are verified"
    if since:
        text += f", the first {since} of them by an earlier run: whether they are still published was not looked at"
    if brought is not None:
        text += f"; the log still holds all {brought.size} entries of your checkpoint"
    return text + beyond(policy)
