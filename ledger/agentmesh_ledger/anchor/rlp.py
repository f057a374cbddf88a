"""RLP, in which EVM chains write what they hash: each value has one encoding, and every other is refused.

https://ethereum.org/en/developers/docs/data-structures-and-encoding/rlp/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from agentmesh_ledger.errors import LedgerError

Item: TypeAlias = "bytes | tuple[Item, ...]"

# A receipt has lists four deep (receipt, logs, log, topics), and a trie's node no more.
_MAX_DEPTH: Final = 8


def encode(item: bytes | Sequence[Item]) -> bytes:
    """The one encoding of a string of bytes, or of a list of such items."""
    if isinstance(item, bytes):
        return item if len(item) == 1 and item < b"\x80" else _head(0x80, len(item)) + item
    payload = b"".join(map(encode, item))
    return _head(0xC0, len(payload)) + payload


def encode_integer(value: int) -> bytes:
    """The string of bytes that stands for a natural number: big-endian, without leading zeros."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def decode(data: bytes) -> Item:
    """The item of which these bytes are the encoding, whole. Time grows with the bytes.

    Raises: LedgerError(anchor).
    """
    item, end = _item(data, 0, len(data), 1)
    if end != len(data):
        raise LedgerError("anchor", f"{len(data) - end} bytes stand behind an RLP item")
    return item


def decode_list(data: bytes, what: str) -> tuple[Item, ...]:
    """The items of a list; `what` names it in the error.

    Raises: LedgerError(anchor).
    """
    return as_list(decode(data), what)


def as_list(item: Item, what: str) -> tuple[Item, ...]:
    """The item, which has to be a list."""
    if isinstance(item, bytes):
        raise LedgerError("anchor", f"{what} is not a list")
    return item


def as_bytes(item: Item, what: str, length: int | None = None) -> bytes:
    """The item, which has to be a string of bytes, and of this length where one is named."""
    if not isinstance(item, bytes) or (length is not None and len(item) != length):
        raise LedgerError("anchor", f"{what} is not {'bytes' if length is None else f'{length} bytes'}")
    return item


def as_integer(item: Item, what: str, bits: int = 64) -> int:
    """The item, which has to be a natural number in its shortest form."""
    data = as_bytes(item, what)
    if len(data) * 8 > bits or data[:1] == b"\0":
        raise LedgerError("anchor", f"{what} is not a number of at most {bits} bits")
    return int.from_bytes(data, "big")


def _head(base: int, length: int) -> bytes:
    if length < 56:
        return bytes((base + length,))
    size = encode_integer(length)
    return bytes((base + 55 + len(size),)) + size


def _item(data: bytes, start: int, stop: int, depth: int) -> tuple[Item, int]:
    """The item that begins at `start` and where it ends, which is `stop` at most."""
    if start >= stop:
        raise LedgerError("anchor", "RLP ends before its item")
    first = data[start]
    if first < 0x80:
        return data[start : start + 1], start + 1
    base = 0xC0 if first >= 0xC0 else 0x80
    begin, end = _span(data, start, stop, first - base)
    if base == 0x80:
        if end - begin == 1 and data[begin] < 0x80:
            raise LedgerError("anchor", "RLP is not in its shortest form")
        return data[begin:end], end
    if depth > _MAX_DEPTH:
        raise LedgerError("anchor", f"RLP nested deeper than {_MAX_DEPTH}")
    items: list[Item] = []
    while begin < end:
        item, begin = _item(data, begin, end, depth + 1)
        items.append(item)
    return tuple(items), end


def _span(data: bytes, start: int, stop: int, code: int) -> tuple[int, int]:
    """Where the payload lies of an item whose first byte is `code` above its base."""
    begin, length = start + 1, code
    if code > 55:
        begin += code - 55
        size = data[start + 1 : min(begin, stop)]
        length = int.from_bytes(size, "big")
        if size[:1] == b"\0" or length < 56:
            raise LedgerError("anchor", "RLP is not in its shortest form")
    if begin + length > stop:
        raise LedgerError("anchor", "RLP ends before its item")
    return begin, begin + length
