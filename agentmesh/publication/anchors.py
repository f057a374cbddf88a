"""A log's anchors, as a publication takes them step by step."""

from __future__ import annotations

from agentmesh.events import Anchored
from agentmesh_ledger import LedgerError
from agentmesh_ledger.anchor.anchorer import Anchorer
from agentmesh_ledger.anchor.chain import Chain
from agentmesh_ledger.anchor.progress import Every, Progress


class LogAnchors:
    """The anchors of one log in one contract; the next is due after `every`."""

    def __init__(self, anchorer: Anchorer, chain: Chain, every: Every) -> None:
        self._anchorer = anchorer
        self._chain = chain
        self._every = every

    def require_continued(self) -> tuple[str, ...]:
        """That the log continues what the contract holds of it; why it could not be asked, if so.

        Raises: LedgerError(rollback, forked); LedgerError(refused) where chain or contract is another than was meant.
        """
        try:
            self._anchorer.require_continued()
        except LedgerError as error:
            if error.reason != "node":
                raise
            return (f"the chain cannot be asked: {error.message}",)
        return ()

    def tend(self) -> Anchored | None:
        """Go on with what is under way, and begin the next where it is due.

        Raises: LedgerError(rollback, forked), and whatever the ledger and its journal raise.
        """
        try:
            due = self._anchorer.due(self._every)
            if not due and not self._anchorer.pending():
                return None
        except LedgerError as error:
            if error.reason != "node":
                raise
            return Anchored(state="waiting", message=error.message)
        return _told(self._anchorer.step(start=due))

    def step(self) -> Anchored | None:
        """Go on with what is under way, or with whatever is new.

        Raises: as `tend`.
        """
        return _told(self._anchorer.step())

    def close(self) -> None:
        """Let the node's connections go."""
        self._chain.close()


def _told(progress: Progress) -> Anchored | None:
    if progress.state == "idle":
        return None
    return Anchored(
        state=progress.state,
        size=progress.size,
        tx=progress.tx,
        block=progress.block,
        depth=progress.depth or 0,
        message=progress.message,
    )
