"""The header of a block of an EVM chain: what its hash is of, read by position, and made again of a node's fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agentmesh_ledger.anchor.keccak import keccak256
from agentmesh_ledger.anchor.rlp import Item, as_bytes, as_integer, decode_list, encode, encode_integer
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import MAX_INTEGER

# The fields of every header, by their names in JSON-RPC: the bytes of each, 0 for a number, None for any length.
_FIELDS: Final[tuple[tuple[str, int | None], ...]] = (
    ("parentHash", 32),
    ("sha3Uncles", 32),
    ("miner", 20),
    ("stateRoot", 32),
    ("transactionsRoot", 32),
    ("receiptsRoot", 32),
    ("logsBloom", 256),
    ("difficulty", 0),
    ("number", 0),
    ("gasLimit", 0),
    ("gasUsed", 0),
    ("timestamp", 0),
    ("extraData", None),
    ("mixHash", 32),
    ("nonce", 8),
)
# What forks have added behind them, each where all before it are there: EIP-1559, 4895, 4844, 4788, 7685, 7928, 7843.
_ADDED: Final[tuple[tuple[str, int], ...]] = (
    ("baseFeePerGas", 0),
    ("withdrawalsRoot", 32),
    ("blobGasUsed", 0),
    ("excessBlobGas", 0),
    ("parentBeaconBlockRoot", 32),
    ("requestsHash", 32),
    ("blockAccessListHash", 32),
    ("slotNumber", 0),
)
_MAX_FIELDS: Final = 64  # there is room for forks to come


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What an anchor needs of a header. `time` is in seconds since 1970, as the chain has it."""

    hash: bytes
    number: int
    time: int
    receipts_root: bytes


def parse_header(data: bytes) -> Header:
    """The header in these bytes, whose hash is that of the bytes as they are.

    Fields behind the first fifteen may be any, so that headers of forks to come are read.
    Raises: LedgerError(anchor).
    """
    fields = decode_list(data, "a block's header")
    if not len(_FIELDS) <= len(fields) <= _MAX_FIELDS:
        raise LedgerError("anchor", f"a block's header does not have {len(fields)} fields")
    for (name, length), field in zip(_FIELDS, fields, strict=False):
        if length == 0:
            as_integer(field, f"{name} of the header", 256 if name == "difficulty" else 64)
        else:
            as_bytes(field, f"{name} of the header", length)
    for field in fields[len(_FIELDS) :]:
        as_bytes(field, "a field of the header")
    number, time = as_integer(fields[8], "number"), as_integer(fields[11], "timestamp")
    if max(number, time) > MAX_INTEGER:
        raise LedgerError("anchor", "the number or the time of a block is beyond 2^53-1")
    return Header(
        hash=keccak256(data),
        number=number,
        time=time,
        receipts_root=as_bytes(fields[5], "receiptsRoot"),
    )


def write_header(block: Mapping[str, object]) -> bytes:
    """The bytes of which the block's `hash` is the hash, of its fields as `eth_getBlockByNumber` tells them.

    Numbers and bytes may be hex strings, or int and bytes as web3 makes them of those.
    Raises: LedgerError(node) where the fields do not make that hash: the node lies, or the chain's headers have others.
    """
    fields: list[Item] = []
    for name, length in (*_FIELDS, *_ADDED):
        told = block.get(name)
        if told is None and len(fields) >= len(_FIELDS):
            break
        fields.append(
            encode_integer(told_integer(told, name)) if length == 0 else told_bytes(told, name, length)
        )
    data = encode(fields)
    if keccak256(data) != told_bytes(block.get("hash"), "hash", 32):
        raise LedgerError(
            "node",
            "the node's block is not the one that its hash names, or this chain's headers have fields unknown here",
        )
    return data


def told_bytes(value: object, name: str, length: int | None = None) -> bytes:
    """Bytes as a node tells them. Raises: LedgerError(node)."""
    try:
        data = bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else value
    except ValueError:
        data = None
    if not isinstance(data, bytes) or (length is not None and len(data) != length):
        raise LedgerError("node", f"the node told no {name}, or a malformed one")
    return bytes(data)


def told_integer(value: object, name: str) -> int:
    """A natural number as a node tells it. Raises: LedgerError(node)."""
    try:
        number = int(value, 16) if isinstance(value, str) and value.startswith("0x") else value
    except ValueError:
        number = None
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**256:
        raise LedgerError("node", f"the node told no {name}, or a malformed one")
    return number
