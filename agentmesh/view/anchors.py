"""A log's anchors, for a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agentmesh.view.text import clean, count

if TYPE_CHECKING:
    from agentmesh_ledger.anchor.progress import Progress
    from agentmesh_ledger.anchor.survey import Seen, Survey

_STANDINGS: Final = {
    "pending": "under way",
    "recorded": "recorded",
    "vanished": "NOT ON THE CHAIN ANY MORE: a push or a watch sends it again",
    "unseen": "NOT SHOWN by this node: it lags, or the chain lost it",
}


def progress_line(progress: Progress) -> str:
    """One line that says how far an anchor is."""
    return f"{progress.state}: {clean(progress.message)}"


def survey_lines(survey: Survey, size: int) -> list[str]:
    """The anchors of one account in one contract; `size` is the log's."""
    # In the chain's own coin: all of them count in units of 10**18.
    coins = f"{survey.balance / 10**18:.6f}"
    lines = [f"{survey.sender} at {survey.contract}, with {coins} coins for fees"]
    if survey.ours:
        lines.append(f"  the contract holds {survey.held:,} of the log's {count(size, 'entry', 'entries')}")
    else:
        lines.append("  NO CONTRACT OF OURS is at this address")
    return lines + [f"  {_seen(each)}" for each in survey.anchors]


def _seen(seen: Seen) -> str:
    told = f"size {seen.size:,}: {_STANDINGS[seen.standing]}"
    if seen.entry is not None:
        told += f", entry {seen.entry}"
    if seen.block is not None:
        told += f", block {seen.block}"
    if seen.depth:
        told += f", {count(seen.depth, 'block')} deep"
    if seen.standing == "pending" and seen.attempts > 1:
        told += f", {seen.attempts} attempts"
    return f"{told}, transaction {seen.tx}"
