"""Two owners: the keys of each, a call between them, and the receipt that the one that answers makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from agentmesh.serving.signing import KnownKeys, Policy
from agentmesh.serving.signing.statements import Asked, seal
from agentmesh_ledger import AgentKey, KeyStore
from agentmesh_ledger.statement import Statement
from agentmesh_ledger.usage.receipt import UsageReceipt

HERE, THERE = "desk.example/front", "lab.example/critics"


@dataclass(frozen=True, slots=True)
class Owners:
    """`front` of the one asks the host of the other."""

    here: KeyStore
    there: KeyStore

    @property
    def front(self) -> AgentKey:
        return self.here.agent("front")

    @property
    def host(self) -> AgentKey:
        return self.there.agent("host")

    def asked(self, dialogue: str = "d1", key: AgentKey | None = None) -> Asked:
        """A signed call."""
        sealed = seal(
            key or self.front,
            Policy(mode="require", known=KnownKeys()),
            type="request",
            method="tools/call",
            name="ask_critic",
            content=b"{}",
            subject=f"front@{HERE}",
            audience=self.host.id,
            dialogue=dialogue,
        )
        return Asked(
            method="tools/call",
            name="ask_critic",
            content=b"{}",
            exchange=sealed.digest,
            dialogue=dialogue,
            sealed=sealed,
        )

    def answer(self, asked: Asked, key: AgentKey | None = None) -> Statement:
        """The statement of its answer."""
        return seal(
            key or self.host,
            Policy(mode="require", known=KnownKeys()),
            type="result",
            method="tools/call",
            name="ask_critic",
            content=b"{}",
            subject=f"host@{THERE}",
            audience=self.front.id,
            dialogue=asked.dialogue,
            request=asked.digest,
        ).statement

    def receipt(self, asked: Asked, price: int = 7) -> UsageReceipt:
        return UsageReceipt(
            asker=self.front.id,
            asker_log=HERE,
            provider=self.host.id,
            provider_log=THERE,
            dialogue=asked.dialogue,
            request=asked.exchange,
            tokens=5,
            milliseconds=0,
            price=price,
            unit="credit",
        )


@pytest.fixture
def owners(tmp_path: Path) -> Owners:
    return Owners(KeyStore(tmp_path / "here"), KeyStore(tmp_path / "there"))
