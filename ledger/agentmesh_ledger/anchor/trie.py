"""The Merkle-Patricia trie under the roots in a block's header: a value proved by the nodes on its path, and made again.

https://ethereum.org/en/developers/docs/data-structures-and-encoding/patricia-merkle-trie/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from agentmesh_ledger.anchor.keccak import keccak256
from agentmesh_ledger.anchor.rlp import Item, as_bytes, decode_list, encode
from agentmesh_ledger.errors import LedgerError

EMPTY_ROOT: Final = keccak256(b"\x80")  # of a trie with nothing in it
_HASHED: Final = (
    32  # bytes: a node of so many or more is named by its hash, a shorter one stands in its parent
)


def verify_trie(root: bytes, key: bytes, nodes: Sequence[bytes]) -> bytes:
    """The value that the trie of this root has at the key: `nodes` are those that are hashed on the way, from the root.

    Raises: LedgerError(anchor) for any node that is missing, changed, too many or out of place, and where the trie
        has nothing at the key.
    """
    path, at, taken = _nibbles(key), 0, 0
    reference: Item = root
    while True:
        if isinstance(reference, bytes):
            node = _hashed(reference, nodes, taken)
            taken += 1
        else:
            node = _inline(reference)
        if len(node) not in (2, 17):
            raise LedgerError("anchor", f"a node of a trie does not have {len(node)} items")
        if len(node) == 17 and at < len(path):
            reference, at = node[path[at]], at + 1
            continue
        value = node[-1]
        if len(node) == 2:
            part, ends = _path(as_bytes(node[0], "the path of a trie's node"))
            if path[at : at + len(part)] != part or (ends and at + len(part) != len(path)):
                raise LedgerError("anchor", "the trie has nothing at this place")
            if not ends:
                reference, at = value, at + len(part)
                continue
        if taken != len(nodes):
            raise LedgerError("anchor", f"{len(nodes) - taken} nodes of the trie are not on the path")
        found = as_bytes(value, "a value of a trie")
        if not found:
            raise LedgerError("anchor", "the trie has nothing at this place")
        return found


def prove_trie(values: Mapping[bytes, bytes], key: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """The root of the trie of these values, and the nodes that prove the one at the key, as `verify_trie` wants them.

    No key may be the beginning of another, and no value empty. Raises: KeyError.
    """
    if key not in values:
        raise KeyError(key)
    pairs = sorted((_nibbles(each), value) for each, value in values.items())
    kept: list[bytes] = []
    node = encode(_made(pairs, 0, _nibbles(key), kept))
    return keccak256(node), (node, *reversed(kept))


def _hashed(digest: bytes, nodes: Sequence[bytes], place: int) -> tuple[Item, ...]:
    """The node that this hash names, which has to be the next one."""
    if not digest:
        raise LedgerError("anchor", "the trie has nothing at this place")
    if len(digest) != 32:
        raise LedgerError("anchor", "a trie's node is named by something that is no hash")
    if place >= len(nodes):
        raise LedgerError("anchor", "a node of the trie is missing")
    if keccak256(nodes[place]) != digest:
        raise LedgerError("anchor", f"node {place} of the trie is not the one that its parent names")
    # Only the root is hashed however short it is.
    if place and len(nodes[place]) < _HASHED:
        raise LedgerError("anchor", f"node {place} of the trie is too short to be hashed")
    return decode_list(nodes[place], "a node of the trie")


def _inline(node: tuple[Item, ...]) -> tuple[Item, ...]:
    if len(encode(node)) >= _HASHED:
        raise LedgerError("anchor", "a node of the trie is too long to stand in its parent")
    return node


def _nibbles(key: bytes) -> bytes:
    """The key's half bytes, one a byte."""
    return bytes(half for each in key for half in (each >> 4, each & 15))


def _path(compact: bytes) -> tuple[bytes, bool]:
    """The half bytes of a node's path, and whether the trie ends there (a leaf)."""
    halves = _nibbles(compact)
    # The first half byte has two flags: 2 for a leaf, 1 for an odd number of halves, without which a 0 is filled in.
    if not halves or halves[0] > 3 or (not halves[0] & 1 and halves[1]):
        raise LedgerError("anchor", "the path of a trie's node is malformed")
    path, ends = halves[1 if halves[0] & 1 else 2 :], halves[0] >= 2
    if not path and not ends:
        raise LedgerError("anchor", "the path of a trie's node is empty")
    return path, ends


def _compact(path: bytes, *, ends: bool) -> bytes:
    """The form that `_path` reads."""
    flag = 2 * ends
    halves = bytes((flag + 1,)) + path if len(path) % 2 else bytes((flag, 0)) + path
    return bytes(one << 4 | other for one, other in zip(halves[::2], halves[1::2], strict=True))


def _made(
    pairs: Sequence[tuple[bytes, bytes]], at: int, wanted: bytes, kept: list[bytes]
) -> tuple[Item, ...]:
    """The node of these values, which are alike up to `at`; `kept` gets the hashed ones below it on the wanted path."""
    first, last = pairs[0][0], pairs[-1][0]
    if len(pairs) == 1:
        return _compact(first[at:], ends=True), pairs[0][1]
    # Sorted, so that what the first and the last have in common they all have.
    shared = at
    while first[shared] == last[shared]:
        shared += 1
    if shared > at:
        return _compact(first[at:shared], ends=False), _child(pairs, shared, wanted, kept)
    children: list[Item] = []
    for half in range(16):
        below = [pair for pair in pairs if pair[0][at] == half]
        children.append(_child(below, at + 1, wanted, kept) if below else b"")
    return (*children, b"")


def _child(pairs: Sequence[tuple[bytes, bytes]], at: int, wanted: bytes, kept: list[bytes]) -> Item:
    """How a parent names the node of these values."""
    node = _made(pairs, at, wanted, kept)
    data = encode(node)
    if len(data) < _HASHED:
        return node
    if any(path == wanted for path, _ in pairs):
        kept.append(data)
    return keccak256(data)
