"""What anchors show and what they do not, in words and for programs. No block that nobody named may sound like a fact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from agentmesh_ledger.text import moment, shown

if TYPE_CHECKING:
    from agentmesh_ledger.anchor.evidence import Anchored
    from agentmesh_ledger.anchor.shown import AnchorClaim

_LISTED: Final = 8  # lines for people; programs get all
_OWN_WORD: Final = "the block is the file's own word, name it with --block to pin it"


def anchor_lines(anchors: Sequence[Anchored], claims: Sequence[AnchorClaim]) -> list[str]:
    """Which entries existed before which block, a line each; of many the first, the newest and those pinned."""
    told = list(anchors)
    if len(told) > _LISTED:
        told = [
            each
            for place, each in enumerate(told)
            if each.pinned or not 0 < place <= len(anchors) - _LISTED + 1
        ]
    lines = [_line(each) for each in told]
    if len(told) < len(anchors):
        lines.append(f"{len(anchors) - len(told)} more between the first and these: --json lists them")
    lines += [_claim(each) for each in claims[:_LISTED]]
    if len(claims) > _LISTED:
        lines.append(f"{len(claims) - _LISTED} more claims: --json lists them")
    return [f"anchor     {each}" for each in lines]


def anchor_limits(anchors: Sequence[Anchored]) -> tuple[str, ...]:
    """What must not be concluded from these anchors."""
    if not anchors:
        return ()
    found = ["whether a chain holds other or larger checkpoints of this log: only the chain can tell"]
    if not all(each.pinned for each in anchors):
        found.append(
            "that the block of an anchor that is not pinned is one of the real chain: whoever writes a file can make such"
            " a block"
        )
    return tuple(found)


def anchors_json(anchors: Sequence[Anchored]) -> list[dict[str, object]]:
    """The anchors whose evidence holds, for programs."""
    return [
        {
            "type": each.type,
            "size": each.size,
            "root": each.root.hex(),
            "block": each.block,
            "block_hash": each.block_hash,
            "time": each.time,
            "chain": each.chain,
            "contract": each.contract,
            "sender": each.sender,
            "settlement": None if each.settlement is None else each.settlement.hex(),
            "pinned": each.pinned,
            "note": each.note,
        }
        for each in anchors
    ]


def claims_json(claims: Sequence[AnchorClaim]) -> list[dict[str, object]]:
    """The anchors that are claimed only, for programs."""
    return [
        {"claim": each.what, "why": each.why, "size": each.size, "index": each.index, "line": each.line}
        for each in claims
    ]


def _line(found: Anchored) -> str:
    first = "entry 0" if found.size == 1 else f"entries 0 to {found.size - 1}"
    if found.block is None or not found.block_hash:
        return f"{first}: {shown(found.note)}"  # a promise of a block, or one without its header
    when = "" if found.time is None else f", {moment(found.time)}"
    chain = "Bitcoin" if found.chain is None else f"chain {found.chain}"
    if found.pinned:
        return (
            f"{first} existed before the block {found.block_hash} that you named"
            f" (number {found.block}{when}; of {chain} by the file's word)"
        )
    return f"{first} existed before block {found.block} of {chain} ({found.block_hash}{when}): {_OWN_WORD}"


def _claim(found: AnchorClaim) -> str:
    where = f"line {found.line} has" if found.index is None else f"entry {found.index} says"
    return f"claimed only: {where} {shown(found.what, 300)}; {shown(found.why, 300)}"
