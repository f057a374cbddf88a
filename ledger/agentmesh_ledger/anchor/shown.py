"""What the evidence of anchors shows of a log, gathered while its record is verified (SPEC L-106 to L-119)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agentmesh_ledger.anchor.lines import AnchorLine
from agentmesh_ledger.checks import LogChecks
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import JsonValue
from agentmesh_ledger.text import shown
from agentmesh_ledger.tree import verify_consistency

if TYPE_CHECKING:
    from agentmesh_ledger.anchor.evidence import Anchored

_BLOCK: Final = re.compile(r"(0x)?([0-9a-f]{64})\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorClaim:
    """An anchor that was not verified: what is claimed, and why it is no more than that.

    `index` is the entry that claims it, `line` the line of a transcript that shows it; `promise` is the type of evidence
    that shows no block yet.
    """

    what: str
    why: str
    size: int | None = None
    index: int | None = None
    line: int | None = None
    promise: str | None = None


def block_hash(text: str) -> str:
    """The hash of a block that an auditor names, as 64 lower-case hex digits.

    Raises: LedgerError(anchor).
    """
    found = _BLOCK.match(text.lower())
    if found is None:
        raise LedgerError("anchor", f"{shown(text, 80)!r} is not the hash of a block: 64 hex digits")
    return found.group(2)


class AnchorChecks:
    """Holds evidence of anchors to one log. `blocks` are the hashes of blocks that the auditor knows otherwise."""

    def __init__(self, origin: str, blocks: Sequence[str] = ()) -> None:
        self._origin = origin
        self._named = tuple(dict.fromkeys(map(block_hash, blocks)))
        # Bitcoin writes its hashes without 0x.
        self._blocks = frozenset(prefix + each for each in self._named for prefix in ("", "0x"))
        self.anchored: list[Anchored] = []
        self._claims: list[AnchorClaim] = []
        self._unchecked: str | None = None  # why evidence could not be looked at

    @property
    def claims(self) -> list[AnchorClaim]:
        """What was claimed only, but for promises that were kept: a block shows the same entries by now."""
        kept = {(each.type, each.size) for each in self.anchored}
        return [each for each in self._claims if (each.promise, each.size) not in kept]

    def claim(self, claim: AnchorClaim) -> None:
        """Takes what cannot be held to any evidence."""
        self._claims.append(claim)

    def hold(
        self,
        evidence: Mapping[str, JsonValue],
        *,
        size: int,
        root: bytes,
        index: int | None = None,
        line: int | None = None,
    ) -> Anchored | None:
        """What this evidence shows of the first `size` entries; None where it takes an extra that is not installed.

        Evidence that shows no block is a claim. Whoever calls binds the root to the log. Raises: LedgerError(anchor).
        """
        from agentmesh_ledger.anchor.evidence import (
            verify_evidence,  # most records have none, and need not wait
        )

        try:
            found = verify_evidence(evidence, origin=self._origin, size=size, root=root, blocks=self._blocks)
        except LedgerError as error:
            if error.reason != "no_extra":
                raise
            kind = evidence.get("type")
            what = f"evidence of the type {shown(kind if isinstance(kind, str) else '?', 40)}"
            why = self._unchecked = f"not checked: {error}"
            self.claim(AnchorClaim(what=what, why=why, size=size, index=index, line=line))
            return None
        if found.block is None:
            what = "a promise of a block"
            self.claim(
                AnchorClaim(what=what, why=found.note, size=size, index=index, line=line, promise=found.type)
            )
        else:
            self.anchored.append(found)
        return found

    def endings(self) -> list[LedgerError]:
        """What is wrong with the whole, once all evidence was taken: blocks that the auditor named for nothing."""
        met = {each.block_hash.removeprefix("0x") for each in self.anchored if each.pinned}
        return [
            LedgerError(
                "anchor",
                f"no anchor stands in the block {each} that you named",
                hint=self._unchecked_hint() or (None if self.anchored else "No anchor is shown at all"),
            )
            for each in self._named
            if each not in met
        ]

    def _unchecked_hint(self) -> str | None:
        return None if self._unchecked is None else f"An anchor is shown that was {self._unchecked}"


class ShownAnchors:
    """Takes the anchor lines of a transcript in order, each bound to the transcript's own checkpoint."""

    def __init__(self, log: LogChecks, evidence: AnchorChecks) -> None:
        self._log = log
        self._evidence = evidence
        self._last: tuple[int, bytes] = (0, b"")

    def take(self, shown_line: AnchorLine, line: int) -> None:
        """Takes the next one. Where the whole log is shown its root is held later, when the entries were read.

        Raises: LedgerError(anchor, consistency) with `line` set.
        """
        try:
            self._require_order(shown_line)
            checkpoint = self._log.checkpoint
            size, root, proof = shown_line.size, shown_line.root, shown_line.proof
            if proof is not None:
                verify_consistency(size, checkpoint.size, proof, root, checkpoint.root)
            self._evidence.hold(shown_line.evidence, size=size, root=root, line=line)
            if proof is None:
                self._log.await_root(size, root, line)
        except LedgerError as error:
            error.locate(line=line)
            raise

    def _require_order(self, line: AnchorLine) -> None:
        size = line.size
        if not 0 < size <= self._log.checkpoint.size:
            raise LedgerError(
                "anchor",
                "the anchor is of another size than the log has had",
                expected=f"1 to {self._log.checkpoint.size}",
                found=str(size),
            )
        place = (size, line.encode())
        if place <= self._last:
            raise LedgerError(
                "anchor",
                "the anchor stands twice or out of order",
                expected=f"a size above {self._last[0]}, or a line that sorts behind",
                found=str(size),
            )
        self._last = place
