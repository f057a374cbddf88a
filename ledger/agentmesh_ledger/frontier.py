"""The right side of a growing tree in tiles of 256 hashes, as tlog-tiles cuts it.

Tile (0, n) holds the leaf hashes 256n to 256n + 255; the hash m of tile (k, n) is the root of the whole tile
(k - 1, 256n + m). What is not whole yet is kept here, so an append touches no tile but the last of each level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.tiles import HEIGHT, WIDTH
from agentmesh_ledger.tree import complete_root


@dataclass(frozen=True, slots=True, kw_only=True)
class HashTile:
    """One tile: `data` is its hashes, 1 to 256 of 32 bytes each."""

    level: int
    number: int
    data: bytes


class Frontier:
    """The last, partial tile of every level, growing with the tree."""

    __slots__ = ("_changed", "_full", "_levels", "_size")

    def __init__(self, size: int = 0, levels: Sequence[Sequence[bytes]] = ()) -> None:
        wanted = [size >> (HEIGHT * level) for level in range(len(levels))]
        if (size >> (HEIGHT * len(levels))) or any(
            len(hashes) != count % WIDTH for hashes, count in zip(levels, wanted, strict=True)
        ):
            raise LedgerError("root", "the stored tiles do not fit the size of the tree")
        self._size = size
        self._levels = [list(hashes) for hashes in levels]
        self._full: list[HashTile] = []
        self._changed = 0  # the levels 1 to this one have got a hash since `take`

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return self._size

    def append(self, leaf: bytes) -> None:
        """Adds one leaf hash."""
        if not self._levels:
            self._levels.append([])
        self._levels[0].append(leaf)
        self._size += 1
        if not self._size % WIDTH:
            self._close(0)

    def take(self) -> list[HashTile]:
        """The tiles that filled since the last call, and the partial ones above the leaves that changed.

        Partial tiles of level 0 are not among them: the leaf hashes stand beside the entries.
        """
        taken = self._full
        taken += [
            HashTile(level=level, number=self._number(level), data=b"".join(self._levels[level]))
            for level in range(1, self._changed + 1)
            if self._levels[level]
        ]
        self._full, self._changed = [], 0
        return taken

    def partial(self) -> list[HashTile]:
        """The partial tiles above the leaves, as `take` has given them last."""
        return [
            HashTile(level=level, number=self._number(level), data=b"".join(hashes))
            for level, hashes in enumerate(self._levels)
            if level and hashes
        ]

    def _number(self, level: int) -> int:
        return self._size >> (HEIGHT * (level + 1))

    def _close(self, level: int) -> None:
        """Moves the full tile of this level out, and its root up."""
        hashes = self._levels[level]
        number = (self._size >> (HEIGHT * (level + 1))) - 1
        self._full.append(HashTile(level=level, number=number, data=b"".join(hashes)))
        root = complete_root(hashes)
        self._levels[level] = []
        if len(self._levels) == level + 1:
            self._levels.append([])
        above = self._levels[level + 1]
        above.append(root)
        self._changed = max(self._changed, level + 1)
        if len(above) == WIDTH:
            self._close(level + 1)
