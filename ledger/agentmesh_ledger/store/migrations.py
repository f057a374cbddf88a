"""From one version of the tables to the next, a numbered step each; all of them in one transaction or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sqlalchemy import Table, text
from sqlalchemy.schema import CreateTable

from agentmesh_ledger.frontier import Frontier
from agentmesh_ledger.store.rows import Rows
from agentmesh_ledger.store.schema import DEFINITIONS, VERSION, places, tiles, whole_blocks


def migrate(rows: Rows, version: int) -> None:
    """Brings the tables from this version to the newest, inside the open transaction."""
    for step in range(version + 1, VERSION + 1):
        _STEPS[step](rows)


def _add_tiles(rows: Rows) -> None:
    """Version 2 keeps the hashes of the tree in tiles; they are made from the leaf hashes beside the entries."""
    _create(rows, tiles)
    for head in rows.heads():
        frontier = Frontier()
        for leaf in rows.leaves(head.log, 0, head.size):
            frontier.append(leaf)
            if not frontier.size % 65536:
                rows.put_tiles(head.log, frontier.take())
        rows.put_tiles(head.log, frontier.take())


def _add_places(rows: Rows) -> None:
    """Version 3 keeps the messages of each dialogue in a table of places, which grows by blocks, and no index."""
    _create(rows, places)
    for head in rows.heads():
        rows.put_places(head.log, 0, whole_blocks(head.size))
    rows.connection.execute(text("DROP INDEX entries_by_dialogue"))


def _create(rows: Rows, table: Table) -> None:
    if rows.connection.dialect.name == "sqlite":
        rows.connection.execute(text(next(sql for _, name, sql in DEFINITIONS if name == table.name)))
    else:
        rows.connection.execute(CreateTable(table))


_STEPS: Final[Mapping[int, Callable[[Rows], None]]] = {2: _add_tiles, 3: _add_places}
