"""Statements on a PostgreSQL server, in the process that was started for one of them.

Read-only does not depend on how a statement looks: it runs in a READ ONLY transaction that is rolled back in any case, and
alone, since the extended protocol takes one statement at a time. What a role may do outside a transaction (files of the
server, programs, other databases) only its rights can prevent; roles that may do such things are refused.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg.adapt import Buffer, Loader

from agentmesh_servers.sql.refusal import Refusal, one_line, too_slow
from agentmesh_servers.sql.values import Sheet

MAX_TABLES: Final = 500
CONNECT_SECONDS: Final = 5
# Read as the server writes them: Python's own types know neither infinity nor years beyond 9999, and round nothing less.
_AS_WRITTEN: Final = (
    "date",
    "time",
    "timetz",
    "timestamp",
    "timestamptz",
    "interval",
    "numeric",
    "uuid",
    "inet",
    "cidr",
    "json",
    "jsonb",
    "text",
    "varchar",
    "bpchar",
    "name",
    '"char"',
)
_MAY_TOO_MUCH: Final = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_roles AS role
    WHERE (role.rolsuper OR role.rolname IN
        ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'))
    AND (pg_catalog.pg_has_role(session_user, role.oid, 'MEMBER')
        OR pg_catalog.pg_has_role(current_user, role.oid, 'MEMBER')))
"""
_LIMITS: Final = """
SELECT pg_catalog.set_config('statement_timeout', $1, true),
    pg_catalog.set_config('lock_timeout', $1, true),
    pg_catalog.set_config('idle_in_transaction_session_timeout', $1, true)
"""
_TABLES: Final = """
SELECT c.oid, n.nspname || '.' || c.relname AS long, CASE WHEN pg_catalog.pg_table_is_visible(c.oid) THEN '' ELSE n.nspname || '.' END || c.relname AS name,
    CASE WHEN c.relkind IN ('v', 'm') THEN 'view' ELSE 'table' END AS kind
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
    AND pg_catalog.has_any_column_privilege(c.oid, 'SELECT')
"""
_COLUMNS: Final = """
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
    pg_catalog.pg_get_expr(d.adbin, d.adrelid),
    EXISTS (SELECT FROM pg_catalog.pg_index AS i
        WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey))
FROM pg_catalog.pg_attribute AS a
LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = $1::pg_catalog.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_FOREIGN: Final = (
    "SELECT pg_catalog.pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint "
    "WHERE conrelid = $1::pg_catalog.oid AND contype = 'f' ORDER BY conname"
)
_INDEXES: Final = (
    "SELECT pg_catalog.pg_get_indexdef(indexrelid) FROM pg_catalog.pg_index "
    "WHERE indrelid = $1::pg_catalog.oid ORDER BY indexrelid"
)
_CHANGES: Final = ("INSERT", "UPDATE", "DELETE", "MERGE")


class _AsWritten(Loader):
    def load(self, data: Buffer) -> str:
        return bytes(data).decode("utf-8", "replace")


class Postgres:
    """A connection to a PostgreSQL database, for one task."""

    def __init__(self, request: Mapping[str, object]) -> None:
        self._seconds = float(str(request["seconds"]))
        self._write = bool(request["write"])
        self._until = time.monotonic() + self._seconds
        try:
            self._connection: psycopg.Connection[tuple[object, ...]] = psycopg.connect(
                str(request["place"]),
                autocommit=True,
                connect_timeout=CONNECT_SECONDS,
                application_name="agentmesh-server sql",
                client_encoding="utf8",
                cursor_factory=psycopg.RawCursor,
            )
        except psycopg.ProgrammingError as error:
            # The message of a URL that cannot be read may hold a part of the password.
            raise Refusal("unavailable", "the database's URL is not well written") from error
        except psycopg.Error as error:
            raise Refusal("unavailable", f"the database cannot be reached: {one_line(str(error))}") from error
        self._connection.adapters.register_loader(0, _AsWritten)
        for kind in _AS_WRITTEN:
            self._connection.adapters.register_loader(kind, _AsWritten)
        if not request["superuser"]:
            self._require_few_rights()

    def stop(self) -> None:
        """Ends the statement that runs, from another thread."""
        self._connection.cancel_safe(timeout=1)

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Around one task: a transaction, and what goes wrong in it told."""
        try:
            with self._transaction():
                yield
        except (psycopg.Error, MemoryError, ValueError) as error:
            raise self._told(error) from error

    def close(self) -> None:
        """Closes the connection, and with it a transaction that was not committed."""
        self._connection.close()

    def _require_few_rights(self) -> None:
        row = self._connection.execute(_MAY_TOO_MUCH).fetchone()
        if row is None or row[0]:
            raise Refusal(
                "refused",
                "this role may read files or start programs on the server, in a read-only transaction too: use a role "
                "without such rights, or the option superuser",
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN" if self._write else "BEGIN READ ONLY")
        # This takes the transaction's first snapshot, after which it cannot be made one that writes.
        self._connection.execute(_LIMITS, [f"{int(self._seconds * 1000)}ms"])
        self._until = time.monotonic() + self._seconds
        try:
            yield
        except BaseException:  # also a Refusal, or no memory: nothing of it may stay
            self._end("ROLLBACK", quietly=True)
            raise
        self._end("COMMIT" if self._write else "ROLLBACK", quietly=not self._write)

    def _end(self, how: str, *, quietly: bool) -> None:
        try:
            self._connection.execute(how)
        except psycopg.Error:
            if not quietly:
                raise  # without a transaction's end nothing was changed, and that must be known

    def statement(self, sql: str, parameters: Sequence[object], rows: int) -> dict[str, object]:
        sheet, cursor = Sheet(most=rows), self._connection.cursor()
        if self._write:
            # Whole, since a statement that is broken off changes nothing; prepared, for the extended protocol.
            cursor.execute(sql.encode(), parameters, prepare=True)
            found: Iterator[tuple[object, ...]] = iter(cursor) if cursor.description else iter(())
        else:
            found = iter(cursor.stream(sql.encode(), parameters))
        for row in found:
            if not sheet.rows:
                sheet.name([each.name for each in cursor.description or ()])
            if not sheet.add(row):
                if not self._write:
                    self._connection.cancel_safe(timeout=1)
                break
        if not sheet.columns:
            sheet.name(
                self._columns_of(sql) if not cursor.description else [c.name for c in cursor.description]
            )
        changes = (cursor.statusmessage or "").startswith(_CHANGES)
        return {**sheet.result(), "changed": max(0, cursor.rowcount) if self._write and changes else 0}

    def _columns_of(self, sql: str) -> list[str]:
        """The names of the columns of a statement that gave no row; none where the server cannot say."""
        server, name = self._connection.pgconn, b"agentmesh_columns"
        if self._write or server.prepare(name, sql.encode()).status != psycopg.pq.ExecStatus.COMMAND_OK:
            return []
        told = server.describe_prepared(name)
        return [(told.fname(column) or b"").decode("utf-8", "replace") for column in range(told.nfields)]

    def tables(self) -> dict[str, object]:
        found = self._connection.execute(
            f"SELECT name, kind FROM ({_TABLES}) AS told ORDER BY name LIMIT {MAX_TABLES + 1}"
        ).fetchall()
        tables = [{"name": name, "kind": kind} for name, kind in found[:MAX_TABLES]]
        return {"tables": tables, "more": len(found) > MAX_TABLES}

    def table(self, name: str) -> dict[str, object]:
        ask = self._connection.execute
        found = ask(
            f"SELECT oid, name, kind FROM ({_TABLES}) AS told "
            "WHERE name = $1 OR long = $1 ORDER BY name = $1 DESC LIMIT 1",
            [name],
        ).fetchone()
        if found is None:
            raise Refusal(
                "not_found", f"no table is called {one_line(name)!r}: list_tables tells which there are"
            )
        table = found[0]
        columns = [
            {"name": column, "type": kind, "nullable": nullable, "default": default, "key": key}
            for column, kind, nullable, default, key in ask(_COLUMNS, [table])
        ]
        return {
            "name": found[1],
            "kind": found[2],
            "columns": columns,
            "foreign_keys": [row[0] for row in ask(_FOREIGN, [table])],
            "indexes": [row[0] for row in ask(_INDEXES, [table])],
        }

    def _told(self, error: BaseException) -> Refusal:
        text = one_line(str(error))
        if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
            return Refusal("too_large", "the answer needs more memory than it may have: ask for less")
        if isinstance(error, psycopg.errors.QueryCanceled):
            if time.monotonic() < self._until:
                return Refusal("unavailable", "the statement was ended by somebody else: try again")
            return too_slow(self._seconds)
        if isinstance(error, psycopg.errors.LockNotAvailable):
            return Refusal(
                "unavailable", "another transaction holds what the statement needs: try again in a moment"
            )
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction | psycopg.errors.InsufficientPrivilege):
            return Refusal("refused", f"that is not allowed here: {text}")
        # Of the same class are parameters too few, and values beyond the server's limits.
        if isinstance(error, psycopg.OperationalError) and self._connection.closed:
            return Refusal("unavailable", f"the database was lost: {text}")
        if "produce a result" in text or "COPY" in text or "EMPTY_QUERY" in text:
            return Refusal("bad_input", "that gives no rows: give one statement that does, such as SELECT")
        return Refusal("bad_input", f"the database does not take that: {text}")
