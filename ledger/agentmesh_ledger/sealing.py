"""Key files under a passphrase: argon2id makes a secret of it, and the secret opens and closes boxes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.secret import SecretBox
from nacl.utils import random

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.keyfile import (
    SALT_SIZE,
    Cost,
    Owner,
    PlainKey,
    SealedKey,
    damaged,
    encode_sealed,
    parse_key,
)

# libsodium's "moderate": 0.7 seconds and 256 MiB once for a whole store, and for each guess.
DEFAULT_COST: Final = Cost(opslimit=argon2id.OPSLIMIT_MODERATE, memlimit=argon2id.MEMLIMIT_MODERATE)


class Sealer:
    """Opens and seals the keys of one store; asks for the passphrase once, and derives once a salt.

    Both stay in memory as long as the store: who can read this process's memory has the keys anyway. A
    passphrase that opened nothing is forgotten, so that the next call asks again.
    """

    def __init__(self, source: Callable[[], bytes], cost: Cost = DEFAULT_COST) -> None:
        self._source = source
        self._cost = cost
        self._lock = threading.Lock()  # else 100 threads would ask 100 times, and take 256 MiB each
        self._passphrase: bytes | None = None
        self._secrets: dict[tuple[bytes, Cost], bytes] = {}
        self._salt: bytes | None = None

    def ask(self) -> None:
        """Gets the passphrase, which may take a person's time: to be done before a lock is held."""
        with self._lock:
            self._ask()

    def open(self, sealed: SealedKey, owner: Owner) -> bytes:
        """The plain file that was sealed, whose key has the id that the sealed file gives.

        Raises: LedgerError(key) for a wrong passphrase and for a box that holds another key;
        LedgerError(failed) where the memory does not suffice; what the passphrase's source raises.
        """
        secret = self._secret(sealed.salt, sealed.cost)
        try:
            data = SecretBox(secret).decrypt(sealed.box)
        except (CryptoError, ValueError) as error:  # ValueError: too short for a box
            if sealed.salt == self._salt and sealed.cost == self._cost:
                # The same secret opened another key, so the passphrase is right.
                raise damaged(owner, LedgerError("canonical", "its box was altered")) from error
            self._forget()
            raise LedgerError(
                "key",
                "the passphrase does not open this key",
                path=str(owner.path),
                hint="Check the passphrase: the file is as it was written (its digest holds)",
            ) from error
        plain = parse_key(data, owner)
        if not isinstance(plain, PlainKey) or plain.id != sealed.id:
            raise damaged(owner, LedgerError("canonical", "its id is not that of the key in its box"))
        if sealed.cost == self._cost:
            self._salt = sealed.salt
        return data

    def seal(self, plain: bytes, owner: Owner) -> bytes:
        """The sealed file of a plain one, under the salt of the store.

        Raises: LedgerError(key, failed); what the passphrase's source raises.
        """
        key = parse_key(plain, owner)
        with self._lock:
            if self._salt is None:
                self._salt = random(SALT_SIZE)
            salt = self._salt
        box = bytes(SecretBox(self._secret(salt, self._cost)).encrypt(plain))
        return encode_sealed(SealedKey(id=key.id, salt=salt, cost=self._cost, box=box), owner)

    def _secret(self, salt: bytes, cost: Cost) -> bytes:
        with self._lock:
            known = self._secrets.get((salt, cost))
            if known is not None:
                return known
            passphrase = self._ask()
            try:
                secret = argon2id.kdf(
                    SecretBox.KEY_SIZE,
                    passphrase,
                    salt,
                    opslimit=cost.opslimit,
                    memlimit=cost.memlimit,
                )
            except (CryptoError, MemoryError) as error:
                raise LedgerError(
                    "failed",
                    f"the passphrase could not be tried: it takes {cost.memlimit >> 20} MiB of memory",
                ) from error
            self._secrets[salt, cost] = secret
            return secret

    def _ask(self) -> bytes:
        if self._passphrase is None:
            passphrase = self._source()
            if not passphrase:
                raise LedgerError("key", "the passphrase is empty", hint="An empty one protects nothing")
            self._passphrase = passphrase
        return self._passphrase

    def _forget(self) -> None:
        with self._lock:
            self._passphrase = None
            self._secrets.clear()
            self._salt = None
