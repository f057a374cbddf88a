"""Accounts as lines: a log may have as many agents as its owner likes."""

from __future__ import annotations

from collections.abc import ItemsView

from agentmesh.view.accounts import told_text
from agentmesh_ledger import AgentId
from agentmesh_ledger.usage.balances import Accounts, Balance


class Names(dict[AgentId, str]):
    """Names that count how often all of them are looked through."""

    looked = 0

    def items(self) -> ItemsView[AgentId, str]:  # type: ignore[override]
        self.looked += 1
        return super().items()


def test_the_names_are_looked_through_once_however_many_balances_there_are() -> None:
    agents = [AgentId(f"did:key:z6Mk{number}") for number in range(20)]
    names = Names({each: f"agent-{each[12:]}" for each in agents[:-1]})
    found = Accounts(
        origin="example.org/desk",
        size=20,
        receipts=20,
        repeated=0,
        balances=tuple(Balance(agent=each, unit="credit", earned=1, spent=0) for each in agents),
        bindings=(),
        uncounted={},
        told=(),
        names=names,
    )
    told = told_text(found, whole=False)
    assert names.looked == 1
    assert f"{agents[7]}  agent-7  0.000001" in told and f"{agents[19]}  of another log  0.000001" in told
