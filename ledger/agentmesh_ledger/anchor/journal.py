"""The journal of what was signed for a chain: on the disk before it is sent, so that no crash anchors a size twice.

One SQLite file beside the log's key. It holds public things only, and nothing in it is believed: the chain says what was mined,
the ledger what it recorded. Without the journal a transaction under way is forgotten, and only that.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast

from agentmesh_ledger.anchor.fees import Fees
from agentmesh_ledger.durable import open_plain, sync_folder
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.keys import KeyStore

State: TypeAlias = Literal["open", "recorded", "vanished", "ended"]
"""`open`: under way. `recorded`: deep enough, and in the ledger. `vanished`: recorded, and then the chain forgot it.
`ended`: it came to nothing, and never can."""

_VERSION: Final = 1
_STANDS: Final = "state <> 'ended'"
_SCHEMA: Final = """
CREATE TABLE push (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  chain INTEGER NOT NULL, contract TEXT NOT NULL, sender TEXT NOT NULL,
  size INTEGER NOT NULL, root BLOB NOT NULL, settlement BLOB, note TEXT NOT NULL,
  nonce INTEGER NOT NULL, gas INTEGER NOT NULL, made REAL NOT NULL,
  state TEXT NOT NULL DEFAULT 'open', why TEXT NOT NULL DEFAULT '',
  tx TEXT, block INTEGER, block_hash TEXT, entry INTEGER
) STRICT;
CREATE UNIQUE INDEX one_at_a_time ON push (chain, contract, sender) WHERE state = 'open';
CREATE TABLE attempt (
  push INTEGER NOT NULL REFERENCES push (id), number INTEGER NOT NULL,
  tx TEXT NOT NULL UNIQUE, raw BLOB NOT NULL, max_fee INTEGER NOT NULL, tip INTEGER NOT NULL, sent INTEGER,
  PRIMARY KEY (push, number)
) STRICT;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where anchors may be: as `Target`, on any chain where `chain` is None."""

    chain: int | None
    contract: str
    sender: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whose anchors, and where: addresses in lower case."""

    chain: int
    contract: str
    sender: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A signed transaction. `raw` is empty for one that another program sent; `sent` is the newest block when it first went out."""

    tx: str
    raw: bytes
    fees: Fees
    sent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """One size on its way to one contract: all its attempts have one nonce, so that at most one of them is ever mined.

    `tx`, `block`, `block_hash` and `entry` are set once it was recorded; `note` is the checkpoint as the log's key signed it.
    """

    id: int
    size: int
    root: bytes
    settlement: bytes | None
    note: str
    nonce: int
    gas: int
    made: float
    state: State
    why: str
    tx: str | None
    block: int | None
    block_hash: str | None
    entry: int | None
    attempts: tuple[Attempt, ...]


def journal_path(keys: KeyStore, origin: str) -> Path:
    """Where the journal of this log is: beside its key.

    Raises: LedgerError(refused).
    """
    return keys.last_checkpoint(origin).path.with_suffix(".anchors")


class Journal:
    """The journal in a file, made where it is not there. Every change is durable when its call returns.

    Raises everywhere: LedgerError(permissions, unreadable, failed).
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Whether we alone push now: never waits for who holds the lock, be it another process or another thread."""
        import fcntl  # not on Windows, where this package may still be imported

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = open_plain(self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise self._failed("locked", error) from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(handle)

    def add(
        self,
        target: Target,
        *,
        size: int,
        root: bytes,
        note: str,
        nonce: int,
        gas: int,
        made: float,
        attempt: Attempt,
        settlement: bytes | None = None,
    ) -> None:
        """Takes a new push with its first attempt. It is refused by the file itself while another is open."""
        values = (
            target.chain,
            target.contract,
            target.sender,
            size,
            root,
            settlement,
            note,
            nonce,
            gas,
            made,
        )
        with self._writing() as rows:
            done = rows.execute(
                "INSERT INTO push (chain, contract, sender, size, root, settlement, note, nonce, gas, made)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            self._add_attempt(rows, cast(int, done.lastrowid), 0, attempt)

    def replace(self, push: Push, attempt: Attempt) -> None:
        """Takes another attempt at the same nonce."""
        with self._writing() as rows:
            self._add_attempt(rows, push.id, len(push.attempts), attempt)

    def sent(self, tx: str, block: int) -> None:
        """Remembers that this attempt was sent when the chain's newest block was this one."""
        with self._writing() as rows:
            rows.execute("UPDATE attempt SET sent = ? WHERE tx = ?", (block, tx))

    def recorded(self, push: Push, *, tx: str, block: int, block_hash: str, entry: int) -> None:
        """The push is deep enough, and entry `entry` of the ledger says so."""
        with self._writing() as rows:
            rows.execute(
                "UPDATE push SET state = 'recorded', tx = ?, block = ?, block_hash = ?, entry = ? WHERE id = ?",
                (tx, block, block_hash, entry, push.id),
            )

    def vanished(self, push: Push) -> None:
        """The chain has another block where the recorded one was."""
        with self._writing() as rows:
            rows.execute("UPDATE push SET state = 'vanished' WHERE id = ?", (push.id,))
            rows.execute("UPDATE attempt SET sent = NULL WHERE push = ?", (push.id,))

    def end(self, push: Push, why: str) -> None:
        """The push can come to nothing any more."""
        with self._writing() as rows:
            rows.execute("UPDATE push SET state = 'ended', why = ? WHERE id = ?", (why, push.id))

    def reopen(self, target: Target, tx: str) -> bool:
        """Takes up again the push that this transaction is an attempt of, whatever it came to; false where it is of none."""
        with self._writing() as rows:
            done = rows.execute(
                "UPDATE push SET state = 'open', why = '' WHERE chain = ? AND contract = ? AND sender = ?"
                " AND id = (SELECT push FROM attempt WHERE tx = ?)",
                (target.chain, target.contract, target.sender, tx),
            )
            return done.rowcount > 0

    def forsake(self, target: Target, sent: int, why: str) -> bool:
        """Ends all that the account has under way on this chain, if not one of it can be the account's transaction `sent`.

        False, and nothing is changed, where one can.
        """
        ours = "chain = ? AND sender = ? AND state IN ('open', 'vanished')"
        account = (target.chain, target.sender)
        with self._writing() as rows:
            done = rows.execute(
                f"UPDATE push SET state = 'ended', why = ? WHERE {ours}"
                f" AND NOT EXISTS (SELECT 1 FROM push WHERE {ours} AND nonce <= ?)",
                (why, *account, *account, sent),
            )
            return done.rowcount > 0

    def under_way(self, target: Target | Place) -> Push | None:
        """What is to be looked after first: of what is open or vanished, that with the lowest nonce."""
        return self._one(target, "state IN ('open', 'vanished') ORDER BY nonce, id")

    def newest(self, target: Target | Place, *, ended: bool = False) -> Push | None:
        """The newest push that stands, or may; with `ended` the newest of all."""
        return self._one(target, f"{'1' if ended else _STANDS} ORDER BY id DESC")

    def targets(self, chain: int) -> tuple[Target, ...]:
        """The accounts and contracts on this chain that anything was signed for."""
        with self._reading() as rows:
            found = rows.execute(
                "SELECT contract, sender FROM push WHERE chain = ? GROUP BY contract, sender ORDER BY min(id)",
                (chain,),
            ).fetchall()
        return tuple(Target(chain=chain, contract=row["contract"], sender=row["sender"]) for row in found)

    def all(self, target: Target | Place) -> tuple[Push, ...]:
        """Every push, oldest first."""
        found: list[Push] = []
        while push := self._one(target, f"id > {found[-1].id if found else 0:d} ORDER BY id"):
            found.append(push)
        return tuple(found)

    def recorded_before(self, target: Target, before: int) -> Push | None:
        """The newest recorded push with an id below this one."""
        return self._one(target, f"state = 'recorded' AND id < {before:d} ORDER BY id DESC")

    def of_size(self, target: Target, size: int) -> Push | None:
        """The newest push of this size, whatever came of it."""
        return self._one(target, f"size = {size:d} ORDER BY id DESC")

    def next_nonce(self, target: Target) -> int:
        """The first nonce behind all that this account has under way on this chain, through whatever contract; or 0."""
        with self._reading() as rows:
            (found,) = rows.execute(
                "SELECT max(nonce) FROM push WHERE chain = ? AND sender = ? AND state IN ('open', 'vanished')",
                (target.chain, target.sender),
            ).fetchone()
        return 0 if found is None else int(found) + 1

    def _one(self, target: Target | Place, where: str) -> Push | None:
        with self._reading() as rows:
            row = rows.execute(
                "SELECT id, size, root, settlement, note, nonce, gas, made, state, why, tx, block, block_hash, entry"
                f" FROM push WHERE chain = ifnull(?, chain) AND contract = ? AND sender = ? AND {where} LIMIT 1",
                (target.chain, target.contract, target.sender),
            ).fetchone()
            if row is None:
                return None
            attempts = rows.execute(
                "SELECT tx, raw, max_fee, tip, sent FROM attempt WHERE push = ? ORDER BY number", (row["id"],)
            ).fetchall()
        return _push(row, attempts)

    @staticmethod
    def _add_attempt(rows: sqlite3.Connection, push: int, number: int, attempt: Attempt) -> None:
        rows.execute(
            "INSERT INTO attempt (push, number, tx, raw, max_fee, tip, sent) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (push, number, attempt.tx, attempt.raw, attempt.fees.max_fee, attempt.fees.tip, attempt.sent),
        )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._connected() as rows:
            rows.execute("BEGIN IMMEDIATE")
            try:
                yield rows
            except BaseException:  # rolled back, and risen again
                rows.execute("ROLLBACK")
                raise
            rows.execute("COMMIT")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """As `_connected`; where there is no file nothing was signed, and none is made."""
        if self.path.exists():
            with self._connected() as rows:
                yield rows
            return
        with closing(sqlite3.connect(":memory:")) as rows:
            rows.row_factory = sqlite3.Row
            rows.executescript(_SCHEMA)
            yield rows

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """A connection for one call: steps are taken in changing threads, and some tenth of a millisecond is nothing here."""
        try:
            self._require_own()
            with closing(sqlite3.connect(self.path, timeout=10.0, isolation_level=None)) as rows:
                rows.row_factory = sqlite3.Row
                rows.execute("PRAGMA synchronous = FULL")
                self._prepare(rows)
                yield rows
        except sqlite3.OperationalError as error:  # locked, a full disk, read-only
            raise self._failed("used", error) from error
        except sqlite3.DatabaseError as error:
            raise LedgerError(
                "unreadable",
                f"the journal of anchors is damaged: {error}",
                path=str(self.path),
                hint="Move it away: the chain and the ledger tell what was anchored. Wait first until what may be under way is mined",
            ) from error

    def _prepare(self, rows: sqlite3.Connection) -> None:
        (version,) = rows.execute("PRAGMA user_version").fetchone()
        if version == _VERSION:
            return
        if version != 0:
            raise LedgerError(
                "unreadable",
                f"the journal of anchors is of version {version}, which this program does not know",
                path=str(self.path),
            )
        # In this mode a commit is durable once its one sync is done; the other would want the folder synced as well.
        rows.execute("PRAGMA journal_mode = WAL")
        rows.execute("BEGIN IMMEDIATE")
        (version,) = rows.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                rows.execute(statement)
            rows.execute(f"PRAGMA user_version = {_VERSION}")
        rows.execute("COMMIT")
        sync_folder(self.path.parent)

    def _require_own(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = open_plain(self.path, os.O_RDWR | os.O_CREAT)  # of mode 600 before SQLite writes to it
        except OSError as error:
            raise self._failed("opened", error) from error
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        os.close(handle)
        if os.name == "posix" and mode & 0o022:
            raise LedgerError(
                "permissions",
                "the journal of anchors can be written by others",
                path=str(self.path),
                expected="mode 600",
                found=f"{mode:o}",
                hint=f"If nobody else has written it: chmod 600 '{self.path}'",
            )

    def _failed(self, what: str, error: Exception) -> LedgerError:
        told = error.strerror if isinstance(error, OSError) else str(error)
        return LedgerError("failed", f"the journal of anchors cannot be {what}: {told}", path=str(self.path))


def _push(row: sqlite3.Row, attempts: Sequence[sqlite3.Row]) -> Push:
    return Push(
        **{name: row[name] for name in row.keys()},  # a row iterates over its values
        attempts=tuple(
            Attempt(
                tx=each["tx"],
                raw=each["raw"],
                fees=Fees(max_fee=each["max_fee"], tip=each["tip"]),
                sent=each["sent"],
            )
            for each in attempts
        ),
    )
