"""The balances of a log under one hash, against which anybody proves a single one (SPEC L-155, L-156)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import AgentId, public_key
from agentmesh_ledger.jcs import JsonValue, canonical
from agentmesh_ledger.message import LOG_DIALOGUE
from agentmesh_ledger.record import Record
from agentmesh_ledger.text import is_origin, shown
from agentmesh_ledger.tree import Edge, collect, fold_proof, inclusion_nodes, leaf_hash
from agentmesh_ledger.usage.balances import EXCHANGED, Accounting, Accounts, Balance, accounts_of
from agentmesh_ledger.usage.receipt import USAGE, is_unit

SETTLEMENT: Final = "settlement"
MAX_SAID: Final = 64
LEAF_FORMAT: Final = "agentmesh-balance/v1"
# As texts: a sum may be beyond what JSON's numbers carry everywhere.
_AMOUNT: Final = re.compile(r"(0|-?[1-9][0-9]{0,39})\Z")
_FIELDS: Final = frozenset({"agent", "balance", "earned", "format", "log", "spent", "unit"})


class Log(Protocol):
    """An open `Ledger`, as far as it is read here: the verifier does without the database."""

    @property
    def origin(self) -> str:
        """The log's name."""

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Record]:
        """Its records in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The leaves of the tree of balances, sorted by agent and unit, after the first `size` entries of the log."""

    origin: str
    size: int
    balances: tuple[Balance, ...]
    leaves: tuple[bytes, ...]

    def root(self) -> bytes:
        """The RFC 6962 root; that of the empty tree where nobody has a balance."""
        edge = Edge()
        for leaf in self.leaves:
            edge.append(leaf_hash(leaf))
        return edge.root()

    def place(self, agent: AgentId, unit: str) -> int:
        """The index of the leaf of an agent's balance in a unit.

        Raises: LedgerError(not_found).
        """
        for index, balance in enumerate(self.balances):
            if (balance.agent, balance.unit) == (agent, unit):
                return index
        raise LedgerError("not_found", f"{shown(agent)} has no balance in {shown(unit)} in this log")

    def proof(self, index: int) -> list[bytes]:
        """The inclusion proof of a leaf, from leaf to root."""
        pieces = inclusion_nodes(index, len(self.leaves))
        wanted = {node for piece in pieces for node in piece}
        return fold_proof(pieces, collect(wanted, map(leaf_hash, self.leaves)))


def settled(accounts: Accounts) -> Settlement:
    """The tree of these accounts."""
    return Settlement(
        origin=accounts.origin,
        size=accounts.size,
        balances=accounts.balances,
        leaves=tuple(balance_leaf(accounts.origin, each) for each in accounts.balances),
    )


def settlement_root(ledger: Log, size: int | None = None) -> bytes:
    """The root of the balances after the first `size` entries of an open ledger, all where that is None.

    Reads all of them, and holds their signatures: seconds for tens of thousands of entries.
    Raises: LedgerError.
    """
    return settled(ledger_accounts(ledger, size)).root()


def ledger_accounts(ledger: Log, size: int | None = None) -> Accounts:
    """The accounts after the first `size` entries of an open ledger, all where that is None.

    Raises: LedgerError; (refused) where it has fewer.
    """
    found = accounts_of(ledger.origin, ledger.read(0, size))
    if size is not None and found.size < size:
        raise LedgerError("refused", f"the log has {found.size} entries, not {size}")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A root that the log itself says, in the entry `index`; `agrees` is None where that was not looked at."""

    index: int
    size: int
    root: str
    agrees: bool | None


@dataclass(slots=True)
class Audit:
    """Takes a log's records as `Accounting` does, and holds the roots that the log says against what it has by then.

    Looked at are the first 64, and those only that nothing which could change a balance stands behind: of the others the
    balances at that size are asked for by themselves.
    """

    accounting: Accounting
    said: list[Said] = field(default_factory=list)
    _changed: int = 0

    def take(self, record: Record) -> None:
        """Takes the next record."""
        message = record.message
        size, root = message.facts.get("size"), message.facts.get("balances")
        if message.kind != SETTLEMENT or message.dialogue != LOG_DIALOGUE:
            if message.kind == USAGE or message.dialogue == LOG_DIALOGUE or message.kind in EXCHANGED:
                self._changed = record.index + 1
        elif isinstance(size, int) and isinstance(root, str):
            agrees: bool | None = None
            if self._changed <= size <= record.index and len(self.said) < MAX_SAID:
                agrees = settled(self.accounting.accounts()).root().hex() == root
            self.said.append(Said(index=record.index, size=size, root=shown(root), agrees=agrees))
        self.accounting.take(record)


def balance_leaf(origin: str, balance: Balance) -> bytes:
    """The bytes of a leaf (SPEC L-155)."""
    return canonical(
        {
            "agent": balance.agent,
            "balance": str(balance.net),
            "earned": str(balance.earned),
            "format": LEAF_FORMAT,
            "log": origin,
            "spent": str(balance.spent),
            "unit": balance.unit,
        }
    )


def read_leaf(value: JsonValue) -> tuple[str, Balance]:
    """The log and the balance that a leaf speaks of.

    Raises: LedgerError(usage, identity), and nothing else, whatever the value.
    """
    if not isinstance(value, Mapping) or value.keys() != _FIELDS:
        raise LedgerError("usage", f"the fields of a balance are not {', '.join(sorted(_FIELDS))}")
    texts: dict[str, str] = {}
    for name, text in value.items():
        if not isinstance(text, str):
            raise LedgerError("usage", f"{name} of the balance is not a text")
        texts[name] = text
    if texts["format"] != LEAF_FORMAT or not is_origin(texts["log"]) or not is_unit(texts["unit"]):
        raise LedgerError("usage", f"the balance is not of the format {LEAF_FORMAT}")
    if not all(_AMOUNT.match(texts[name]) for name in ("balance", "earned", "spent")):
        raise LedgerError("usage", "an amount of the balance is not a whole number")
    public_key(texts["agent"])
    balance = Balance(
        agent=AgentId(texts["agent"]),
        unit=texts["unit"],
        earned=int(texts["earned"]),
        spent=int(texts["spent"]),
    )
    if balance.earned < 0 or balance.spent < 0 or int(texts["balance"]) != balance.net:
        raise LedgerError("usage", "the balance is not what was earned less what was spent")
    return texts["log"], balance
