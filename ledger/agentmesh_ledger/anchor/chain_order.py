"""The order in which the contract took checkpoints, computed again from its events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agentmesh_ledger.anchor.keccak import keccak256
from agentmesh_ledger.errors import LedgerError

_LOW: Final = 2**192 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What `head(sender, origin)` of the contract gives: the last size, and 192 bits that stand for all roots so far."""

    size: int = 0
    order: int = 0

    def after(self, size: int, root: bytes) -> Head:
        """The head once this checkpoint was anchored.

        Raises: LedgerError(anchor) for what the contract refuses.
        """
        if not self.size < size < 2**64 or len(root) != 32:
            raise LedgerError("anchor", f"the contract does not take size {size} after {self.size}")
        before = self.size << 192 | self.order
        digest = keccak256(before.to_bytes(32, "big") + size.to_bytes(32, "big") + root)
        return Head(size=size, order=int.from_bytes(digest, "big") & _LOW)


def head_after(checkpoints: Iterable[tuple[int, bytes]], *, head: Head | None = None) -> Head:
    """The head after these sizes and roots: of every `Checkpoint` event of one sender and origin, oldest first.

    Where it equals the contract's own, a node has neither left out an event, nor added, changed or moved one.
    Raises: LedgerError(anchor).
    """
    found = Head() if head is None else head
    for size, root in checkpoints:
        found = found.after(size, root)
    return found
