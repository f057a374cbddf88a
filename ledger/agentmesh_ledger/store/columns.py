"""The rows of the tables as values, and the columns held to their types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.tree import HASH_SIZE, Edge


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
    tiles: int
    places: int
    stray_entries: int
    stray_parts: int
    stray_tiles: int
    stray_places: int


# SQLite columns hold any type whatever their declaration: a tampered row may have a text for a blob.
def as_bytes(value: object) -> bytes:
    """The value of a column that holds bytes.

    Raises: LedgerError(store).
    """
    if not isinstance(value, bytes):
        raise LedgerError("store", "a column that holds bytes holds something else")
    return value


def as_text(value: object) -> str:
    """The value of a column that holds text.

    Raises: LedgerError(store).
    """
    if not isinstance(value, str):
        raise LedgerError("store", "a column that holds text holds something else")
    return value


def as_integer(value: object) -> int:
    """The value of a column that holds whole numbers.

    Raises: LedgerError(store).
    """
    if not isinstance(value, int):
        raise LedgerError("store", "a column that holds numbers holds something else")
    return value


def head_row(row: Sequence[object]) -> HeadRow:
    """A row of `head`, in the order of its columns."""
    log, origin, vkey, size, checkpoint, edge = row
    return HeadRow(
        log=as_integer(log),
        origin=as_text(origin),
        vkey=as_text(vkey),
        size=as_integer(size),
        checkpoint=as_text(checkpoint),
        edge=as_bytes(edge),
    )


def entry_row(row: Sequence[object]) -> EntryRow:
    """A row of `entries`, in the order of its columns.

    Raises: LedgerError(store) with `index` set.
    """
    _, index, entry, leaf, dialogue, seq, kind, author = row
    place = as_integer(index)
    try:
        return EntryRow(
            index=place,
            entry=as_bytes(entry),
            leaf=as_bytes(leaf),
            dialogue=as_text(dialogue),
            seq=as_integer(seq),
            kind=as_text(kind),
            author=as_text(author),
        )
    except LedgerError as error:
        error.locate(index=place)
        raise
