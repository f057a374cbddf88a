"""The receipts at the end of a log, for who starts anew: what is to go back to a peer, and what has not come back."""

from __future__ import annotations

from typing import Final

from agentmesh_ledger import LedgerError
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.usage.receipt import USAGE, SignedReceipt, read_signed

TAIL: Final = 2_000
"""So many entries are looked at, a few tenths of a second: of older receipts each side has what it has."""


def recent_receipts(ledger: Ledger) -> list[tuple[SignedReceipt, str]]:
    """The receipts between owners among the last entries, each with its dialogue, in their order."""
    found: list[tuple[SignedReceipt, str]] = []
    size = ledger.size
    for record in ledger.read(max(0, size - TAIL), size):
        message = record.message
        if message.kind != USAGE or "receipt" not in message.facts:
            continue
        try:
            signed = read_signed(message.facts)
        except LedgerError:
            continue  # `agentmesh accounts` tells of it
        if signed.receipt.asker_log != signed.receipt.provider_log:
            found.append((signed, message.dialogue))
    return found
