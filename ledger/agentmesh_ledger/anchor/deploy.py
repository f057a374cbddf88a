"""Puts the contract on a chain, once for all logs and senders: nobody owns it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from agentmesh_ledger.anchor.account import Account, Signed
from agentmesh_ledger.anchor.calls import is_ours
from agentmesh_ledger.anchor.chain import Chain, TxReceipt
from agentmesh_ledger.anchor.contract import contract
from agentmesh_ledger.anchor.fees import Fees, first_fees, in_gwei, wei
from agentmesh_ledger.anchor.keccak import keccak256
from agentmesh_ledger.anchor.rlp import encode, encode_integer
from agentmesh_ledger.errors import LedgerError

_MOST_GAS: Final = 30_000_000  # what a block has on many chains
_POLL: Final = 1.0
_WAIT: Final = threading.Event()  # never set


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """Where the contract is, in lower case, and the transaction and block that put it there."""

    address: str
    tx: str
    block: int
    gas: int


def deploy(
    chain: Chain,
    account: Account,
    *,
    max_fee_gwei: Decimal = Decimal(50),
    within: float = 120.0,
    poll: float = _POLL,
    stopped: Callable[[], bool] = lambda: False,
    told: Callable[[str], None] = lambda message: None,
) -> Deployed:
    """The contract of this package, deployed and its code looked at.

    `told` hears the transaction and the address to come before anything is sent: where the time is over, or we are
    stopped, that is what to look for. Raises: LedgerError(node, refused).
    """
    number = chain.id()
    fees, gas = _cost(chain, account, wei(max_fee_gwei))
    nonce = chain.nonce(account.address, "pending")
    address = address_of(account.address, nonce)
    signed = account.sign(chain=number, nonce=nonce, to=None, data=contract().bytecode, gas=gas, fees=fees)
    told(f"transaction {signed.tx} makes {address}")
    receipt = _mined(chain, signed, time.monotonic() + within, poll, stopped)
    if not receipt.good or receipt.contract != address:
        raise LedgerError("node", f"the chain did not make the contract: transaction {signed.tx} failed")
    if not is_ours(chain, address):
        raise LedgerError("node", f"the code at {address} is not that of the contract: the node may lag")
    return Deployed(address=address, tx=signed.tx, block=receipt.block, gas=receipt.gas)


def address_of(sender: str, nonce: int) -> str:
    """The address of the contract that this transaction of the sender makes."""
    return f"0x{keccak256(encode((bytes.fromhex(sender[2:]), encode_integer(nonce))))[12:].hex()}"


def _cost(chain: Chain, account: Account, cap: int) -> tuple[Fees, int]:
    head = chain.head()
    if head.base_fee is None:
        raise LedgerError("refused", "this chain has no EIP-1559 fees")
    fees = first_fees(head.base_fee, chain.suggested_tip(), cap)
    if fees is None:
        raise LedgerError(
            "refused",
            f"the base fee is {in_gwei(head.base_fee)}, above the cap of {in_gwei(cap)}",
            hint="Try again when it has fallen, or give a higher cap",
        )
    gas = chain.gas(account.address, None, contract().bytecode)
    if isinstance(gas, str):
        raise LedgerError("node", f"the node at {chain.place} does not say what gas it takes: {gas}")
    if gas > _MOST_GAS:
        raise LedgerError("node", f"the node at {chain.place} says that it takes {gas} gas, which cannot be")
    gas += gas // 10
    balance, most = chain.balance(account.address), gas * fees.max_fee
    if balance < most:
        raise LedgerError(
            "refused",
            f"insufficient funds: {account.address} has {in_gwei(balance)}, and this may take {in_gwei(most)}",
        )
    return fees, gas


def _mined(
    chain: Chain, signed: Signed, deadline: float, poll: float, stopped: Callable[[], bool]
) -> TxReceipt:
    """The receipt, once there is one; the same bytes are sent again while the node does not know them."""
    trouble = "it is not mined yet"
    while True:
        try:
            receipt = chain.receipt(signed.tx)
            if receipt is not None:
                return receipt
            if not chain.knows(signed.tx):
                sent = chain.send(signed.raw)
                trouble = "it is not mined yet" if sent == "taken" else f"the node refuses it for its {sent}"
        except LedgerError as error:
            if error.reason != "node":
                raise
            trouble = error.message  # the node may be back before the time is over
        left = deadline - time.monotonic()
        if stopped() or left <= 0:
            raise LedgerError(
                "node",
                f"transaction {signed.tx} is not known to be mined: {trouble}",
                hint="It may still be; look for it before deploying again",
            )
        _WAIT.wait(min(poll, left))
