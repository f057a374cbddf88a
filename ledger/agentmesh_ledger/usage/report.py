"""What is told of a proved balance, for people and for programs."""

from __future__ import annotations

from typing import Final

from agentmesh_ledger.anchor.evidence import Anchored
from agentmesh_ledger.report import witness_lines, witnesses_json
from agentmesh_ledger.text import moment, shown
from agentmesh_ledger.usage.balance_proof import BalanceEvidence
from agentmesh_ledger.usage.receipt import MICRO
from agentmesh_ledger.verify import NO_POLICY

_OWN_WORD: Final = "no: the root of the balances is the log's own word"


def amount(micro: int) -> str:
    """Micro-units as units, every digit of them."""
    sign = "-" if micro < 0 else ""
    whole, rest = divmod(abs(micro), MICRO)
    return f"{sign}{whole}.{rest:06d}"


def balance_text(found: BalanceEvidence, subject: str) -> str:
    """The report on a balance, for people."""
    balance, proof = found.balance, found.proof
    message = "entry" if found.anchored is None else "anchor"
    lines = [
        f"verified   {shown(subject)}",
        f"log        {found.origin}",
        *(f"log key    {key}" for key in proof.log_keys),
        f"agent      {balance.agent}",
        f"balance    {amount(balance.net)} {balance.unit}: {amount(balance.earned)} earned, {amount(balance.spent)} spent",
        f"as of      the first {found.size} entries of the log",
        f"root       {found.root} of the balances, by the {message} {proof.index} of {proof.tree_size}",
        f"anchored   {_OWN_WORD if found.anchored is None else _where(found.anchored)}",
        f"policy     {NO_POLICY if proof.policy is None else proof.policy}",
        *witness_lines(proof.policy),
        "not shown  the receipts: who has the log or its transcript recomputes the root from them;"
        " that what they bill was worth it; anything after those entries",
    ]
    return "\n".join(lines)


def balance_json(found: BalanceEvidence, subject: str) -> dict[str, object]:
    """The report on a balance, for programs; amounts are whole micro-units."""
    balance, proof, anchored = found.balance, found.proof, found.anchored
    return {
        "verified": True,
        "file": subject,
        "origin": found.origin,
        "agent": balance.agent,
        "unit": balance.unit,
        "earned": balance.earned,
        "spent": balance.spent,
        "balance": balance.net,
        "size": found.size,
        "root": found.root,
        "index": proof.index,
        "tree_size": proof.tree_size,
        "log_keys": list(proof.log_keys),
        "policy": NO_POLICY if proof.policy is None else str(proof.policy),
        "witnesses": witnesses_json(proof.policy),
        "anchored": None
        if anchored is None
        else {
            "chain": anchored.chain,
            "contract": anchored.contract,
            "sender": anchored.sender,
            "block": anchored.block,
            "block_hash": anchored.block_hash,
            "time": anchored.time,
            "pinned": anchored.pinned,
        },
    }


def _where(found: Anchored) -> str:
    when = "" if found.time is None else f" of {moment(found.time)}"
    word = "the block you named" if found.pinned else "the file's own word: name the block with --block"
    # No block says its chain, and any contract can log any sender.
    return (
        f"block {found.block} {found.block_hash}{when} ({word}), by the log's word on chain {found.chain},"
        f" in the contract {found.contract} for {found.sender}"
    )
