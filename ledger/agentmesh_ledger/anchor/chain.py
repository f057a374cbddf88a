"""An EVM chain as its node tells it: blocks, receipts, nonces, fees, each held to its shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeAlias

from agentmesh_ledger.anchor.rpc import Rpc
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import MAX_INTEGER, JsonValue

_QUANTITY: Final = re.compile(r"0x[0-9a-fA-F]{1,64}\Z")
_DATA: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})*\Z")
_HASH: Final = re.compile(r"0x[0-9a-fA-F]{64}\Z")

Sent: TypeAlias = Literal["taken", "nonce", "funds", "fee"]
"""What became of a transaction: the node has it; its nonce is used up; the account cannot pay it; its fee is too low."""

# Each kind of node says it in its own words; letters alone are compared. Geth, Erigon, Nethermind, Besu, reth and anvil.
_SENT: Final[tuple[tuple[str, Sent], ...]] = (
    ("alreadyknown", "taken"),
    ("knowntransaction", "taken"),
    ("alreadyimported", "taken"),
    ("alreadyexists", "taken"),
    ("alreadyinthe", "taken"),
    ("noncetoolow", "nonce"),
    ("nonceistoolow", "nonce"),
    ("oldnonce", "nonce"),
    ("insufficientfunds", "funds"),
    ("insufficientbalance", "funds"),
    ("exceedsaccountbalance", "funds"),
    ("underpriced", "fee"),
    ("feetoolow", "fee"),
    ("lessthanblockbasefee", "fee"),
    ("belowconfiguredminimum", "fee"),
    ("couldnotreplaceexisting", "fee"),
    ("replacementnotallowed", "fee"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """`base_fee` is in wei for each unit of gas; None on a chain from before EIP-1559. `fields` is all the node said."""

    number: int
    hash: str
    base_fee: int | None
    time: int
    fields: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """An event: who logged it, its topics and data, and where it stands."""

    address: str
    topics: tuple[str, ...]
    data: bytes
    tx: str
    block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TxReceipt:
    """What became of a mined transaction; `good` is false where it was reverted, which costs its gas all the same."""

    tx: str
    block: int
    block_hash: str
    index: int
    good: bool
    gas: int
    contract: str | None
    logs: tuple[Log, ...]


class Chain:
    """A chain through one node. Nothing is asked before the first call, so that a mesh starts while the node is down.

    Every failure of the node, or of the way to it, is LedgerError(node). What is asked twice may be answered by two machines
    of which one lags: whoever decides something compares block hashes.
    """

    def __init__(self, rpc: Rpc, *, chain_id: int | None = None) -> None:
        self._rpc = rpc
        self.expected = chain_id
        """The chain's id as it was given, or first heard; None before that."""

    @classmethod
    def connect(cls, rpc: str, *, timeout: float = 10.0, chain_id: int | None = None) -> Chain:
        """The chain behind the node at this URL; `timeout` is seconds for one answer.

        Raises: LedgerError(refused, no_extra).
        """
        return cls(Rpc(rpc, timeout=timeout), chain_id=chain_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets the connections go."""
        self._rpc.close()

    @property
    def place(self) -> str:
        """The node's address, without what may be secret in it."""
        return self._rpc.place

    def id(self) -> int:
        """The chain's id, asked each time: behind one address there may be another chain tomorrow.

        Raises: LedgerError(refused) where it is not the one given, or not the one it was before; LedgerError(node).
        """
        found = self._quantity(self._rpc.ask("eth_chainId"), "a chain id")
        if self.expected is None:
            self.expected = found
        if found != self.expected:
            raise LedgerError(
                "refused",
                f"the node at {self.place} is of another chain",
                expected=f"{self.expected}",
                found=f"{found}",
            )
        return found

    def block(self, which: int | str = "latest") -> Block | None:
        """A block by its number, its hash, or as `latest`; None where the node does not have it.

        Raises: LedgerError(node), also for another block than the one that was asked for.
        """
        if isinstance(which, str) and which.startswith("0x"):
            value = self._rpc.ask("eth_getBlockByHash", which, False)
        else:
            value = self._rpc.ask(
                "eth_getBlockByNumber", hex(which) if isinstance(which, int) else which, False
            )
        if value is None:
            return None
        fields = self._mapping(value, "a block")
        fee = fields.get("baseFeePerGas")
        number = self._quantity(fields.get("number"), "a block's number")
        named = self._hash(fields.get("hash"))
        if which not in (number, "latest") and not (isinstance(which, str) and which.lower() == named):
            raise self._rpc.fault(f"gives block {number} where {which} was asked for")
        return Block(
            number=number,
            hash=named,
            base_fee=None if fee is None else self._quantity(fee, "a base fee"),
            time=self._quantity(fields.get("timestamp"), "a block's time"),
            fields=fields,
        )

    def head(self) -> Block:
        """The newest block."""
        found = self.block()
        if found is None:
            raise self._rpc.fault("has no newest block")
        return found

    def nonce(self, address: str, at: int | Literal["latest", "pending"] = "latest") -> int:
        """How many transactions this account has sent, as of a block."""
        where = hex(at) if isinstance(at, int) else at
        return self._quantity(self._rpc.ask("eth_getTransactionCount", address, where), "a nonce")

    def balance(self, address: str) -> int:
        """What the account has, in wei."""
        return self._quantity(self._rpc.ask("eth_getBalance", address, "latest"), "a balance", 2**256)

    def code(self, address: str) -> bytes:
        """The code at an address; empty where there is none."""
        return self._data(self._rpc.ask("eth_getCode", address, "latest"))

    def call(self, to: str, data: bytes) -> bytes:
        """What a view of a contract gives."""
        return self._data(self._rpc.ask("eth_call", {"to": to, "data": _hex(data)}, "latest"))

    def gas(self, sender: str, to: str | None, data: bytes) -> int | str:
        """The gas that this would take; or the node's word why it would fail."""
        call: dict[str, JsonValue] = {"from": sender, "data": _hex(data)}
        if to is not None:
            call["to"] = to
        answer = self._rpc.answer("eth_estimateGas", call)
        return self._quantity(answer.result, "gas") if answer.error is None else answer.error

    def suggested_tip(self) -> int | None:
        """What the node would pay to whoever makes the block, in wei a unit of gas; None where it does not say."""
        answer = self._rpc.answer("eth_maxPriorityFeePerGas")
        return None if answer.error is not None else self._quantity(answer.result, "a tip")

    def send(self, raw: bytes) -> Sent:
        """Hands a signed transaction to the node; handing it the same bytes again is no error.

        Raises: LedgerError(node), after which the node may have it all the same.
        """
        answer = self._rpc.answer("eth_sendRawTransaction", _hex(raw))
        if answer.error is None:
            return "taken"
        letters = re.sub(r"[^a-z]", "", answer.error.lower())
        for words, sent in _SENT:
            if words in letters:
                return sent
        raise self._rpc.fault(f"does not take the transaction: {answer.error}")

    def knows(self, tx: str) -> bool:
        """Whether the node has this transaction, mined or waiting."""
        return self._rpc.ask("eth_getTransactionByHash", tx) is not None

    def nonce_of(self, tx: str) -> int | None:
        """The nonce of a transaction; None where the node does not have it."""
        value = self._rpc.ask("eth_getTransactionByHash", tx)
        return None if value is None else self._quantity(self._mapping(value, "it").get("nonce"), "a nonce")

    def receipt(self, tx: str) -> TxReceipt | None:
        """The receipt of a transaction; None where it is not mined, or the node does not know."""
        value = self._rpc.ask("eth_getTransactionReceipt", tx)
        if value is None:
            return None
        fields = self._mapping(value, "a receipt")
        if fields.get("blockHash") is None:
            return None  # some nodes give a receipt of what waits
        if self._hash(fields.get("transactionHash")) != tx.lower():
            raise self._rpc.fault("gives the receipt of another transaction")
        contract = fields.get("contractAddress")
        return TxReceipt(
            tx=tx.lower(),
            block=self._quantity(fields.get("blockNumber"), "a block's number"),
            block_hash=self._hash(fields.get("blockHash")),
            index=self._quantity(fields.get("transactionIndex"), "an index"),
            good=self._quantity(fields.get("status"), "a status") == 1,
            gas=self._quantity(fields.get("gasUsed"), "gas"),
            contract=None if contract is None else _hex(self._data(contract)),
            logs=self._logs(fields.get("logs")),
        )

    def receipts(self, block: Block) -> tuple[Mapping[str, JsonValue], ...]:
        """All receipts of a block, in order, as the node gives them; one by one where it gives them only so."""
        answer = self._rpc.answer("eth_getBlockReceipts", block.hash)
        if answer.error is None and isinstance(answer.result, list):
            return tuple(self._mapping(each, "a receipt") for each in answer.result)
        txs = block.fields.get("transactions")
        if not isinstance(txs, list):
            raise self._rpc.fault("gives a block without its transactions")
        found = (self._rpc.ask("eth_getTransactionReceipt", self._hash(tx)) for tx in txs)
        return tuple(self._mapping(each, "a receipt") for each in found)

    def logs(
        self, address: str, topics: tuple[str | None, ...], first: int, last: int
    ) -> tuple[Log, ...] | None:
        """The events in these blocks, both ends among them; None where the node refuses to look at so many."""
        asked: dict[str, JsonValue] = {
            "address": address,
            "topics": list(topics),
            "fromBlock": hex(first),
            "toBlock": hex(last),
        }
        answer = self._rpc.answer("eth_getLogs", asked)
        if answer.error is not None:
            if first == last:
                raise self._rpc.fault(f"refuses the events of one block: {answer.error}")
            return None
        return self._logs(answer.result)

    def _logs(self, value: JsonValue) -> tuple[Log, ...]:
        if not isinstance(value, list):
            raise self._rpc.fault("gives events that are none")
        found: list[Log] = []
        for each in value:
            fields = self._mapping(each, "an event")
            topics = fields.get("topics")
            if not isinstance(topics, list):
                raise self._rpc.fault("gives an event without topics")
            found.append(
                Log(
                    address=_hex(self._data(fields.get("address"))),
                    topics=tuple(self._hash(topic) for topic in topics),
                    data=self._data(fields.get("data")),
                    tx=self._hash(fields.get("transactionHash")),
                    block=self._quantity(fields.get("blockNumber"), "a block's number"),
                )
            )
        return tuple(found)

    def _mapping(self, value: JsonValue, what: str) -> Mapping[str, JsonValue]:
        if not isinstance(value, dict):
            raise self._rpc.fault(f"gives {what} that is none")
        return value

    def _quantity(self, value: JsonValue, what: str, most: int = MAX_INTEGER) -> int:
        if not isinstance(value, str) or not _QUANTITY.match(value) or (number := int(value, 16)) > most:
            raise self._rpc.fault(f"gives {what} that is no number, or too large")
        return number

    def _hash(self, value: JsonValue) -> str:
        if not isinstance(value, str) or not _HASH.match(value):
            raise self._rpc.fault("gives a hash that is none")
        return value.lower()

    def _data(self, value: JsonValue) -> bytes:
        if not isinstance(value, str) or not _DATA.match(value):
            raise self._rpc.fault("gives bytes that are none")
        return bytes.fromhex(value[2:])


def _hex(data: bytes) -> str:
    return f"0x{data.hex()}"
