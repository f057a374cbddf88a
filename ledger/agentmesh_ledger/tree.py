"""The RFC 6962 Merkle tree: an incremental root, proofs made and proofs checked.

A node is named by (level, number): level 0 are the leaf hashes, and node (k, n) covers the leaves
n * 2^k to (n + 1) * 2^k. Only complete nodes have names; a ragged right edge is folded from them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NewType, TypeAlias

from agentmesh_ledger.errors import LedgerError

LeafHash = NewType("LeafHash", bytes)
Node: TypeAlias = tuple[int, int]

HASH_SIZE: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
MAX_PROOF: Final = 63


def leaf_hash(entry: bytes) -> LeafHash:
    """SHA-256(0x00 || entry) (SPEC L-30)."""
    return LeafHash(hashlib.sha256(b"\x00" + entry).digest())


def parent(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right) (SPEC L-30)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Edge:
    """The hashes along the right edge of a growing tree: enough for its root and for every later append.

    `hashes` are the roots of the complete subtrees that make up the tree, largest first: one for each set
    bit of `size`. An append costs O(log n) at worst and O(1) on average.
    """

    __slots__ = ("_hashes", "_size")

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        if size < 0 or size.bit_count() != len(hashes) or any(len(each) != HASH_SIZE for each in hashes):
            raise LedgerError("root", "the stored edge of the tree does not fit its size")
        self._size = size
        self._hashes = list(hashes)

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return self._size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The complete subtrees' roots, largest first."""
        return tuple(self._hashes)

    def append(self, leaf: bytes) -> None:
        """Adds one leaf hash."""
        node, size = leaf, self._size
        while size & 1:
            node = parent(self._hashes.pop(), node)
            size >>= 1
        self._hashes.append(node)
        self._size += 1

    def extend(self, count: int, roots: Sequence[bytes]) -> None:
        """Adds `count` leaves by the roots that `cover_roots` has for them."""
        for (level, _), node in zip(cover(self._size, self._size + count), roots, strict=True):
            size = self._size >> level
            while size & 1:
                node = parent(self._hashes.pop(), node)
                size >>= 1
            self._hashes.append(node)
            self._size += 1 << level

    def root(self) -> bytes:
        """The root as it stands; SHA-256 of nothing for the empty tree (SPEC L-31)."""
        return fold(self._hashes) if self._hashes else EMPTY_ROOT

    def copy(self) -> Edge:
        """A tree of its own that begins as this one."""
        return Edge(self._size, self._hashes)


def fold(hashes: Sequence[bytes]) -> bytes:
    """The root over complete subtrees of falling size, left to right."""
    node = hashes[-1]
    for left in reversed(hashes[:-1]):
        node = parent(left, node)
    return node


def _split(size: int) -> int:
    """The largest power of two below the size."""
    return 1 << ((size - 1).bit_length() - 1)


def _nodes(start: int, stop: int) -> list[Node]:
    """The complete nodes that make up an RFC 6962 subtree of these leaves, left to right."""
    found: list[Node] = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        found.append((level, start >> level))
        start += 1 << level
    return found


def edge_nodes(size: int) -> list[Node]:
    """The complete subtrees that make up a tree of this size, largest first: the places of `Edge.hashes`."""
    return _nodes(0, size)


def cover(start: int, stop: int) -> list[Node]:
    """The fewest complete nodes that have these leaves and no other, left to right."""
    found: list[Node] = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)  # a node begins at a multiple of its size
        found.append((level, start >> level))
        start += 1 << level
    return found


def cover_roots(start: int, leaves: Sequence[bytes]) -> list[bytes]:
    """The hashes of the nodes of `cover` over these leaf hashes, the first of which is leaf `start` of its tree."""
    return [
        complete_root(leaves[(number << level) - start : ((number + 1) << level) - start])
        for level, number in cover(start, start + len(leaves))
    ]


def complete_root(hashes: Sequence[bytes]) -> bytes:
    """The root of a complete subtree from the 2^k hashes of one of its levels, left to right."""
    row = list(hashes)
    if not row or len(row) & (len(row) - 1):
        raise LedgerError("root", f"{len(row)} hashes make no complete subtree")
    while len(row) > 1:
        row = [
            hashlib.sha256(b"\x01" + left + right).digest()
            for left, right in zip(row[::2], row[1::2], strict=True)
        ]
    return row[0]


def inclusion_nodes(index: int, size: int) -> list[list[Node]]:
    """What an inclusion proof is made of: for each of its hashes, leaf to root, the nodes to fold."""
    if not 0 <= index < size:
        raise LedgerError("inclusion", f"there is no entry {index} in a tree of {size}")
    siblings: list[list[Node]] = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            siblings.append(_nodes(middle, stop))
            stop = middle
        else:
            siblings.append(_nodes(start, middle))
            start = middle
    return siblings[::-1]


def consistency_nodes(old: int, new: int) -> list[list[Node]]:
    """What a consistency proof between two sizes is made of (RFC 6962 2.1.2)."""
    if not 0 <= old <= new:
        raise LedgerError("consistency", f"a tree of {new} cannot continue one of {old}")
    if old in (0, new):
        return []
    pieces: list[list[Node]] = []
    start, stop, whole = 0, new, True
    while old != stop:
        middle = start + _split(stop - start)
        if old <= middle:
            pieces.append(_nodes(middle, stop))
            stop = middle
        else:
            pieces.append(_nodes(start, middle))
            start, whole = middle, False
    if not whole:
        pieces.append(_nodes(start, stop))
    return pieces[::-1]


def fold_proof(pieces: Sequence[Sequence[Node]], hashes: Mapping[Node, bytes]) -> list[bytes]:
    """The proof from the hashes of the nodes it is made of."""
    return [fold([hashes[node] for node in piece]) for piece in pieces]


def collect(wanted: set[Node], leaves: Iterable[bytes]) -> dict[Node, bytes]:
    """The hashes of the wanted nodes in one pass over the leaf hashes; memory grows with what is wanted."""
    found: dict[Node, bytes] = {}
    stack: list[bytes] = []
    for index, leaf in enumerate(leaves):
        node, level = leaf, 0
        if (0, index) in wanted:
            found[0, index] = leaf
        while (index >> level) & 1:
            node = parent(stack.pop(), node)
            level += 1
            if (level, index >> level) in wanted:
                found[level, index >> level] = node
        stack.append(node)
    return found


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Shows that the leaf stands at this index of the tree with this root (RFC 9162 2.1.3.2, SPEC L-32).

    Raises: LedgerError(inclusion).
    """
    if not 0 <= index < size or any(len(each) != HASH_SIZE for each in (leaf, root, *proof)):
        raise LedgerError("inclusion", f"no inclusion proof fits entry {index} in a tree of {size}")
    low, high, node = index, size - 1, leaf
    for sibling in proof:
        if high == 0:
            raise LedgerError("inclusion", "the inclusion proof is too long")
        if low & 1 or low == high:
            node = parent(sibling, node)
            while not low & 1 and low:
                low, high = low >> 1, high >> 1
        else:
            node = parent(node, sibling)
        low, high = low >> 1, high >> 1
    if high != 0 or node != root:
        raise LedgerError(
            "inclusion",
            "the inclusion proof does not lead to the checkpoint's root",
            expected=root.hex(),
            found=node.hex(),
        )


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Shows that the new tree begins with the whole old one (RFC 9162 2.1.4.2, SPEC L-33).

    From size 0 the proof is empty and the old root is that of the empty tree, as C2SP's witnesses have it.
    Raises: LedgerError(consistency).
    """
    if not 0 <= old <= new or any(len(each) != HASH_SIZE for each in (old_root, new_root, *proof)):
        raise LedgerError("consistency", f"no consistency proof fits trees of {old} and {new}")
    if old in (0, new):
        same = old_root == (EMPTY_ROOT if old == 0 else new_root)
        if proof or not same or (new == 0 and new_root != EMPTY_ROOT):
            raise LedgerError("consistency", f"the trees of {old} and {new} do not agree")
        return
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        raise LedgerError("consistency", "the consistency proof is empty")
    low, high = old - 1, new - 1
    while low & 1:
        low, high = low >> 1, high >> 1
    first = second = path[0]
    for node in path[1:]:
        if high == 0:
            raise LedgerError("consistency", "the consistency proof is too long")
        if low & 1 or low == high:
            first, second = parent(node, first), parent(node, second)
            while not low & 1 and low:
                low, high = low >> 1, high >> 1
        else:
            second = parent(second, node)
        low, high = low >> 1, high >> 1
    if high != 0 or first != old_root or second != new_root:
        raise LedgerError("consistency", f"the tree of {new} does not continue the tree of {old}")
