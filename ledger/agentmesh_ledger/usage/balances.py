"""What a log's receipts add up to, from its entries alone (SPEC L-149 to L-154).

Each receipt counts once, only with both signatures, and only from keys that were the parties' own when it was recorded.
What does not count is told, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from agentmesh_ledger.affairs import REGISTER, REVOKE, ROTATE
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import AgentId
from agentmesh_ledger.jcs import JsonValue
from agentmesh_ledger.message import LOG_DIALOGUE, Message
from agentmesh_ledger.record import Record
from agentmesh_ledger.text import shown
from agentmesh_ledger.usage.binding import BIND, UNBIND, Binding, read_binding, read_unbinding
from agentmesh_ledger.usage.receipt import USAGE, SignedReceipt, UsageReceipt, read_signed

Why: TypeAlias = Literal[
    "malformed",  # it is no receipt, or a number in it is out of bounds
    "signature",  # a signature of it does not hold
    "refused",  # who was to sign it recorded that it did not, and why
    "foreign",  # it is of two other logs
    "unregistered",  # a party's key is not registered here, or is not whom this log's own exchange names
    "revoked",  # a party's key was revoked, or rotated, by then
    "unsigned",  # one of the two has not signed it
    "conflict",  # another receipt for the same answer was counted
]
MAX_TOLD: Final = 100
"""So many of the receipts that do not count are told one by one."""

EXCHANGED: Final = frozenset({"sent", "received"})
"""The kinds in which a log records what passed between it and another owner."""

_NEVER: Final = 2**63
_DIGEST: Final = 64  # hex digits of a hash
_AGENT: Final = 64  # the longest did:key


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What an agent earned and spent, in micro-units of one unit. `agent` is the key that it has by now."""

    agent: AgentId
    unit: str
    earned: int
    spent: int

    @property
    def net(self) -> int:
        """What others owe it; below 0, what it owes."""
        return self.earned - self.spent


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncounted:
    """A receipt, or a binding, that does not count: where it stands, and why."""

    index: int
    why: Why
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """The balances after the first `size` entries of a log, by agent and unit.

    `receipts` counts those that add up to them, `repeated` how often one of those was recorded again; `uncounted` has
    all reasons with their numbers, `told` the first of them one by one. `bindings` are those in force, with the entry
    of each. `names` are the agents' own claims.
    """

    origin: str
    size: int
    receipts: int
    repeated: int
    balances: tuple[Balance, ...]
    bindings: tuple[tuple[Binding, int], ...]
    uncounted: Mapping[Why, int]
    told: tuple[Uncounted, ...]
    names: Mapping[AgentId, str]


class _Candidate(NamedTuple):
    place: int
    receipt: UsageReceipt
    is_signed: bool


@dataclass(slots=True)
class _Key:
    """When a key may sign in this log: from the entry `since` on, up to and with the entry `until`."""

    since: int
    until: int = _NEVER
    successor: AgentId | None = None


@dataclass(slots=True)
class Accounting:
    """Takes a log's records in their order from the first on, and gives the accounts. Memory grows with the receipts."""

    origin: str
    size: int = 0
    _keys: dict[AgentId, _Key] = field(default_factory=dict)
    _names: dict[AgentId, str] = field(default_factory=dict)
    _exchanges: set[tuple[str, str, str]] = field(default_factory=set)
    _bound: dict[AgentId, tuple[Binding, int]] = field(default_factory=dict)
    _candidates: list[_Candidate] = field(default_factory=list)
    _uncounted: list[Uncounted] = field(default_factory=list)

    def take(self, record: Record) -> None:
        """Takes the next record; it was found good in itself by whoever read it."""
        message = record.message
        kind = message.kind
        if kind == USAGE:
            self._usage(message)
        elif kind in EXCHANGED:
            self._exchange(message)
        elif message.dialogue == LOG_DIALOGUE:
            self._affair(message)
        self.size = record.index + 1

    def accounts(self) -> Accounts:
        """What all that was taken adds up to."""
        counted: dict[tuple[str, AgentId], UsageReceipt] = {}
        unsigned: dict[tuple[str, AgentId], _Candidate] = {}
        uncounted = list(self._uncounted)
        repeated = 0
        for each in self._candidates:
            receipt = each.receipt
            named = receipt.request, receipt.provider
            flaw = self._flaw(each)
            if flaw is not None:
                uncounted.append(flaw)
            elif not each.is_signed:
                unsigned.setdefault(named, each)
            elif named not in counted:
                counted[named] = receipt
            elif counted[named] == receipt:
                repeated += 1
            else:
                text = "the two sides signed another receipt for this answer before"
                uncounted.append(Uncounted(index=each.place, why="conflict", message=text))
        for named, each in unsigned.items():
            if named not in counted:
                text = "only one of the two sides has signed it"
                uncounted.append(Uncounted(index=each.place, why="unsigned", message=text))
        uncounted.sort(key=lambda found: found.index)
        return Accounts(
            origin=self.origin,
            size=self.size,
            receipts=len(counted),
            repeated=repeated,
            balances=self._balances(counted.values()),
            bindings=tuple(self._bindings()),
            uncounted=_numbers(uncounted),
            told=tuple(uncounted[:MAX_TOLD]),
            names=dict(self._names),
        )

    def _usage(self, message: Message) -> None:
        facts = message.facts
        if "refused" in facts:
            self._leave_out(message.index, "refused", f"it was refused: {shown(str(facts['refused']))}")
            return
        try:
            signed = read_signed(facts)
        except LedgerError as error:
            why: Why = "signature" if error.reason == "signature" else "malformed"
            self._leave_out(message.index, why, error.message)
            return
        self._candidates.append(_Candidate(message.index, signed.receipt, _both(signed)))

    def _exchange(self, message: Message) -> None:
        """Whom one of our own keys says that it exchanged a signed request with; a refused answer shows nothing."""
        facts = message.facts
        digest, peer = facts.get("exchange"), facts.get("peer")
        if not isinstance(digest, str) or not isinstance(peer, str) or "refused" in facts:
            return
        if (
            len(digest) == _DIGEST and len(peer) <= _AGENT
        ):  # no receipt names longer ones: they would only be kept
            self._exchanges.add((digest, message.author, peer))

    def _affair(self, message: Message) -> None:
        facts, index, author = message.facts, message.index, message.author
        if message.kind == REGISTER:
            self._keys.setdefault(author, _Key(since=index))
            self._names.setdefault(author, str(facts["name"]))
        elif message.kind == ROTATE:
            new = AgentId(str(facts["new"]))
            self._keys.setdefault(new, _Key(since=index))
            self._names.setdefault(new, self._names.get(author, ""))
            old = self._keys.setdefault(author, _Key(since=index))
            old.until, old.successor = min(old.until, index), new
        elif message.kind == REVOKE:
            agent, after = AgentId(str(facts["agent"])), facts["after"]
            assert isinstance(after, int)  # the shape was checked with the signature
            revoked = self._keys.setdefault(agent, _Key(since=index))
            revoked.until = min(revoked.until, after)
        elif message.kind in (BIND, UNBIND):
            self._binding(message)

    def _binding(self, message: Message) -> None:
        try:
            if message.kind == UNBIND:
                self._bound.pop(read_unbinding(message.facts, author=message.author), None)
                return
            binding = read_binding(message.facts, log=self.origin, author=message.author)
        except LedgerError as error:
            self._leave_out(message.index, "malformed", f"the {message.kind} does not hold: {error.message}")
            return
        self._bound[binding.agent] = (binding, message.index)

    def _bindings(self) -> Iterable[tuple[Binding, int]]:
        """Those in force. With its key an agent loses its account: the account signed for that key alone."""
        for agent, (binding, index) in sorted(self._bound.items()):
            key = self._keys.get(agent)
            if key is not None and key.until == _NEVER:
                yield binding, index

    def _flaw(self, candidate: _Candidate) -> Uncounted | None:
        """Why a receipt of good signatures does not count here, if it does not."""
        index, receipt, _ = candidate
        parties = ((receipt.asker, receipt.asker_log), (receipt.provider, receipt.provider_log))
        ours = [agent for agent, log in parties if log == self.origin]
        if not ours:
            logs = f"{receipt.asker_log} and {receipt.provider_log}"
            return Uncounted(index=index, why="foreign", message=f"it is of the logs {logs}")
        for agent in ours:
            key = self._keys.get(agent)
            if key is None or key.since >= index:
                text = f"{agent} is not registered before it"
                return Uncounted(index=index, why="unregistered", message=text)
            if key.until < index:
                text = f"the key of {agent} counts up to entry {key.until} only"
                return Uncounted(index=index, why="revoked", message=text)
        if len(ours) == 1:
            # The other one's key stands in no register of ours: it must be whom we ourselves recorded this exchange with.
            (own,) = ours
            other = receipt.provider if own == receipt.asker else receipt.asker
            if (receipt.request, own, other) not in self._exchanges:
                text = f"no exchange of this request between {own} and {other} is recorded here"
                return Uncounted(index=index, why="unregistered", message=text)
        return None

    def _leave_out(self, index: int, why: Why, message: str) -> None:
        self._uncounted.append(Uncounted(index=index, why=why, message=message))

    def _balances(self, receipts: Iterable[UsageReceipt]) -> tuple[Balance, ...]:
        earned: dict[tuple[AgentId, str], int] = {}
        spent: dict[tuple[AgentId, str], int] = {}
        by_now: dict[AgentId, AgentId] = {}
        for each in receipts:
            asker, provider = self._by_now(each.asker, by_now), self._by_now(each.provider, by_now)
            spent[asker, each.unit] = spent.get((asker, each.unit), 0) + each.price
            earned[provider, each.unit] = earned.get((provider, each.unit), 0) + each.price
        return tuple(
            Balance(
                agent=agent, unit=unit, earned=earned.get((agent, unit), 0), spent=spent.get((agent, unit), 0)
            )
            for agent, unit in sorted(earned.keys() | spent.keys())
        )

    def _by_now(self, agent: AgentId, known: dict[AgentId, AgentId]) -> AgentId:
        """The key that took this one's place, and so on: an agent keeps its balance when its key is rotated.

        `known` has what was found before: a log may rotate a key a hundred thousand times, and bill each.
        """
        seen: dict[AgentId, None] = {}
        while agent not in known and agent not in seen:
            seen[agent] = None
            key = self._keys.get(agent)
            if key is not None and key.successor is not None and key.successor not in seen:
                agent = key.successor
        agent = known.get(agent, agent)
        known.update(dict.fromkeys(seen, agent))
        return agent


def accounts_of(origin: str, records: Iterable[Record]) -> Accounts:
    """The accounts of a log from its records, all of them, in order."""
    accounting = Accounting(origin)
    for record in records:
        accounting.take(record)
    return accounting.accounts()


def accounts_json(found: Accounts) -> dict[str, JsonValue]:
    """The accounts for programs; amounts are whole micro-units."""
    return {
        "origin": found.origin,
        "size": found.size,
        "receipts": found.receipts,
        "repeated": found.repeated,
        "balances": [
            {
                "agent": each.agent,
                "name": found.names.get(each.agent),
                "unit": each.unit,
                "earned": each.earned,
                "spent": each.spent,
                "balance": each.net,
            }
            for each in found.balances
        ],
        "bindings": [
            {"agent": each.agent, "address": each.address, "index": index} for each, index in found.bindings
        ],
        "not_counted": {str(why): number for why, number in found.uncounted.items()},
        "told": [{"index": each.index, "why": each.why, "message": each.message} for each in found.told],
    }


def _both(signed: SignedReceipt) -> bool:
    return signed.asker_signature is not None and signed.provider_signature is not None


def _numbers(uncounted: Iterable[Uncounted]) -> dict[Why, int]:
    numbers: dict[Why, int] = {}
    for each in uncounted:
        numbers[each.why] = numbers.get(each.why, 0) + 1
    return numbers
