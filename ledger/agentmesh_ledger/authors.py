"""Who may sign in a log as it grows: keys registered, rotated into one another, and revoked."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from agentmesh_ledger.affairs import REGISTER, REVOKE, ROTATE
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import public_key
from agentmesh_ledger.record import Outline
from agentmesh_ledger.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """At `index` the key `old` handed its place and its name to `new`."""

    old: str
    new: str
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """At `index` it was said that entries of `agent` count only up to the index `after`.

    `last` is the index of the agent's last entry before: where it is above `after`, the agent's entries between
    the two are disowned; they stand, but whoever revoked the key does not answer for them. None: it has none.
    """

    agent: str
    after: int
    index: int
    last: int | None

    @property
    def disowns(self) -> bool:
        """Whether there are entries that the revocation disowns."""
        return self.last is not None and self.last > self.after


class Authors:
    """The keys of a log, taken entry by entry. Memory grows with their number.

    With `whole` every entry is shown from 0 on; otherwise who registered a revoked key may not be at hand.
    """

    def __init__(self, log_keys: Collection[bytes], *, whole: bool) -> None:
        self.names: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        self.lasts: dict[str, int] = {}
        self.rotated: dict[str, Rotation] = {}
        self.revoked: dict[str, Revocation] = {}
        self.steward: str | None = None
        self._log_keys = frozenset(log_keys)
        self._whole = whole

    def require(self, seen: Outline) -> None:
        """Refuses an entry whose author may not sign it here (SPEC L-14 to L-17, L-75).

        Raises: LedgerError(author).
        """
        author = seen.author
        if author in self.revoked:
            raise LedgerError("author", f"{author} was revoked at entry {self.revoked[author].index}")
        if author in self.rotated:
            raise LedgerError("author", f"{author} was rotated at entry {self.rotated[author].index}")
        if seen.kind == REGISTER:
            if author in self.names:
                raise LedgerError("author", f"{author} is registered a second time")
            self._require_no_log_key(author)
        elif author not in self.names:
            raise LedgerError("author", f"{author} is not registered before this entry")
        elif seen.kind == ROTATE:
            self._require_rotation(seen)
        elif seen.kind == REVOKE:
            self._require_revocation(seen)

    def may_sign(self, author: str) -> bool:
        """Whether `require` would let pass what this author signs now, the log's own affairs set aside."""
        return author in self.names and author not in self.rotated and author not in self.revoked

    def admit_run(self, run: Run) -> None:
        """Takes the entries of a run to the record, all of whose authors may sign."""
        for author, count, last in run.authors:
            self.counts[author] = self.counts.get(author, 0) + count
            self.lasts[author] = last

    def admit(self, seen: Outline) -> None:
        """Takes the entry to the record. Also one that failed, so that what follows is held against what it says."""
        author, index, facts = seen.author, seen.place, seen.facts
        self.counts[author] = self.counts.get(author, 0) + 1
        if facts is not None:
            if index == 0:
                self.steward = author
            if seen.kind == REGISTER:
                self.names.setdefault(author, str(facts["name"]))
            elif seen.kind == ROTATE:
                new = str(facts["new"])
                self.names.setdefault(new, self.names.get(author, ""))
                self.rotated.setdefault(author, Rotation(old=author, new=new, index=index))
                if author == self.steward:
                    self.steward = new
            elif seen.kind == REVOKE:
                agent, after = str(facts["agent"]), facts["after"]
                assert isinstance(after, int)  # the shape was checked with the signature
                last = self.lasts.get(agent)
                self.revoked.setdefault(agent, Revocation(agent=agent, after=after, index=index, last=last))
        elif author not in self.names:
            self.names[author] = ""  # it failed for this; once is enough
        self.lasts[author] = index

    def with_predecessors(self, agents: Iterable[str]) -> set[str]:
        """These agents and the keys whose place they took, however long ago. Time grows with the rotations, not their square."""
        before: dict[str, list[str]] = {}
        for each in self.rotated.values():
            before.setdefault(each.new, []).append(each.old)
        waiting = list(agents)
        found = set(waiting)
        while waiting:
            # Each once: a rotation that was refused may lead back to where it began.
            more = [old for old in before.get(waiting.pop(), ()) if old not in found]
            found.update(more)
            waiting += more
        return found

    def _require_no_log_key(self, agent: str) -> None:
        if public_key(agent) in self._log_keys:
            raise LedgerError("author", f"{agent} is the log's own key")

    def _require_rotation(self, seen: Outline) -> None:
        new = "" if seen.facts is None else str(seen.facts["new"])
        # Unseen: two names for one key would let an agent speak for another.
        if new in self.names or new in self.revoked:
            raise LedgerError("author", f"the new key {new} is not new in this log")
        self._require_no_log_key(new)

    def _require_revocation(self, seen: Outline) -> None:
        agent = "" if seen.facts is None else str(seen.facts["agent"])
        if agent in self.revoked:
            raise LedgerError("author", f"{agent} was revoked at entry {self.revoked[agent].index} already")
        if agent not in self.names and self._whole:
            raise LedgerError("author", f"{agent} is to be revoked and is not registered")
        if seen.author not in (agent, self.steward) and (self._whole or self.steward is not None):
            raise LedgerError(
                "author", f"{agent} can be revoked by itself and by the steward, the author of entry 0, only"
            )
