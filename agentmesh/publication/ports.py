"""What a publication needs of the ledger. All of it blocks, each call for a bounded time, and is called in a thread."""

from __future__ import annotations

from typing import Protocol

from agentmesh.events import Anchored, Witnessed


class Witnesses(Protocol):
    """The witnesses of one log."""

    def require_continued(self) -> tuple[str, ...]:
        """That the log continues what they hold; returns who could not be asked, each with the reason.

        Raises: LedgerError(rollback, forked).
        """

    def gather(self) -> Witnessed:
        """The newest checkpoint and their cosignatures, kept beside the log's key; whoever does not answer is told in it.

        Raises: LedgerError(rollback, forked); any other where the ledger itself cannot be read.
        """


class Anchors(Protocol):
    """One log's place on a chain."""

    def require_continued(self) -> tuple[str, ...]:
        """That the log continues what the chain holds; returns why it could not be asked, if so.

        Raises: LedgerError(rollback, forked).
        """

    def tend(self) -> Anchored | None:
        """Go on with what is under way, and begin the next anchor where one is due; None where there is neither.

        Safe to repeat. A node that is down is told in what it returns. Raises: LedgerError(rollback, forked); any other
        where the ledger itself cannot be read or written.
        """

    def step(self) -> Anchored | None:
        """As `tend`, whether one is due or not; None where nothing is new."""

    def close(self) -> None:
        """Let the way to the node go."""
