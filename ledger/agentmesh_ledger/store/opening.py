"""The store that a path or a database URL names."""

from __future__ import annotations

import os
from pathlib import Path

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.source import is_database
from agentmesh_ledger.store.contract import Store
from agentmesh_ledger.store.sqlite import MEMORY, SqliteStore
from agentmesh_ledger.text import shown


def open_store(
    path_or_url: str | os.PathLike[str], *, create: bool = False, read_only: bool = False
) -> Store:
    """The store at a path, `sqlite:///PATH`, `sqlite:///:memory:` or `postgresql+psycopg://USER@HOST/DATABASE`.

    Raises: LedgerError(refused, no_store, not_found, unreadable, corrupt, failed).
    """
    place = os.fspath(path_or_url)
    if is_database(place):
        from agentmesh_ledger.store.postgres import PostgresStore  # its driver is an extra

        return PostgresStore.open(place, create=create, read_only=read_only)
    path = sqlite_path(place)
    return SqliteStore.open(path, create=create, read_only=read_only)


def sqlite_path(place: str) -> Path | None:
    """The file that a path or an SQLite URL means; None is memory.

    Raises: LedgerError(refused) for a URL of something else.
    """
    scheme, mark, rest = place.partition("://")
    if not mark:
        return None if place == MEMORY else Path(place)
    if scheme == "sqlite" and rest in ("", "/" + MEMORY):
        return None
    if scheme == "sqlite" and rest.startswith("/"):
        return Path(rest[1:])
    raise LedgerError(
        "refused",
        f"there is no store for {shown(scheme)} URLs",
        hint="Give a path, sqlite:///PATH, or postgresql+psycopg://USER@HOST/DATABASE",
    )
