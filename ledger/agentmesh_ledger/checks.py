"""What entries must be to one another: chained, in one tree, by registered authors, none missing.

Bytes or outlines in, evidence out; knows no file and no database, so a transcript and a ledger are held to one rule.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from agentmesh_ledger.affairs import ERASE, LOG_DIALOGUE, REVOKE
from agentmesh_ledger.authors import Authors
from agentmesh_ledger.checkpoint import Checkpoint, SignedCheckpoint
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import JsonValue
from agentmesh_ledger.record import Opening, Outline, Record, open_entry, outlined
from agentmesh_ledger.resume import Standing, parse_standing
from agentmesh_ledger.run import Run, thread
from agentmesh_ledger.text import shown
from agentmesh_ledger.tree import Edge, verify_inclusion

MAX_ERASED_KNOWN: Final = 100_000
MAX_DIALOGUES: Final = 4_000_000  # bounds memory against a log made to exhaust it


def first_link(origin: str) -> bytes:
    """What `prev` is at index 0: SHA-256 of the origin, so that two logs never share a first entry."""
    return hashlib.sha256(origin.encode("utf-8")).digest()


class LogChecks:
    """Takes the shown entries in order, lets the sound ones through, and raises at each that is not.

    `dialogue` None means that every entry of the checkpoint is shown. Memory grows with the number of
    authors and dialogues, not with that of entries. After a failure `pass_over` says how to go on.
    """

    def __init__(
        self, signed: SignedCheckpoint, *, dialogue: str | None = None, expect: Checkpoint | None = None
    ) -> None:
        checkpoint = signed.checkpoint
        self.checkpoint = checkpoint
        self.dialogue = dialogue
        self.expect = expect
        self.entries = 0
        self.withheld = 0
        self._erased: set[bytes] = set()  # parts that a tombstone shown names, by the beginning of their hash
        self._erased_more = 0
        self.authors = Authors({key.public for key in signed.keys}, whole=dialogue is None)
        self.last_kind: str | None = None  # of the selected dialogue, or of the log
        self._first = first_link(checkpoint.origin)
        self._edge = Edge()
        self._at = -1  # the index last taken
        self._leaf: bytes | None = None  # its leaf hash, where that is known
        self._sequence: dict[bytes, int] = {}
        self._guests: dict[str, int] = {}  # who stands here for a key entry, and where
        self._writers: set[str] = set()
        self._unread = 0  # entries that failed and could not even be read
        self._gapless = True  # the edge has the leaf of every entry up to here
        # What the root has to be at sizes still to come, by size, and on which line that stands.
        self._roots: deque[tuple[int, bytes, int | None]] = deque()
        self._astray: list[LedgerError] = []
        if expect is not None and expect.size > checkpoint.size:
            raise LedgerError(
                "consistency",
                "the log is shorter than your checkpoint says: it was cut, rolled back or forked",
                expected=f"at least {expect.size} entries",
                found=str(checkpoint.size),
            )
        self._meet_expectation()

    @classmethod
    def resumed(
        cls, state: JsonValue, signed: SignedCheckpoint, *, expect: Checkpoint | None = None
    ) -> LogChecks:
        """The checks of a whole log as they stood when `state` was asked for, to go on under a later checkpoint.

        Whoever can write the state can write another: keep it where only the auditor writes. Its root at
        `entries` is bound to the checkpoint by `finish`, which has to recompute the checkpoint's from it.
        Raises: LedgerError(header) for a state that was changed, or is of another version or log;
            LedgerError(consistency) where the log, or a checkpoint of the auditor's, ends before it.
        """
        standing = parse_standing(state)
        if standing.origin != signed.checkpoint.origin:
            raise LedgerError("header", "the state is that of another log", found=shown(standing.origin))
        if standing.size > signed.checkpoint.size:
            raise LedgerError(
                "consistency",
                "the log is shorter than when it was verified last: it was cut, rolled back or forked",
                expected=f"at least {standing.size} entries",
                found=str(signed.checkpoint.size),
            )
        if expect is not None and expect.size < standing.size:
            raise LedgerError(
                "consistency", f"your checkpoint of {expect.size} entries ends before the state begins"
            )
        checks = cls(signed, expect=None)
        checks.expect = expect
        checks.entries, checks.withheld = standing.size, standing.withheld
        checks._erased, checks._erased_more = set(standing.erased), standing.erased_more
        checks._at, checks._leaf = standing.size - 1, standing.leaf
        checks._edge = Edge(standing.size, standing.edge)
        checks.last_kind = standing.last_kind
        checks._sequence = dict(standing.sequence)
        authors = checks.authors
        authors.names, authors.counts, authors.lasts = (
            dict(standing.names),
            dict(standing.counts),
            dict(standing.lasts),
        )
        authors.rotated, authors.revoked = dict(standing.rotated), dict(standing.revoked)
        authors.steward = standing.steward
        if expect is not None and expect.size > signed.checkpoint.size:
            raise LedgerError("consistency", "the log is shorter than your checkpoint says")
        checks._meet_expectation()
        return checks

    def await_root(self, size: int, root: bytes, line: int | None = None) -> None:
        """Has the root recomputed when so many entries were taken; `endings` tells where it is another.

        For the whole log, before its first entry and by rising sizes.
        """
        self._roots.append((size, root, line))

    @property
    def erased(self) -> int:
        """How many parts the tombstones shown name; of more than a hundred thousand a part named twice counts twice."""
        return len(self._erased) + self._erased_more

    @property
    def last(self) -> int:
        """The index of the last entry taken; -1 before the first."""
        return self._at

    def state(self) -> JsonValue:
        """All that is needed to go on after the last entry taken; JSON of about 30 bytes a dialogue.

        Raises: LedgerError(refused) for a dialogue selection, and after a failure.
        """
        if self.dialogue is not None or not self._gapless or self._unread or self._edge.size != self.entries:
            raise LedgerError("refused", "only sound checks of a whole log can be resumed")
        return Standing(
            origin=self.checkpoint.origin,
            size=self.entries,
            leaf=self._leaf,
            edge=self._edge.hashes,
            withheld=self.withheld,
            erased=frozenset(self._erased),
            erased_more=self._erased_more,
            last_kind=self.last_kind,
            sequence=self._sequence,
            names=self.authors.names,
            counts=self.authors.counts,
            lasts=self.authors.lasts,
            rotated=self.authors.rotated,
            revoked=self.authors.revoked,
            steward=self.authors.steward,
        ).encode()

    def entry(
        self,
        index: int,
        entry: bytes,
        openings: Mapping[bytes, Opening | None],
        proof: Sequence[bytes] | None = None,
    ) -> Record:
        """The record of the next shown entry, all checks of SPEC section 7 passed.

        Raises: LedgerError with `index` set.
        """
        try:
            self.require_place(index)
            record = open_entry(index, entry, openings)
            if self.dialogue is not None:
                if proof is None:
                    raise LedgerError("inclusion", "the entry has no inclusion proof")
                size, root = self.checkpoint.size, self.checkpoint.root
                verify_inclusion(index, size, record.leaf_hash, proof, root)
            self.take(outlined(record))
        except LedgerError as error:
            error.locate(index=index)
            raise
        return record

    def take(self, seen: Outline) -> None:
        """Holds an entry, sound by itself, against those before it, and takes it among them.

        Raises: LedgerError.
        """
        index = seen.place
        if index != self._at + 1 or index >= self.checkpoint.size:
            self.require_place(index)
        self._require_link(seen)
        authors = self.authors
        if (
            seen.facts is not None
            or seen.author not in authors.names
            or seen.author in authors.revoked
            or seen.author in authors.rotated
        ):
            authors.require(seen)
        self._require_selected(seen)
        self._admit(seen, seen.leaf_hash)
        self.entries += 1
        self.withheld += seen.withheld
        self._meet_expectation()

    def take_run(self, run: Run) -> bool:
        """Takes the entries of a run as `take` would one by one, where it would refuse none of them.

        False, and nothing is changed, where it might: then each has to be taken by itself, to say what is wrong.
        """
        if not self._fits(run):
            return False
        sequence = self._sequence
        for digest, first, count in run.dialogues:
            sequence[digest] = first + count
        if self._roots and self._roots[0][0] <= run.stop:
            for leaf in run.leaf_hashes():
                self._append(leaf)
        else:
            self._edge.extend(run.size, run.roots)
        self.authors.admit_run(run)
        self._at, self._leaf = run.stop - 1, run.leaf
        self.last_kind = run.kind
        self.entries += run.size
        self.withheld += run.withheld
        return True

    def _fits(self, run: Run) -> bool:
        """Whether nothing that `take` looks at stands against any entry of the run."""
        first, stop, expect = run.first, run.stop, self.expect
        sequence, may_sign = self._sequence, self.authors.may_sign
        return (
            self.dialogue is None
            and self._gapless
            and not self._unread
            and first == self._at + 1 == self._edge.size
            and stop <= self.checkpoint.size
            and run.log == self.checkpoint.origin
            and run.prev == (self._leaf if first else self._first)
            # At the auditor's own size the root has to be looked at.
            and (expect is None or not first < expect.size <= stop)
            and all(map(may_sign, (author for author, _, _ in run.authors)))
            and all(sequence.get(digest, 0) == begin for digest, begin, _ in run.dialogues)
            and len(sequence) + sum(not begin for _, begin, _ in run.dialogues) <= MAX_DIALOGUES
        )

    def pass_over(self, index: int | None, leaf: bytes | None, seen: Outline | None) -> None:
        """Goes on behind an entry that failed, so that each fault is told once.

        Its own index and the leaf hash of its actual bytes count for the next one; `seen` is what it says, as
        far as it can be read. An entry of which nothing is known leaves the next link unchecked.
        """
        if index is not None and (index, leaf) == (self._at, self._leaf):
            return  # taken before it failed, or shown twice
        self._unread += seen is None
        self._gapless &= leaf is not None and (self.dialogue is not None or index == self._at + 1)
        if seen is not None and leaf is not None:
            self._admit(seen, leaf)
            return
        self._at = self._at + (self.dialogue is None) if index is None else index
        self._leaf = leaf
        if self._gapless and leaf is not None and self.dialogue is None:
            self._append(leaf)

    def finish(self) -> None:
        """Whether what was shown is all that was announced.

        Raises: LedgerError(count, root, selection, anchor), the first of `endings`.
        """
        for error in self.endings():
            raise error

    def endings(self) -> list[LedgerError]:
        """What is wrong with the whole, once the last entry was taken."""
        if self.dialogue is not None:
            return self._selection_endings(self.dialogue)
        if self._at + 1 != self.checkpoint.size:
            missing = LedgerError(
                "count",
                "entries are missing at the end",
                expected=str(self.checkpoint.size),
                found=str(self._at + 1),
            )
            return [missing, *self._astray]
        root = self._edge.root()
        if not self._gapless or root == self.checkpoint.root:
            return self._astray
        other = LedgerError(
            "root",
            "the entries are not those that the checkpoint was signed for",
            expected=self.checkpoint.root.hex(),
            found=root.hex(),
            hint=None if self.entries == self.checkpoint.size else "This may follow from what failed before",
        )
        return [other]  # of another tree no published root could be right

    def require_place(self, index: int) -> None:
        """Refuses an index that is not the next one.

        Raises: LedgerError(index).
        """
        if index >= self.checkpoint.size:
            raise LedgerError(
                "index",
                "the entry is beyond the checkpoint",
                expected=f"below {self.checkpoint.size}",
                found=str(index),
            )
        if index <= self._at or (self.dialogue is None and index != self._at + 1):
            wanted = f"{'' if self.dialogue is None else 'at least '}{self._at + 1}"
            raise LedgerError(
                "index", "an entry is missing, repeated or out of order", expected=wanted, found=str(index)
            )

    def _require_link(self, seen: Outline) -> None:
        if seen.log != self.checkpoint.origin:
            raise LedgerError(
                "chain",
                "the entry was signed for another log",
                expected=self.checkpoint.origin,
                found=seen.log,
            )
        if seen.place == 0:
            link: bytes = self._first
        elif self._leaf is not None and self._at == seen.place - 1:
            link = self._leaf
        else:
            return  # the entry before is not shown; the inclusion proof holds this one in its place
        if seen.prev != link:
            raise LedgerError(
                "chain",
                "prev is not the leaf hash of the entry before",
                expected=link.hex(),
                found=seen.prev.hex(),
            )

    def _require_selected(self, seen: Outline) -> None:
        if self.dialogue is not None and seen.dialogue != self.dialogue:
            if seen.dialogue != LOG_DIALOGUE or not (seen.kind.startswith("key.") or seen.kind == ERASE):
                raise LedgerError(
                    "selection",
                    "the entry belongs to another dialogue",
                    expected=self.dialogue,
                    found=seen.dialogue,
                )
            return
        wanted = self._sequence.get(thread(seen.dialogue), 0)
        if seen.seq != wanted and not 0 < seen.seq - wanted <= self._unread:
            raise LedgerError(
                "sequence",
                f"a message of the dialogue {seen.dialogue} is missing or stands twice",
                expected=f"seq {wanted}",
                found=f"seq {seen.seq}",
            )
        if wanted == 0 and len(self._sequence) >= MAX_DIALOGUES:
            raise LedgerError("sequence", f"the log has more than {MAX_DIALOGUES} dialogues")

    def _admit(self, seen: Outline, leaf: bytes) -> None:
        self._at, self._leaf = seen.place, leaf
        self.authors.admit(seen)
        if seen.kind == ERASE and seen.facts is not None:
            hashes = seen.facts["hashes"]
            for digest in hashes if isinstance(hashes, list) else ():
                self._erase(bytes.fromhex(str(digest))[:16])
        if self.dialogue is None:
            if self._gapless:
                self._append(leaf)
        elif seen.dialogue == self.dialogue or seen.kind == ERASE:
            self._writers.add(seen.author)
        else:
            self._guests.setdefault(seen.author, seen.place)
            if seen.kind == REVOKE and seen.facts is not None and seen.facts["agent"] in self._writers:
                self._writers.add(seen.author)
        if self.dialogue is None or seen.dialogue == self.dialogue:
            self._sequence[thread(seen.dialogue)] = seen.seq + 1
            self.last_kind = seen.kind

    def _erase(self, part: bytes) -> None:
        """Counts a part once however often it is named, as long as the log was not made to exhaust us."""
        if len(self._erased) < MAX_ERASED_KNOWN:
            self._erased.add(part)
        elif part not in self._erased:
            self._erased_more += 1

    def _selection_endings(self, dialogue: str) -> list[LedgerError]:
        needed = self.authors.with_predecessors(self._writers)
        found = [
            LedgerError(
                "selection", f"{author} is registered here but says nothing in the dialogue", index=index
            )
            for author, index in self._guests.items()
            if author not in needed
        ]
        if self.last_kind is None:
            found.append(LedgerError("selection", f"nothing of the dialogue {shown(dialogue)} is shown"))
        return found

    def _meet_expectation(self) -> None:
        expect = self.expect
        if expect is None or self.dialogue is not None or expect.size != self._edge.size or not self._gapless:
            return
        if self._edge.root() != expect.root:
            raise LedgerError(
                "consistency",
                f"the first {expect.size} entries are not those of your checkpoint: history was rewritten",
                expected=expect.root.hex(),
                found=self._edge.root().hex(),
            )

    def _append(self, leaf: bytes) -> None:
        """Takes a leaf into the tree, also that of an entry that failed: what was published is of its bytes."""
        self._edge.append(leaf)
        if self._roots:
            self._meet_roots()

    def _meet_roots(self) -> None:
        """Holds the roots that were awaited at the size reached."""
        while self._roots and self._roots[0][0] <= self._edge.size:
            size, root, line = self._roots.popleft()
            if self._edge.root() != root:
                self._astray.append(
                    LedgerError(
                        "anchor",
                        f"what was published is not the root of the log's first {size} entries",
                        line=line,
                        expected=self._edge.root().hex(),
                        found=root.hex(),
                    )
                )
