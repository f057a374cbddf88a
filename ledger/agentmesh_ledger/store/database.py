"""A SQLite file as a ledger's store: transactions, rows in and out, and every fault as a LedgerError."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import (
    Connection,
    Engine,
    bindparam,
    create_engine,
    event,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.message import MAX_CONTENT, MAX_PARTS
from agentmesh_ledger.record import SALT_SIZE, Opening
from agentmesh_ledger.store.schema import APPLICATION_ID, VERSION, entries, head, metadata, parts
from agentmesh_ledger.text import shown
from agentmesh_ledger.tree import HASH_SIZE, Edge

BUSY_SECONDS: Final = 30
CHUNK: Final = 128
_MAGIC: Final = b"SQLite format 3\x00"
_MAX_HELD: Final = MAX_CONTENT + MAX_PARTS * SALT_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRow:
    """The log as last committed: what the next append must continue."""

    log: int
    origin: str
    vkey: str
    size: int
    checkpoint: str
    edge: bytes

    def tree(self) -> Edge:
        """The right edge of the tree.

        Raises: LedgerError(root) where it does not fit the size.
        """
        if len(self.edge) % HASH_SIZE:
            raise LedgerError("root", "the stored edge of the tree is cut off")
        cut = range(0, len(self.edge), HASH_SIZE)
        return Edge(self.size, [self.edge[at : at + HASH_SIZE] for at in cut])


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRow:
    """An entry as stored: the signed bytes, and the columns derived from them."""

    index: int
    entry: bytes
    leaf: bytes
    dialogue: str
    seq: int
    kind: str
    author: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogueRow:
    """A dialogue as its index knows it."""

    dialogue: str
    first: int
    last: int
    messages: int


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
                if not read_only:
                    database._use_wal()
                if create and not read_only:
                    database._create_tables()
                database._require_schema()
            except BaseException:
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
            metadata.create_all(connection)
            connection.execute(text(f"PRAGMA application_id = {APPLICATION_ID}"))
            connection.execute(text(f"PRAGMA user_version = {VERSION}"))

    def _require_schema(self) -> None:
        with self.reading() as rows:
            version = rows.connection.execute(text("PRAGMA user_version")).scalar_one()
            mark = rows.connection.execute(text("PRAGMA application_id")).scalar_one()
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


class Rows:
    """What can be asked of the tables inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def heads(self) -> list[HeadRow]:
        """Every log of the database."""
        found = self.connection.execute(select(head).order_by(head.c.log))
        return [_head(row) for row in found]

    def add_head(self, origin: str, vkey: str, checkpoint: str) -> None:
        """A new, empty log."""
        values = {"origin": origin, "vkey": vkey, "size": 0, "checkpoint": checkpoint, "edge": b""}
        self.connection.execute(insert(head).values(values))

    def swap_head(self, old: HeadRow, *, size: int, checkpoint: str, edge: bytes) -> bool:
        """Puts the new checkpoint in place of the old one, if that is still there."""
        swap = (
            update(head)
            .where(head.c.log == old.log, head.c.checkpoint == old.checkpoint, head.c.size == old.size)
            .values(size=size, checkpoint=checkpoint, edge=edge)
        )
        return self.connection.execute(swap).rowcount == 1

    def add_entries(self, log: int, rows: Sequence[EntryRow]) -> None:
        """New entries, in order."""
        values = [
            {
                "log": log,
                "idx": row.index,
                "entry": row.entry,
                "leaf": row.leaf,
                "dialogue": row.dialogue,
                "seq": row.seq,
                "kind": row.kind,
                "author": row.author,
            }
            for row in rows
        ]
        self.connection.execute(insert(entries), values)

    def add_parts(self, log: int, content: Sequence[tuple[int, bytes, Opening]]) -> None:
        """Content of new entries: index, hash, opening."""
        values = [
            {"log": log, "idx": index, "hash": digest, "salt": opening.salt, "data": opening.data}
            for index, digest, opening in content
        ]
        if values:
            self.connection.execute(insert(parts), values)

    def entries(self, log: int, start: int, stop: int) -> list[EntryRow]:
        """The entries with start <= index < stop; ask for few at once."""
        found = self.connection.execute(_ENTRIES, {"log": log, "start": start, "stop": stop})
        return [_entry(row) for row in found]

    def dialogue_entries(self, log: int, dialogue: str, start: int, limit: int) -> list[EntryRow]:
        """Up to `limit` entries of a dialogue from seq `start` on."""
        wanted = (
            select(entries)
            .where(entries.c.log == log, entries.c.dialogue == dialogue, entries.c.seq >= start)
            .order_by(entries.c.seq)
            .limit(limit)
        )
        return [_entry(row) for row in self.connection.execute(wanted)]

    def leaves(self, log: int, size: int) -> Iterator[bytes]:
        """The leaf hash column of the first `size` entries."""
        start = 0
        while start < size:
            stop = min(start + 4096, size)
            found = (
                self.connection.execute(_LEAVES, {"log": log, "start": start, "stop": stop}).scalars().all()
            )
            if len(found) != stop - start:
                raise LedgerError("index", "an entry is missing", index=start)
            for leaf in found:
                yield _bytes(leaf)
            start = stop

    def with_content(
        self, log: int, found: Sequence[EntryRow]
    ) -> list[tuple[EntryRow, dict[bytes, Opening]]]:
        """As many of these entries, from the first on, as have a bounded amount of content, with it.

        At least one, where there is one. Raises: LedgerError(part) where the first alone has too much.
        """
        if not found:
            return []
        indices = [row.index for row in found]
        sizes = {
            _integer(row[0]): _integer(row[1])
            for row in self.connection.execute(_SIZES, {"log": log, "indices": indices})
        }
        taken: list[EntryRow] = []
        held = 0
        for row in found:
            held += sizes.get(row.index, 0)
            if held > _MAX_HELD:
                break
            taken.append(row)
        if not taken:
            raise LedgerError("part", "there is more content than a message may have", index=indices[0])
        content: dict[int, dict[bytes, Opening]] = {row.index: {} for row in taken}
        if held:
            for piece in self.connection.execute(_PARTS, {"log": log, "indices": list(content)}):
                _add_opening(content[_integer(piece.idx)], piece.idx, piece.hash, piece.salt, piece.data)
        return [(row, content[row.index]) for row in taken]

    def last_seq(self, log: int, dialogue: str) -> int:
        """The highest seq of a dialogue; -1 where it has no message."""
        wanted = select(func.max(entries.c.seq)).where(entries.c.log == log, entries.c.dialogue == dialogue)
        found = self.connection.execute(wanted).scalar_one()
        return -1 if found is None else _integer(found)

    def dialogues(self, log: int) -> list[DialogueRow]:
        """Every dialogue, by its first entry."""
        wanted = (
            select(entries.c.dialogue, func.min(entries.c.idx), func.max(entries.c.idx), func.count())
            .where(entries.c.log == log)
            .group_by(entries.c.dialogue)
            .order_by(func.min(entries.c.idx))
        )
        return [
            DialogueRow(
                dialogue=_text(row[0]),
                first=_integer(row[1]),
                last=_integer(row[2]),
                messages=_integer(row[3]),
            )
            for row in self.connection.execute(wanted)
        ]

    def participants(self, log: int) -> dict[str, list[str]]:
        """The authors of every dialogue, in the order they first spoke."""
        wanted = (
            select(entries.c.dialogue, entries.c.author)
            .where(entries.c.log == log)
            .group_by(entries.c.dialogue, entries.c.author)
            .order_by(func.min(entries.c.idx))
        )
        found: dict[str, list[str]] = {}
        for row in self.connection.execute(wanted):
            found.setdefault(_text(row[0]), []).append(_text(row[1]))
        return found

    def strays(self, log: int, size: int) -> tuple[int, int]:
        """How many entries and parts stand outside the log's indices, or in no log at all."""
        counts = []
        for table in (entries, parts):
            astray = (table.c.log == log) & ((table.c.idx >= size) | (table.c.idx < 0))
            unknown = table.c.log.not_in(select(head.c.log))
            outside = select(func.count()).select_from(table).where(astray | unknown)
            counts.append(_integer(self.connection.execute(outside).scalar_one()))
        return counts[0], counts[1]


_ENTRIES: Final = (
    select(entries)
    .where(
        entries.c.log == bindparam("log"),
        entries.c.idx >= bindparam("start"),
        entries.c.idx < bindparam("stop"),
    )
    .order_by(entries.c.idx)
)
_LEAVES: Final = (
    select(entries.c.leaf)
    .where(
        entries.c.log == bindparam("log"),
        entries.c.idx >= bindparam("start"),
        entries.c.idx < bindparam("stop"),
    )
    .order_by(entries.c.idx)
)
_SIZES: Final = (
    select(parts.c.idx, func.sum(func.length(parts.c.data) + func.length(parts.c.salt)))
    .where(parts.c.log == bindparam("log"), parts.c.idx.in_(bindparam("indices", expanding=True)))
    .group_by(parts.c.idx)
)
_PARTS: Final = select(parts).where(
    parts.c.log == bindparam("log"), parts.c.idx.in_(bindparam("indices", expanding=True))
)


# SQLite columns hold any type whatever their declaration: a tampered row may have a text for a blob.
def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise LedgerError("store", "a column that holds bytes holds something else")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise LedgerError("store", "a column that holds text holds something else")
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise LedgerError("store", "a column that holds numbers holds something else")
    return value


def _add_opening(
    content: dict[bytes, Opening], index: object, digest: object, salt: object, data: object
) -> None:
    try:
        content[_bytes(digest)] = Opening(salt=_bytes(salt), data=_bytes(data))
    except LedgerError as error:
        error.locate(index=_integer(index))
        raise


def _head(row: Sequence[object]) -> HeadRow:
    log, origin, vkey, size, checkpoint, edge = row
    return HeadRow(
        log=_integer(log),
        origin=_text(origin),
        vkey=_text(vkey),
        size=_integer(size),
        checkpoint=_text(checkpoint),
        edge=_bytes(edge),
    )


def _entry(row: Sequence[object]) -> EntryRow:
    _, index, entry, leaf, dialogue, seq, kind, author = row
    place = _integer(index)
    try:
        return EntryRow(
            index=place,
            entry=_bytes(entry),
            leaf=_bytes(leaf),
            dialogue=_text(dialogue),
            seq=_integer(seq),
            kind=_text(kind),
            author=_text(author),
        )
    except LedgerError as error:
        error.locate(index=place)
        raise


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
        except BaseException:
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
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
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
            "failed" if create else "unreadable",
            f"the ledger cannot be opened: {error.strerror}",
            path=str(path),
        ) from error
    if start != _MAGIC:
        raise LedgerError("corrupt", "the file is not an SQLite database", path=str(path))


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
