"""From a ledger to the file that proves one balance of it: by what a chain has, else by the log's own word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentmesh_ledger.anchor.evidence import verify_evidence
from agentmesh_ledger.checkpoint import open_checkpoint
from agentmesh_ledger.draft import Draft
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import AgentId
from agentmesh_ledger.jcs import JsonValue, parse
from agentmesh_ledger.message import LOG_DIALOGUE
from agentmesh_ledger.note import parse_vkey
from agentmesh_ledger.record import Record
from agentmesh_ledger.usage.balance_proof import ANCHOR, is_settlement, write_balance_proof
from agentmesh_ledger.usage.balances import accounts_of
from agentmesh_ledger.usage.settlement import SETTLEMENT, Settlement, settled

if TYPE_CHECKING:
    from agentmesh_ledger.keys import AgentKey
    from agentmesh_ledger.log import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """The file, and the entry that says the root in it; `appended` is whether that entry is new."""

    data: bytes
    settlement: Settlement
    index: int
    appended: bool
    anchored: bool


def prove_balance(
    ledger: Ledger, agent: AgentId, unit: str | None, *, author: AgentKey | None, newest: bool = False
) -> Proved:
    """The file that proves an agent's balance; `unit` None means the only one that it has a balance in.

    The newest root that was published on a chain is taken, where there is one, unless the `newest` balances are wanted;
    else one that the log says, which `author` writes where it does not say it yet.
    Raises: LedgerError; (not_found) where the agent has no such balance, (key) where an author would be needed.
    """
    entries = [each for each in _affairs(ledger) if each.message.kind in (ANCHOR, SETTLEMENT)]
    if not newest:
        for each in reversed(entries):
            published = _settled_by(ledger, each)
            if published is None:
                continue
            try:
                return _proved_by(ledger, each, *published, agent, unit)
            except LedgerError as error:
                if error.reason == "not_found":
                    break  # whoever has no balance yet had none before; and each older root takes all of the log to read
                if error.reason not in ("anchor", "usage"):
                    raise  # else the log tells its anchor otherwise
    now = settled(accounts_of(ledger.origin, ledger.read()))
    _leaf(now, agent, unit)  # before anything is written
    for each in reversed(entries):
        size = each.message.facts.get("size")
        if isinstance(size, int) and is_settlement(each.message, size, now.root()):
            # The balances are what they were then: the same leaves, said of the size that the log says them of.
            then = Settlement(origin=now.origin, size=size, balances=now.balances, leaves=now.leaves)
            data = _file(ledger, then, agent, unit, each.index, None)
            return Proved(data=data, settlement=then, index=each.index, appended=False, anchored=False)
    if author is None:
        raise LedgerError("key", "the log does not say this root yet, and no key is at hand to write it")
    index = settle(ledger, now, author)
    data = _file(ledger, now, agent, unit, index, None)
    return Proved(data=data, settlement=now, index=index, appended=True, anchored=False)


def _settled_by(ledger: Ledger, anchor: Record) -> tuple[JsonValue, Settlement] | None:
    """The balances that this anchor published; None where it published none, or others than the log has."""
    published = _published(anchor)
    if published is None:
        return None
    evidence, root = published
    then = _settlement(ledger, anchor)
    return (evidence, then) if then.root() == root else None


def _proved_by(
    ledger: Ledger, anchor: Record, evidence: JsonValue, then: Settlement, agent: AgentId, unit: str | None
) -> Proved:
    data = _file(ledger, then, agent, unit, anchor.index, evidence)
    return Proved(data=data, settlement=then, index=anchor.index, appended=False, anchored=True)


def settle(ledger: Ledger, settlement: Settlement, author: AgentKey) -> int:
    """Lets the log itself say the root (SPEC L-157); the entry's place.

    Raises: LedgerError as `Ledger.append`.
    """
    facts: dict[str, JsonValue] = {"balances": settlement.root().hex(), "size": settlement.size}
    draft = Draft(author=author, kind=SETTLEMENT, dialogue=LOG_DIALOGUE, facts=facts)
    return ledger.append([draft])[0].index


def _file(
    ledger: Ledger,
    settlement: Settlement,
    agent: AgentId,
    unit: str | None,
    index: int,
    evidence: JsonValue,
) -> bytes:
    leaf = _leaf(settlement, agent, unit)
    entry = ledger.prove(index, under=cosigned_over(ledger, index))
    return write_balance_proof(settlement, leaf, entry=entry, keys=[ledger.vkey()], evidence=evidence)


def cosigned_over(ledger: Ledger, index: int) -> str | None:
    """The cosigned checkpoint that covers the entry, if there is one: it says more than the log's own newest."""
    try:
        note = ledger.cosigned()
    except LedgerError as error:
        if error.reason != "key":
            raise
        return None  # opened without its keys, beside which it would stand
    if note is None or open_checkpoint(note, (parse_vkey(ledger.vkey()),)).checkpoint.size <= index:
        return None
    return note


def _leaf(settlement: Settlement, agent: AgentId, unit: str | None) -> int:
    if unit is not None:
        return settlement.place(agent, unit)
    units = [each.unit for each in settlement.balances if each.agent == agent]
    if len(units) == 1:
        return settlement.place(agent, units[0])
    if not units:
        raise LedgerError(
            "not_found", f"{agent} has no balance after the first {settlement.size} entries of this log"
        )
    raise LedgerError(
        "not_found", f"{agent} has balances in several units", hint=f"Name one: {', '.join(units)}"
    )


def _affairs(ledger: Ledger) -> Sequence[Record]:
    return list(ledger.read(dialogue=LOG_DIALOGUE)) if ledger.size else []


def _published(record: Record) -> tuple[JsonValue, bytes] | None:
    """The evidence that an anchor carries, and the root of balances that it shows; None where it shows none."""
    message = record.message
    data = next((part.data for part in record.parts if part.name == "evidence"), None)
    size, root = message.facts.get("size"), message.facts.get("root")
    if message.kind != ANCHOR or data is None or not isinstance(size, int) or not isinstance(root, str):
        return None
    try:
        evidence = parse(data)
        found = verify_evidence(evidence, origin=message.log, size=size, root=bytes.fromhex(root))
    except (LedgerError, ValueError):
        return None  # an anchor of another kind, or one that verification of the log will tell of
    return None if found.settlement is None else (evidence, found.settlement)


def _settlement(ledger: Ledger, anchor: Record) -> Settlement:
    size = anchor.message.facts["size"]
    assert isinstance(size, int)  # `_published` looked
    return settled(accounts_of(ledger.origin, ledger.read(0, size)))
