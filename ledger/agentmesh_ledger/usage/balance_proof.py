"""One balance proved in one file, offline: leaf, path, root, and what says the root (SPEC L-157 to L-159).

The root is either a log's own word, a `settlement` in it, or was published on a chain beside a checkpoint, which an `anchor`
in the log names. Either entry comes with a proof that it stands in the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agentmesh_ledger.anchor.evidence import Anchored, verify_evidence
from agentmesh_ledger.encoding import decode_hash
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import JsonValue, canonical, parse
from agentmesh_ledger.message import LOG_DIALOGUE, Message
from agentmesh_ledger.policy import Policy
from agentmesh_ledger.proof import ProofEvidence, verify_proof
from agentmesh_ledger.tree import MAX_PROOF, leaf_hash, verify_inclusion
from agentmesh_ledger.usage.balances import Balance
from agentmesh_ledger.usage.settlement import SETTLEMENT, Settlement, read_leaf

ANCHOR: Final = "anchor"
PROOF_FORMAT: Final = "agentmesh-balance-proof/v1"
MAX_BALANCE_PROOF: Final = 2 * 1024 * 1024
"""Bytes of the file: a proof of an entry, evidence of a chain, and what JSON adds to them."""

_FIELDS: Final = frozenset({"count", "entry", "format", "index", "leaf", "proof", "settlement", "size"})
_TOLD: Final = ("chain", "contract", "sender", "block", "block_hash")


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceEvidence:
    """A balance after the first `size` entries of a log, as it stands under the root of the balances.

    How many balances there are is not told: of two numbers one path may lead to the same root. `proof` is the entry that says the root, and the checkpoint it is under; `anchored` what a chain says of it, None
    where the root is the log's own word.
    """

    origin: str
    balance: Balance
    size: int
    root: str
    proof: ProofEvidence
    anchored: Anchored | None


def write_balance_proof(
    settlement: Settlement,
    index: int,
    *,
    entry: str,
    keys: Sequence[str],
    evidence: JsonValue = None,
) -> bytes:
    """The file that proves a leaf of the settlement, verified before it is handed out.

    `entry` is the `.tlog-proof` of the entry that says the root, with the entry in it; `evidence` what was published
    on a chain, where that entry is an `anchor`; `keys` are the log's vkeys.
    Raises: LedgerError.
    """
    value: dict[str, JsonValue] = {
        "count": len(settlement.leaves),
        "entry": entry,
        "format": PROOF_FORMAT,
        "index": index,
        "leaf": parse(settlement.leaves[index]),
        "proof": [each.hex() for each in settlement.proof(index)],
        "settlement": settlement.root().hex(),
        "size": settlement.size,
    }
    if evidence is not None:
        value["evidence"] = evidence
    data = canonical(value) + b"\n"
    verify_balance(data, keys=keys)
    return data


def verify_balance(
    data: bytes,
    *,
    keys: Sequence[str] = (),
    policy: Policy | None = None,
    blocks: frozenset[str] = frozenset(),
) -> BalanceEvidence:
    """What a file proves of a balance. It needs no ledger and asks nobody.

    `keys` are vkeys of the log; without them the policy must name it. `blocks` are those that the auditor looked up: in one of them
    the root must then have been published.
    Raises: LedgerError, and nothing else, whatever the bytes.
    """
    value = _parsed(data)
    origin, balance = read_leaf(value["leaf"])
    index, count, size = (_natural(value, name) for name in ("index", "count", "size"))
    root = _hash(value["settlement"], "the settlement's root")
    leaf = leaf_hash(canonical(value["leaf"]))
    verify_inclusion(index, count, leaf, _hashes(value["proof"]), root)
    text = value["entry"]
    if not isinstance(text, str):
        raise LedgerError("usage", "the proof of the entry is not a text")
    proof = verify_proof(text, keys=keys, policy=policy)
    if proof.record is None or proof.origin != origin:
        raise LedgerError("usage", "the entry that says the root is of another log than the balance")
    message = proof.record.message
    if message.dialogue != LOG_DIALOGUE:
        raise LedgerError("usage", "the entry that says the root does not stand in the dialogue log")
    anchored: Anchored | None = None
    if "evidence" in value:
        anchored = _anchored(message, value["evidence"], size, root, blocks)
    else:
        _require_settlement(message, size, root)
    if blocks and (anchored is None or not anchored.pinned):
        raise LedgerError(
            "anchor",
            "the root of the balances was not published in a block that you named",
            hint=None if anchored else "It is the log's own word: no anchor is shown at all",
        )
    return BalanceEvidence(
        origin=origin,
        balance=balance,
        size=size,
        root=root.hex(),
        proof=proof,
        anchored=anchored,
    )


def is_settlement(message: Message, size: int, root: bytes) -> bool:
    """Whether the message says that this is the root of balances after so many entries (SPEC L-157)."""
    if message.kind != SETTLEMENT or size > message.index:
        return False
    return _same(message.facts, {"balances": root.hex(), "size": size})


def _require_settlement(message: Message, size: int, root: bytes) -> None:
    if not is_settlement(message, size, root):
        raise LedgerError("usage", "the entry does not say that this is the root of the balances")


def _anchored(
    message: Message, evidence: JsonValue, size: int, root: bytes, blocks: frozenset[str]
) -> Anchored:
    """What the chain says, held against what the log says of it: anybody may publish anything about any log."""
    facts = message.facts
    contract = facts.get("contract")
    if message.kind != ANCHOR or not _same(facts.get("size"), size) or not isinstance(contract, str):
        raise LedgerError("usage", "the entry is no anchor of the log at this size")
    if (
        not 0 < size <= message.index
    ):  # whoever has the account may publish any size, and the log's key may say so
        raise LedgerError("usage", "the anchor is of more entries than stand before it")
    found = verify_evidence(
        evidence,
        origin=message.log,
        size=size,
        root=_hash(facts.get("root"), "the anchor's root"),
        blocks=blocks,
        contract=contract,
    )
    said = {name: facts.get(name) for name in _TOLD} | {"contract": contract.lower()}
    shows: dict[str, JsonValue] = {name: getattr(found, name) for name in _TOLD}
    sender = said["sender"]
    if not _same({**said, "sender": sender.lower() if isinstance(sender, str) else sender}, shows):
        raise LedgerError("anchor", "the anchor that the log recorded is another than the evidence shows")
    if found.settlement != root:
        raise LedgerError("anchor", "what was published beside the checkpoint is not this root of balances")
    return found


def _same(one: JsonValue, other: JsonValue) -> bool:
    """Whether both are the same JSON; to Python true is 1."""
    return canonical(one) == canonical(other)


def _parsed(data: bytes) -> Mapping[str, JsonValue]:
    if len(data) > MAX_BALANCE_PROOF or not data.endswith(b"\n"):
        raise LedgerError("usage", f"the file is not one line of at most {MAX_BALANCE_PROOF} bytes")
    value = parse(data[:-1])
    if not isinstance(value, Mapping) or not _FIELDS <= value.keys() <= _FIELDS | {"evidence"}:
        raise LedgerError("usage", f"the fields of the proof are not {', '.join(sorted(_FIELDS))}")
    if value["format"] != PROOF_FORMAT:
        raise LedgerError("usage", f"the file is not of the format {PROOF_FORMAT}")
    return value


def _natural(value: Mapping[str, JsonValue], name: str) -> int:
    found = value[name]
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise LedgerError("usage", f"{name} of the proof is not a whole number")
    return found


def _hashes(value: JsonValue) -> list[bytes]:
    if not isinstance(value, list) or len(value) > MAX_PROOF:
        raise LedgerError("usage", f"the proof's path is not a list of at most {MAX_PROOF} hashes")
    return [_hash(each, "a hash of the proof's path") for each in value]


def _hash(value: JsonValue, what: str) -> bytes:
    if not isinstance(value, str):
        raise LedgerError("usage", f"{what} is not a text")
    return decode_hash(value, "usage", what)
