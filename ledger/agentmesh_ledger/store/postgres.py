"""A PostgreSQL database as the store of many logs, shared by many nodes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeGuard

from sqlalchemy import Connection, Engine, RootTransaction, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.source import without_password
from agentmesh_ledger.store.migrations import migrate
from agentmesh_ledger.store.rows import Rows, Statements
from agentmesh_ledger.store.schema import VERSION, metadata
from agentmesh_ledger.text import shown

SCHEMA: Final = "agentmesh"
LOCK_SECONDS: Final = 30
_CREATION: Final = 0x416D4C31  # the advisory lock under which tables are made
_LOST: Final = ("", "08", "57")  # SQLSTATE where the session ended; none where the driver only saw it gone

# A session lost in the middle of a transaction must not hold the log's head for ever.
_SESSION: Final = (
    f"SET search_path TO {SCHEMA}",
    "SET synchronous_commit TO on",
    "SET default_transaction_isolation TO 'read committed'",  # who waited for the head must see the new one
    f"SET lock_timeout TO '{LOCK_SECONDS}s'",
    "SET idle_in_transaction_session_timeout TO '600s'",
    "SET client_encoding TO 'UTF8'",
)
# Relations, columns, triggers and rules: what could say or do something else than a ledger's tables.
_DESCRIBED: Final = text(
    "SELECT c.relname || ' ' || c.relkind::text || ' ' || coalesce(string_agg(a.attname || ' ' || "
    "format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END, ', ' "
    "ORDER BY a.attnum), '') || ' triggers ' || (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = c.oid) "
    "|| ' rules ' || (SELECT count(*) FROM pg_rewrite r WHERE r.ev_class = c.oid) "
    "|| ' policies ' || (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) "
    "|| coalesce(' ' || pg_get_indexdef((SELECT indexrelid FROM pg_index i WHERE i.indexrelid = c.oid)), '') "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
    f"WHERE n.nspname = '{SCHEMA}' AND c.relkind <> 't' GROUP BY c.oid, c.relname, c.relkind "
    "ORDER BY 1 LIMIT 64"
)


class PostgresStore:
    """One PostgreSQL database, in its schema `agentmesh`: see `contract.Store` for what it promises.

    Writers of one log wait for one another on its row in `head`; those of different logs do not. Readers see one
    snapshot (REPEATABLE READ) and hold nobody up. Durability is the server's: synchronous_commit is set, and a server
    with fsync off is refused.
    """

    def __init__(self, place: str, engine: Engine) -> None:
        self.place = place
        self.version = VERSION
        self._engine = engine
        self._readers = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._statements = Statements(engine.dialect)
        self._turn = threading.Lock()
        self._writer: Connection | None = None
        self._closed = False

    @classmethod
    def open(cls, url: str, *, create: bool = False, read_only: bool = False) -> PostgresStore:
        """The store at this URL; `create` makes the tables in an existing database.

        Raises: LedgerError(no_store, refused, unreadable, not_found, corrupt, failed).
        """
        parsed = _parsed(url)
        place = without_password(parsed.render_as_string(hide_password=True))
        try:
            engine = create_engine(
                parsed, paramstyle="format", pool_size=8, max_overflow=56, pool_pre_ping=False
            )
        except (ModuleNotFoundError, NoSuchModuleError) as error:
            raise LedgerError(
                "no_store",
                "a PostgreSQL ledger needs psycopg",
                path=place,
                hint="Install the extra: pip install 'agentmesh-runtime[store,postgres]'",
            ) from error
        event.listen(engine, "connect", _begin_session)
        store = cls(place, engine)
        try:
            with _guarded(place, opening=True):
                store._prepare(create=create and not read_only, read_only=read_only)
        except BaseException:  # also a cancellation: nobody else could close it
            store.close()
            raise
        return store

    def close(self) -> None:
        """Gives back every connection. Closing twice is no error."""
        with self._turn:
            self._closed = True
            if self._writer is not None:
                with suppress(SQLAlchemyError):  # its session may be gone
                    self._writer.close()
                self._writer = None
            self._engine.dispose()

    def _require_open(self) -> None:
        if self._closed:  # the engine would connect anew
            raise LedgerError("closed", "the ledger has been closed", path=self.place)

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        """One snapshot of the database."""
        self._require_open()
        with _guarded(self.place), self._readers.connect() as connection:
            yield Rows(connection, self._statements, version=self.version)

    @contextmanager
    def writing(self) -> Iterator[Rows]:
        """One transaction, committed on a clean exit; `Rows.lock_head` in it keeps other writers of the log out."""
        with _guarded(self.place), self._turn:
            self._require_open()
            if self._writer is None:
                self._writer = self._engine.connect()
            connection = self._writer
            try:
                transaction = connection.begin()
                yield Rows(connection, self._statements, version=self.version)
                self._commit(transaction)
            except BaseException as error:
                # Whatever it was, the next transaction begins on a connection without a past.
                self._writer = None
                _discard(connection)
                if _is_disconnection(error):
                    self._engine.dispose()  # those that wait in the pool are of the same server
                raise

    def scrub(self) -> None:
        """Writes the table of content anew without what was deleted.

        What the server keeps for itself, its own log above all, is its operator's to clean.
        Raises: LedgerError(failed).
        """
        with (
            _guarded(self.place),
            self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        ):
            connection.execute(text("VACUUM (FULL) parts"))

    def _commit(self, transaction: RootTransaction) -> None:
        try:
            transaction.commit()
        except Exception as error:
            found = _translated(error, self.place)
            if _sqlstate(error)[:2] in _LOST:
                # The server may have committed before its answer was lost.
                found = LedgerError("unknown", found.message, path=self.place, hint="Reopen the ledger")
            raise found from error

    def _prepare(self, *, create: bool, read_only: bool) -> None:
        with self._engine.connect() as connection:
            if connection.execute(text("SHOW fsync")).scalar_one() != "on":
                raise LedgerError(
                    "refused",
                    "the PostgreSQL server runs with fsync off: what it acknowledges can be lost",
                    path=self.place,
                    hint="Set fsync = on in its configuration",
                )
        version = self._version()
        if version is None:
            if not create:
                raise LedgerError(
                    "not_found",
                    "there is no ledger in the database",
                    path=self.place,
                    hint="A run makes one; or open it with create=True",
                )
            self._create_tables()
            version = self._version()
        if version is None or not 1 <= version <= VERSION:
            raise LedgerError(
                "corrupt",
                "the ledger's tables are of another version",
                path=self.place,
                expected=f"1 to {VERSION}",
                found=str(version),
            )
        self.version = version
        if version < VERSION and not read_only:
            self._migrate()
            self.version = VERSION
        self._require_schema()

    def _version(self) -> int | None:
        with self._engine.connect() as connection:
            known = connection.execute(text(f"SELECT to_regclass('{SCHEMA}.version')")).scalar()
            if known is None:
                return None
            found = connection.execute(text(f"SELECT number FROM {SCHEMA}.version")).scalars().all()
        return int(found[0]) if len(found) == 1 else -1

    def _create_tables(self) -> None:
        with self.writing() as rows:
            connection = rows.connection
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_CREATION})"))
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
            if connection.execute(text(f"SELECT to_regclass('{SCHEMA}.version')")).scalar() is not None:
                return  # another node was first
            metadata.create_all(connection, checkfirst=False)
            connection.execute(text("CREATE TABLE version (number INTEGER PRIMARY KEY)"))
            connection.execute(text(f"INSERT INTO version VALUES ({VERSION})"))

    def _migrate(self) -> None:
        with self.writing() as rows:
            now = rows.connection.execute(text("SELECT number FROM version FOR UPDATE")).scalar_one()
            migrate(rows, int(now))  # from where it is now: another node may have been first
            rows.connection.execute(text(f"UPDATE version SET number = {VERSION}"))

    def _require_schema(self) -> None:
        with self._engine.connect() as connection:
            found = {str(row) for row in connection.execute(_DESCRIBED).scalars()}
        odd = sorted(found ^ _expected())
        if odd and self.version == VERSION:
            raise LedgerError(
                "corrupt",
                "the database's tables, indices, triggers or rules are not those of a ledger",
                path=self.place,
                expected="exactly those of SPEC.md",
                found=shown(odd[0]),
            )


# As PostgreSQL describes the tables that `metadata` makes; a test with a real server holds that it does.
_COLUMNS: Final = {
    "entries": "log integer not null, idx bigint not null, entry bytea not null, leaf bytea not null, "
    "dialogue character varying(128) not null, seq bigint not null, kind character varying(64) not null, "
    "author character varying(64) not null",
    "head": "log integer not null, origin character varying(200) not null, vkey text not null, size bigint not null, "
    "checkpoint text not null, edge bytea not null",
    "parts": "log integer not null, idx bigint not null, hash bytea not null, salt bytea not null, data bytea not null",
    "tiles": "log integer not null, level integer not null, number bigint not null, data bytea not null",
    "places": "log integer not null, dialogue character varying(128) not null, seq bigint not null, idx bigint not null",
    "version": "number integer not null",
}
_INDICES: Final = {
    "entries_pkey": ("entries", "log integer, idx bigint"),
    "head_origin_key": ("head", "origin character varying(200)"),
    "head_pkey": ("head", "log integer"),
    "places_pkey": ("places", "log integer, dialogue character varying(128), seq bigint"),
    "parts_pkey": ("parts", "log integer, idx bigint, hash bytea"),
    "tiles_pkey": ("tiles", "log integer, level integer, number bigint"),
    "version_pkey": ("version", "number integer"),
}
_PLAIN: Final = "triggers 0 rules 0 policies 0"


def _expected() -> frozenset[str]:
    tables = {f"{name} r {columns} {_PLAIN}" for name, columns in _COLUMNS.items()}
    counter = "last_value bigint not null, log_cnt bigint not null, is_called boolean not null"
    indices = set()
    for name, (table, columns) in _INDICES.items():
        keys = ", ".join(column.split(" ")[0] for column in columns.split(", "))
        made = f"CREATE UNIQUE INDEX {name} ON {SCHEMA}.{table} USING btree ({keys})"
        indices.add(f"{name} i {columns} {_PLAIN} {made}")
    return frozenset({*tables, *indices, f"head_log_seq S {counter} {_PLAIN}"})


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise LedgerError(
            "refused", "this is no database URL", hint="As in postgresql+psycopg://USER@HOST/DATABASE"
        ) from error
    return parsed.set(drivername="postgresql+psycopg")


def _begin_session(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for statement in _SESSION:
        cursor.execute(statement)
    cursor.close()
    connection.commit()  # a setting made in a transaction goes with its rollback


def _discard(connection: Connection) -> None:
    """Gives the session up with its transaction, and raises nothing: what rises already says what became of it."""
    with suppress(Exception):
        connection.invalidate()
    with suppress(Exception):
        connection.close()


def _is_disconnection(error: BaseException) -> bool:
    """Whether the session was lost, or its commit's answer."""
    cause = error.__cause__ if isinstance(error, LedgerError) else error
    return (isinstance(cause, DBAPIError) or _is_driver_error(cause)) and _sqlstate(cause)[:2] in _LOST


@contextmanager
def _guarded(place: str, *, opening: bool = False) -> Iterator[None]:
    """Lets nothing of the database's own exceptions out."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, SQLAlchemyError | UnicodeError | OverflowError) and not _is_driver_error(
            error
        ):
            raise
        found = _translated(error, place)
        if opening and found.reason == "failed" and _sqlstate(error)[:2] in ("", "08", "28", "3D"):
            found = LedgerError("unreadable", f"the database cannot be reached: {found.message}", path=place)
        raise found from error


def _is_driver_error(error: BaseException | None) -> TypeGuard[Exception]:
    """Whether it came from psycopg, which is imported only where a PostgreSQL ledger is used."""
    return type(error).__module__.partition(".")[0] == "psycopg"


def _sqlstate(error: Exception) -> str:
    """The five-character SQLSTATE; empty where the connection failed before there was one."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(cause, "sqlstate", None) or "")


def _translated(error: Exception, place: str) -> LedgerError:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = shown(str(cause).splitlines()[0] if str(cause) else type(cause).__name__)
    # Classes of SQLSTATE whose meaning is that the database itself is damaged (XX001, XX002) or not ours (42xxx, 22xxx).
    if _sqlstate(error)[:2] in ("XX", "42", "22"):
        return LedgerError("corrupt", f"the database is damaged: {said}", path=place)
    if _sqlstate(error)[:2] == "23":
        return LedgerError("failed", f"another writer was first: {said}; nothing was written", path=place)
    return LedgerError("failed", f"the database refused: {said}; nothing was written", path=place)
