"""Who may write in a log: the keys that were registered, and those that were rotated away or revoked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agentmesh_ledger.affairs import AFFAIRS, REGISTER, REVOKE, ROTATE, require_affair, require_consent
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import AgentId, public_key
from agentmesh_ledger.jcs import JsonValue


@dataclass(slots=True, kw_only=True)
class Standing:
    """The standing of every key that the log has seen. `steward` is the author of its first entry, or its successor."""

    log: str
    log_key: bytes
    names: dict[AgentId, str] = field(default_factory=dict)
    retired: dict[AgentId, str] = field(default_factory=dict)
    steward: AgentId | None = None

    def copy(self) -> Standing:
        """A state of its own that begins as this one."""
        return Standing(
            log=self.log,
            log_key=self.log_key,
            names=dict(self.names),
            retired=dict(self.retired),
            steward=self.steward,
        )

    def require_may_write(self, author: AgentId) -> None:
        """Refuses a key that was rotated away or revoked.

        Raises: LedgerError(refused).
        """
        why = self.retired.get(author)
        if why is not None:
            raise LedgerError("refused", f"{author} may not write any more: its key was {why}")

    def enter(self, index: int, author: AgentId, kind: str, facts: Mapping[str, JsonValue]) -> None:
        """Takes the effect of an entry that is about to be signed, or was found in the log.

        Raises: LedgerError(refused, message, signature) where the verifier would refuse the entry.
        """
        self.require_may_write(author)
        if kind in AFFAIRS:
            require_affair(kind, index, facts)  # what they say of indices depends on the place
        if kind == REGISTER:
            if author in self.names:
                raise LedgerError("refused", f"{author} is registered already")
            self._require_no_log_key(author)
            self.names[author] = str(facts["name"])
        elif author not in self.names:
            raise LedgerError("refused", f"{author} is not registered")
        if index == 0:
            self.steward = author
        if kind == ROTATE:
            new = AgentId(str(facts["new"]))
            if new in self.names:
                raise LedgerError("refused", f"the new key is known to the log already: {new}")
            self._require_no_log_key(new)
            require_consent(self.log, author, facts)
            self.names[new] = self.names[author]
            self.retired[author] = f"rotated at entry {index}"
            if author == self.steward:
                self.steward = new  # or a change of that key would leave nobody who can revoke a stolen one
        elif kind == REVOKE:
            self._revoke(index, author, AgentId(str(facts["agent"])))

    def _require_no_log_key(self, agent: AgentId) -> None:
        if public_key(agent) == self.log_key:
            raise LedgerError("refused", f"{agent} is the log's own key")

    def _revoke(self, index: int, author: AgentId, agent: AgentId) -> None:
        if author not in (agent, self.steward):
            raise LedgerError(
                "refused",
                "only an agent itself, or the log's steward, the author of its first entry, can revoke its key",
                expected=str(self.steward),
                found=author,
            )
        if agent not in self.names:
            raise LedgerError("refused", f"{agent} is not registered")
        if self.retired.get(agent, "").startswith("revoked"):
            raise LedgerError("refused", f"{agent} is revoked already")
        self.retired[agent] = f"revoked at entry {index}"
