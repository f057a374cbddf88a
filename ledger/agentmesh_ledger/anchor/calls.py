"""What is said to the contract and what it says, as bytes: the little of the ABI that it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agentmesh_ledger.anchor.chain import Chain, Log
from agentmesh_ledger.anchor.chain_order import Head
from agentmesh_ledger.anchor.contract import CHECKPOINT, contract
from agentmesh_ledger.anchor.journal import Target
from agentmesh_ledger.anchor.keccak import keccak256
from agentmesh_ledger.checks import first_link
from agentmesh_ledger.errors import LedgerError

_ANCHOR: Final = keccak256(b"anchor(bytes32,uint64,bytes32)")[:4]
_SETTLED: Final = keccak256(b"anchor_settled(bytes32,uint64,bytes32,bytes32)")[:4]
_HEAD: Final = keccak256(b"head(address,bytes32)")[:4]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnChain:
    """A checkpoint that the contract logged: the root of the first `size` entries, by which transaction, in which block."""

    size: int
    root: bytes
    tx: str
    block: int


def anchor_call(origin: str, size: int, root: bytes, settlement: bytes | None) -> bytes:
    """The call that anchors a checkpoint, with the root of balances beside it where there is one."""
    words = first_link(origin) + size.to_bytes(32, "big") + root
    return _ANCHOR + words if settlement is None else _SETTLED + words + settlement


def read_head(chain: Chain, target: Target, origin: str) -> Head:
    """What the contract holds for this sender and log.

    Raises: LedgerError(node).
    """
    told = chain.call(target.contract, _HEAD + _word(target.sender) + first_link(origin))
    if len(told) != 64:
        raise LedgerError("node", f"the node at {chain.place} gives a head of {len(told)} bytes")
    return Head(size=int.from_bytes(told[:32], "big"), order=int.from_bytes(told[32:], "big"))


def is_ours(chain: Chain, address: str) -> bool:
    """Whether the code at this address is that of the package's contract, to the byte.

    Raises: LedgerError(node).
    """
    return chain.code(address) == contract().runtime


def checkpoint_topics(target: Target, origin: str) -> tuple[str, ...]:
    """The topics of the events by which the contract tells of this sender's checkpoints of this log."""
    return (_topic(CHECKPOINT), _topic(_word(target.sender)), _topic(first_link(origin)))


def checkpoints(logs: tuple[Log, ...], target: Target, origin: str) -> tuple[OnChain, ...]:
    """Those of the events that are checkpoints of this sender and log, logged by the contract; oldest first."""
    topics = checkpoint_topics(target, origin)
    return tuple(
        OnChain(size=int.from_bytes(log.data[:32], "big"), root=log.data[32:], tx=log.tx, block=log.block)
        for log in logs
        if log.address == target.contract and log.topics == topics and len(log.data) == 64
    )


def _word(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])


def _topic(word: bytes) -> str:
    return f"0x{word.hex()}"
