"""What a witness cosigned last, of each log: one SQLite file, and a second one beside the key that remembers the same.

A checkpoint is on the disk in both before its cosignature is made. Whichever of the two is newer counts: a state
that was put back from an older copy catches up, and a crash between the two leaves one ahead, which is harmless,
since what is ahead was verified and continues what is behind.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from agentmesh_ledger.checkpoint import parse_checkpoint
from agentmesh_ledger.durable import create_file
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.note import parse_note
from agentmesh_ledger.text import shown
from agentmesh_ledger.witness.verdict import Granted, Proposal, Seen, Verdict, judge

APPLICATION_ID: Final = 0x416D5731
VERSION: Final = 1
BUSY_SECONDS: Final = 5.0
_TABLE: Final = (
    "CREATE TABLE latest (origin TEXT PRIMARY KEY NOT NULL, size INTEGER NOT NULL, time INTEGER NOT NULL,"
    " note TEXT NOT NULL) WITHOUT ROWID"
)
# One row of each file, of nulls where there is none.
_LATEST: Final = "".join(
    f"{joint}SELECT size, time, note FROM (SELECT 1) LEFT JOIN {schema}.latest ON origin = ?"
    for joint, schema in (("", "main"), (" UNION ALL ", "beside"))
)
_DRAFT: Final = ".state"
_SCHEMAS: Final = ("main", "beside")
_SUFFIXES: Final = ("", "-wal")
_FAILED: Final = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_PERM",
                  "SQLITE_NOMEM", "SQLITE_PROTOCOL", "SQLITE_NOLFS")  # fmt: skip


class WitnessState:
    """The newest checkpoint of each log, compared and replaced in one transaction (SPEC L-134).

    Threads take turns; processes that use the same files are one at a time. After any fault the next call begins on a
    new connection, and reads what is there.
    """

    def __init__(self, path: Path, memory: Path) -> None:
        self.path = path
        self.memory = memory
        self._turn = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._files: tuple[tuple[int, int], ...] = ()
        self._known: dict[str, Seen] = {}
        self._closed = False

    @classmethod
    def open(cls, path: Path, *, memory: Path) -> WitnessState:
        """The state in this file, which is made where it is not there, brought up to the memory.

        The memory is made with the key, never here: one that is missing was lost.
        Raises: LedgerError(not_found, corrupt, unreadable, failed).
        """
        state = cls(path, memory)
        with state._turn, _guarded(path):
            if not os.path.lexists(memory):
                raise LedgerError("not_found", "the witness's memory is not there", path=str(memory))
            try:
                if not os.path.lexists(path):
                    create_file(path, blank_database(), draft_suffix=_DRAFT)
            except OSError as error:
                raise LedgerError(
                    "failed", f"the witness's state cannot be made: {error.strerror}", path=str(path)
                ) from error
            state._connected()
        return state

    def settle(self, proposals: Sequence[Proposal], now: int) -> list[Verdict]:
        """A verdict on each, in their order; what is granted is on the disk when this returns.

        All in one transaction, which holds the lock of both files from before it reads to after it has written.
        Raises: LedgerError(failed, unknown, corrupt, unreadable, not_found, closed): then nothing may be signed.
        """
        with self._using() as connection:
            connection.execute("BEGIN IMMEDIATE")
            newest: dict[str, Seen | None] = {}
            changed: dict[str, Seen] = {}
            verdicts: list[Verdict] = []
            for each in proposals:
                origin = each.checkpoint.origin
                if origin not in newest:
                    newest[origin] = self._read(connection, origin)
                verdict = judge(each, newest[origin], now)
                if isinstance(verdict, Granted) and verdict.seen != newest[origin]:
                    newest[origin] = changed[origin] = verdict.seen
                verdicts.append(verdict)
            self._write(connection, changed.values())
            connection.execute("COMMIT")
            self._require_files()
            return verdicts

    def latest(self, origin: str) -> Seen | None:
        """The newest checkpoint of the log that was cosigned; None where there was none.

        Raises: as `settle`.
        """
        with self._using() as connection:
            return self._read(connection, origin)

    def close(self) -> None:
        """Gives the files back. Closing twice is no error."""
        with self._turn:
            self._closed = True
            self._drop()

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._turn, _guarded(self.path):
            if self._closed:
                raise LedgerError("closed", "the witness's state has been closed", path=str(self.path))
            try:
                yield self._connected()
            except BaseException:  # also a signal: the next caller must not find this transaction open
                self._drop()
                raise

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(
                _uri(self.path), uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(connection)
            except BaseException:  # as above; it rises again
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Opens both files as we want them, refuses what is none of ours, and brings each up to the other."""
        before = self._identities(("",))
        connection.execute("ATTACH ? AS beside", (_uri(self.memory),))
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        for schema, path in zip(_SCHEMAS, (self.path, self.memory), strict=True):
            _require_ours(connection, schema, path)
            # FULL: the log file is synced before a commit returns. Less, and a power failure takes back what was signed for.
            connection.execute(f"PRAGMA {schema}.synchronous = FULL")
            if connection.execute(f"PRAGMA {schema}.journal_mode = WAL").fetchone() != ("wal",):
                raise LedgerError("failed", "the file system does not bear SQLite's WAL mode", path=str(path))
        connection.execute("BEGIN IMMEDIATE")
        rows = connection.execute(
            "SELECT origin FROM main.latest UNION SELECT origin FROM beside.latest"
        ).fetchall()
        found = [self._read(connection, origin) for (origin,) in rows]
        self._write(connection, [each for each in found if each is not None])
        connection.execute("COMMIT")
        if self._identities(("",)) != before:
            raise LedgerError(
                "failed", "the witness's files changed while they were opened", path=str(self.path)
            )
        self._files = self._identities(_SUFFIXES)

    def _read(self, connection: sqlite3.Connection, origin: str) -> Seen | None:
        """The newer of what the two files say of the log, held to its own form."""
        main, beside = connection.execute(_LATEST, (origin, origin)).fetchall()
        return self._newer(self._seen(origin, main, self.path), self._seen(origin, beside, self.memory))

    def _newer(self, one: Seen | None, other: Seen | None) -> Seen | None:
        if one is None or other is None or one is other:
            return other if one is None else one
        if one.checkpoint.size == other.checkpoint.size and one.checkpoint.root != other.checkpoint.root:
            raise LedgerError(
                "corrupt",
                f"the witness's state and its memory hold two branches of {shown(one.checkpoint.origin)}",
                path=str(self.path),
                hint="One of them is not this witness's; trust none of its cosignatures until it is known which",
            )
        newer = one if (one.checkpoint.size, one.time) >= (other.checkpoint.size, other.time) else other
        return replace(newer, time=max(one.time, other.time))

    def _seen(self, origin: str, row: tuple[object, ...], path: Path) -> Seen | None:
        """What a row says, held to its own form; the form of the one written or read last is known."""
        if row == (None, None, None):
            return None
        known = self._known.get(origin)
        if known is not None and row == (known.checkpoint.size, known.time, known.note):
            return known
        self._known[origin] = found = _seen(origin, row, path)
        return found

    def _write(self, connection: sqlite3.Connection, changed: Collection[Seen]) -> None:
        rows = [(each.checkpoint.origin, each.checkpoint.size, each.time, each.note) for each in changed]
        self._known.update((each.checkpoint.origin, each) for each in changed)
        for schema in _SCHEMAS:
            connection.executemany(f"INSERT OR REPLACE INTO {schema}.latest VALUES (?, ?, ?, ?)", rows)

    def _require_files(self) -> None:
        """Raises `unknown` where what was committed went into a file that has no name any more.

        Whoever puts an older copy in the place of a file that is in use leaves us with a nameless one: the next process
        would know nothing of what this one signs.
        """
        if self._identities(_SUFFIXES) != self._files:
            raise LedgerError(
                "unknown",
                "a file of the witness was replaced while it was in use",
                path=str(self.path),
                hint="Stop a witness before you put a copy back",
            )

    def _identities(self, suffixes: Sequence[str]) -> tuple[tuple[int, int], ...]:
        try:
            found = [os.stat(f"{path}{suffix}") for path in (self.path, self.memory) for suffix in suffixes]
        except OSError:
            return ()
        return tuple((each.st_dev, each.st_ino) for each in found)


def blank_database() -> bytes:
    """A database with the table and nothing in it, as the bytes of a file that is in WAL mode already."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for statement in (
            _TABLE,
            f"PRAGMA application_id = {APPLICATION_ID}",
            f"PRAGMA user_version = {VERSION}",
        ):
            connection.execute(statement)
        data = connection.serialize()
    finally:
        connection.close()
    # The read and write versions of the file format; 2 is WAL. Two processes that switch a file at once collide.
    return data[:18] + b"\x02\x02" + data[20:]


def _seen(origin: str, row: tuple[object, ...], path: Path) -> Seen:
    size, time, note = row
    try:
        if not isinstance(note, str) or not isinstance(time, int) or time < 0:
            raise LedgerError("checkpoint", "a column is of another type")
        checkpoint = parse_checkpoint(parse_note(note).text)
        if (checkpoint.origin, checkpoint.size) != (origin, size):
            raise LedgerError("checkpoint", "it is not the checkpoint that the row is for")
    except LedgerError as error:
        raise _corrupt(
            f"what it says of {shown(str(origin))} is no checkpoint: {error.message}", path
        ) from error
    return Seen(checkpoint=checkpoint, time=time, note=note)


def _require_ours(connection: sqlite3.Connection, schema: str, path: Path) -> None:
    mark = connection.execute(f"PRAGMA {schema}.application_id").fetchone()
    version = connection.execute(f"PRAGMA {schema}.user_version").fetchone()
    # All of it: a trigger could put back what was written.
    tables = connection.execute(f"SELECT sql FROM {schema}.sqlite_schema").fetchall()
    if mark != (APPLICATION_ID,) or version != (VERSION,) or tables != [(_TABLE,)]:
        raise _corrupt("it is not the database of a witness, or of another version", path)
    if connection.execute(f"PRAGMA {schema}.integrity_check(1)").fetchone() != ("ok",):
        raise _corrupt("SQLite finds it damaged", path)


def _corrupt(message: str, path: Path) -> LedgerError:
    return LedgerError(
        "corrupt",
        f"a file of the witness cannot be used: {message}",
        path=str(path),
        hint="The other of the two files (state, and memory beside the key) holds the same: put a copy of it here",
    )


def _uri(path: Path) -> str:
    return f"file:{quote(os.fsencode(path.absolute()))}?mode=rw"


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Lets nothing of the database's own exceptions out."""
    try:
        yield
    except (sqlite3.Error, UnicodeError, OverflowError) as error:
        name = str(getattr(error, "sqlite_errorname", None) or "")
        said = shown(str(error))
        if name.startswith(_FAILED) or isinstance(error, sqlite3.ProgrammingError):
            raise LedgerError("failed", f"the witness's state refused: {said}", path=str(path)) from error
        if name.startswith("SQLITE_CANTOPEN"):
            raise LedgerError(
                "unreadable", f"the witness's files cannot be opened: {said}", path=str(path)
            ) from error
        raise _corrupt(said, path) from error
