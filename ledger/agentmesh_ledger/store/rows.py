"""The rows of the tables, in and out, inside a transaction that someone else has opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from sqlalchemy import (
    BigInteger,
    Connection,
    Dialect,
    Executable,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.engine.interfaces import DBAPICursor

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.frontier import HashTile
from agentmesh_ledger.message import LOG_DIALOGUE, MAX_CONTENT, MAX_PARTS
from agentmesh_ledger.record import SALT_SIZE, Opening
from agentmesh_ledger.store.columns import (
    DialogueRow,
    EntryRow,
    HeadRow,
    Totals,
    as_bytes,
    as_integer,
    as_text,
    entry_row,
    head_row,
)
from agentmesh_ledger.store.schema import BLOCK, VERSION, entries, head, parts, places, tiles
from agentmesh_ledger.text import shown
from agentmesh_ledger.tree import HASH_SIZE

CHUNK: Final = 128
EntryValues: TypeAlias = tuple[int, int, bytes, bytes, str, int, str, str]
"""A new row of `entries`, in the order of its columns: log, idx, entry, leaf, dialogue, seq, kind, author."""
PartValues: TypeAlias = tuple[int, int, bytes, bytes, bytes]
"""A new row of `parts`: log, idx, hash, salt, data."""
_MAX_HELD: Final = MAX_CONTENT + MAX_PARTS * (SALT_SIZE + HASH_SIZE)
_MAX_DESCRIBED: Final = 32

_WHOLE: Final = literal_column(str(BLOCK), BigInteger)
# The entries behind the last whole block have no places yet; there are few.
_IS_NEW: Final = entries.c.idx >= (
    select(head.c.size // _WHOLE * _WHOLE).where(head.c.log == bindparam("log")).scalar_subquery()
)
_OF_DIALOGUE: Final = (entries.c.log == bindparam("log"), entries.c.dialogue == bindparam("dialogue"))
_IN_PLACE: Final = (places.c.log == bindparam("log"), places.c.dialogue == bindparam("dialogue"))


class Statements:
    """What every append runs, written out once for one kind of database.

    SQLAlchemy builds them and holds the transaction, but the driver's own cursor runs them: wrapping each result costs
    more than SQLite takes to run the statement, and an append of one message has five.
    """

    def __init__(self, dialect: Dialect) -> None:
        def sql(statement: Executable) -> str:
            return str(statement.compile(dialect=dialect))  # type: ignore[attr-defined]  # Executable has no stub of it

        here = head.c.log == bindparam("log")
        self.lock_head = sql(select(head).where(here).with_for_update())
        self.swap_head = sql(
            update(head)
            .values(size=bindparam("size_new"), checkpoint=bindparam("note_new"), edge=bindparam("edge_new"))
            .where(here, head.c.size == bindparam("size_old"), head.c.checkpoint == bindparam("note_old"))
        )
        self.add_entries = sql(insert(entries))
        self.add_parts = sql(insert(parts))
        self.last_placed = sql(select(func.max(places.c.seq)).where(*_IN_PLACE))
        self.stored = sql(
            select(entries.c.entry)
            .where(
                entries.c.log == bindparam("log"),
                entries.c.idx >= bindparam("start"),
                entries.c.idx < bindparam("stop"),
            )
            .order_by(entries.c.idx)
        )


class Rows:
    """What can be asked of the tables inside one transaction."""

    def __init__(self, connection: Connection, statements: Statements, *, version: int = VERSION) -> None:
        self.connection = connection
        self.has_tiles = version >= 2
        self.has_places = version >= 3
        self._sql = statements
        self._cursor: DBAPICursor | None = None

    def _driver(self) -> DBAPICursor:
        """The driver's cursor of this transaction."""
        if self._cursor is None:
            if not self.connection.in_transaction():
                self.connection.begin()  # a reader's first question; SQLAlchemy would begin by itself
            self._cursor = self.connection.connection.cursor()
        return self._cursor

    def described(self) -> list[tuple[str, str, str, str]]:
        """The database's own description of what is in it: type, name, table and SQL of each object, up to some."""
        found = self.connection.execute(_DESCRIBED)
        return [(as_text(row[0]), as_text(row[1]), as_text(row[2]), as_text(row[3])) for row in found]

    def damage(self) -> str | None:
        """The first thing that SQLite's own check finds wrong with the file; None where that is nothing.

        Reads the whole file. Where a page of an index is altered nothing else tells that rows are missing from it.
        PostgreSQL guards its own pages, and has no such question to ask.
        """
        if self.connection.dialect.name != "sqlite":
            return None
        found: object = self.connection.execute(text("PRAGMA integrity_check(1)")).scalar()
        return None if found == "ok" else " ".join(str(found).split())

    def heads(self) -> list[HeadRow]:
        """Every log of the database."""
        found = self.connection.execute(select(head).order_by(head.c.log))
        return [head_row(row) for row in found]

    def lock_heads(self) -> None:
        """Keeps every other writer from adding a log until the transaction ends."""
        if self.connection.dialect.name == "postgresql":  # an SQLite writer is alone from its first moment
            self.connection.execute(text("LOCK TABLE head IN SHARE ROW EXCLUSIVE MODE"))

    def add_head(self, origin: str, vkey: str, checkpoint: str) -> None:
        """A new, empty log."""
        values = {"origin": origin, "vkey": vkey, "size": 0, "checkpoint": checkpoint, "edge": b""}
        self.connection.execute(insert(head).values(values))

    def lock_head(self, log: int) -> HeadRow | None:
        """The log's head, locked against every other writer until the transaction ends."""
        cursor = self._driver()
        cursor.execute(self._sql.lock_head, (log,))
        found = cursor.fetchone()
        return None if found is None else head_row(found)

    def swap_head(self, old: HeadRow, *, size: int, checkpoint: str, edge: bytes) -> bool:
        """Puts the new checkpoint in place of the old one, if that is still there."""
        values = (size, checkpoint, edge, old.log, old.size, old.checkpoint)
        cursor = self._driver()
        cursor.execute(self._sql.swap_head, values)
        return cursor.rowcount == 1

    def add_entries(self, rows: list[EntryValues]) -> None:
        """New entries, in order."""
        self._driver().executemany(self._sql.add_entries, rows)

    def add_parts(self, rows: list[PartValues]) -> None:
        """Content of new entries."""
        if rows:
            self._driver().executemany(self._sql.add_parts, rows)

    def stored(self, log: int, start: int, stop: int) -> list[bytes]:
        """The bytes of the entries with start <= index < stop, read back."""
        cursor = self._driver()
        cursor.execute(self._sql.stored, (log, start, stop))
        return [as_bytes(row[0]) for row in cursor.fetchall()]

    def put_tiles(self, log: int, changed: Sequence[HashTile]) -> None:
        """Tiles that filled or grew, in place of what stood there."""
        for tile in changed:
            here = (tiles.c.log == log, tiles.c.level == tile.level, tiles.c.number == tile.number)
            self.connection.execute(delete(tiles).where(*here))
        values = [
            {"log": log, "level": tile.level, "number": tile.number, "data": tile.data} for tile in changed
        ]
        if values:
            self.connection.execute(insert(tiles), values)

    def tile(self, log: int, level: int, number: int) -> bytes | None:
        """A stored tile; None where there is none."""
        found = self.connection.execute(_TILE, {"log": log, "level": level, "number": number}).scalar()
        return None if found is None else as_bytes(found)

    def erase_parts(self, log: int, index: int, hashes: Sequence[bytes]) -> int:
        """Deletes content of one entry; how many parts were there."""
        gone = delete(parts).where(parts.c.log == log, parts.c.idx == index, parts.c.hash.in_(hashes))
        return self.connection.execute(gone).rowcount

    def key_entries(self, log: int, start: int = 0) -> Iterator[EntryRow]:
        """The entries that register, rotate and revoke keys, in order, from this seq of their dialogue on."""
        while found := self.dialogue_entries(log, LOG_DIALOGUE, start, CHUNK):
            for each in found:
                start = each.seq + 1
                if each.kind.startswith("key."):
                    yield each

    def entries(self, log: int, start: int, stop: int) -> list[EntryRow]:
        """The entries with start <= index < stop; ask for few at once."""
        found = self.connection.execute(_ENTRIES, {"log": log, "start": start, "stop": stop})
        return [entry_row(row) for row in found]

    def dialogue_entries(self, log: int, dialogue: str, start: int, limit: int) -> list[EntryRow]:
        """Up to `limit` entries of a dialogue from seq `start` on.

        Raises: LedgerError(sequence) where a place is that of another entry.
        """
        known: dict[str, object] = {"log": log, "dialogue": dialogue, "start": start, "limit": limit}
        found: list[EntryRow] = []
        if self.has_places:
            found = [_in_place(row, dialogue) for row in self.connection.execute(_PLACED, known)]
            known |= {"limit": limit - len(found)}
        if len(found) < limit:
            unplaced = _UNPLACED if self.has_places else _INDEXED
            found += [entry_row(row) for row in self.connection.execute(unplaced, known)]
        return found

    def put_places(self, log: int, start: int, stop: int) -> None:
        """Gives the entries with start <= index < stop their places; whole blocks, each once."""
        if start < stop:
            self.connection.execute(_PLACE, {"log": log, "start": start, "stop": stop})

    def count_placed(self, log: int, start: int, stop: int) -> int:
        """How many of the entries with start <= index < stop stand in the place that their columns say."""
        known = {"log": log, "start": start, "stop": stop}
        return as_integer(self.connection.execute(_WELL_PLACED, known).scalar_one())

    def leaves(self, log: int, start: int, stop: int) -> Iterator[bytes]:
        """The leaf hash column of the entries with start <= index < stop.

        Raises: LedgerError(index) where an entry is missing.
        """
        while start < stop:
            end = min(start + 4096, stop)
            places = {"log": log, "start": start, "stop": end}
            found = self.connection.execute(_LEAVES, places).scalars().all()
            if len(found) != end - start:
                raise LedgerError("index", "an entry is missing", index=start)
            for leaf in found:
                yield as_bytes(leaf)
            start = end

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
            as_integer(row[0]): as_integer(row[1]) if as_integer(row[2]) <= MAX_PARTS else _MAX_HELD + 1
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
        if sizes:
            for piece in self.connection.execute(_PARTS, {"log": log, "indices": list(content)}):
                _add_opening(content[as_integer(piece.idx)], piece.idx, piece.hash, piece.salt, piece.data)
        return [(row, content[row.index]) for row in taken]

    def last_seq(self, log: int, dialogue: str) -> int:
        """The highest seq of a dialogue; -1 where it has no message."""
        wanted = select(func.max(entries.c.seq)).where(*_OF_DIALOGUE)
        if self.has_places:
            wanted = wanted.where(_IS_NEW)
        found = self.connection.execute(wanted, {"log": log, "dialogue": dialogue}).scalar()
        if found is None and self.has_places:
            return self.last_placed(log, dialogue)
        return -1 if found is None else as_integer(found)

    def last_placed(self, log: int, dialogue: str) -> int:
        """The highest seq of a dialogue among the entries that have places; -1 where there is none."""
        cursor = self._driver()
        cursor.execute(self._sql.last_placed, (log, dialogue))
        (found,) = cursor.fetchone() or (None,)
        return -1 if found is None else as_integer(found)

    def newest_seqs(self, log: int) -> dict[str, int]:
        """The highest seq of each dialogue among the entries that have no places yet."""
        found = self.connection.execute(_NEWEST, {"log": log})
        return {as_text(row[0]): as_integer(row[1]) for row in found}

    def dialogues(self, log: int) -> list[DialogueRow]:
        """Every dialogue, by its first entry."""
        newest = select(entries.c.dialogue, entries.c.idx).where(entries.c.log == bindparam("log"))
        older = select(places.c.dialogue, places.c.idx).where(places.c.log == bindparam("log"))
        every = (union_all(older, newest.where(_IS_NEW)) if self.has_places else newest).subquery()
        first = func.min(every.c.idx)
        wanted = (
            select(every.c.dialogue, first, func.max(every.c.idx), func.count())
            .group_by(every.c.dialogue)
            .order_by(first)
        )
        return [
            DialogueRow(
                dialogue=as_text(row[0]),
                first=as_integer(row[1]),
                last=as_integer(row[2]),
                messages=as_integer(row[3]),
            )
            for row in self.connection.execute(wanted, {"log": log})
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
            found.setdefault(as_text(row[0]), []).append(as_text(row[1]))
        return found

    def totals(self, log: int) -> Totals:
        """How many rows there are, whatever stands in their other columns."""
        counts = []
        for table in (entries, parts, *((tiles,) * self.has_tiles), *((places,) * self.has_places)):
            own = table.c.log == log
            unknown = table.c.log.is_(None) | table.c.log.not_in(select(head.c.log))
            for condition in (own, unknown):
                wanted = select(func.count()).select_from(table).where(condition)
                counts.append(as_integer(self.connection.execute(wanted).scalar_one()))
        counts += [0] * (8 - len(counts))
        return Totals(
            entries=counts[0],
            parts=counts[2],
            tiles=counts[4],
            places=counts[6],
            stray_entries=counts[1],
            stray_parts=counts[3],
            stray_tiles=counts[5],
            stray_places=counts[7],
        )


# What is too long is not left out but made different: nothing may hide behind its length.
_DESCRIBED: Final = text(
    "SELECT type, name, tbl_name, CASE WHEN length(sql) > 10000 THEN '...' ELSE coalesce(sql, '') END "
    f"FROM sqlite_master LIMIT {_MAX_DESCRIBED}"
)
_ENTRIES: Final = (
    select(entries)
    .where(
        entries.c.log == bindparam("log"),
        entries.c.idx >= bindparam("start"),
        entries.c.idx < bindparam("stop"),
    )
    .order_by(entries.c.idx)
)
_INDEXED: Final = (
    select(entries)
    .where(*_OF_DIALOGUE, entries.c.seq >= bindparam("start"))
    .order_by(entries.c.seq)
    .limit(bindparam("limit"))
)
_UNPLACED: Final = _INDEXED.where(_IS_NEW)
_NEWEST: Final = (
    select(entries.c.dialogue, func.max(entries.c.seq))
    .where(entries.c.log == bindparam("log"), _IS_NEW)
    .group_by(entries.c.dialogue)
)
_PLACED: Final = (
    select(entries, places.c.seq.label("place"))
    .join(places, (entries.c.log == places.c.log) & (entries.c.idx == places.c.idx))
    .where(*_IN_PLACE, places.c.seq >= bindparam("start"))
    .order_by(places.c.seq)
    .limit(bindparam("limit"))
)
_PLACE: Final = insert(places).from_select(
    ["log", "dialogue", "seq", "idx"],
    select(entries.c.log, entries.c.dialogue, entries.c.seq, entries.c.idx)
    .where(
        entries.c.log == bindparam("log"),
        entries.c.idx >= bindparam("start"),
        entries.c.idx < bindparam("stop"),
    )
    .order_by(entries.c.dialogue, entries.c.seq),
)
_WELL_PLACED: Final = select(func.count()).where(
    entries.c.log == bindparam("log"),
    entries.c.idx >= bindparam("start"),
    entries.c.idx < bindparam("stop"),
    places.c.log == entries.c.log,
    places.c.dialogue == entries.c.dialogue,
    places.c.seq == entries.c.seq,
    places.c.idx == entries.c.idx,
)
_TILE: Final = select(tiles.c.data).where(
    tiles.c.log == bindparam("log"),
    tiles.c.level == bindparam("level"),
    tiles.c.number == bindparam("number"),
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
    select(
        parts.c.idx,
        func.sum(func.length(parts.c.data) + func.length(parts.c.salt) + func.length(parts.c.hash)),
        func.count(),
    )
    .where(parts.c.log == bindparam("log"), parts.c.idx.in_(bindparam("indices", expanding=True)))
    .group_by(parts.c.idx)
)
_PARTS: Final = select(parts).where(
    parts.c.log == bindparam("log"), parts.c.idx.in_(bindparam("indices", expanding=True))
)


def _in_place(row: Sequence[object], dialogue: str) -> EntryRow:
    """The entry of a place. One that says another seq could lead a reader back to where it was, for ever."""
    *columns, seq = row
    found = entry_row(columns)
    if (found.dialogue, found.seq) != (dialogue, seq):
        raise LedgerError(
            "sequence",
            f"another entry stands in the place of a message of the dialogue {shown(dialogue)}",
            index=found.index,
            expected=f"seq {shown(str(seq))}",
            found=f"{shown(found.dialogue)} seq {found.seq}",
        )
    return found


def _add_opening(
    content: dict[bytes, Opening], index: object, digest: object, salt: object, data: object
) -> None:
    try:
        content[as_bytes(digest)] = Opening(salt=as_bytes(salt), data=as_bytes(data))
    except LedgerError as error:
        error.locate(index=as_integer(index))
        raise
