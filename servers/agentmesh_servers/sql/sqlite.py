"""Statements on an SQLite file, in the process that was started for one of them.

Read-only does not depend on how a statement looks: the file is opened so, `query_only` is set, and the authorizer, which
SQLite asks about every step while it prepares a statement, lets pass what reads. The file itself is not trusted either.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agentmesh_servers.sql.refusal import Refusal, one_line, too_slow
from agentmesh_servers.sql.values import Sheet

# The length of statements, columns and the depth of expressions keep SQLite's own limits (a million, 2,000 and 1,000):
# the statements that made the tables of a file are held to them too, and a file with a wide table must be readable.
LIMITS: Final = {
    sqlite3.SQLITE_LIMIT_LENGTH: 16 * 1024 * 1024,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 100,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 250_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 100,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 1_000,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 20,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
MAX_TABLES: Final = 500
_UNFINISHED: Final = frozenset(
    {sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_RECOVERY, sqlite3.SQLITE_READONLY_CANTINIT}
)
_STEPS: Final = 10_000
_READS: Final = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE, sqlite3.SQLITE_FUNCTION}
)
_WRITES: Final = _READS | {
    sqlite3.SQLITE_INSERT,
    sqlite3.SQLITE_UPDATE,
    sqlite3.SQLITE_DELETE,
    sqlite3.SQLITE_CREATE_TABLE,
    sqlite3.SQLITE_CREATE_INDEX,
    sqlite3.SQLITE_CREATE_VIEW,
    sqlite3.SQLITE_CREATE_TRIGGER,
    sqlite3.SQLITE_DROP_TABLE,
    sqlite3.SQLITE_DROP_INDEX,
    sqlite3.SQLITE_DROP_VIEW,
    sqlite3.SQLITE_DROP_TRIGGER,
    sqlite3.SQLITE_ALTER_TABLE,
    sqlite3.SQLITE_ANALYZE,
    sqlite3.SQLITE_REINDEX,
}
# These only tell something; those of the second set change something when they are given a value.
_PRAGMAS: Final = frozenset(
    {
        "table_info",
        "table_xinfo",
        "table_list",
        "index_list",
        "index_info",
        "index_xinfo",
        "foreign_key_list",
        "foreign_key_check",
        "integrity_check",
        "quick_check",
    }
)
_TELLING: Final = frozenset(
    {"user_version", "application_id", "encoding", "page_count", "page_size", "data_version", "journal_mode"}
)
# They reach outside the database, where they are compiled in at all.
_FUNCTIONS: Final = frozenset(
    {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit", "lsdir", "fsdir"}
)


class Sqlite:
    """An SQLite file, open for one task."""

    def __init__(self, request: Mapping[str, object]) -> None:
        self._path = Path(str(request["place"]))
        self._seconds = float(str(request["seconds"]))
        self._write = bool(request["write"])
        self._end = time.monotonic() + self._seconds
        if not self._path.is_file():
            raise Refusal("unavailable", f"the database {self._path.name} is not there any more")
        try:
            if bool(request["writable"]) and not self._write:
                self._repair()
            self._connection = self._open("rw" if self._write else "ro")
        except sqlite3.Error as error:
            raise self._told(error) from error

    def stop(self) -> None:
        """Ends the statement that runs, from another thread."""
        self._connection.interrupt()

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Around one task: the guard over what statements may do, and what goes wrong told."""
        try:
            self._guard()
            yield
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
            raise self._told(error) from error

    def close(self) -> None:
        """Takes back what was not committed and closes the file."""
        self._connection.close()

    def _open(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=min(5.0, self._seconds),
            isolation_level=None,
            check_same_thread=False,  # only to be interrupted from another
        )

    def _repair(self) -> None:
        """Takes back what a writer that was killed left half done, which only who may write can.

        An `execute` that ran out of time may have been such a writer.
        """
        if not self._path.with_name(f"{self._path.name}-journal").exists():
            return
        connection = self._open("rw")
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        finally:
            connection.close()

    def _guard(self) -> None:
        connection = self._connection
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        connection.set_progress_handler(lambda: time.monotonic() > self._end, _STEPS)
        for category, most in LIMITS.items():
            connection.setlimit(category, most)
        # A file may hold views and triggers that were made to harm who reads it.
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(f"PRAGMA {'foreign_keys' if self._write else 'query_only'} = ON")
        # Opening touches nothing yet: a file that is no database should be told as one, not by the first statement.
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()

    def statement(self, sql: str, parameters: Sequence[object], rows: int) -> dict[str, object]:
        connection, sheet = self._connection, Sheet(most=rows)
        if self._write:
            connection.execute("BEGIN IMMEDIATE")
        connection.set_authorizer(self._allowed)
        try:
            cursor = connection.execute(sql, parameters)
            if cursor.description is None and not self._write:
                raise Refusal("bad_input", "that gives no rows: give one statement that does, such as SELECT")
            sheet.name([each[0] for each in cursor.description or ()])
            for row in cursor:
                if not sheet.add(row):
                    break
            changed = max(0, cursor.rowcount)
            cursor.close()
        finally:
            connection.set_authorizer(None)
        if self._write:
            connection.execute("COMMIT")
        return {**sheet.result(), "changed": changed}

    def _allowed(
        self, action: int, first: str | None, second: str | None, _database: str | None, _inside: str | None
    ) -> int:
        if action == sqlite3.SQLITE_FUNCTION:
            fine = (second or "").lower() not in _FUNCTIONS
        elif action == sqlite3.SQLITE_PRAGMA:
            name = (first or "").lower()
            fine = name in _PRAGMAS or (name in _TELLING and second is None)
        elif action == sqlite3.SQLITE_UPDATE and first == "sqlite_master":
            # Asked for whenever a virtual table is opened, such as json_each or a full-text index. To change the
            # schema in earnest by UPDATE SQLite does not allow.
            fine = True
        else:
            fine = action in (_WRITES if self._write else _READS)
        return sqlite3.SQLITE_OK if fine else sqlite3.SQLITE_DENY

    def tables(self) -> dict[str, object]:
        found = self._connection.execute(
            "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' "
            "ESCAPE '\\' ORDER BY name LIMIT ?",
            (MAX_TABLES + 1,),
        ).fetchall()
        tables = [{"name": name, "kind": kind} for name, kind in found[:MAX_TABLES]]
        return {"tables": tables, "more": len(found) > MAX_TABLES}

    def table(self, name: str) -> dict[str, object]:
        ask = self._connection.execute
        found = ask(
            "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE",
            (name,),
        ).fetchone()
        if found is None:
            raise Refusal(
                "not_found", f"no table is called {one_line(name)!r}: list_tables tells which there are"
            )
        columns = [
            {
                "name": column,
                "type": kind,
                "nullable": not (required or key),
                "default": default,
                "key": bool(key),
            }
            for column, kind, required, default, key in ask(
                'SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_xinfo(?) WHERE hidden <> 1',
                (found[0],),
            )
        ]
        foreign = [
            f"{column} -> {table}({target or 'its key'})"
            for table, column, target in ask(
                'SELECT "table", "from", "to" FROM pragma_foreign_key_list(?)', (found[0],)
            )
        ]
        indexes = []
        for index, unique in ask('SELECT name, "unique" FROM pragma_index_list(?)', (found[0],)).fetchall():
            on = [row[0] or "(expression)" for row in ask("SELECT name FROM pragma_index_info(?)", (index,))]
            indexes.append(f"{index} on {', '.join(on)}{' (unique)' if unique else ''}")
        return {
            "name": found[0],
            "kind": found[1],
            "columns": columns,
            "foreign_keys": foreign,
            "indexes": indexes,
        }

    def _told(self, error: BaseException) -> Refusal:
        text = one_line(str(error))
        if isinstance(error, MemoryError):
            return Refusal("too_large", "the statement needs more memory than it may have: ask for less")
        if isinstance(error, OverflowError):
            return Refusal("bad_input", "a parameter is a whole number beyond 64 bits: give it as text")
        whole = getattr(error, "sqlite_errorcode", 0)
        code = whole & 0xFF
        match code:
            case sqlite3.SQLITE_INTERRUPT:
                return too_slow(self._seconds)
            case sqlite3.SQLITE_AUTH:
                may = "and CREATE, ALTER or DROP" if self._write else "nothing that changes anything"
                what = f"SELECT, INSERT, UPDATE, DELETE {may}" if self._write else f"only what reads, {may}"
                return Refusal("refused", f"that is not allowed here ({text}): {what}")
            case sqlite3.SQLITE_READONLY if whole in _UNFINISHED:
                return Refusal(
                    "unavailable",
                    "a program that was writing left the database half changed: open it once with one that may write",
                )
            case sqlite3.SQLITE_READONLY:
                return Refusal("refused", f"the database can only be read ({text})")
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return Refusal(
                    "unavailable", "another program holds the database locked: try again in a moment"
                )
            case sqlite3.SQLITE_NOTADB:
                return Refusal("unreadable", f"{self._path.name} is not an SQLite database")
            case sqlite3.SQLITE_CORRUPT:
                return Refusal("unreadable", f"the database {self._path.name} is damaged ({text})")
            case sqlite3.SQLITE_TOOBIG:
                most = f"{LIMITS[sqlite3.SQLITE_LIMIT_LENGTH] >> 20} MiB"
                return Refusal(
                    "too_large", f"a value has more than {most}, or the statement is too long ({text})"
                )
            case sqlite3.SQLITE_NOMEM:
                return Refusal("too_large", "the statement needs more memory than it may have: ask for less")
            case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
                return Refusal("too_large", f"the disk or what a statement may take of it is full ({text})")
            case sqlite3.SQLITE_CANTOPEN:
                return Refusal(
                    "unavailable", f"the database {self._path.name} cannot be opened: may it be read?"
                )
        return Refusal("bad_input", f"the database does not take that: {text}")
