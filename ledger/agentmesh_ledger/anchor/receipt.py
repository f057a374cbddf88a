"""Evidence made of a block and its receipts as a node tells them.

The trie is built here, so that any node will do: few of them give proofs of receipts. Nothing that the node says is
believed: a block that does not add up to its own hash and its own root of receipts is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from agentmesh_ledger.anchor.event import parse_event, parse_receipt
from agentmesh_ledger.anchor.evidence import EVM_RECEIPT, verify_evidence
from agentmesh_ledger.anchor.evm_header import parse_header, told_bytes, told_integer, write_header
from agentmesh_ledger.anchor.rlp import Item, encode, encode_integer
from agentmesh_ledger.anchor.trie import prove_trie
from agentmesh_ledger.checks import first_link
from agentmesh_ledger.encoding import encode64
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import JsonValue

# What rollups that are built like Optimism add to the receipts of deposits, and hash.
_DEPOSIT: Final = 0x7E
_DEPOSIT_FIELDS: Final = ("depositNonce", "depositReceiptVersion")


def evidence_from_receipts(
    block: Mapping[str, object] | bytes,
    receipts: Sequence[Mapping[str, object]],
    *,
    transaction: str | bytes,
    chain: int,
    origin: str,
    size: int,
    root: bytes,
    contract: str | None = None,
) -> dict[str, JsonValue]:
    """The evidence that this transaction published the checkpoint, verified before it is returned.

    `block` is what `eth_getBlockByHash` tells, as it is or as web3 gives it, or the header's own bytes (then the caller
    has held their hash against the one that was asked for); `receipts` are all of the block's, in any order.
    Raises: LedgerError(node) where the node's answers do not fit together; LedgerError(anchor) where the
        transaction has not published the checkpoint.
    """
    header = block if isinstance(block, bytes) else write_header(block)
    named = told_bytes(transaction, "transaction", 32)
    encoded: dict[int, bytes] = {}
    index = None
    for told in receipts:
        place = told_integer(told.get("transactionIndex"), "transactionIndex")
        encoded[place] = write_receipt(told)
        if told_bytes(told.get("transactionHash"), "transactionHash", 32) == named:
            index = place
    if sorted(encoded) != list(range(len(receipts))):
        raise LedgerError("node", "the node's receipts are not all of the block's")
    if index is None:
        raise LedgerError("node", "the node's block does not have the transaction")
    built, nodes = prove_trie({_key(each): data for each, data in encoded.items()}, _key(index))
    if built != parse_header(header).receipts_root:
        raise LedgerError("node", "the node's receipts are not those of the block, or of a form unknown here")
    evidence: dict[str, JsonValue] = {
        "type": EVM_RECEIPT,
        "chain": chain,
        "header": encode64(header),
        "index": index,
        "nodes": [encode64(node) for node in nodes],
        "log": _position(encoded[index], origin, size, root, contract),
    }
    verify_evidence(evidence, origin=origin, size=size, root=root, contract=contract)
    return evidence


def write_receipt(told: Mapping[str, object]) -> bytes:
    """A receipt as the trie of its block has it (EIP-2718, EIP-658; before the latter it had a state's root).

    Raises: LedgerError(node).
    """
    kind = told_integer(told.get("type") or 0, "type")
    if kind >= 0x80:
        raise LedgerError("node", f"the node told a receipt of type {kind}, which there is not")
    if told.get("status") is None:
        outcome = told_bytes(told.get("root"), "status", 32)
    else:
        outcome = encode_integer(told_integer(told["status"], "status"))
    fields: list[Item] = [
        outcome,
        encode_integer(told_integer(told.get("cumulativeGasUsed"), "cumulativeGasUsed")),
        told_bytes(told.get("logsBloom"), "logsBloom", 256),
        tuple(_log(each) for each in _listed(told.get("logs"), "logs")),
    ]
    if kind == _DEPOSIT:
        for name in _DEPOSIT_FIELDS:
            if (value := told.get(name)) is not None:
                fields.append(encode_integer(told_integer(value, name)))
    data = encode(fields)
    return bytes((kind,)) + data if kind else data


def _log(told: object) -> Item:
    if not isinstance(told, Mapping):
        raise LedgerError("node", "the node told a malformed log")
    topics = tuple(told_bytes(each, "topics", 32) for each in _listed(told.get("topics"), "topics"))
    return told_bytes(told.get("address"), "address", 20), topics, told_bytes(told.get("data"), "data")


def _listed(value: object, name: str) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise LedgerError("node", f"the node told no {name}")
    return value


def _key(index: int) -> bytes:
    """Where a receipt stands in the trie."""
    return encode(encode_integer(index))


def _position(receipt: bytes, origin: str, size: int, root: bytes, contract: str | None) -> int:
    """Which of the receipt's logs is the checkpoint."""
    address = None if contract is None else told_bytes(contract, "contract", 20)
    for place, log in enumerate(parse_receipt(receipt)):
        try:
            event = parse_event(log)
        except LedgerError:
            continue  # another contract's event in the same transaction
        said = (event.origin, event.size, event.root) == (first_link(origin), size, root)
        if said and event.kind != "settlement" and address in (None, event.contract):
            return place
    raise LedgerError("anchor", "the transaction did not publish this checkpoint")
