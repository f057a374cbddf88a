"""What a ledger needs of a database, whichever it is."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from agentmesh_ledger.store.rows import Rows


class Store(Protocol):
    """A database of logs: many readers, and one writer a log at a time.

    Durability: when a `writing` block has been left without an error, its rows survive a crash of the process and of
    the database's machine (SQLite: WAL with synchronous FULL; PostgreSQL: synchronous_commit on, and a server with
    fsync off is refused; a database in memory survives nothing and says so by its name). A block that raises has
    changed nothing.

    Errors: LedgerError and nothing else of the database's own. `failed` means that nothing was written and the caller
    may try again (full disk, lock held too long, connection lost before the commit); `unknown` alone leaves open
    whether the commit happened; `corrupt` is a damaged or foreign database; `unreadable` and `not_found` one that
    cannot be opened; `closed` one that has been given back.

    Order: between taking a lock by `Rows.lock_head` and the end of the block nobody else can append to that log.
    Safe for many threads, and for many processes where the database is not in memory.
    """

    @property
    def place(self) -> str:
        """Where the database is: a path, or a URL without its password. For people."""

    @property
    def version(self) -> int:
        """The version of its tables; a store opened for writing has the newest."""

    def reading(self) -> AbstractContextManager[Rows]:
        """One consistent view of the database, however long the block takes; it holds no writer up."""

    def writing(self) -> AbstractContextManager[Rows]:
        """One transaction, durable once the block is left without an error."""

    def scrub(self) -> None:
        """Makes deleted content unreadable in the database's files, which takes time and room in proportion.

        Raises: LedgerError(failed) where another user of the database is in the way; the deletion itself stands.
        """

    def close(self) -> None:
        """Gives every connection back. Closing twice is no error."""
