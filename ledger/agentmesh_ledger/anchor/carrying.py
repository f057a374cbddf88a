"""One push on its way: sent, looked after, replaced, sent again after a reorg, proved and recorded."""

from __future__ import annotations

from typing import Final

from agentmesh_ledger.anchor.calls import anchor_call, checkpoints, is_ours
from agentmesh_ledger.anchor.chain import Block, TxReceipt
from agentmesh_ledger.anchor.evidence import verify_evidence
from agentmesh_ledger.anchor.fees import bumped, in_gwei
from agentmesh_ledger.anchor.journal import Attempt, Push, Target
from agentmesh_ledger.anchor.progress import Progress, Stage
from agentmesh_ledger.anchor.receipt import evidence_from_receipts
from agentmesh_ledger.anchor.recording import record
from agentmesh_ledger.anchor.setting import Setting
from agentmesh_ledger.errors import LedgerError

REVERTED: Final = "the contract refused it"
_TAKEN: Final = "another transaction took its nonce"
_OVERTAKEN: Final = "a larger size was anchored with the same key"
_UNDONE: Final = "its transaction did nothing: the contract was not there"
_BEYOND: Final = "nobody sends the transactions that the account would have to send before it"
_FOREIGN: Final = "another program's transaction, and the chain forgot it"


class Carrier:
    """Takes a push one step further, by what the chain says of it now."""

    def __init__(self, setting: Setting, target: Target, head: Block) -> None:
        """`head` is the chain's newest block, as of this step."""
        self._set = setting
        self._target = target
        self._head = head

    def carry(self, push: Push) -> Progress:
        """Where the push stands after this step. It must be of the ledger as it is (`Continuity.require_push`).

        Raises: LedgerError(node, rollback, forked); what the ledger and the journal raise.
        """
        for attempt in reversed(push.attempts):
            receipt = self._set.chain.receipt(attempt.tx)
            if receipt is not None:
                return self._mined(push, receipt)
        if self._set.chain.nonce(self._target.sender) > push.nonce:
            return self._nonce_used(push)
        last = push.attempts[-1]
        if not last.raw:
            self._set.journal.end(push, _FOREIGN)
            return told(push, "pending", f"{_FOREIGN}; it is anchored anew")
        if self._is_stuck(last):
            return self._beyond_reach(push) or self._replace(push, last)
        if last.sent is None or not self._set.chain.knows(last.tx):
            return self._send(push, last)
        return told(push, "pending", "sent, and not mined yet")

    def _mined(self, push: Push, receipt: TxReceipt) -> Progress:
        block = self._set.chain.block(receipt.block)
        if block is None or block.hash != receipt.block_hash:
            return told(push, "waiting", "the node shows a receipt of a block that it does not have")
        depth = max(0, self._head.number - receipt.block + 1)
        if depth < self._set.confirmations:
            what = "mined" if receipt.good else "mined, and refused by the contract"
            message = f"{what}; {depth} of the {self._set.confirmations} blocks that it must be deep"
            self._seen(push, receipt.tx)
            return told(push, "pending", message, receipt=receipt, depth=depth)
        if not receipt.good:
            return self._reverted(push)
        events = checkpoints(receipt.logs, self._target, self._set.ledger.origin)
        if not any((each.size, each.root) == (push.size, push.root) for each in events):
            self._set.journal.end(push, _UNDONE)
            return told(push, "blocked", _UNDONE, receipt=receipt, depth=depth)
        entry = self._record(push, receipt, block)
        message = f"{depth} {'block' if depth == 1 else 'blocks'} deep, and recorded as entry {entry}"
        return told(push, "recorded", message, receipt=receipt, depth=depth, entry=entry)

    def _record(self, push: Push, receipt: TxReceipt, block: Block) -> int:
        """Proves the anchor from the block's receipts, and has the ledger say so."""
        self._set.at("deep")
        origin, contract = self._set.ledger.origin, self._set.contract
        try:
            evidence = evidence_from_receipts(
                block.fields,
                self._set.chain.receipts(block),
                transaction=receipt.tx,
                chain=self._target.chain,
                origin=origin,
                size=push.size,
                root=push.root,
                contract=contract,
            )
            anchored = verify_evidence(
                evidence, origin=origin, size=push.size, root=push.root, contract=contract
            )
        except LedgerError as error:
            raise LedgerError("node", f"the node's receipts prove nothing: {error.message}") from error
        if anchored.block_hash != block.hash or anchored.sender != self._target.sender:
            raise LedgerError("node", "the node's receipts are of another block, or of another sender")
        self._set.at("proved")
        entry = record(
            self._set.ledger,
            self._set.author,
            anchored,
            chain=self._target.chain,
            tx=receipt.tx,
            evidence=evidence,
        )
        self._set.at("appended")
        self._set.journal.recorded(
            push, tx=receipt.tx, block=block.number, block_hash=block.hash, entry=entry
        )
        self._set.at("recorded")
        return entry

    def _reverted(self, push: Push) -> Progress:
        """The contract refused it: somebody with the same key was there with a size as large, or larger."""
        held = self._set.continuity(self._target).require()
        if held.size >= push.size:
            if self._is_anchor(push, held.size):
                return told(
                    push, "waiting", "the node has the anchor, and shows a receipt by which it failed"
                )
            self._set.journal.end(push, _OVERTAKEN)
            return told(push, "pending", f"{_OVERTAKEN}, and the ledger continues it")
        self._set.journal.end(push, REVERTED)
        return told(push, "blocked", f"{REVERTED}, although the chain holds no size as large")

    def _nonce_used(self, push: Push) -> Progress:
        """The account has sent this nonce, and the node shows none of our transactions: it lags, or another one took it.

        Nothing is signed anew before that is as deep as an anchor must be, and never while the contract has the size.
        """
        held = self._set.continuity(self._target).require()
        if held.size >= push.size:
            if self._is_anchor(push, held.size):
                return told(push, "waiting", "the node has the anchor, and does not show its receipt")
            self._set.journal.end(push, _OVERTAKEN)
            return told(push, "pending", f"{_OVERTAKEN}, and the ledger continues it")
        deep = max(0, self._head.number - self._set.confirmations + 1)
        if self._set.chain.nonce(self._target.sender, deep) <= push.nonce:
            return told(push, "pending", "its nonce is used; whose transaction that is will show")
        self._set.at("lost")
        self._set.journal.end(push, _TAKEN)
        return told(push, "pending", f"{_TAKEN}; it is signed anew with the next")

    def _is_anchor(self, push: Push, held: int) -> bool:
        """Whether the size that the contract holds came by one of the push's own transactions."""
        if held != push.size:
            return False
        event = self._set.continuity(self._target).find(held)
        return event.tx in {each.tx for each in push.attempts}

    def _beyond_reach(self, push: Push) -> Progress | None:
        """Gives up a nonce that the account does not come to: a node told a wrong one, or the chain began anew.

        Where it is mined all the same, the contract has the size, and refuses it to the one that is signed now.
        """
        chain, sender = self._set.chain, self._target.sender
        sent = max(chain.nonce(sender), chain.nonce(sender, "pending"))
        if sent >= push.nonce or not self._set.journal.forsake(self._target, sent, _BEYOND):
            return None
        return told(push, "pending", f"{_BEYOND} ({sent} to {push.nonce - 1}); it is signed anew")

    def _seen(self, push: Push, tx: str) -> None:
        """Patience counts from when it was last in a block: where a reorg takes it out, it is sent again as it is."""
        for each in push.attempts:
            if each.tx == tx and each.sent != self._head.number:
                self._set.journal.sent(tx, self._head.number)

    def _is_stuck(self, attempt: Attempt) -> bool:
        return attempt.sent is not None and self._head.number - attempt.sent >= self._set.patience

    def _replace(self, push: Push, last: Attempt) -> Progress:
        """Offers an eighth more at the same nonce, where the cap has room for that."""
        base = self._head.base_fee or 0
        fees = bumped(last.fees, base, self._set.chain.suggested_tip(), self._set.cap)
        if fees is None:
            if not self._set.chain.knows(last.tx):
                return self._send(push, last)
            high = base > last.fees.max_fee
            return told(
                push,
                "waiting",
                self._set.spike(base) if high else "stuck, at the highest fee that is allowed",
            )
        short = self._set.short(push.gas * fees.max_fee)
        if short is not None:
            return told(push, short.state, short.message)
        signed = self._set.account.sign(
            chain=self._target.chain,
            nonce=push.nonce,
            to=self._set.contract,
            data=anchor_call(self._set.ledger.origin, push.size, push.root, push.settlement),
            gas=push.gas,
            fees=fees,
        )
        attempt = Attempt(tx=signed.tx, raw=signed.raw, fees=fees)
        self._set.journal.replace(push, attempt)
        self._set.at("replaced")
        return self._send(push, attempt)

    def _send(self, push: Push, attempt: Attempt) -> Progress:
        if not is_ours(self._set.chain, self._set.contract):  # the chain may have begun anew without it
            return told(push, "blocked", self._set.not_ours(), tx=attempt.tx)
        sent = self._set.chain.send(attempt.raw)
        self._set.at("sent")
        if sent == "funds":
            message = f"insufficient funds: {self._target.sender} cannot pay for it"
            return told(push, "blocked", message, tx=attempt.tx)
        if sent == "nonce":
            return told(push, "pending", "the node says that its nonce is used", tx=attempt.tx)
        if attempt.sent is None or self._head.number < attempt.sent:
            # Asked anew: on a fast chain the step's head is some blocks old by now, and patience would be over at once.
            self._set.journal.sent(attempt.tx, self._set.chain.head().number)
        if sent == "fee":
            base = self._head.base_fee or 0
            message = (
                self._set.spike(base) if base >= self._set.cap else "its fee is too low for the node now"
            )
            return told(push, "waiting", message, tx=attempt.tx)
        return told(
            push, "pending", f"sent, for at most {in_gwei(attempt.fees.max_fee)} a unit of gas", tx=attempt.tx
        )


def told(
    push: Push,
    state: Stage,
    message: str,
    *,
    tx: str | None = None,
    receipt: TxReceipt | None = None,
    depth: int | None = None,
    entry: int | None = None,
) -> Progress:
    """What is told of a push."""
    again = "the chain lost its recorded block; " if push.state == "vanished" else ""
    return Progress(
        state=state,
        message=f"size {push.size}: {again}{message}",
        size=push.size,
        tx=receipt.tx if receipt is not None else tx or push.attempts[-1].tx,
        block=None if receipt is None else receipt.block,
        depth=depth,
        entry=entry,
    )
