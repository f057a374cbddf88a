"""Stamps as a ledger records them: entries of kind `anchor`, of the log's own dialogue, with their evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentmesh_ledger.affairs import LOG_DIALOGUE, REGISTER
from agentmesh_ledger.anchor.evidence import OPENTIMESTAMPS
from agentmesh_ledger.anchor.ots import open_stamp, verify_ots
from agentmesh_ledger.anchor.recorded import (
    ANCHOR,
    EVIDENCE,
    EVIDENCE_TYPE,
    recorded_anchor,
    recorded_evidence,
)
from agentmesh_ledger.draft import Draft, DraftPart
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import JsonValue, canonical

if TYPE_CHECKING:
    from agentmesh_ledger.anchor.evidence import Anchored
    from agentmesh_ledger.anchor.otsfile import Proof
    from agentmesh_ledger.keys import AgentKey
    from agentmesh_ledger.log import Ledger
    from agentmesh_ledger.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What entry `index` says of the checkpoint of `size` entries; nobody has looked yet whether it holds."""

    origin: str
    index: int
    size: int
    root: bytes
    complete: bool
    evidence: JsonValue

    def opened(self) -> Proof:
        """The proof, which is about this checkpoint. Raises: LedgerError(anchor, no_extra)."""
        return open_stamp(self.evidence, size=self.size, root=self.root, origin=self.origin)

    def verified(self) -> Anchored:
        """What the stamp shows, a pending one no block. Raises: LedgerError(anchor, no_extra)."""
        return verify_ots(self.evidence, size=self.size, root=self.root, origin=self.origin)


def stamps(ledger: Ledger) -> tuple[Stamp, ...]:
    """The stamps in a ledger, oldest first; what is out of shape is passed over, for any author may append it.

    Raises: LedgerError where the ledger cannot be read.
    """
    if not ledger.size:
        return ()
    found = (_stamp(ledger.origin, record) for record in ledger.read(dialogue=LOG_DIALOGUE))
    return tuple(each for each in found if each is not None)


def unfinished(ledger: Ledger) -> Iterator[Stamp]:
    """The pending stamps, one for each checkpoint, of those that no complete stamp shows. Raises: as `stamps`."""
    found = stamps(ledger)
    done = {(each.size, each.root) for each in found if each.complete and _holds(each)}
    for each in found:
        if not each.complete and (each.size, each.root) not in done:
            done.add((each.size, each.root))
            yield each


def completed(ledger: Ledger, size: int, root: bytes) -> Stamp | None:
    """The stamp that shows this checkpoint in a block, where there is one. Raises: as `stamps`."""
    for each in stamps(ledger):
        if (each.complete, each.size, each.root) == (True, size, root) and _holds(each):
            return each
    return None


def standing(ledger: Ledger) -> Stamp | None:
    """The last sound stamp, where nothing but anchors, and whoever signs them, was appended after what it covers.

    Raises: as `stamps`.
    """
    for each in sorted(stamps(ledger), key=lambda each: -each.size):
        if any(record.message.kind not in (ANCHOR, REGISTER) for record in ledger.read(each.size)):
            return None
        if _opens(each):
            return each
    return None


def record_stamp(
    ledger: Ledger,
    author: AgentKey,
    size: int,
    root: bytes,
    evidence: Mapping[str, JsonValue],
    block: int | None = None,
) -> int:
    """Appends a stamp, complete where it has a block: the entry's place. Raises: LedgerError as `Ledger.append`."""
    facts: dict[str, JsonValue] = {
        "type": OPENTIMESTAMPS,
        "size": size,
        "root": root.hex(),
        "status": "pending" if block is None else "complete",
    }
    if block is not None:
        facts["block"] = block
    part = DraftPart(name=EVIDENCE, type=EVIDENCE_TYPE, data=canonical(evidence))
    draft = Draft(author=author, kind=ANCHOR, dialogue=LOG_DIALOGUE, facts=facts, parts=(part,))
    return ledger.append([draft])[0].index


def _stamp(origin: str, record: Record) -> Stamp | None:
    try:
        claimed = recorded_anchor(record)
        if claimed is None or claimed.type != OPENTIMESTAMPS:
            return None
        evidence = recorded_evidence(record)
    except LedgerError:
        return None
    if evidence is None:
        return None
    return Stamp(
        origin=origin,
        index=record.index,
        size=claimed.size,
        root=claimed.root,
        complete=claimed.complete,
        evidence=evidence,
    )


def _opens(stamp: Stamp) -> bool:
    try:
        stamp.opened()
    except LedgerError as error:
        if error.reason != "anchor":
            raise
        return False
    return True


def _holds(stamp: Stamp) -> bool:
    try:
        return stamp.verified().block is not None
    except LedgerError as error:
        if error.reason != "anchor":
            raise
        return False
