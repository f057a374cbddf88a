"""C2SP tlog-tiles: the tree cut into tiles of 256 hashes, and any proof made from few of them.

Pure: where the tiles lie is the business of a `TileSource`. A tile is named by level and number as in
https://c2sp.org/tlog-tiles: hash i of tile (l, n) is the tree's node (8 l, 256 n + i).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from agentmesh_ledger.envelope import MAX_ENTRY
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.tree import (
    EMPTY_ROOT,
    HASH_SIZE,
    Node,
    complete_root,
    consistency_nodes,
    edge_nodes,
    fold_proof,
    inclusion_nodes,
)

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
TILE_BYTES: Final = WIDTH * HASH_SIZE
MAX_BUNDLE: Final = WIDTH * (2 + MAX_ENTRY)
MAX_LEVEL: Final = 7  # sizes end at 2^53 - 1
_CACHED: Final = 64  # tiles: half a megabyte


class TileSource(Protocol):
    """Where the hash tiles of a log are.

    `tile` gives the first `width` hashes (1 to 256) of a tile as `width * 32` bytes. A source that has a
    wider one cuts it: tiles only ever grow to the right.
    """

    def tile(self, level: int, number: int, width: int) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TileId:
    """A tile with the width, 1 to 256, that it has in a tree of some size."""

    level: int
    number: int
    width: int

    @property
    def path(self) -> str:
        """Where the tile is served, below the log's prefix (SPEC L-34)."""
        return f"tile/{self.level}/{_number_path(self.number, self.width)}"

    @property
    def is_full(self) -> bool:
        """Whether it will never change again."""
        return self.width == WIDTH


def bundle_path(number: int, width: int) -> str:
    """Where the entry bundle that belongs to a tile of level 0 is served (SPEC L-34)."""
    return f"tile/entries/{_number_path(number, width)}"


def _number_path(number: int, width: int) -> str:
    if number < 0 or not 1 <= width <= WIDTH:
        raise LedgerError("tile", f"there is no tile {number} of width {width}")
    text, rest = f"{number % 1000:03d}", number // 1000
    while rest:
        text, rest = f"x{rest % 1000:03d}/{text}", rest // 1000
    return text if width == WIDTH else f"{text}.p/{width}"


def tile_width(level: int, number: int, size: int) -> int:
    """How many hashes this tile has in a tree of this size; 0 or less where it is not there."""
    return min(WIDTH, (size >> (HEIGHT * level)) - WIDTH * number) if min(level, number) >= 0 else 0


def tiles_of(size: int, *, since: int = 0) -> Iterator[TileId]:
    """The tiles of a tree, level by level; of those that a tree of `since` has as well, none.

    The entry bundles are those of level 0.
    """
    for level in range(MAX_LEVEL):
        count, before = size >> (HEIGHT * level), since >> (HEIGHT * level)
        if count == before:
            return
        for number in range(before // WIDTH, -(-count // WIDTH)):
            yield TileId(level=level, number=number, width=tile_width(level, number, size))


def split_tile(data: bytes) -> list[bytes]:
    """The hashes of a tile."""
    return [data[place : place + HASH_SIZE] for place in range(0, len(data), HASH_SIZE)]


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """The entries, 1 to 256, each after its length in two bytes (SPEC L-36).

    Raises: LedgerError(too_large, tile).
    """
    if not 1 <= len(entries) <= WIDTH:
        raise LedgerError("tile", f"{len(entries)} entries make no bundle")
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise LedgerError("too_large", f"an entry of {len(entry)} bytes does not fit a bundle")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(data: bytes, count: int) -> list[bytes]:
    """The `count` entries of a bundle that holds exactly these (SPEC L-36).

    Raises: LedgerError(tile).
    """
    entries: list[bytes] = []
    place = 0
    for _ in range(count):
        start = place + 2
        stop = start + int.from_bytes(data[place:start], "big")
        if start > len(data) or stop > len(data):
            raise LedgerError("tile", f"the bundle ends within entry {len(entries)} of {count}")
        entries.append(data[start:stop])
        place = stop
    if place != len(data):
        raise LedgerError(
            "tile", f"there are {len(data) - place} bytes after the {count} entries of the bundle"
        )
    return entries


class TileHashes:
    """The hashes of a tree of `size` leaves, read tile by tile from a source; `reads` counts the tiles.

    Every proof between sizes up to `size` is made of complete subtrees, so of hashes that stand in these
    tiles. Nothing here is believed of the source: a proof is worth what its verification says.
    """

    def __init__(self, source: TileSource, size: int, *, cached: int = _CACHED) -> None:
        self.size = size
        self.reads = 0
        self._source = source
        self._limit = cached
        self._tiles: dict[tuple[int, int], bytes] = {}

    def tile(self, level: int, number: int) -> bytes:
        """The tile as wide as this tree has it.

        Raises: LedgerError(tile), and what the source raises.
        """
        found = self._tiles.pop((level, number), None)
        if found is None:
            width = tile_width(level, number, self.size)
            if width <= 0:
                raise LedgerError("tile", f"a tree of {self.size} has no tile {level}/{number}")
            found = self._source.tile(level, number, width)
            self.reads += 1
            if len(found) != width * HASH_SIZE:
                raise LedgerError(
                    "tile",
                    f"the tile {level}/{number} has another length",
                    expected=f"{width * HASH_SIZE} bytes",
                    found=f"{len(found)}",
                )
            if len(self._tiles) >= self._limit:
                del self._tiles[next(iter(self._tiles))]  # the one not asked for the longest
        self._tiles[level, number] = found
        return found

    def require_above(self, level: int, number: int) -> None:
        """Holds a full tile against its hash in the tile above: with the root, that binds every tile of the tree.

        Raises: LedgerError(tile).
        """
        if complete_root(split_tile(self.tile(level, number))) != self.node((HEIGHT * (level + 1), number)):
            raise LedgerError("tile", f"the hash tile {level}/{number} is not what the one above it says")

    def node(self, node: Node) -> bytes:
        """The hash of a complete subtree, named as in `tree`."""
        level, number = node
        height, rest = level // HEIGHT, level % HEIGHT
        first = number << rest
        start = first % WIDTH
        hashes = split_tile(self.tile(height, first // WIDTH))[start : start + (1 << rest)]
        if len(hashes) != 1 << rest:
            raise LedgerError("tile", f"a tree of {self.size} has no complete subtree {level}/{number}")
        return complete_root(hashes)

    def edge(self, size: int | None = None) -> list[bytes]:
        """The roots of the complete subtrees along the right edge, as `tree.Edge` takes them."""
        return [self.node(node) for node in edge_nodes(self._bounded(size))]

    def root(self, size: int | None = None) -> bytes:
        """The root of the tree as it was at this size, or as it is."""
        nodes = edge_nodes(self._bounded(size))
        return self._fold([nodes])[0] if nodes else EMPTY_ROOT

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """The inclusion proof of an entry in the tree of this size (SPEC L-32).

        Raises: LedgerError(inclusion, tile).
        """
        return self._fold(inclusion_nodes(index, self._bounded(size)))

    def consistency(self, old: int, new: int | None = None) -> list[bytes]:
        """The consistency proof between two sizes (SPEC L-33).

        Raises: LedgerError(consistency, tile).
        """
        return self._fold(consistency_nodes(old, self._bounded(new)))

    def _bounded(self, size: int | None) -> int:
        if size is not None and not 0 <= size <= self.size:
            raise LedgerError("tile", f"the tree has {self.size} leaves, not {size}")
        return self.size if size is None else size

    def _fold(self, pieces: Sequence[Sequence[Node]]) -> list[bytes]:
        return fold_proof(pieces, {node: self.node(node) for piece in pieces for node in piece})
