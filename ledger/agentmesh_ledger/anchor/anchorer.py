"""Brings a log's checkpoints onto a chain, one bounded step at a time, whatever crashes in between.

Everything that a step decides it reads anew: from the journal what was signed, from the chain what became of it, from the
ledger what it recorded. What is signed is durable before it is sent, so a step that a crash cut off is taken again, with the
same bytes. One size has one nonce: of its attempts at most one can be mined. A nonce that can never come is given up; should it
come after all, the contract refuses the second of the two.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Final, TypeAlias

from agentmesh_ledger.anchor.account import Account, parse_address
from agentmesh_ledger.anchor.calls import anchor_call, is_ours
from agentmesh_ledger.anchor.carrying import REVERTED, Carrier
from agentmesh_ledger.anchor.chain import Block, Chain
from agentmesh_ledger.anchor.fees import Fees, wei
from agentmesh_ledger.anchor.journal import Attempt, Journal, Place, Push, Target
from agentmesh_ledger.anchor.progress import Every, Progress
from agentmesh_ledger.anchor.recording import Fresh, is_recorded
from agentmesh_ledger.anchor.setting import Setting
from agentmesh_ledger.checkpoint import Checkpoint, parse_checkpoint
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.keys import AgentKey
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.note import parse_note

# Some 300 times what the contract needs: rollups count the price of their own chain as gas. A node that asks for more lies.
_MOST_GAS: Final = 10_000_000
_WAIT: Final = threading.Event()  # never set

Settlement: TypeAlias = bytes | Callable[[int], bytes] | None
"""The root of balances to publish beside a checkpoint, or what gives it for the size that is anchored."""


def _pass(point: str) -> None:
    """Nothing happens at the points where a test lets the process die."""


def _untold(progress: Progress) -> None:
    """Nobody listens."""


class Anchorer:
    """Anchors one log, with one account, in one contract.

    Steps may be taken by several threads and processes: the journal has a lock, and whoever does not get it waits.
    """

    def __init__(
        self,
        ledger: Ledger,
        author: AgentKey,
        chain: Chain,
        account: Account,
        contract: str,
        journal: Journal,
        *,
        confirmations: int = 3,
        max_fee_gwei: Decimal = Decimal(50),
        patience_blocks: int = 3,
        poll: float = 1.0,
        clock: Callable[[], float] = time.time,
        at: Callable[[str], None] = _pass,
    ) -> None:
        """`author` signs the entries that record anchors. `poll` is seconds between two steps of `push`.

        Nothing is asked of the chain yet. Raises: LedgerError(refused) for an address or a fee that is none.
        """
        self._set = Setting(
            ledger=ledger,
            author=author,
            chain=chain,
            account=account,
            contract=parse_address(contract),
            journal=journal,
            confirmations=max(1, confirmations),
            cap=wei(max_fee_gwei),
            patience=max(1, patience_blocks),
            clock=clock,
            at=at,
        )
        self._poll = poll
        self._fresh = Fresh(ledger, author)
        self._asked = False

    @property
    def setting(self) -> Setting:
        """What it was made with."""
        return self._set

    def require_continued(self) -> None:
        """Refuses to go on where the chain, or the journal, holds more of this log than the ledger, or other content.

        Raises: LedgerError(rollback, forked); LedgerError(node) where the node cannot tell; LedgerError(refused) where
        the contract is not ours or the chain another.
        """
        target = self._set.target()
        if not is_ours(self._set.chain, self._set.contract):
            raise LedgerError("refused", self._set.not_ours())
        newest = self._set.journal.newest(target)
        continuity = self._set.continuity(target)
        if newest is not None:
            continuity.require_push(newest)
        continuity.require()

    def pending(self) -> bool:
        """Whether an anchor is under way, so that a step is worth taking. Asks nothing of the chain."""
        return self._set.journal.under_way(self._known()) is not None

    def fresh(self, enough: int = 1) -> int:
        """How many entries are new since the last anchor, counted up to `enough`; anchors' own are not. Asks nothing of the chain."""
        newest = self._set.journal.newest(self._known())
        return self._fresh.count(0 if newest is None else newest.size, enough)

    def due(self, every: Every) -> bool:
        """Whether something is new since the last anchor, and `every` is reached. Asks nothing of the chain."""
        if every.messages is not None:
            return self.fresh(every.messages) >= every.messages
        if not self.fresh() or every.seconds is None:
            return False
        newest = self._set.journal.newest(self._known())
        past = None if newest is None else self._set.clock() - newest.made
        return past is None or past >= every.seconds or past < 0  # a clock that was set back delays nothing

    def push(
        self,
        *,
        within: float,
        stopped: Callable[[], bool] = lambda: False,
        settlement: Settlement = None,
        told: Callable[[Progress], None] = _untold,
    ) -> Progress:
        """Takes steps until what the ledger holds now is anchored and recorded, the time is over, or only the operator can help.

        Nothing is lost where the time is over: the next step goes on. Raises: LedgerError as `step`.
        """
        deadline = time.monotonic() + within
        size = self._set.ledger.size
        done: Progress | None = None
        while True:
            progress = self.step(settlement)
            told(progress)
            if progress.state == "idle":
                return done or progress
            if progress.state == "blocked":
                return progress
            if progress.state == "recorded":
                done = progress
                newest = self._set.journal.newest(self._known())
                if (done.size or 0) >= size and not (newest and _lacks(newest, settlement)):
                    return progress
            left = deadline - time.monotonic()
            if stopped() or left <= 0:
                return progress
            if progress.state != "recorded":
                _WAIT.wait(min(self._poll, left))

    def step(self, settlement: Settlement = None, *, start: bool = True) -> Progress:
        """One step: prepare, send, look, replace, send again after a reorg, or record; a few questions to the node.

        `start` false only looks after what is under way. Never raises for a node that is down or lies: that is `waiting`.
        Raises: LedgerError(rollback, forked) where the chain holds another log than the ledger; what the ledger and the
        journal raise. Safe to repeat after any of them.
        """
        with self._set.journal.locked() as alone:
            if not alone:
                return Progress(state="waiting", message="another process pushes this log's anchors now")
            try:
                return self._step(settlement, start)
            except LedgerError as error:
                if error.reason not in ("node", "refused"):
                    raise
                return Progress(
                    state="waiting" if error.reason == "node" else "blocked", message=_line(error)
                )

    def _step(self, settlement: Settlement, start: bool) -> Progress:
        target, head = self._set.target(), self._set.chain.head()
        self._require(target)
        self._look_back(target, head)
        push = self._set.journal.under_way(target)
        if push is not None:
            return self._carry(target, push, head)
        if start:
            return self._start(target, settlement, head)
        return self._idle(self._set.journal.newest(target), head)

    def _carry(self, target: Target, push: Push, head: Block) -> Progress:
        self._set.continuity(target).require_push(push)
        return Carrier(self._set, target, head).carry(push)

    def _require(self, target: Target) -> None:
        """Holds the ledger to the journal, and once to the chain: later that is done before anything new is signed."""
        newest = self._set.journal.newest(target)
        continuity = self._set.continuity(target)
        if newest is not None:
            continuity.require_push(newest)
        if not self._asked and is_ours(self._set.chain, self._set.contract):
            continuity.require()
            self._asked = True

    def _look_back(self, target: Target, head: Block) -> None:
        """Marks what was recorded and then left the chain. A block holds its ancestors: the first that is still there ends it."""
        push = self._set.journal.newest(target)
        while push is not None:
            if push.state == "recorded" and push.block is not None:
                block = self._set.chain.block(push.block) if push.block <= head.number else None
                if block is not None and block.hash == push.block_hash:
                    return
                if block is None and self._set.chain.nonce(target.sender) > push.nonce:
                    return  # the node lags: its state has the transaction, and it does not show the block
                self._set.journal.vanished(push)
                self._set.at("vanished")
            push = self._set.journal.recorded_before(target, push.id)

    def _start(self, target: Target, settlement: Settlement, head: Block) -> Progress:
        """Prepares a new anchor, where there is something to anchor and nothing in the way."""
        note = self._set.ledger.checkpoint()
        checkpoint = parse_checkpoint(parse_note(note).text)
        newest = self._set.journal.newest(target)
        since = 0 if newest is None else newest.size
        # Balances that are wanted, and not published, are worth an anchor of nothing but the last one's entry.
        wanted = newest is not None and checkpoint.size > since and _lacks(newest, settlement)
        if not checkpoint.size or not (wanted or self._fresh.count(since, 1)):
            return self._idle(newest, head)
        if not is_ours(self._set.chain, self._set.contract):
            return Progress(state="blocked", message=self._set.not_ours())
        held = self._set.continuity(target).require()
        if held.size > since:
            if not self._is_known(target, held.size):
                return self._carry_open(target, head)
            if not self._fresh.count(held.size, 1):
                return Progress(
                    state="idle", message=f"nothing is new since size {held.size}", size=held.size
                )
        refused = self._refused(target, checkpoint)
        return refused or self._prepare(target, checkpoint, note, settlement, head)

    def _prepare(
        self, target: Target, checkpoint: Checkpoint, note: str, settlement: Settlement, head: Block
    ) -> Progress:
        """Signs, writes down, and only then sends."""
        balances = settlement(checkpoint.size) if callable(settlement) else settlement
        data = anchor_call(self._set.ledger.origin, checkpoint.size, checkpoint.root, balances)
        cost = self._cost(target, data, head)
        if isinstance(cost, Progress):
            return cost
        gas, fees = cost
        nonce = max(self._set.chain.nonce(target.sender, "pending"), self._set.journal.next_nonce(target))
        signed = self._set.account.sign(
            chain=target.chain, nonce=nonce, to=self._set.contract, data=data, gas=gas, fees=fees
        )
        self._set.at("signed")
        self._set.journal.add(
            target,
            size=checkpoint.size,
            root=checkpoint.root,
            settlement=balances,
            note=note,
            nonce=nonce,
            gas=gas,
            made=self._set.clock(),
            attempt=Attempt(tx=signed.tx, raw=signed.raw, fees=fees),
        )
        self._set.at("prepared")
        return self._carry_open(target, head)

    def _cost(self, target: Target, data: bytes, head: Block) -> tuple[int, Fees] | Progress:
        """The gas and the fees of a new transaction; or why there can be none now."""
        fees = self._set.fees(head)
        if isinstance(fees, Progress):
            return fees
        gas = self._set.chain.gas(target.sender, self._set.contract, data)
        if isinstance(gas, str):
            if "revert" in gas.lower():
                return Progress(state="blocked", message=f"the contract would refuse it: {gas}")
            return Progress(state="waiting", message=f"the node does not say what gas it takes: {gas}")
        if gas > _MOST_GAS:
            return Progress(
                state="waiting", message=f"the node says that it takes {gas} gas, which cannot be"
            )
        # The node may have counted on one of ours that waits, and may never be mined: the first anchor of a log writes a
        # slot that was empty, for 17,100 more.
        gas += gas // 5 + 20_000
        return self._set.short(gas * fees.max_fee) or (gas, fees)

    def _refused(self, target: Target, checkpoint: Checkpoint) -> Progress | None:
        """Said where the contract refused this very size before, for no reason that shows: never a loop that burns fees."""
        last = self._set.journal.newest(target, ended=True)
        if last is None or (last.state, last.why, last.size) != ("ended", REVERTED, checkpoint.size):
            return None
        message = f"size {last.size} is not tried again: {REVERTED}; the next larger one will be"
        return Progress(state="blocked", message=message, size=last.size)

    def _is_known(self, target: Target, size: int) -> bool:
        """Whether the ledger records the anchor of this size; else it is taken up: it was another journal's, or was lost."""
        found = self._set.continuity(target).find(size)
        if is_recorded(self._set.ledger, size=size, tx=found.tx):
            return True
        if self._set.journal.reopen(target, found.tx):
            return False  # one of ours that was given up: the node had told something else of it
        nonce = self._set.chain.nonce_of(found.tx)
        if nonce is None:
            raise LedgerError(
                "node", f"the node at {self._set.chain.place} does not show transaction {found.tx}"
            )
        self._set.journal.add(
            target,
            size=size,
            root=found.root,
            note="",
            nonce=nonce,
            gas=0,
            made=self._set.clock(),
            attempt=Attempt(tx=found.tx, raw=b"", fees=Fees(max_fee=0, tip=0), sent=found.block),
        )
        return False

    def _carry_open(self, target: Target, head: Block) -> Progress:
        push = self._set.journal.under_way(target)
        if push is None:
            path = str(self._set.journal.path)
            raise LedgerError("failed", "the journal of anchors lost what it was given", path=path)
        return self._carry(target, push, head)

    def _idle(self, newest: Push | None, head: Block) -> Progress:
        if newest is None or newest.block is None:
            return Progress(state="idle", message="the log has nothing to anchor yet")
        return Progress(
            state="idle",
            message=f"nothing is new since size {newest.size}",
            size=newest.size,
            tx=newest.tx,
            block=newest.block,
            depth=max(0, head.number - newest.block + 1),
            entry=newest.entry,
        )

    def _known(self) -> Place:
        """As `Setting.target`, for what is only looked up here: on any chain where none is known yet."""
        return Place(
            chain=self._set.chain.expected, contract=self._set.contract, sender=self._set.account.address
        )


def _lacks(push: Push, settlement: Settlement) -> bool:
    """Whether balances are to be published, and this one published none."""
    return settlement is not None and push.settlement is None


def _line(error: LedgerError) -> str:
    if error.expected is not None and error.found is not None:
        return f"{error.message} (expected {error.expected}, found {error.found})"
    return error.message
