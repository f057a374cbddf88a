"""The events of the contract, read from a transaction's receipt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from agentmesh_ledger.anchor.contract import ANNOUNCEMENT, CHECKPOINT, SETTLEMENT
from agentmesh_ledger.anchor.rlp import Item, as_bytes, as_integer, as_list, decode_list
from agentmesh_ledger.errors import LedgerError

Kind: TypeAlias = Literal["checkpoint", "announcement", "settlement"]

_KINDS: Final[dict[bytes, Kind]] = {
    CHECKPOINT: "checkpoint",
    ANNOUNCEMENT: "announcement",
    SETTLEMENT: "settlement",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a contract logged. Sender and origin are that contract's word, and any contract can log any.

    `root` is that of the log, or, of a settlement, that of the balances.
    """

    kind: Kind
    contract: bytes
    sender: bytes
    origin: bytes
    size: int
    root: bytes


def parse_receipt(data: bytes) -> tuple[Item, ...]:
    """The logs of a successful transaction, from its receipt as the trie of its block has it, typed or not.

    Raises: LedgerError(anchor).
    """
    typed = 0 < data[0] < 0x80 if data else False  # EIP-2718: the type stands before the RLP
    fields = decode_list(data[1:] if typed else data, "a receipt")
    # Chains of their own add fields to receipts of their own types.
    if len(fields) != 4 and not (typed and 4 < len(fields) <= 8):
        raise LedgerError("anchor", f"a receipt does not have {len(fields)} fields")
    status = as_bytes(fields[0], "the status of a receipt")
    if status != b"\x01":
        raise LedgerError(
            "anchor", "the receipt is of a transaction that failed, or does not say that it succeeded"
        )
    as_integer(fields[1], "the gas of a receipt")
    as_bytes(fields[2], "the bloom of a receipt", 256)
    return as_list(fields[3], "the logs of a receipt")


def parse_event(log: Item) -> Event:
    """The event of ours that one of a receipt's logs is.

    Raises: LedgerError(anchor).
    """
    fields = as_list(log, "a log")
    if len(fields) != 3:
        raise LedgerError("anchor", f"a log does not have {len(fields)} fields")
    contract = as_bytes(fields[0], "the address of a log", 20)
    topics = [as_bytes(topic, "a topic of a log", 32) for topic in as_list(fields[1], "the topics of a log")]
    data = as_bytes(fields[2], "the data of a log")
    kind = _KINDS.get(topics[0]) if topics else None
    if kind is None:
        raise LedgerError("anchor", "the log is another event than those of a checkpoint")
    if len(topics) != 3 or len(data) != 64 or any(topics[1][:12]) or any(data[:24]):
        raise LedgerError("anchor", f"the log has the name of a {kind}, and not its form")
    return Event(
        kind=kind,
        contract=contract,
        sender=topics[1][12:],
        origin=topics[2],
        size=int.from_bytes(data[:32], "big"),
        root=data[32:],
    )


def settlement_of(logs: Sequence[Item], event: Event) -> bytes | None:
    """The root of balances that the same contract logged beside this checkpoint, in the same transaction.

    Raises: LedgerError(anchor) where it logged two, of which a reader could be shown either.
    """
    found: set[bytes] = set()
    for log in logs:
        fields = as_list(log, "a log")
        topics = as_list(fields[1], "the topics of a log") if len(fields) == 3 else ()
        if topics[:1] == (SETTLEMENT,) and fields[0] == event.contract:
            beside = parse_event(log)
            if (beside.sender, beside.origin, beside.size) == (event.sender, event.origin, event.size):
                found.add(beside.root)
    if len(found) > 1:
        raise LedgerError("anchor", "the receipt has two roots of balances for one checkpoint")
    return next(iter(found), None)
