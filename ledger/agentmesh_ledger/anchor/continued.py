"""Whether the ledger continues what a chain holds of it: a larger size there is a rollback, another root a fork."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agentmesh_ledger.anchor.calls import OnChain, checkpoint_topics, checkpoints, read_head
from agentmesh_ledger.anchor.chain import Chain
from agentmesh_ledger.anchor.chain_order import Head
from agentmesh_ledger.anchor.journal import Journal, Push, Target
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.log import Ledger

_FIRST_WINDOW: Final = 2_000  # blocks; the usual limits of hosted nodes are 500 to 10,000
_WIDEST_WINDOW: Final = 100_000
_MOST_QUESTIONS: Final = 500


class Continuity:
    """Holds a ledger to the checkpoints that one sender anchored of it."""

    def __init__(self, ledger: Ledger, chain: Chain, target: Target, journal: Journal) -> None:
        self._ledger = ledger
        self._chain = chain
        self._target = target
        self._journal = journal
        self._held: Head | None = None  # the last head that the ledger was found to continue

    def require(self) -> Head:
        """What the contract holds, once the ledger is known to continue it.

        Raises: LedgerError(rollback, forked, node).
        """
        head = read_head(self._chain, self._target, self._ledger.origin)
        if head.size == 0 or head == self._held:
            return head
        size = self._ledger.size
        if head.size > size:
            raise LedgerError(
                "rollback",
                "the chain holds a larger size of this log than the ledger: the ledger was put back from an older copy, "
                "or another copy of it goes on elsewhere",
                expected=f"{head.size} entries",
                found=f"{size}",
                hint=f"It was anchored by {self._target.sender} at {self._target.contract}",
            )
        self.require_root(self.find(head.size))
        self._held = head
        return head

    def require_root(self, found: OnChain) -> None:
        """Holds one checkpoint on the chain to the ledger's own tree.

        Raises: LedgerError(forked), with the place of a proof where the journal has the note that was anchored.
        """
        root = self._ledger.root(found.size)
        if root != found.root:
            push = self._journal.of_size(self._target, found.size)
            raise self._forked(
                f"the chain holds another root for the first {found.size} entries of this log, in transaction {found.tx}: "
                "another copy of the log went on otherwise, under the same origin and account",
                expected=found.root,
                found=root,
                note=push.note if push is not None and push.root == found.root else "",
            )

    def require_push(self, push: Push) -> None:
        """Holds what was signed to be sent to the ledger as it is now: the same, or continued.

        Raises: LedgerError(rollback, forked).
        """
        size = self._ledger.size
        if push.size > size:
            raise LedgerError(
                "rollback",
                "the journal of anchors holds a larger size of this log than the ledger",
                expected=f"{push.size} entries",
                found=f"{size}",
                path=str(self._journal.path),
            )
        root = self._ledger.root(push.size)
        if root != push.root:
            raise self._forked(
                f"the journal of anchors holds another root for the first {push.size} entries of this log",
                expected=push.root,
                found=root,
                note=push.note,
            )

    def _forked(self, message: str, *, expected: bytes, found: bytes, note: str) -> LedgerError:
        """The error, once the proof is written: the chain has a root alone, and only the log's own note beside it convicts."""
        path = None
        try:
            path = str(self._ledger.contradict(note)) if note else None
        except LedgerError as error:
            if error.reason in ("failed", "key"):
                message += f" (no proof of it was written: {error.message})"
            elif (
                not error.is_check
            ):  # a note in the journal that proves nothing was tampered with; the chain's root stands
                raise
        return LedgerError(
            "forked",
            message,
            expected=expected.hex(),
            found=found.hex(),
            path=path,
            hint=None if path is None else "That file proves it to anyone: `agentmesh-verify fork FILE`",
        )

    def find(self, size: int) -> OnChain:
        """The event by which the contract took this size.

        The journal says where to look first. Without it the events are read backwards, in windows that shrink until the
        node takes them. Raises: LedgerError(node) where the node does not show it.
        """
        push = self._journal.of_size(self._target, size)
        for attempt in () if push is None else push.attempts:
            receipt = self._chain.receipt(attempt.tx)
            if receipt is not None and receipt.good:
                for each in checkpoints(receipt.logs, self._target, self._ledger.origin):
                    if each.size == size:
                        return each
        for each in self._newest_first():
            if each.size == size:
                return each
            if each.size < size:
                break
        raise LedgerError(
            "node",
            f"the node at {self._chain.place} does not show the event by which size {size} was anchored",
        )

    def _newest_first(self) -> Iterator[OnChain]:
        last, window, widest = self._chain.head().number, _FIRST_WINDOW, _WIDEST_WINDOW
        topics = checkpoint_topics(self._target, self._ledger.origin)
        for _ in range(_MOST_QUESTIONS):
            first = max(0, last - window + 1)
            logs = self._chain.logs(self._target.contract, topics, first, last)
            if logs is None:
                window = widest = max(1, (last - first + 1) // 2)
                continue
            yield from reversed(checkpoints(logs, self._target, self._ledger.origin))
            if first == 0:
                return
            last, window = first - 1, min(2 * window, widest)
