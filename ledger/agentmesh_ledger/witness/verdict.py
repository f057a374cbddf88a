"""The rule of a witness: what it says to a submission, given what it cosigned last. Pure: no clock, no disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.tree import EMPTY_ROOT, verify_consistency


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The newest checkpoint of a log that was cosigned, or was about to be; `note` has the log's own signatures.

    `time` is that of the cosignature, in seconds since 1970.
    """

    checkpoint: Checkpoint
    time: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A submission whose checkpoint a trusted key of its log has signed; `note` has those signatures only."""

    checkpoint: Checkpoint
    old: int
    proof: tuple[bytes, ...]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What is to be cosigned once `seen` is on the disk."""

    seen: Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """The old size is not that of the newest cosigned checkpoint, `seen`, or zero without one."""

    seen: Seen | None

    @property
    def size(self) -> int:
        """What the log is to begin its proof at."""
        return 0 if self.seen is None else self.seen.checkpoint.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The checkpoint does not continue what was cosigned, `seen`, or nothing shows that it does."""

    message: str
    seen: Seen | None


Verdict: TypeAlias = Granted | Conflict | Refused


def judge(proposal: Proposal, seen: Seen | None, now: int) -> Verdict:
    """The verdict at this time; what it grants follows on what was seen, and its time is not before (SPEC L-132, L-133).

    The old size is not above the checkpoint's: the caller has seen to that.
    """
    new = proposal.checkpoint
    size = 0 if seen is None else seen.checkpoint.size
    if proposal.old != size:
        return Conflict(seen=seen)
    old_root = EMPTY_ROOT if seen is None else seen.checkpoint.root
    try:
        verify_consistency(size, new.size, proposal.proof, old_root, new.root)
    except LedgerError as error:
        return Refused(message=error.message, seen=seen)
    # A clock that was set back must not make a later cosignature look like the earlier one.
    time = max(now, 1 if seen is None else seen.time)
    return Granted(seen=Seen(checkpoint=new, time=time, note=proposal.note))
