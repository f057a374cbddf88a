"""What a chain says of a log's anchors: their blocks are its own, the contract is ours, and it holds no other and no more.

A node of the chain is asked, and believed: whoever wants more runs their own. What it says is held against a record that
was verified before, so that nothing here makes a record better than it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from agentmesh_ledger import Ledger, LedgerError, Verified, shown
from agentmesh_ledger.anchor.account import parse_address
from agentmesh_ledger.anchor.calls import is_ours, read_head
from agentmesh_ledger.anchor.chain import Block, Chain, Log
from agentmesh_ledger.anchor.chain_order import Head, head_after
from agentmesh_ledger.anchor.contract import ANNOUNCEMENT, CHECKPOINT
from agentmesh_ledger.anchor.evidence import Anchored
from agentmesh_ledger.anchor.journal import Target
from agentmesh_ledger.anchor.report import anchor_limits
from agentmesh_ledger.checks import first_link

_FIRST_WINDOW: Final = 10_000  # blocks; what hosted nodes look at in one question is 500 to 100,000
_WIDEST_WINDOW: Final = 100_000
_MOST_QUESTIONS: Final = 5_000
_MOST_TIMES: Final = 5  # that a log may be anchored while it is looked at
_MOST_BLOCKS: Final = 2_000_000  # asked of a node only to see the order of all checkpoints from the first on


def ask_chain(
    found: Verified,
    chain: Chain,
    *,
    contract: str | None = None,
    sender: str | None = None,
    ledger: Ledger | None = None,
) -> Verified:
    """The evidence, with what the chain says of the anchors in it: those whose blocks it has are pinned (SPEC L-119).

    `contract` and `sender` name the only contract, and the only account, whose word counts. `ledger` is the database the
    evidence is of, opened: it may have grown since it was verified.
    Raises: LedgerError(anchor) for a block that the chain has not, and for another contract's code; LedgerError(rollback,
        forked) where the chain holds more, or another branch; LedgerError(node) where the node cannot tell.
    """
    asked = _Asked(
        found=found,
        chain=chain,
        id=chain.id(),
        head=chain.head(),
        contract=None if contract is None else parse_address(contract),
        sender=None if sender is None else parse_address(sender),
        ledger=ledger,
    )
    anchors = asked.anchors()
    blocks = asked.blocks(anchors)
    targets = asked.targets(anchors)
    told = [asked.hold(target, [each for each in anchors if each.block_hash in blocks]) for target in targets]
    return _evidence(asked, anchors, blocks, targets, told)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checkpoint:
    """A checkpoint of the log that a contract logged."""

    size: int
    root: bytes
    sender: str
    ordered: bool  # by `anchor`, which takes larger sizes only


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One audit of a chain: what was verified, and the node that is asked."""

    found: Verified
    chain: Chain
    id: int
    head: Block
    contract: str | None
    sender: str | None
    ledger: Ledger | None
    codes: set[str] = field(default_factory=set)

    def anchors(self) -> list[Anchored]:
        """The record's anchors on this chain that count."""
        return [
            each
            for each in self.found.anchors
            if each.chain == self.id
            and self.contract in (None, each.contract)
            and self.sender in (None, each.sender)
        ]

    def blocks(self, anchors: Sequence[Anchored]) -> dict[str, str]:
        """What the chain says of each block of theirs that it has, by its hash.

        Raises: LedgerError(anchor) where it has another one there, and no other anchor stands for the one that was lost.
        """
        found: dict[str, str] = {}
        lost: list[Anchored] = []
        for each in anchors:
            if each.block_hash in found or each.block is None:
                continue
            if self.head.number < each.block:
                raise LedgerError(
                    "node",
                    f"the node at {self.chain.place} is at block {self.head.number}, and an anchor in block {each.block}",
                )
            block = self._block(each.block)
            if block.hash != each.block_hash:
                lost.append(each)
                continue
            behind = self.head.number - each.block
            after = (
                "the newest one"
                if not behind
                else f"{behind} {'block' if behind == 1 else 'blocks'} after it"
            )
            found[each.block_hash] = f"it is on the chain, {after}, as the node at {self.chain.place} says"
        for each in lost:
            # For a block that the auditor has named nothing stands: then the node, or whoever told of it, is wrong.
            if each.pinned or not any(
                _stands_for(other, each) and other.block_hash in found for other in anchors
            ):
                raise LedgerError(
                    "anchor",
                    f"block {each.block} of chain {self.id} is another one than that of the anchor of {each.size} entries: it"
                    " was made up, or the chain has dropped it",
                    expected=self._block(each.block or 0).hash,
                    found=each.block_hash,
                )
        return found

    def _block(self, number: int) -> Block:
        """The block of this number, which is not above the head. Raises: LedgerError(node) where the node has lost it."""
        block = self.chain.block(number)
        if block is None:
            raise LedgerError(
                "node",
                f"the node at {self.chain.place} is at block {self.head.number}, and does not show block {number}",
            )
        return block

    def targets(self, anchors: Sequence[Anchored]) -> list[Target]:
        """Whose checkpoints are to be compared, and where: those of the record, else all that the named contract has.

        Raises: LedgerError(anchor) where neither says anything.
        """
        named = {(each.contract, each.sender) for each in anchors if each.contract and each.sender}
        if self.contract is not None and self.sender is not None:
            named.add((self.contract, self.sender))
        if not named and self.contract is None:
            raise LedgerError(
                "anchor",
                f"the record shows no anchor on chain {self.id} that could be looked for there",
                hint="Name the contract with --contract: a record may be older than its first anchor",
            )
        if not named and self.contract is not None:
            self._require_ours(self.contract)
            # Anybody may publish under any origin: whoever did is told, and can be told apart with --sender.
            named = {(self.contract, each.sender) for each in self._events(self.contract, None, 0)}
            if not named:
                raise LedgerError(
                    "anchor", f"the contract {self.contract} on chain {self.id} holds nothing of this log"
                )
        return [Target(chain=self.id, contract=c or "", sender=s or "") for c, s in sorted(named)]

    def hold(self, target: Target, anchors: Sequence[Anchored]) -> str:
        """Compares what the contract holds by one account with the record, whose `anchors` are in blocks that the chain has;
        what is then known, in words.

        Raises: LedgerError(rollback, forked, anchor, node).
        """
        self._require_ours(target.contract)
        own = [each for each in anchors if (each.contract, each.sender) == (target.contract, target.sender)]
        head, events, is_whole = self._held(target, own)
        # Behind one address may be two nodes, of which one lags: what it does not hold yet is no "nothing larger".
        hidden = {each.size for each in own} - {each.size for each in events}
        if hidden:
            raise LedgerError(
                "node",
                f"the node at {self.chain.place} has the block of the anchor of {max(hidden)} entries, and does not show its event",
            )
        if not events:
            raise LedgerError(
                "anchor",
                f"the contract {target.contract} on chain {self.id} holds nothing of this log by {target.sender}",
            )
        most = max([head.size, *(each.size for each in events)])
        if most > self._size():
            raise LedgerError(
                "rollback",
                f"the chain holds {most} entries of this log, by {target.sender}, and this record is of"
                f" {self.found.tree_size}: it was cut or put back from an older copy",
                expected=f"at least {most} entries",
                found=str(self.found.tree_size),
                hint=None
                if self.ledger is not None
                else "Or it was written before the last anchor: ask for one of today",
            )
        unknown = self._compare(events)
        more = f", of which {unknown} of other sizes were not compared" if unknown else ""
        more += "" if is_whole else ", of which those before the record's first anchor were not asked for"
        return (
            f"the contract {target.contract} on chain {self.id} holds {most} entries of it by {target.sender} and nothing"
            f" larger{more}, as the node at {self.chain.place} says at block {self.head.number}"
        )

    def _held(self, target: Target, own: Sequence[Anchored]) -> tuple[Head, list[_Checkpoint], bool]:
        """What the contract holds by one account, its events, and whether these are all from the first one on.

        Raises: LedgerError(node).
        """
        head = read_head(self.chain, target, self.found.origin)
        for _ in range(_MOST_TIMES):
            # From the first anchor known on; from the beginning where that does not show what the contract holds.
            for first in dict.fromkeys((min((each.block or 0 for each in own), default=0), 0)):
                events = self._events(target.contract, target.sender, first)
                is_whole = _is_order_of(head, events)
                held = max((each.size for each in events if each.ordered), default=0)
                if is_whole or (held >= head.size and first > _MOST_BLOCKS):
                    return head, events, is_whole
            before, head = head, read_head(self.chain, target, self.found.origin)
            if head == before:
                break
            # The log was anchored between the two questions.
        raise LedgerError(
            "node",
            f"the node at {self.chain.place} leaves out events, or alters them: those it shows are not the order of"
            f" checkpoints that the contract holds, the last of {head.size} entries",
        )

    def _compare(self, events: Sequence[_Checkpoint]) -> int:
        """Holds each checkpoint to the record; how many are of sizes whose roots the record does not show.

        Raises: LedgerError(forked).
        """
        unknown = 0
        for each in events:
            root = self._root(each.size)
            unknown += root is None
            if root is not None and root != each.root:
                raise LedgerError(
                    "forked",
                    f"the chain holds another root for the first {each.size} entries of this log, by {each.sender}: it"
                    " has two branches, and this record is of one",
                    expected=each.root.hex(),
                    found=root.hex(),
                )
        return unknown

    def _size(self) -> int:
        return self.found.tree_size if self.ledger is None else max(self.found.tree_size, self.ledger.size)

    def _root(self, size: int) -> bytes | None:
        if size == self.found.tree_size:
            return bytes.fromhex(self.found.root)
        if self.ledger is not None:
            return self.ledger.root(size)
        return next((each.root for each in self.found.anchors if each.size == size), None)

    def _require_ours(self, contract: str) -> None:
        if contract not in self.codes and not is_ours(self.chain, contract):
            raise LedgerError(
                "anchor",
                f"the code at {contract} on chain {self.id} is not that of the contract of this package: what follows a"
                " checkpoint there is not known",
            )
        self.codes.add(contract)

    def _events(self, contract: str, sender: str | None, first: int) -> list[_Checkpoint]:
        """The checkpoints of the log that the contract logged from a block on, oldest first.

        Raises: LedgerError(node).
        """
        origin = f"0x{first_link(self.found.origin).hex()}"
        author = None if sender is None else f"0x{'00' * 12}{sender[2:]}"
        found: list[_Checkpoint] = []
        for kind in (CHECKPOINT, ANNOUNCEMENT):
            topics = (f"0x{kind.hex()}", author, origin)
            for log in self._logs(contract, topics, first):
                good = len(log.topics) == 3 and len(log.data) == 64 and log.address == contract
                if not good or any(
                    want not in (None, has) for want, has in zip(topics, log.topics, strict=True)
                ):
                    raise LedgerError(
                        "node", f"the node at {self.chain.place} gives events that were not asked for"
                    )
                found.append(
                    _Checkpoint(
                        size=int.from_bytes(log.data[:32], "big"),
                        root=log.data[32:],
                        sender=f"0x{log.topics[1][-40:]}",
                        ordered=kind == CHECKPOINT,
                    )
                )
        return found

    def _logs(self, contract: str, topics: tuple[str | None, ...], first: int) -> list[Log]:
        found: list[Log] = []
        # Asked now: what the contract was found to hold before stands in a block up to here.
        last = self.chain.head().number
        at, window = first, _FIRST_WINDOW
        for _ in range(_MOST_QUESTIONS):
            if at > last:
                return found
            stop = min(last, at + window - 1)
            logs = self.chain.logs(contract, topics, at, stop)
            if logs is None:
                window = max(1, (stop - at + 1) // 2)
                continue
            found.extend(logs)
            at, window = stop + 1, min(2 * window, _WIDEST_WINDOW)
        raise LedgerError(
            "node",
            f"the node at {self.chain.place} shows so few blocks at once that the events from block {first} on take too long",
        )


def _is_order_of(head: Head, events: Sequence[_Checkpoint]) -> bool:
    """Whether these are all the checkpoints, from the first to the last, by which the contract came to hold this."""
    try:
        return head_after((each.size, each.root) for each in events if each.ordered) == head
    except LedgerError:
        return False


def _stands_for(one: Anchored, other: Anchored) -> bool:
    """Whether an anchor covers all that another does: its block was dropped, and it was mined anew, or a larger size was
    instead, where another transaction had taken the nonce. One log has both, so that their roots need no comparing here."""
    return (one.contract, one.sender) == (other.contract, other.sender) and one.size >= other.size


def _evidence(
    asked: _Asked,
    anchors: Sequence[Anchored],
    blocks: Mapping[str, str],
    targets: Sequence[Target],
    told: Sequence[str],
) -> Verified:
    found = asked.found
    counted = {id(each) for each in anchors}
    pinned = tuple(
        replace(each, pinned=True) if id(each) in counted and each.block_hash in blocks else each
        for each in found.anchors
    )
    lost = [each.block_hash for each in anchors if each.block is not None and each.block_hash not in blocks]
    before = set(anchor_limits(found.anchors))
    limits = [each for each in found.not_shown if each not in before]
    # What stands on other chains and in other contracts was not asked for.
    limits += anchor_limits(pinned if len(counted) < len(pinned) else [], pinned)
    if asked.sender is None:
        accounts = ", ".join(sorted({shown(each.sender, 42) for each in targets}))
        limits.append(f"whose account {accounts} is: name the one you know with --sender")
    return replace(
        found,
        anchors=pinned,
        on_chain={
            **{each: f"it is not on the chain, as the node at {asked.chain.place} says" for each in lost},
            **blocks,
        },
        complete="; ".join([found.complete, *told]),
        not_shown=tuple(limits),
    )
