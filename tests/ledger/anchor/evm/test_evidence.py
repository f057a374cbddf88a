"""A checkpoint in a block of a real node is proved by the block's header and the path to its receipt, and by nothing less."""

from __future__ import annotations

import hashlib
from typing import Any

from agentmesh_ledger.anchor.evidence import verify_evidence
from agentmesh_ledger.anchor.receipt import evidence_from_receipts

ORIGIN = "agentmesh.local/desk"
LINK = hashlib.sha256(ORIGIN.encode()).digest()
ROOT = hashlib.sha256(b"root").digest()
BALANCES = hashlib.sha256(b"balances").digest()
SETTLED = "anchor_settled(bytes32,uint64,bytes32,bytes32)"


def test_an_anchor_is_proved_by_header_and_receipt(chain: Any, deployed: str) -> None:
    mined = chain.mine(deployed, SETTLED, LINK, 5, ROOT, BALANCES, sender=chain.accounts[1])
    block, receipts = chain.block("latest")
    evidence = evidence_from_receipts(
        block, receipts, transaction=mined["transactionHash"], chain=31337, origin=ORIGIN, size=5, root=ROOT
    )
    found = verify_evidence(
        evidence,
        origin=ORIGIN,
        size=5,
        root=ROOT,
        blocks=frozenset({block["hash"].upper()}),
        contract=deployed.upper().replace("X", "x", 1),
    )
    assert (found.size, found.root, found.settlement) == (5, ROOT, BALANCES)
    assert (found.block, found.block_hash) == (int(block["number"], 16), block["hash"])
    assert (found.time, found.chain) == (int(block["timestamp"], 16), 31337)
    assert (found.contract, found.sender, found.pinned) == (deployed, chain.accounts[1], True)
