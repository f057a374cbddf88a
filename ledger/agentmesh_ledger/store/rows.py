"""The rows of the tables, in and out, inside a transaction that someone else has opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, func, insert, select, text, update

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.message import MAX_CONTENT, MAX_PARTS
from agentmesh_ledger.record import SALT_SIZE, Opening
from agentmesh_ledger.store.schema import entries, head, parts
from agentmesh_ledger.tree import HASH_SIZE, Edge

CHUNK: Final = 128
_MAX_HELD: Final = MAX_CONTENT + MAX_PARTS * (SALT_SIZE + HASH_SIZE)
_MAX_DESCRIBED: Final = 32


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """How many rows a log has, and how many stand in no log at all."""

    entries: int
    parts: int
    stray_entries: int
    stray_parts: int


class Rows:
    """What can be asked of the tables inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def described(self) -> list[tuple[str, str, str, str]]:
        """The database's own description of what is in it: type, name, table and SQL of each object, up to some."""
        found = self.connection.execute(_DESCRIBED)
        return [(_text(row[0]), _text(row[1]), _text(row[2]), _text(row[3])) for row in found]

    def damage(self) -> str | None:
        """The first thing that SQLite's own check finds wrong with the file; None where that is nothing.

        Reads the whole file. Where a page of an index is altered nothing else tells that rows are missing from it.
        """
        found: object = self.connection.execute(text("PRAGMA integrity_check(1)")).scalar()
        return None if found == "ok" else " ".join(str(found).split())

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
            _integer(row[0]): _integer(row[1]) if _integer(row[2]) <= MAX_PARTS else _MAX_HELD + 1
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

    def totals(self, log: int) -> Totals:
        """How many rows there are, whatever stands in their other columns."""
        counts = []
        for table in (entries, parts):
            own = table.c.log == log
            unknown = table.c.log.is_(None) | table.c.log.not_in(select(head.c.log))
            for condition in (own, unknown):
                wanted = select(func.count()).select_from(table).where(condition)
                counts.append(_integer(self.connection.execute(wanted).scalar_one()))
        return Totals(entries=counts[0], parts=counts[2], stray_entries=counts[1], stray_parts=counts[3])


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
