"""How a log's anchors stand, for whoever asks: nothing is sent, signed or written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from agentmesh_ledger.affairs import LOG_DIALOGUE
from agentmesh_ledger.anchor.account import parse_address
from agentmesh_ledger.anchor.calls import is_ours, read_head
from agentmesh_ledger.anchor.chain import Block, Chain
from agentmesh_ledger.anchor.continued import Continuity
from agentmesh_ledger.anchor.journal import Journal, Push, Target
from agentmesh_ledger.anchor.recording import ANCHOR
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.log import Ledger

Standing: TypeAlias = Literal["pending", "recorded", "vanished", "unseen"]
"""`recorded`: in the block that the ledger names. `vanished`: the chain has another block there. `unseen`: the node does not
have that block, or not yet. `pending`: under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An anchor as the chain shows it now. `depth` is 0 where it is in no block."""

    size: int
    standing: Standing
    tx: str
    block: int | None
    depth: int
    entry: int | None
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The anchors of one account in one contract. `held` is the largest size that the contract has; `ours` that its code is ours.

    `anchors` are what is under way, and the newest recorded ones, newest first, down to the first that is still there.
    """

    contract: str
    sender: str
    ours: bool
    held: int
    balance: int
    anchors: tuple[Seen, ...]

    @property
    def sound(self) -> bool:
        """Whether everything that was recorded is where the ledger says."""
        return self.ours and all(each.standing in ("pending", "recorded") for each in self.anchors)


def survey(
    ledger: Ledger, chain: Chain, journal: Journal, *, contract: str | None = None
) -> Iterator[Survey]:
    """How the anchors of a log stand on the node's chain, for each account and contract that the journal or the ledger knows.

    Raises: LedgerError(node, refused); (rollback, forked), once all others are given, where one holds another log than the
    ledger: after a loss that was accepted, the account of before does for ever, and the one of now is of interest.
    """
    number, head = chain.id(), chain.head()
    targets = dict.fromkeys((*journal.targets(number), *_recorded(ledger, number)))
    wanted = [each for each in targets if contract in (None, each.contract)]
    other: LedgerError | None = None
    for each in wanted:
        try:
            found = _survey(ledger, chain, journal, each, head)
        except LedgerError as error:
            if error.reason not in ("rollback", "forked"):
                raise
            other = other or error
        else:
            yield found
    if other is not None:
        raise other


def _recorded(ledger: Ledger, chain: int) -> Iterator[Target]:
    """Where the ledger says that it was anchored on this chain."""
    for record in ledger.read(dialogue=LOG_DIALOGUE) if ledger.size else ():
        facts = record.message.facts
        if record.message.kind == ANCHOR and facts.get("chain") == chain:
            try:
                yield Target(
                    chain=chain,
                    contract=parse_address(str(facts.get("contract"))),
                    sender=parse_address(str(facts.get("sender"))),
                )
            except LedgerError:
                continue  # an entry of that kind by somebody else: what it says may be anything


def _survey(ledger: Ledger, chain: Chain, journal: Journal, target: Target, head: Block) -> Survey:
    ours = is_ours(chain, target.contract)
    held = read_head(chain, target, ledger.origin).size if ours else 0
    newest = journal.newest(target)
    continuity = Continuity(ledger, chain, target, journal)
    if newest is not None:
        continuity.require_push(newest)
    if ours:
        continuity.require()
    seen: list[Seen] = []
    for push in reversed(journal.all(target)):
        if push.state == "ended":
            continue
        found = _seen(chain, push, head)
        seen.append(found)
        if found.standing == "recorded":
            break
    return Survey(
        contract=target.contract,
        sender=target.sender,
        ours=ours,
        held=held,
        balance=chain.balance(target.sender),
        anchors=tuple(seen),
    )


def _seen(chain: Chain, push: Push, head: Block) -> Seen:
    standing: Standing = "vanished" if push.state == "vanished" else "pending"
    tx, place, entry = push.attempts[-1].tx, push.block, push.entry
    if push.state == "recorded" and push.block is not None:
        block = chain.block(push.block)
        standing = "unseen" if block is None else "recorded" if block.hash == push.block_hash else "vanished"
        tx = push.tx or tx
    elif push.state == "open":
        for attempt in push.attempts:
            receipt = chain.receipt(attempt.tx)
            if receipt is not None:
                tx, place = receipt.tx, receipt.block
    depth = 0 if place is None or standing in ("vanished", "unseen") else max(0, head.number - place + 1)
    return Seen(
        size=push.size,
        standing=standing,
        tx=tx,
        block=place,
        depth=depth,
        entry=entry,
        attempts=len(push.attempts),
    )
