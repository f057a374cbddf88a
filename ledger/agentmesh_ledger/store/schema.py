"""The tables. Signed bytes are the truth; every other column is derived from them and checked by `verify`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

VERSION: Final = 1
APPLICATION_ID: Final = 0x416D4C31  # "AmL1", so that `file` and people can tell the database from others

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
    Index("entries_by_dialogue", "log", "dialogue", "seq", unique=True),
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
