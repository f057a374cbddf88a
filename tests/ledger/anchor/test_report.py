"""What a person is told of anchors, in words."""

from __future__ import annotations

from agentmesh_ledger.anchor.evidence import Anchored
from agentmesh_ledger.anchor.report import anchor_lines

HERE, GONE, OTHER = ("0x" + letter * 64 for letter in "abc")


def anchored(block_hash: str, *, pinned: bool, contract: str = "17") -> Anchored:
    return Anchored(
        type="evm",
        size=9,
        root=bytes(32),
        block=4,
        block_hash=block_hash,
        time=1_700_000_000,
        chain=5,
        contract="0x" + contract * 20,
        sender="0x" + "18" * 20,
        settlement=None,
        pinned=pinned,
        note="",
    )


def test_only_a_block_that_the_node_has_not_is_told_as_lost() -> None:
    on_chain = {HERE: "it is on the chain", GONE: "it is not on the chain"}
    asked, lost = anchored(HERE, pinned=True), anchored(GONE, pinned=False)
    # Of another contract, which nobody asked about, in the very block, and in one of its own.
    beside, apart = (anchored(block, pinned=False, contract="19") for block in (HERE, OTHER))
    lines = anchor_lines([asked, lost, beside, apart], [], on_chain)
    assert ["nothing is shown by" in line for line in lines] == [False, True, False, False]
    assert ["file's own word" in line for line in lines] == [False, False, True, True]
    assert "it is on the chain" in lines[0] and "it is not on the chain" in lines[1]
