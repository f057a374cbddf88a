"""The evidence that a checkpoint was published on a chain, verified without asking anybody.

What it proves is that a block has it. Whether that block is one of the chain, a file cannot prove: that is for whoever
looks the block up and names it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agentmesh_ledger.anchor.event import Event, parse_event, parse_receipt, settlement_of
from agentmesh_ledger.anchor.evm_header import Header, parse_header
from agentmesh_ledger.anchor.rlp import encode, encode_integer
from agentmesh_ledger.anchor.trie import verify_trie
from agentmesh_ledger.checks import first_link
from agentmesh_ledger.encoding import decode64
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import MAX_INTEGER, JsonValue, canonical
from agentmesh_ledger.text import shown

EVM_RECEIPT: Final = "evm-receipt"
OPENTIMESTAMPS: Final = "opentimestamps"
MAX_EVIDENCE: Final = 256 * 1024  # bytes of its JSON; hashing so much takes a quarter of a second
MAX_NODES: Final = 64

_ADDRESS: Final = re.compile(r"0x[0-9a-f]{40}\Z", re.ASCII)
_RECEIPT_FIELDS: Final = frozenset({"type", "chain", "header", "index", "nodes", "log"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchored:
    """The log's first `size` entries had this root before a block was made.

    `chain` is the evidence's own word: no header says it, but whoever names the block knows the chain. `contract` has
    logged it; `sender` and `settlement`, the root of balances in the same receipt, are that contract's word. `time` is the
    block's, in seconds since 1970. `pinned` says that the block is one that the auditor named; any other
    is the evidence's own word. `note` says in words what is shown.
    """

    type: str
    size: int
    root: bytes
    block: int | None
    block_hash: str
    time: int | None
    chain: int | None
    contract: str | None
    sender: str | None
    settlement: bytes | None
    pinned: bool
    note: str


def verify_evidence(
    value: JsonValue,
    *,
    origin: str,
    size: int,
    root: bytes,
    blocks: frozenset[str] = frozenset(),
    contract: str | None = None,
) -> Anchored:
    """What the evidence shows of this checkpoint.

    `blocks` are the hashes of those that the auditor looked up; `contract` is the address that must have logged it, for
    which the auditor knows the code. Raises: LedgerError(anchor), and nothing else, whatever the value; but
    LedgerError(no_extra) for a timestamp where the extra `ots` is missing, which says nothing against it.
    """
    evidence = _bounded(value)
    if evidence.get("type") == EVM_RECEIPT:
        return _verify_receipt(evidence, origin, size, root, blocks, contract)
    if evidence.get("type") == OPENTIMESTAMPS:
        from agentmesh_ledger.anchor.ots import verify_ots  # most readers have none

        return verify_ots(evidence, size=size, root=root, origin=origin, blocks=blocks)
    kind = evidence.get("type")
    raise LedgerError(
        "anchor", f"{shown(kind if isinstance(kind, str) else 'nothing')!r} is no evidence known here"
    )


def is_pinned(block_hash: str, blocks: frozenset[str]) -> bool:
    """Whether the auditor named this block, with or without `0x` and in either case."""
    plain = block_hash.lower().removeprefix("0x")
    return plain != "" and any(each.lower().removeprefix("0x") == plain for each in blocks)


def _verify_receipt(
    evidence: Mapping[str, JsonValue],
    origin: str,
    size: int,
    root: bytes,
    blocks: frozenset[str],
    contract: str | None,
) -> Anchored:
    """Header, receipt, log: each has to be what the one before says."""
    if set(evidence) != _RECEIPT_FIELDS:
        raise LedgerError("anchor", "the evidence does not have the fields of a receipt's")
    chain = _natural(evidence["chain"], "the chain of the evidence", MAX_INTEGER)
    header = parse_header(_bytes(evidence["header"], "the header"))
    logs = parse_receipt(
        verify_trie(
            header.receipts_root,
            encode(encode_integer(_natural(evidence["index"], "the transaction's index", 2**32))),
            _nodes(evidence["nodes"]),
        )
    )
    place = _natural(evidence["log"], "the position of the log", 2**32)
    if place >= len(logs):
        raise LedgerError(
            "anchor", f"the receipt has {len(logs)} logs, and the evidence names number {place}"
        )
    event = parse_event(logs[place])
    address = "0x" + event.contract.hex()
    _hold(event, origin, size, root)
    if contract is not None and not (_ADDRESS.match(contract.lower()) and contract.lower() == address):
        raise LedgerError(
            "anchor", "another contract has logged it", expected=shown(contract.lower()), found=address
        )
    return Anchored(
        type=EVM_RECEIPT,
        size=size,
        root=root,
        block=header.number,
        block_hash="0x" + header.hash.hex(),
        time=header.time,
        chain=chain,
        contract=address,
        sender="0x" + event.sender.hex(),
        settlement=settlement_of(logs, event),
        pinned=is_pinned(header.hash.hex(), blocks),
        note=_said(event, header, chain, named=contract is not None),
    )


def _hold(event: Event, origin: str, size: int, root: bytes) -> None:
    """The event against the checkpoint that it is to be of."""
    if event.kind == "settlement":
        raise LedgerError("anchor", "the log is the root of balances, and no checkpoint")
    if event.origin != first_link(origin):
        raise LedgerError(
            "anchor",
            "the log is of another origin",
            expected=first_link(origin).hex(),
            found=event.origin.hex(),
        )
    if event.size != size or not size:
        raise LedgerError("anchor", "the log is of another size", expected=str(size), found=str(event.size))
    if event.root != root:
        raise LedgerError("anchor", "the log is of another root", expected=root.hex(), found=event.root.hex())


def _said(event: Event, header: Header, chain: int, *, named: bool) -> str:
    where = f"logged in block {header.number} of chain {chain} for 0x{event.sender.hex()}"
    if event.kind == "announcement":
        return f"{where}, as an announcement: another of the same size may stand beside it"
    if named:
        return f"{where}, by the contract that was named: only larger sizes follow it there"
    return f"{where}, by a contract that was not named: what may follow it there is not known"


def _bounded(value: JsonValue) -> Mapping[str, JsonValue]:
    """The evidence, which is an object of a bounded size."""
    if not isinstance(value, Mapping):
        raise LedgerError("anchor", "evidence is not an object")
    try:
        length = len(canonical(value))
    except LedgerError as error:
        raise LedgerError("anchor", f"evidence is no JSON: {error.message}") from error
    if length > MAX_EVIDENCE:
        raise LedgerError("anchor", f"evidence of {length} bytes; at most {MAX_EVIDENCE} are read")
    return value


def _natural(value: JsonValue, what: str, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise LedgerError("anchor", f"{what} is not a number from 0 to {most}")
    return value


def _bytes(value: JsonValue, what: str) -> bytes:
    if not isinstance(value, str):
        raise LedgerError("anchor", f"{what} is not base64")
    return decode64(value, "anchor", what)


def _nodes(value: JsonValue) -> list[bytes]:
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MAX_NODES:
        raise LedgerError("anchor", f"the nodes of the evidence are not 1 to {MAX_NODES}")
    return [_bytes(each, "a node of the evidence") for each in value]
