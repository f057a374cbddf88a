"""A SQLite file as a ledger's store, or SQLite in memory: transactions, and every fault as a LedgerError."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import Connection, Engine, RootTransaction, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool, StaticPool

from agentmesh_ledger.durable import create_file
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.store.migrations import migrate
from agentmesh_ledger.store.rows import Rows, Statements
from agentmesh_ledger.store.schema import APPLICATION_ID, DEFINITIONS, VERSION, foreign_object
from agentmesh_ledger.text import shown

BUSY_SECONDS: Final = 30
MEMORY: Final = ":memory:"
_DRAFT: Final = ".ledger"
_FAILED: Final = (
    "SQLITE_FULL",
    "SQLITE_READONLY",
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_IOERR",
    "SQLITE_PERM",
) + (
    "SQLITE_NOMEM",
    "SQLITE_INTERRUPT",
    "SQLITE_PROTOCOL",
    "SQLITE_NOLFS",
)
_LASTING: Final = ("SQLITE_READONLY", "SQLITE_FULL", "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_PERM")


class SqliteStore:
    """One SQLite file (or memory): see `contract.Store` for what it promises.

    A file is in WAL mode with synchronous FULL: one writer at a time over all logs, readers never waiting for it. In
    memory everything takes turns, and nothing outlives the store.
    """

    def __init__(self, path: Path | None, engine: Engine) -> None:
        self.place = MEMORY if path is None else str(path)
        self.version = VERSION
        self._engine = engine
        self._statements = Statements(engine.dialect)
        self._turn = threading.RLock()
        self._writer: Connection | None = None
        self._is_memory = path is None
        self._closed = False
        self._log_file = Path(f"{path}-wal")
        self._log_inode: int | None = None

    @classmethod
    def open(cls, path: Path | None, *, create: bool = False, read_only: bool = False) -> SqliteStore:
        """The store at this path; None is a new one in memory.

        Raises: LedgerError(not_found, unreadable, corrupt, failed).
        """
        if path is not None:
            _require_file(path, create=create, read_only=read_only)
        with _guarded(MEMORY if path is None else str(path)):
            store = cls(path, _engine(path, read_only=read_only))
            try:
                store._prepare(create=create, read_only=read_only)
            except BaseException:  # also a cancellation: nobody else could close it
                store.close()
                raise
            return store

    def close(self) -> None:
        """Gives back every connection. Closing twice is no error."""
        with self._turn:
            self._closed = True
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            self._engine.dispose()

    def _require_open(self) -> None:
        if self._closed:  # the engine would connect anew, and to another database in memory
            raise LedgerError("closed", "the ledger has been closed", path=self.place)

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        """One consistent view of the database."""
        if self._is_memory:
            with self._turn, self._reading() as rows:
                yield rows
            return
        with self._reading() as rows:
            yield rows

    @contextmanager
    def _reading(self) -> Iterator[Rows]:
        self._require_open()
        with _guarded(self.place), self._engine.connect() as connection:
            yield Rows(connection, self._statements, version=self.version)

    @contextmanager
    def writing(self) -> Iterator[Rows]:
        """One transaction that holds the write lock from its first moment; committed on a clean exit."""
        with _guarded(self.place), self._turn:
            self._require_open()
            connection = self._write_connection()
            try:
                transaction = connection.begin()
                yield Rows(connection, self._statements, version=self.version)
                self._commit(transaction)
                self._require_log_file()
            except (
                BaseException
            ):  # also a cancellation: the next user must not find this one's transaction open
                self._drop(connection)
                raise

    def _drop(self, connection: Connection) -> None:
        """Gives up the transaction, and raises nothing: what rises already says whether it may be committed.

        The next transaction begins on a connection without a past. In memory the connection is the database, and
        the rollback must do.
        """
        self._writer = None
        self._log_inode = None  # it may be the last connection, with which SQLite removes the log file
        if not self._is_memory:
            with suppress(Exception):
                connection.detach()  # out of the pool, so that closing it is closing it
        with suppress(Exception):
            connection.close()

    def _require_log_file(self) -> None:
        """Raises `unknown` where the commit went into a log file that has no name any more.

        Whoever opens and closes the ledger's file in this process by other means (to copy it, say) takes SQLite's
        locks away with it, as POSIX has it. Another process then deletes the log file as its last user, and what
        is written to it afterwards is gone when we end.
        """
        if self._is_memory:
            return
        try:
            inode: int | None = os.stat(self._log_file).st_ino
        except OSError:
            inode = None
        if inode is not None and self._log_inode in (None, inode):
            self._log_inode = inode
            return
        self._engine.dispose()  # no connection may mix the old log file with a new one
        raise LedgerError(
            "unknown",
            "the database's log file was taken away while it was in use",
            path=self.place,
            hint="Copy a ledger with SQLite's own backup, never by opening its file in the process that writes it",
        )

    def scrub(self) -> None:
        """Writes the file anew without what was deleted, and cuts the log file beside it.

        Raises: LedgerError(failed) where another connection is in the way; the deletion itself stands.
        """
        with _guarded(self.place), self._turn:
            self._require_open()
            raw = self._engine.raw_connection()  # neither may stand in a transaction
            try:
                cursor = raw.cursor()
                cursor.execute("VACUUM")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                busy = cursor.fetchall()[0][0]
                cursor.close()
            finally:
                raw.close()
        if busy and not self._is_memory:
            raise LedgerError("failed", "another process reads the ledger", path=self.place)

    def _write_connection(self) -> Connection:
        if self._writer is None:
            self._writer = self._engine.connect().execution_options(ledger_write=True)
        return self._writer

    def _commit(self, transaction: RootTransaction) -> None:
        try:
            transaction.commit()
        except Exception as error:
            found, name = _translated(error, self.place), _errorname(error)
            if not name or name.startswith("SQLITE_IOERR"):
                # The log file may or may not have reached the disk with the commit in it.
                found = LedgerError("unknown", found.message, path=self.place, hint="Reopen the ledger")
            raise found from error

    def _prepare(self, *, create: bool, read_only: bool) -> None:
        """Makes the tables, brings old ones up to date, and refuses a database that is no ledger."""
        blank = create and not read_only and self._is_blank()
        if not blank:
            self._require_schema()
        if not read_only:
            self._use_wal()
        if blank:
            self._create_tables()
            self._require_schema()  # somebody else may have made them in the meantime
        if not read_only and self.version < VERSION:
            self._migrate()
            self._require_schema()

    def _use_wal(self) -> None:
        deadline = time.monotonic() + BUSY_SECONDS
        while not self._is_memory:
            try:
                raw = self._engine.raw_connection()  # the mode cannot change inside a transaction
                try:
                    cursor = raw.cursor()
                    cursor.execute("PRAGMA journal_mode=WAL")
                    mode = cursor.fetchall()[0][0]
                    cursor.close()
                finally:
                    raw.close()
            except (DBAPIError, sqlite3.OperationalError) as error:
                # Two processes that open a new file at once collide here, and SQLite's own waiting does not help.
                if time.monotonic() > deadline or _errorname(error).startswith(_LASTING):
                    raise
                time.sleep(0.02)
                continue
            if mode != "wal":  # SQLite says so without an error where the file system cannot share memory
                raise LedgerError(
                    "failed", "the file system does not bear SQLite's WAL mode", path=self.place
                )
            return

    def _create_tables(self) -> None:
        with self.writing() as rows:
            connection = rows.connection
            if inspect(connection).get_table_names():
                return
            for _, _, sql in DEFINITIONS:
                connection.execute(text(sql))
            connection.execute(text(f"PRAGMA application_id = {APPLICATION_ID}"))
            connection.execute(text(f"PRAGMA user_version = {VERSION}"))

    def _migrate(self) -> None:
        with self.writing() as rows:
            now = int(rows.connection.execute(text("PRAGMA user_version")).scalar_one())
            migrate(rows, now)  # from where it is now: another process may have been first
            rows.connection.execute(text(f"PRAGMA user_version = {VERSION}"))

    def _is_blank(self) -> bool:
        with self.reading() as rows:
            return not rows.described()

    def _require_schema(self) -> None:
        with self.reading() as rows:
            version = rows.connection.execute(text("PRAGMA user_version")).scalar_one()
            mark = rows.connection.execute(text("PRAGMA application_id")).scalar_one()
            described = rows.described()
        if mark != APPLICATION_ID:
            raise LedgerError(
                "corrupt", "the file is an SQLite database but no AgentMesh ledger", path=self.place
            )
        if not isinstance(version, int) or not 1 <= version <= VERSION:
            raise LedgerError(
                "corrupt",
                "the ledger's tables are of another version",
                path=self.place,
                expected=f"1 to {VERSION}",
                found=str(version),
            )
        odd = foreign_object(described, version)
        if odd is not None:
            raise LedgerError(
                "corrupt",
                "the database's tables, indices, triggers or views are not those of a ledger",
                path=self.place,
                expected="exactly those of SPEC.md",
                found=shown(odd),
            )
        self.version = version


def _engine(path: Path | None, *, read_only: bool) -> Engine:
    uri = "file::memory:" if path is None else _uri(path, read_only)

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
            # FULL: the log file is synced before a commit returns; less could lose what was acknowledged.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA trusted_schema = OFF")  # the file may come from a stranger
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute(
                "PRAGMA secure_delete = ON"
            )  # erased content is overwritten, not only unlinked
        except BaseException:  # the pool has not seen it yet, and would never close it
            connection.close()
            raise
        return connection

    if path is None:
        engine = create_engine("sqlite://", creator=connect, poolclass=StaticPool)
    else:
        engine = create_engine(
            "sqlite://", creator=connect, poolclass=QueuePool, pool_size=8, max_overflow=56
        )

    # The driver would begin lazily, and then a reader that turns writer can meet a log that moved.
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("ledger_write", False)
        connection.connection.cursor().execute("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _uri(path: Path, read_only: bool) -> str:
    # The bytes of the name: one that is no UTF-8 has no text that SQLite would take.
    uri = f"file:{quote(os.fsencode(path.absolute()))}?mode={'ro' if read_only else 'rw'}"
    # A file nobody has open has no -wal beside it; only such a one may be read without locks, and must
    # be where the folder is read-only, because SQLite would want to write its shared-memory file.
    lonely = read_only and not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
    return uri + ("&immutable=1" if lonely else "")


def _require_file(path: Path, *, create: bool, read_only: bool) -> None:
    """Makes the file where that is wanted, and tells one that cannot be opened from one that is not there.

    It is never opened here: closing it again would take away the locks of every connection that this process
    has to it, SQLite's being POSIX locks, and with them acknowledged messages.
    Raises: LedgerError(not_found, unreadable, failed).
    """
    try:
        if create and not read_only and not os.path.lexists(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            create_file(path, b"", draft_suffix=_DRAFT)  # content is private until its owner shows it
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        raise LedgerError(
            "not_found",
            "there is no ledger",
            path=str(path),
            hint="A run makes one; or open it with create=True",
        ) from error
    except OSError as error:
        raise LedgerError(
            "failed" if create else "unreadable",
            f"the ledger cannot be opened: {error.strerror}",
            path=str(path),
        ) from error
    wanted = os.R_OK if read_only else os.R_OK | os.W_OK
    if not stat.S_ISREG(mode) or not os.access(path, wanted):
        why = "it is not a file" if not stat.S_ISREG(mode) else "permission denied"
        raise LedgerError("unreadable", f"the ledger cannot be opened: {why}", path=str(path))


@contextmanager
def _guarded(place: str) -> Iterator[None]:
    """Lets nothing of the database's own exceptions out."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, UnicodeError, OverflowError) as error:
        raise _translated(error, place) from error


def _errorname(error: Exception) -> str:
    """SQLite's own name of the error, as SQLITE_FULL; empty where there is none."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(cause, "sqlite_errorname", None) or "")


def _translated(error: Exception, place: str) -> LedgerError:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = shown(str(cause).splitlines()[0] if str(cause) else type(cause).__name__)
    name = _errorname(error)
    if name.startswith(_FAILED) or isinstance(cause, PoolTimeout | sqlite3.ProgrammingError):
        return LedgerError("failed", f"the database refused: {said}; nothing was written", path=place)
    if name.startswith("SQLITE_CANTOPEN"):
        return LedgerError("unreadable", f"the database cannot be opened: {said}", path=place)
    return LedgerError("corrupt", f"the database is damaged: {said}", path=place)
