"""The writing half of a ledger: what it continues, what it must remember, and the commits themselves."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Self

from agentmesh_ledger.append import Request, Tip, append_all, last_link, load_tip
from agentmesh_ledger.checkpoint import Checkpoint, open_checkpoint
from agentmesh_ledger.draft import Ports, Prepared, Receipt
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.group import GroupCommit, Outcome
from agentmesh_ledger.keys import KeyStore, LogKey
from agentmesh_ledger.note import parse_vkey
from agentmesh_ledger.store.audit import choose_head, open_head
from agentmesh_ledger.store.columns import HeadRow
from agentmesh_ledger.store.contract import Store
from agentmesh_ledger.store.nodes import tree_of
from agentmesh_ledger.store.rows import Rows
from agentmesh_ledger.text import shown


class Writer:
    """Appends to one log, for all threads of a process.

    The last checkpoint that was committed is remembered beside the log's key (`KeyStore.last_checkpoint`), outside the
    database: a database put back from an older copy would otherwise be continued, and the log forked.
    """

    def __init__(
        self,
        store: Store,
        head: HeadRow,
        tip: Tip,
        key: LogKey,
        keys: KeyStore,
        ports: Ports,
        *,
        lost: str | None = None,
    ) -> None:
        """`lost` is the remembered note that the operator gives up: the log goes on without what it covers."""
        self._store = store
        self._head = head
        self._link = tip.link
        self._tip: Tip | None = tip
        self._key = key
        self._ports = ports
        self._memory = keys.last_checkpoint(head.origin)
        # The last note in the memory that this log was found to continue, or that was given up.
        self._seen = lost or ""
        self._forgot: LedgerError | None = None
        self._lost = lost
        self._group = GroupCommit(self._commit)

    @classmethod
    def open(
        cls, store: Store, head: HeadRow, keys: KeyStore, ports: Ports, *, accept_rollback: bool = False
    ) -> Self:
        """The writer of this log.

        Raises: LedgerError(key, rollback, ...) where the key is not its own, or has signed a later checkpoint.
        """
        key = _log_key(keys, head)
        # Asked before the database: another process may commit in between, and then remember what is not seen here.
        note = keys.last_checkpoint(head.origin).read()
        with store.reading() as rows:
            head = choose_head(rows.heads(), head.origin, store.place)
            open_head(head)
            tip = load_tip(rows, head)
            if note is not None and not accept_rollback:
                _require_remembered(rows, head, key, note, store.place)
        writer = cls(store, head, tip, key, keys, ports, lost=note if accept_rollback else None)
        if not accept_rollback:
            writer._memory.advance(head.checkpoint, head.size)
        return writer

    def append(
        self, prepared: tuple[Prepared, ...], *, erase: tuple[int, tuple[bytes, ...]] | None = None
    ) -> tuple[Receipt, ...]:
        """The receipts, once everything is durable and under a checkpoint.

        Raises: LedgerError.
        """
        return self._group.run(Request(prepared=prepared, erase=erase))

    async def wait(self, prepared: tuple[Prepared, ...]) -> tuple[Receipt, ...]:
        """As `append`, for a task of an asyncio event loop.

        Raises: LedgerError.
        """
        return await self._group.wait(Request(prepared=prepared))

    def submit(self, prepared: tuple[Prepared, ...], within: float = 0.0) -> Future[tuple[Receipt, ...]]:
        """The same as a future, which may wait so many seconds for company.

        Raises: LedgerError(closed).
        """
        return self._group.submit(Request(prepared=prepared), within)

    def require_outside(self) -> None:
        """Refuses a callback that runs in the thread which writes for others.

        Raises: LedgerError(refused).
        """
        self._group.require_outside()

    def close(self) -> None:
        """Returns when what was submitted is written.

        Raises: LedgerError(failed).
        """
        self._group.close()
        self._memory.close()

    def _commit(self, requests: Sequence[Request]) -> Sequence[Outcome]:
        if self._forgot is not None:
            self._remember()  # there may be room by now
        if self._forgot is not None:
            raise LedgerError(
                "failed",
                f"the last checkpoint could not be remembered beside the key: {self._forgot.message}",
                path=self._forgot.path,
                hint="Make room or mend the folder",
            )
        try:
            with self._store.writing() as rows:
                tip = self._continued(rows)
                self._require_only_branch(rows, tip.head)
                batch = append_all(rows, tip, self._key, requests, self._ports)
        except (
            BaseException
        ):  # also a cancellation: of a commit that may not have happened nothing is remembered
            self._tip = None
            raise
        if batch.entries:
            self._head, self._link = tip.head, tip.link
            self._remember()
        return batch.receipts(tip.head.size)

    def _remember(self) -> None:
        try:
            if self._lost is not None:
                # Only now: until the log goes on, and can tell of it, what was lost stays remembered.
                self._memory.replace(self._head.checkpoint)
                self._lost = None
            self._memory.advance(self._head.checkpoint, self._head.size)
        except LedgerError as error:
            # The messages are durable, and the caller must not hear otherwise; the next append is refused.
            self._forgot = error
        else:
            self._forgot, self._seen = None, self._head.checkpoint

    def _require_only_branch(self, rows: Rows, head: HeadRow) -> None:
        """Refuses to sign where the key has signed in another database meanwhile (SPEC L-95).

        Two databases of one origin over one folder of keys would fork the log. Whoever commits to this one writes
        the memory only afterwards, so that under the head's lock it is never ahead.
        """
        note = self._memory.other_than(self._seen)
        if note is not None and note != head.checkpoint:
            _require_remembered(rows, head, self._key, note, self._store.place)
        if note is not None:
            self._seen = note

    def _continued(self, rows: Rows) -> Tip:
        """The tip to append to; where another process moved the log, read anew and held against what was known."""
        head = rows.lock_head(self._head.log)
        if head is None or head.origin != self._head.origin:
            raise LedgerError("corrupt", "the log's head is gone from the database", path=self._store.place)
        if self._tip is not None and head == self._head:
            return self._tip
        if head != self._head:
            open_head(head)
            if head.size < self._head.size:
                raise LedgerError(
                    "consistency",
                    "the ledger is shorter than it was: it was replaced by an older copy",
                    path=self._store.place,
                    expected=f"at least {self._head.size} entries",
                    found=str(head.size),
                )
            # One link speaks for all before it: each entry signs the hash of its predecessor.
            if last_link(rows, self._head) != self._link:
                raise LedgerError(
                    "consistency",
                    "the ledger does not continue what was last signed here: it was replaced by a fork",
                    path=self._store.place,
                    index=self._head.size - 1,
                )
        # Of no use to anyone while it is read: an error half way must not leave a standing that is half the new one.
        before, self._tip = self._tip, None
        self._tip = load_tip(rows, head, before)
        return self._tip


def _require_remembered(rows: Rows, head: HeadRow, key: LogKey, note: str, place: str) -> None:
    """Holds the database against the last checkpoint that its key is known to have signed.

    Raises: LedgerError(rollback) with what would fork; LedgerError(key) where what is remembered is damaged.
    """
    try:
        known: Checkpoint = open_checkpoint(note, (parse_vkey(key.vkey),)).checkpoint
    except LedgerError as error:
        raise LedgerError(
            "key", f"what is remembered beside the log's key is damaged: {error.message}"
        ) from error
    if known.size > head.size:
        raise LedgerError(
            "rollback",
            f"the database is older than the log: its key has signed {known.size} entries and here are {head.size}. "
            f"To append would fork the log: the entries {head.size} to {known.size - 1}, of which others may hold "
            "proofs and copies, would be replaced by others",
            path=shown(place),
            index=head.size,
            expected=f"{known.size} entries",
            found=str(head.size),
            hint=(
                "Bring the newer database back; if it is lost for good: agentmesh ledger accept-rollback"
                if head.size
                else "A second ledger needs a folder of its own, and gets a key there; if the first is lost for good: "
                "agentmesh ledger accept-rollback"
            ),
        )
    if tree_of(rows, head).root(known.size) != known.root:
        raise LedgerError(
            "rollback",
            f"the database is another branch of the log: its first {known.size} entries are not those the key signed",
            path=shown(place),
            hint="Bring the right database back; if it is lost for good: agentmesh ledger accept-rollback",
        )


def _log_key(keys: KeyStore, head: HeadRow) -> LogKey:
    try:
        key = keys.log(head.origin, create=False)
    except LedgerError as error:
        if error.reason != "not_found":
            raise
        raise LedgerError(
            "key",
            f"the key of the log {shown(head.origin)} is not in the key store, so nothing can be appended",
            path=str(keys.directory),
            hint="Bring the folder of keys that stood beside the ledger, or open it for reading",
        ) from error
    if key.vkey != head.vkey:
        raise LedgerError(
            "key",
            "the key store holds another key for this log",
            path=str(keys.directory),
            expected=head.vkey,
            found=key.vkey,
        )
    return key
