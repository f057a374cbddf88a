"""The hashes of a stored log's tree: what its tiles and leaf hashes give, and the tip that an append continues."""

from __future__ import annotations

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.frontier import Frontier, HashTile
from agentmesh_ledger.store.columns import HeadRow
from agentmesh_ledger.store.rows import Rows
from agentmesh_ledger.tiles import HEIGHT, WIDTH, TileHashes, split_tile
from agentmesh_ledger.tree import HASH_SIZE, complete_root


class StoredTiles:
    """Tiles of a log as its database holds them; a source of hashes for proofs.

    They are nobody's word: a proof made of them is held against a signed checkpoint before it is given out.
    """

    def __init__(self, rows: Rows, head: HeadRow) -> None:
        self._rows = rows
        self._head = head

    def tile(self, level: int, number: int, width: int) -> bytes:
        """The first `width` hashes of a tile.

        Raises: LedgerError(index, store) where they are not there.
        """
        start = number * WIDTH
        if start + width > self._head.size >> (HEIGHT * level):
            raise LedgerError("index", "the tree has no such tile", index=start)
        if level == 0 and (width < WIDTH or not self._rows.has_tiles):
            return b"".join(self._rows.leaves(self._head.log, start, start + width))
        if not self._rows.has_tiles:
            return self._computed(level, start, width)
        found = self._rows.tile(self._head.log, level, number)
        if found is None or len(found) < width * HASH_SIZE:
            raise LedgerError("store", f"a tile of level {level} is missing or cut off", index=start)
        return found[: width * HASH_SIZE]

    def _computed(self, level: int, start: int, width: int) -> bytes:
        """From the leaf hashes, in a store that is older than the table of tiles and only read."""
        below = (self.tile(level - 1, start + at, WIDTH) for at in range(width))
        return b"".join(complete_root(split_tile(data)) for data in below)


def tree_of(rows: Rows, head: HeadRow) -> TileHashes:
    """The log's tree as its database holds it, for proofs at any size up to the head's."""
    return TileHashes(StoredTiles(rows, head), head.size)


def load_frontier(rows: Rows, head: HeadRow) -> Frontier:
    """The partial tiles that the next append continues.

    Raises: LedgerError(root, index, store) where they are missing or do not lead to the head's edge.
    """
    source = StoredTiles(rows, head)
    levels: list[list[bytes]] = []
    while count := head.size >> (HEIGHT * len(levels)):
        width = count % WIDTH
        levels.append(split_tile(source.tile(len(levels), count // WIDTH, width)) if width else [])
    frontier = Frontier(head.size, levels)
    if tree_of(rows, head).root() != head.tree().root():
        raise LedgerError("root", "the stored tiles are not those of the log's checkpoint")
    return frontier


class TileChecks:
    """Holds the stored tiles to the leaf hashes of the entries, taken one after another (SPEC L-88)."""

    def __init__(self, rows: Rows, head: HeadRow) -> None:
        self._rows = rows
        self._head = head
        self._frontier = Frontier()
        self.tiles = 0

    def leaf(self, leaf: bytes) -> None:
        """Takes the next entry's leaf hash.

        Raises: LedgerError(store) where a tile that it fills is not what is stored.
        """
        self._frontier.append(leaf)
        if not self._frontier.size % WIDTH and self._rows.has_tiles:
            for tile in self._frontier.take():
                if len(tile.data) == WIDTH * HASH_SIZE:
                    self._require(tile)

    def finish(self) -> None:
        """Holds the partial tiles as well, once every entry was taken.

        Raises: LedgerError(store).
        """
        if self._rows.has_tiles:
            for tile in self._frontier.partial():
                self._require(tile)

    def _require(self, tile: HashTile) -> None:
        if self._rows.tile(self._head.log, tile.level, tile.number) != tile.data:
            raise LedgerError(
                "store",
                f"the stored tile {tile.number} of level {tile.level} is not that of the entries",
                index=tile.number << (HEIGHT * (tile.level + 1)),
            )
        self.tiles += 1
