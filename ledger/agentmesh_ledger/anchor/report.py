"""What anchors show and what they do not, in words and for programs. No block that nobody named may sound like a fact."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from agentmesh_ledger.text import moment, shown

if TYPE_CHECKING:
    from agentmesh_ledger.anchor.evidence import Anchored
    from agentmesh_ledger.anchor.shown import AnchorClaim

_LISTED: Final = 8  # lines for people; programs get all
_OWN_WORD: Final = "the block is the file's own word, name it with --block to pin it"


def anchor_lines(
    anchors: Sequence[Anchored], claims: Sequence[AnchorClaim], on_chain: Mapping[str, str]
) -> list[str]:
    """Which entries existed before which block, a line each; of many the first, the newest and those that were named.

    `on_chain` has what a node said of the blocks that it was asked for.
    """
    told = list(anchors)
    if len(told) > _LISTED:
        told = [
            each
            for place, each in enumerate(told)
            if (each.pinned and each.block_hash not in on_chain)
            or not 0 < place <= len(anchors) - _LISTED + 1
        ]
    # Of each block that the node has, an anchor is pinned; one in it that nobody asked about is not lost.
    lost = set(on_chain) - {each.block_hash for each in anchors if each.pinned}
    lines = [_line(each, on_chain, lost) for each in told]
    if len(told) < len(anchors):
        lines.append(f"{len(anchors) - len(told)} more between the first and these: --json lists them")
    lines += [_claim(each) for each in claims[:_LISTED]]
    if len(claims) > _LISTED:
        lines.append(f"{len(claims) - _LISTED} more claims: --json lists them")
    return [f"anchor     {each}" for each in lines]


def anchor_limits(anchors: Sequence[Anchored], known: Sequence[Anchored] | None = None) -> tuple[str, ...]:
    """What must not be concluded from these anchors; `known` are those whose blocks are looked at, where they are others."""
    found: list[str] = []
    if anchors:
        found.append("whether a chain holds other or larger checkpoints of this log: only the chain can tell")
    if not all(each.pinned for each in (anchors if known is None else known)):
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


def _line(found: Anchored, on_chain: Mapping[str, str], lost: Collection[str | None]) -> str:
    first = "entry 0" if found.size == 1 else f"entries 0 to {found.size - 1}"
    when = "" if found.time is None else f", {moment(found.time)}"
    if found.chain is None:  # Bitcoin, whose headers show how much work they took
        where, more = f"block {found.block} of Bitcoin", f"; {shown(found.note)}"
    else:
        where, more = f"block {found.block} of chain {found.chain}", ""
    if found.pinned and found.block_hash in on_chain:
        return f"{first} existed before {where} ({found.block_hash}{when}): {on_chain[found.block_hash]}"
    if found.pinned:
        told = f"{where} by the file's word{when}{more}"
        return f"{first} existed before the block {found.block_hash} that you named ({told})"
    if found.block_hash in lost:
        return (
            f"{first}: nothing is shown by {where} ({found.block_hash}{when}): {on_chain[found.block_hash]}"
        )
    return f"{first} existed before {where} ({found.block_hash}{when}{more}): {_OWN_WORD}"


def _claim(found: AnchorClaim) -> str:
    where = f"line {found.line} has" if found.index is None else f"entry {found.index} says"
    return f"claimed only: {where} {shown(found.what, 300)}; {shown(found.why, 300)}"
