"""The account that pays for anchors: its key from a keystore file or the environment, never from an argument."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agentmesh_ledger.anchor.extra import chain_extra
from agentmesh_ledger.anchor.fees import Fees
from agentmesh_ledger.anchor.keccak import keccak256
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.text import shown

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from eth_account.types import AccessListEntry
    from eth_typing import HexStr

_KEY: Final = re.compile(r"(?:0x)?[0-9a-fA-F]{64}\Z")
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}\Z")
_MAX_KEYSTORE: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A signed transaction: the bytes that are sent, and its hash."""

    raw: bytes
    tx: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account on any EVM chain. `address` is in lower case."""

    address: str
    _signer: LocalAccount = field(repr=False, compare=False)

    def sign(self, *, chain: int, nonce: int, to: str | None, data: bytes, gas: int, fees: Fees) -> Signed:
        """A signed EIP-1559 transaction that carries no money; `to` None makes a contract.

        The same values give the same bytes (RFC 6979).
        """
        fields: dict[str, Sequence[AccessListEntry] | bytes | HexStr | int] = {
            "chainId": chain,
            "nonce": nonce,
            "data": data,
            "gas": gas,
            "maxFeePerGas": fees.max_fee,
            "maxPriorityFeePerGas": fees.tip,
            "type": 2,
            "value": 0,
        }
        if to is not None:
            fields["to"] = bytes.fromhex(to[2:])
        signed = self._signer.sign_transaction(fields)
        return Signed(raw=bytes(signed.raw_transaction), tx=f"0x{bytes(signed.hash).hex()}")

    def sign_typed(self, typed_data: Mapping[str, object]) -> bytes:
        """The 65-byte signature of EIP-712 typed data, as a wallet is given it."""
        return bytes(self._signer.sign_typed_data(full_message=dict(typed_data)).signature)


def account_from_environment(name: str) -> Account:
    """The account whose private key stands in this environment variable, as 64 hex digits.

    Raises: LedgerError(key, no_extra). The key is in no message.
    """
    if _KEY.match(name):  # of whoever gives the key for its name; the error must not go on telling it
        raise LedgerError(
            "key",
            "that is no name of an environment variable, and may be the private key itself: it is known by now",
        )
    text = os.environ.get(name, "").strip()
    if not text:
        raise LedgerError("key", f"the environment variable {shown(name)} holds no private key")
    if not _KEY.match(text):
        raise LedgerError(
            "key",
            f"what the environment variable {shown(name)} holds is no private key",
            hint="A private key is 64 hex digits",
        )
    return _account(bytes.fromhex(text.removeprefix("0x")), f"the environment variable {shown(name)}")


def account_from_keystore(path: Path, passphrase: Callable[[], bytes]) -> Account:
    """The account in a keystore file (Web3 Secret Storage v3); its passphrase is asked for once the file is read.

    Opening takes a second or so, which is what makes guessing dear.
    Raises: LedgerError(not_found, unreadable, key, no_extra); what `passphrase` raises.
    """
    with chain_extra():
        from eth_keyfile.keyfile import decode_keyfile_json
    stored = _read_keystore(path)
    try:
        secret = decode_keyfile_json(stored, passphrase())
    # Whatever the library meets in a file that another program wrote; its words may quote what it was given.
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, MemoryError, OverflowError):
        raise LedgerError(
            "key", "the passphrase is not that of this keystore, or the file is damaged", path=str(path)
        ) from None
    return _account(secret, "the keystore file")


def parse_address(text: str) -> str:
    """The address in lower case; one of mixed case must have its checksum right (EIP-55).

    Raises: LedgerError(refused).
    """
    if not _ADDRESS.match(text):
        raise LedgerError("refused", f"{shown(text)!r} is no address: 0x and 40 hex digits")
    digits = text[2:]
    if digits not in (digits.lower(), digits.upper()) and text != checksummed(text.lower()):
        raise LedgerError(
            "refused", f"the address {text} has a slip in it: its upper and lower case do not fit"
        )
    return text.lower()


def checksummed(address: str) -> str:
    """The address as EIP-55 writes it, so that a slip shows."""
    digits = address[2:].lower()
    digest = keccak256(digits.encode()).hex()
    return "0x" + "".join(
        letter.upper() if int(nibble, 16) > 7 else letter
        for letter, nibble in zip(digits, digest, strict=False)
    )


def _account(secret: bytes, where: str) -> Account:
    with chain_extra():
        from eth_account import Account as Accounts
    try:
        signer = Accounts.from_key(secret)
    except Exception:  # noqa: BLE001  # zero, or beyond the curve's order; whatever it says may quote the key
        raise LedgerError("key", f"{where} holds no private key of secp256k1") from None
    return Account(address=str(signer.address).lower(), _signer=signer)


def _read_keystore(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_KEYSTORE + 1)
    except FileNotFoundError as error:
        raise LedgerError("not_found", "there is no such keystore file", path=str(path)) from error
    except OSError as error:
        raise LedgerError(
            "unreadable", f"the keystore file cannot be read: {error.strerror}", path=str(path)
        ) from error
    try:
        stored = json.loads(data) if len(data) <= _MAX_KEYSTORE else None
    except (ValueError, RecursionError):
        stored = None
    if not isinstance(stored, dict) or stored.get("version") != 3:
        raise LedgerError("key", "this is no keystore file of version 3", path=str(path))
    return stored
