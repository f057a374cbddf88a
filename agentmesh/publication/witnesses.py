"""A log's witnesses, as a publication asks them: the ledger gathers, and keeps what it gathered beside its key."""

from __future__ import annotations

from pathlib import Path

from agentmesh.events import Witnessed
from agentmesh_ledger import LedgerError
from agentmesh_ledger.cosignature import cosignatures
from agentmesh_ledger.gather import Gathered
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.note import parse_note
from agentmesh_ledger.policy import Policy
from agentmesh_ledger.source import read_policy


class LogWitnesses:
    """The witnesses of a policy for one log; `within` is seconds for all of them together."""

    def __init__(self, ledger: Ledger, policy: Policy, *, within: float) -> None:
        self._ledger = ledger
        self._policy = policy
        self._within = within

    def require_continued(self) -> tuple[str, ...]:
        """That the log continues what each witness that can be reached holds of it; who could not be asked.

        Raises: LedgerError(rollback, forked).
        """
        found = self._ledger.require_continued(self._policy, within=self._within)
        return tuple(f"witness {each.name}: {each.message}" for each in found.failures)

    def gather(self) -> Witnessed:
        """The newest checkpoint, cosigned by whoever answers in time.

        Raises: LedgerError(rollback, forked), and whatever the ledger itself raises.
        """
        return self._told(self._ledger.gather(self._policy, within=self._within))

    def _told(self, found: Gathered) -> Witnessed:
        keys = [each.key for each in self._policy.witnesses if each.key is not None]
        signed = {each.key for each in cosignatures(parse_note(found.note), keys)}
        return Witnessed(
            size=found.size,
            met=found.evidence is not None,
            needed=needed(self._policy),
            names=tuple(each.name for each in self._policy.witnesses if each.key in signed),
            missing={each.name: each.message for each in found.failures},
        )


def witness_policy(path: Path, vkey: str) -> Policy:
    """The policy in a file, of which at least one witness can be asked, and which the log of this key can meet.

    Raises: LedgerError(policy, not_found, unreadable).
    """
    try:
        policy = read_policy(path)
    except LedgerError as error:
        if error.reason == "not_found":
            error.hint = "`agentmesh witness add` makes one"
        raise
    if not any(each.url is not None for each in policy.witnesses):
        raise LedgerError("policy", "no witness in it has an address, so none can be asked", path=str(path))
    if policy.logs and vkey not in map(str, policy.logs):
        # However many cosign, it would never be met: the log was begun anew, say, and the policy is the old one's.
        hint = f"Whose readers are to trust this log has the line: log {vkey}"
        raise LedgerError("policy", "it names other logs, and not this one's key", path=str(path), hint=hint)
    return policy


def needed(policy: Policy) -> str:
    """What the policy asks for, in words: `2 of 3`; the name of its quorum where that says more than a number."""
    names = {each.name for each in policy.witnesses}
    if policy.quorum == "none":
        return "none"
    if policy.quorum in names:
        return policy.quorum
    group = next(each for each in policy.groups if each.name == policy.quorum)
    if set(group.members) <= names:
        return f"{group.needed} of {len(group.members)}"
    return f"the quorum {policy.quorum}"
