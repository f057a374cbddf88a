"""What an anchor is made with, and the few things that every step asks of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agentmesh_ledger.anchor.account import Account
from agentmesh_ledger.anchor.chain import Block, Chain
from agentmesh_ledger.anchor.continued import Continuity
from agentmesh_ledger.anchor.fees import Fees, first_fees, in_gwei
from agentmesh_ledger.anchor.journal import Journal, Target
from agentmesh_ledger.anchor.progress import Progress
from agentmesh_ledger.keys import AgentKey
from agentmesh_ledger.log import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """`cap` is in wei; `patience` is blocks until a transaction counts as stuck; `at` is told of each point at which a crash
    would leave something half done."""

    ledger: Ledger
    author: AgentKey
    chain: Chain
    account: Account
    contract: str
    journal: Journal
    confirmations: int
    cap: int
    patience: int
    clock: Callable[[], float]
    at: Callable[[str], None]

    def target(self) -> Target:
        """The account and the contract on the chain that the node is of.

        Raises: LedgerError(refused) where that is not the one meant; LedgerError(node).
        """
        return Target(chain=self.chain.id(), contract=self.contract, sender=self.account.address)

    def continuity(self, target: Target) -> Continuity:
        """What holds the ledger to the chain."""
        return Continuity(self.ledger, self.chain, target, self.journal)

    def fees(self, head: Block) -> Fees | Progress:
        """What a new transaction offers; or why there can be none now."""
        if head.base_fee is None:
            return Progress(state="blocked", message="this chain has no EIP-1559 fees")
        fees = first_fees(head.base_fee, self.chain.suggested_tip(), self.cap)
        return fees if fees is not None else Progress(state="waiting", message=self.spike(head.base_fee))

    def short(self, cost: int) -> Progress | None:
        """What is said where the account cannot pay so much; None where it can."""
        balance = self.chain.balance(self.account.address)
        if balance >= cost:
            return None
        return Progress(
            state="blocked",
            message=f"insufficient funds: {self.account.address} has {in_gwei(balance)}, and this may take {in_gwei(cost)}",
        )

    def spike(self, base: int) -> str:
        """What is said of a base fee above the cap."""
        return (
            f"the base fee is {in_gwei(base)}, above the cap of {in_gwei(self.cap)}: waiting until it falls"
        )

    def not_ours(self) -> str:
        """What is said of an address where our contract is not."""
        return f"at {self.contract} on this chain is no contract of ours; `agentmesh anchor deploy` makes one"
