"""A SQLite file as a ledger's store: transactions, and every fault as a LedgerError."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.store.rows import Rows
from agentmesh_ledger.store.schema import APPLICATION_ID, DEFINITIONS, VERSION, foreign_object
from agentmesh_ledger.text import shown

BUSY_SECONDS: Final = 30
_MAGIC: Final = b"SQLite format 3\x00"


class Database:
    """One SQLite file: WAL, synchronous FULL, one writer at a time, readers never waiting for it.

    Durability: when `writing` has left its block without an error, the rows survive a crash of the process
    and of the machine. A block that raises has changed nothing; LedgerError(unknown) alone leaves that open.
    Safe for many threads and processes.
    """

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        self._engine = engine

    @classmethod
    def open(cls, path: Path, *, create: bool = False, read_only: bool = False) -> Database:
        """The database at this path.

        Raises: LedgerError(not_found, unreadable, corrupt, failed).
        """
        _require_file(path, create=create, read_only=read_only)
        with _guarded(path):
            # A file nobody has open has no -wal beside it; only such a one may be read without locks, and must
            # be where the folder is read-only, because SQLite would want to write its shared-memory file.
            lonely = read_only and not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
            database = cls(path, _engine(path, read_only=read_only, immutable=lonely))
            try:
                blank = create and not read_only and database._is_blank()
                if not blank:
                    database._require_schema()
                if not read_only:
                    database._use_wal()
                if blank:
                    database._create_tables()
                    database._require_schema()  # somebody else may have made them in the meantime
            except BaseException:  # also a cancellation: nobody else could close it
                database.close()
                raise
            return database

    def close(self) -> None:
        """Gives back every connection."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        """One consistent view of the database."""
        with _guarded(self.path), self._engine.connect() as connection:
            yield Rows(connection)

    @contextmanager
    def writing(self) -> Iterator[Rows]:
        """One transaction that holds the write lock from its first moment; committed on a clean exit."""
        with _guarded(self.path), self._engine.connect() as connection:
            connection = connection.execution_options(ledger_write=True)
            with connection.begin() as transaction:
                yield Rows(connection)
                try:
                    transaction.commit()
                except SQLAlchemyError as error:
                    found = _translated(error, self.path)
                    if _errorname(error).startswith("SQLITE_IOERR"):
                        # The log file may or may not have reached the disk with the commit in it.
                        found = LedgerError(
                            "unknown", found.message, path=str(self.path), hint="Reopen the ledger"
                        )
                    raise found from error

    def _use_wal(self) -> None:
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                raw = self._engine.raw_connection()  # the mode cannot change inside a transaction
                try:
                    cursor = raw.cursor()
                    cursor.execute("PRAGMA journal_mode=WAL")
                    cursor.fetchall()
                    cursor.close()
                finally:
                    raw.close()
                return
            except (DBAPIError, sqlite3.OperationalError):
                # Two processes that open a new file at once collide here, and SQLite's own waiting does not help.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def _create_tables(self) -> None:
        with self.writing() as rows:
            connection = rows.connection
            tables = inspect(connection).get_table_names()
            if tables:
                return
            for _, _, sql in DEFINITIONS:
                connection.execute(text(sql))
            connection.execute(text(f"PRAGMA application_id = {APPLICATION_ID}"))
            connection.execute(text(f"PRAGMA user_version = {VERSION}"))

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
                "corrupt", "the file is an SQLite database but no AgentMesh ledger", path=str(self.path)
            )
        if version != VERSION:
            raise LedgerError(
                "corrupt",
                "the ledger's tables are of another version",
                path=str(self.path),
                expected=str(VERSION),
                found=str(version),
            )
        odd = foreign_object(described)
        if odd is not None:
            raise LedgerError(
                "corrupt",
                "the database's tables, indices, triggers or views are not those of a ledger",
                path=str(self.path),
                expected="exactly those of SPEC.md",
                found=shown(odd),
            )


def _engine(path: Path, *, read_only: bool, immutable: bool) -> Engine:
    uri = f"file:{quote(str(path.absolute()))}?mode={'ro' if read_only else 'rw'}"
    uri += "&immutable=1" if immutable else ""

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
        except BaseException:  # the pool has not seen it yet, and would never close it
            connection.close()
            raise
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=8, max_overflow=56)

    # The driver would begin lazily, and then a reader that turns writer can meet a log that moved.
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("ledger_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _require_file(path: Path, *, create: bool, read_only: bool) -> None:
    try:
        if create and not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Content is private until its owner shows it.
            is_new = not path.exists()
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            if is_new:
                _sync_folder(path.parent)
            return
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except FileNotFoundError as error:
        if create:
            raise LedgerError("failed", "the ledger cannot be made there", path=str(path)) from error
        raise LedgerError(
            "not_found",
            "there is no ledger",
            path=str(path),
            hint="A run makes one; or open it with create=True",
        ) from error
    except OSError as error:
        raise LedgerError(
            "failed" if create and not path.is_dir() else "unreadable",
            f"the ledger cannot be opened: {error.strerror}",
            path=str(path),
        ) from error
    if start != _MAGIC:
        raise LedgerError("corrupt", "the file is not an SQLite database", path=str(path))


def _sync_folder(folder: Path) -> None:
    """A file is only durable once the folder that names it is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Lets nothing of the database's own exceptions out."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, UnicodeError, OverflowError) as error:
        raise _translated(error, path) from error


def _errorname(error: Exception) -> str:
    """SQLite's own name of the error, as SQLITE_FULL; empty where there is none."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(cause, "sqlite_errorname", None) or "")


def _translated(error: Exception, path: Path) -> LedgerError:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = shown(str(cause).splitlines()[0] if str(cause) else type(cause).__name__)
    name = _errorname(error)
    if name.startswith(
        ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_PERM")
    ):
        return LedgerError("failed", f"the database refused: {said}; nothing was written", path=str(path))
    if name.startswith("SQLITE_CANTOPEN"):
        return LedgerError("unreadable", f"the database cannot be opened: {said}", path=str(path))
    return LedgerError("corrupt", f"the database is damaged: {said}", path=str(path))
