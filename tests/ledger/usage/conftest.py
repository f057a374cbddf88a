"""A log in which agents ask one another, and receipts are recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentmesh_ledger import AgentKey, Draft, JsonValue, KeyStore, Receipt
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.usage.balances import Accounts
from agentmesh_ledger.usage.receipt import SignedReceipt, UsageReceipt
from agentmesh_ledger.usage.settlement import ledger_accounts

ORIGIN = "example.org/desk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A ledger with its keys."""

    ledger: Ledger
    keys: KeyStore

    def key(self, name: str) -> AgentKey:
        return self.keys.agent(name)

    def say(self, name: str, kind: str = "say", facts: Mapping[str, JsonValue] | None = None) -> Receipt:
        draft = Draft(author=self.key(name), kind=kind, dialogue="d1", facts=dict(facts or {}))
        return self.ledger.append([draft])[0]

    def receipt(
        self,
        asker: str = "ada",
        provider: str = "bob",
        *,
        price: int = 7,
        request: str = "",
        unit: str = "credit",
    ) -> UsageReceipt:
        return UsageReceipt(
            asker=self.key(asker).id,
            asker_log=ORIGIN,
            provider=self.key(provider).id,
            provider_log=ORIGIN,
            dialogue="d1",
            request=request or self.say(asker, "call").leaf_hash.hex(),
            tokens=12,
            milliseconds=340,
            price=price,
            unit=unit,
        )

    def record(self, receipt: UsageReceipt, *signers: AgentKey) -> Receipt:
        signed = SignedReceipt(receipt=receipt)
        for key in signers:
            signed = signed.signed_by(key)
        return self.say("host", "usage", signed.to_json())

    def used(
        self, asker: str = "ada", provider: str = "bob", *, price: int = 7, unit: str = "credit"
    ) -> Receipt:
        """An answered question with its receipt, signed by both."""
        receipt = self.receipt(asker, provider, price=price, unit=unit)
        return self.record(receipt, self.key(asker), self.key(provider))

    def accounts(self, size: int | None = None) -> Accounts:
        return ledger_accounts(self.ledger, size)

    def sums(self, size: int | None = None) -> dict[str, tuple[int, int]]:
        """What each earned and spent, by its name."""
        found = self.accounts(size)
        return {found.names.get(each.agent, each.agent): (each.earned, each.spent) for each in found.balances}


@pytest.fixture(scope="session")
def desk_of() -> type[Desk]:
    """What makes a desk of a ledger and its keys."""
    return Desk


@pytest.fixture
def desk_at(tmp_path: Path) -> Iterator[Callable[[str], Desk]]:
    """Makes logs of that name, each with keys of its own."""
    made: list[Ledger] = []

    def make(origin: str) -> Desk:
        folder = tmp_path / origin.replace("/", "_")
        keys = KeyStore(folder / "keys")
        ledger = Ledger.open(folder / "ledger.db", origin=origin, keys=keys, create=True)
        made.append(ledger)
        return Desk(ledger=ledger, keys=keys)

    yield make
    for ledger in made:
        ledger.close()


@pytest.fixture
def desk(desk_at: Callable[[str], Desk]) -> Desk:
    """A log in which host, ada and bob have spoken, and so are registered."""
    found = desk_at(ORIGIN)
    for name in ("host", "ada", "bob"):
        found.say(name)
    return found
