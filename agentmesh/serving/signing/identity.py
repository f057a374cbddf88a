"""One side of signed exchanges: its key, what it demands of the other side, and where it records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from agentmesh.serving.signing.failures import SigningError
from agentmesh.serving.signing.policy import Policy
from agentmesh_ledger import AgentKey, Draft, JsonValue, KeyStore
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.statement import Statement

if TYPE_CHECKING:
    from agentmesh.serving.signing.statements import Asked

KEY: Final = "dev.agentmesh/statement"
"""Where a statement stands in `_meta`, or in the data of an error."""
USAGE_KEY: Final = "dev.agentmesh/usage"
"""Where a receipt stands in the `_meta` of a result, and those that are given back in the `_meta` of a request."""
LAG: Final = 0.05
"""Seconds that a record may lag behind, unless somebody says otherwise."""


class Bookkeeper(Protocol):
    """Who sees what is called over a signed connection, and deals with the receipts for it. It never raises."""

    def sent(self, asked: Asked, key: AgentKey) -> JsonValue:
        """A call goes out, signed by the key; what is to go with it in its `_meta`, None for nothing."""

    def received(
        self, asked: Asked, statement: Statement | None, result: Mapping[str, object]
    ) -> Sequence[Draft]:
        """The call was answered, by the good statement or without any: the result, with its `_meta`.

        Returns what is to be recorded of a receipt in it.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """A side's identity, policy and record. Without a `ledger` nothing is recorded.

    `subject` is its own name for itself, `agent@origin`. `keys` holds the keys of agents that `claims` may name;
    `dialogue` is that of calls which claim none; `usage` keeps the books of who calls, and needs a `ledger`. Who answers may leave calls that are not signed to what else it records of
    them: `record_unsigned`.

    The record may lag `lag` seconds behind the answers that are let in, or out: no call waits for a disk then, and many share
    a commit. A crash loses the last of it, and never from the middle; the other side still has that, signed. What is appended
    to the same ledger afterwards stands behind it, so that who records what he makes of an answer loses nothing. With 0 both
    statements of a call are durable before its answer is let in, or out.
    """

    key: AgentKey
    subject: str
    policy: Policy
    ledger: Ledger | None = None
    keys: KeyStore | None = None
    dialogue: str | None = None
    usage: Bookkeeper | None = None
    record_unsigned: bool = True
    lag: float = LAG

    def subject_of(self, agent: str) -> str:
        """The subject of one of its agents."""
        _, at, origin = self.subject.rpartition("@")
        return f"{agent}@{origin if at else self.subject}"

    def key_of(self, agent: str) -> AgentKey:
        """The key of one of its agents.

        Raises: SigningError(unknown_key) where there is no key store; LedgerError as `KeyStore.agent`.
        """
        if self.keys is None:
            raise SigningError("unknown_key", f"there is no key store to take the key of {agent} from")
        return self.keys.agent(agent)


def claims(*, dialogue: str, agent: str | None = None) -> dict[str, JsonValue]:
    """What a call says of itself: `client.call_tool(..., meta=claims(...))`.

    A signed transport takes it out and puts the statement in its place, signed by the agent's own key.
    """
    return {KEY: {"agent": agent, "dialogue": dialogue}}
