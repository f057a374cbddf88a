"""What an `anchor` entry of a log claims of where a checkpoint was published, and the evidence in it (SPEC L-106 to L-119)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agentmesh_ledger.affairs import LOG_DIALOGUE
from agentmesh_ledger.anchor.evidence import EVM_RECEIPT, MAX_EVIDENCE, OPENTIMESTAMPS, Anchored
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.fields import count_of, hash_of
from agentmesh_ledger.jcs import JsonValue, parse
from agentmesh_ledger.record import Record
from agentmesh_ledger.text import shown

ANCHOR: Final = "anchor"
EVIDENCE: Final = "evidence"
EVIDENCE_TYPE: Final = "application/vnd.agentmesh.anchor.v1+json"
EVM: Final = "evm"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAnchor:
    """An `anchor` entry as it was signed. `chain`, `contract`, `sender` and `block_hash` stand there for an EVM chain;
    `complete` says whether the claim is of a block, and not only of one to come."""

    index: int
    type: str
    size: int
    root: bytes
    block: int | None
    complete: bool
    block_hash: str | None = None
    chain: int | None = None
    contract: str | None = None
    sender: str | None = None

    @property
    def place(self) -> tuple[str, int | None, str | None]:
        """Where it was published: anchors of one place stand for one another."""
        return self.type, self.chain, self.contract

    def __str__(self) -> str:
        stood = f"that entries 0 to {self.size - 1} were published"
        if self.type != EVM:
            block = "" if self.block is None else f", in Bitcoin block {self.block}"
            return f"{stood} through OpenTimestamps{block}"
        return f"{stood} in block {self.block} of chain {self.chain} ({self.block_hash})"

    def require(self, found: Anchored) -> None:
        """Refuses an entry whose facts are not what its evidence shows.

        Raises: LedgerError(anchor).
        """
        kind = EVM_RECEIPT if self.type == EVM else OPENTIMESTAMPS
        claimed: tuple[tuple[str, object, object], ...] = (
            ("type", kind, found.type),
            ("block", self.block, found.block),
            ("block_hash", self.block_hash, found.block_hash.lower()),
            ("chain", self.chain, found.chain),
            ("contract", self.contract, None if found.contract is None else found.contract.lower()),
            ("sender", self.sender, None if found.sender is None else found.sender.lower()),
        )
        if self.type != EVM:
            claimed = claimed[: 1 if found.block is None else 2]  # without a header nothing shows the block
        for name, said, shows in claimed:
            if said != shows:
                raise LedgerError(
                    "anchor",
                    f"the entry's {name} is not what its evidence shows",
                    expected=shown(str(shows), 80),
                    found=shown(str(said), 80),
                )


def recorded_anchor(record: Record) -> RecordedAnchor | None:
    """What an entry claims; None for an entry of another kind, and for one of a type that is not known here.

    Raises: LedgerError(anchor) with `index` set.
    """
    message = record.message
    if message.kind != ANCHOR or message.dialogue != LOG_DIALOGUE:
        return None
    facts = message.facts
    try:
        if facts.get("type") == EVM:
            found = _evm(record.index, facts)
        elif facts.get("type") == OPENTIMESTAMPS:
            found = _opentimestamps(record.index, facts)
        else:
            return None
        if not 0 < found.size <= record.index:
            raise LedgerError("anchor", "the entry claims a checkpoint of more entries than stand before it")
    except LedgerError as error:
        error.locate(index=record.index)
        raise
    return found


def recorded_evidence(record: Record) -> Mapping[str, JsonValue] | None:
    """The evidence that an `anchor` entry carries; None where it is withheld or was erased.

    Raises: LedgerError(anchor) with `index` set.
    """
    part = next((each for each in record.parts if each.name == EVIDENCE), None)
    if part is None or part.type != EVIDENCE_TYPE:
        raise LedgerError("anchor", "the entry names no evidence", index=record.index)
    if part.data is None:
        return None
    if part.size > MAX_EVIDENCE:
        raise LedgerError("anchor", f"the evidence is longer than {MAX_EVIDENCE} bytes", index=record.index)
    try:
        value = parse(part.data)
    except LedgerError as error:
        raise LedgerError(
            "anchor", f"the evidence is no canonical JSON: {error.message}", index=record.index
        ) from error
    if not isinstance(value, dict):
        raise LedgerError("anchor", "the evidence is not an object", index=record.index)
    return value


def _evm(index: int, facts: Mapping[str, JsonValue]) -> RecordedAnchor:
    return RecordedAnchor(
        index=index,
        type=EVM,
        size=count_of(facts.get("size"), "anchor", "the entry's size"),
        root=hash_of(facts.get("root"), "anchor", "the entry's root"),
        block=count_of(facts.get("block"), "anchor", "the entry's block"),
        complete=True,
        block_hash=_text(facts, "block_hash"),
        chain=count_of(facts.get("chain"), "anchor", "the entry's chain"),
        contract=_text(facts, "contract"),
        sender=_text(facts, "sender"),
    )


def _opentimestamps(index: int, facts: Mapping[str, JsonValue]) -> RecordedAnchor:
    block, status = facts.get("block"), facts.get("status")
    if status not in ("pending", "complete"):
        raise LedgerError("anchor", "the entry's status is neither pending nor complete")
    return RecordedAnchor(
        index=index,
        type=OPENTIMESTAMPS,
        size=count_of(facts.get("size"), "anchor", "the entry's size"),
        root=hash_of(facts.get("root"), "anchor", "the entry's root"),
        block=None if block is None else count_of(block, "anchor", "the entry's block"),
        complete=status == "complete",
    )


def _text(facts: Mapping[str, JsonValue], name: str) -> str:
    value = facts.get(name)
    if not isinstance(value, str):
        raise LedgerError("anchor", f"the entry's {name} is not a text")
    return value.lower()
