"""The tables. Signed bytes are the truth; every other column is derived from them and checked by `verify`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

VERSION: Final = 3
BLOCK: Final = 512  # entries that get their places together
APPLICATION_ID: Final = 0x416D4C31  # "AmL1", so that `file` and people can tell the database from others


def whole_blocks(size: int) -> int:
    """How many of the first `size` entries stand in whole blocks: these have their places."""
    return size // BLOCK * BLOCK


metadata: Final = MetaData()

# One row a log. The last checkpoint that was signed stands here, apart from the tree: an append replaces it by
# compare and swap in its own transaction, so no two writers can sign two trees of one size.
head: Final = Table(
    "head",
    metadata,
    Column("log", Integer, primary_key=True),
    Column("origin", String(200), nullable=False, unique=True),
    Column("vkey", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("checkpoint", Text, nullable=False),
    Column("edge", LargeBinary, nullable=False),
)

entries: Final = Table(
    "entries",
    metadata,
    Column("log", Integer, nullable=False),
    Column("idx", BigInteger, nullable=False),
    Column("entry", LargeBinary, nullable=False),
    Column("leaf", LargeBinary, nullable=False),
    Column("dialogue", String(128), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("author", String(64), nullable=False),
    PrimaryKeyConstraint("log", "idx"),
)

# Content and salt, deletable: an entry holds only the commitment.
parts: Final = Table(
    "parts",
    metadata,
    Column("log", Integer, nullable=False),
    Column("idx", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("log", "idx", "hash"),
)

# Hashes in tiles of 256 (tlog-tiles): whole ones of every level, and above the leaves also the partial ones. All of
# them follow from the entries; they stand here so that a proof reads a few rows and not the log.
tiles: Final = Table(
    "tiles",
    metadata,
    Column("log", Integer, nullable=False),
    Column("level", Integer, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("log", "level", "number"),
)

# Where the messages of each dialogue are, for whole blocks of entries: sorted in as a block fills. An index that grows
# with each entry would touch a page a dialogue in every commit, which was two thirds of what a commit wrote.
places: Final = Table(
    "places",
    metadata,
    Column("log", Integer, nullable=False),
    Column("dialogue", String(128), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("idx", BigInteger, nullable=False),
    PrimaryKeyConstraint("log", "dialogue", "seq"),
    sqlite_with_rowid=False,
)

# The same tables as SQLite keeps them: their text is part of the format, whatever release of SQLAlchemy or SQLite
# comes. Ledgers are made with it, and a file whose tables are described otherwise is refused.
DEFINITIONS: Final = (
    (
        "table",
        "head",
        "CREATE TABLE head ( log INTEGER NOT NULL, origin VARCHAR(200) NOT NULL, vkey TEXT NOT NULL, "
        "size BIGINT NOT NULL, checkpoint TEXT NOT NULL, edge BLOB NOT NULL, PRIMARY KEY (log), UNIQUE (origin) )",
    ),
    (
        "table",
        "entries",
        "CREATE TABLE entries ( log INTEGER NOT NULL, idx BIGINT NOT NULL, entry BLOB NOT NULL, "
        "leaf BLOB NOT NULL, dialogue VARCHAR(128) NOT NULL, seq BIGINT NOT NULL, kind VARCHAR(64) NOT NULL, "
        "author VARCHAR(64) NOT NULL, PRIMARY KEY (log, idx) )",
    ),
    (
        "table",
        "parts",
        "CREATE TABLE parts ( log INTEGER NOT NULL, idx BIGINT NOT NULL, hash BLOB NOT NULL, "
        "salt BLOB NOT NULL, data BLOB NOT NULL, PRIMARY KEY (log, idx, hash) )",
    ),
    (
        "table",
        "tiles",
        "CREATE TABLE tiles ( log INTEGER NOT NULL, level INTEGER NOT NULL, number BIGINT NOT NULL, "
        "data BLOB NOT NULL, PRIMARY KEY (log, level, number) )",
    ),
    (
        "table",
        "places",
        "CREATE TABLE places ( log INTEGER NOT NULL, dialogue VARCHAR(128) NOT NULL, seq BIGINT NOT NULL, "
        "idx BIGINT NOT NULL, PRIMARY KEY (log, dialogue, seq) ) WITHOUT ROWID",
    ),
)
_OLD_INDEX: Final = (
    "index",
    "entries_by_dialogue",
    "CREATE UNIQUE INDEX entries_by_dialogue ON entries (log, dialogue, seq)",
)

_OLDEST: Final = ("head", "entries", "parts")
_OBJECTS: Final = {
    1: (*(each for each in DEFINITIONS if each[1] in _OLDEST), _OLD_INDEX),
    2: (*(each for each in DEFINITIONS if each[1] in (*_OLDEST, "tiles")), _OLD_INDEX),
    3: DEFINITIONS,
}

# What SQLite adds by itself beside an index for each constraint: the tables that ANALYZE fills.
_STATISTICS: Final = frozenset(
    {
        ("table", "sqlite_stat1", "sqlite_stat1", "CREATE TABLE sqlite_stat1(tbl,idx,stat)"),
        ("table", "sqlite_stat4", "sqlite_stat4", "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)"),
    }
)


def foreign_object(described: Sequence[tuple[str, str, str, str]], version: int = VERSION) -> str | None:
    """What the rows (type, name, table, SQL) of a database's description have too much or too little, as a text.

    None where it is a ledger's of this version. A trigger could erase what is written, and a view in place of a
    table never end.
    """
    objects = _OBJECTS[version]
    wanted = {(kind, name, "entries" if kind == "index" else name, sql) for kind, name, sql in objects} | {
        ("index", f"sqlite_autoindex_{name}_1", name, "")
        for kind, name, sql in objects
        if kind == "table" and not sql.endswith("WITHOUT ROWID")
    }
    seen: set[tuple[str, str, str, str]] = set()
    for kind, name, table, sql in described:
        each = (kind, name, table, " ".join(sql.split()))
        if each in seen or each not in wanted | _STATISTICS:
            return f"{kind} {name}"
        seen.add(each)
    missing = sorted(wanted - seen)
    return f"no {missing[0][0]} {missing[0][1]}" if missing else None
