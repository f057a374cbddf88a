"""The secret keys of a mesh, and the passphrase where they are under one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from agentmesh_ledger import KeyStore, LedgerError
from agentmesh_ledger.passphrase import VARIABLE, from_environment, from_keyring

Ask = Callable[[], bytes]


def open_keys(directory: Path, *, ask: Ask | None = None) -> KeyStore:
    """The keys in this folder, to sign with; their passphrase is that of `passphrase_of`.

    Raises: LedgerError(permissions, key, unreadable); what `ask` raises.
    """
    return KeyStore(directory, passphrase_of(directory, ask=ask))


def passphrase_of(directory: Path, *, ask: Ask | None = None) -> Callable[[], bytes] | None:
    """Where the passphrase of the keys in this folder comes from; None where none is needed, or none is to be had.

    Where AGENTMESH_PASSPHRASE is set, it opens the sealed keys, and seals the new ones. Without it sealed keys are
    opened by what the operating system's keyring holds for the folder, else by what `ask` gets from a person; it is
    called here and now, never later in the middle of something. With none of these the key store says what is missing
    when the first sealed key is needed. Where no key is sealed, nobody is asked.

    Raises: LedgerError(permissions, key, unreadable); what `ask` raises.
    """
    if os.environ.get(VARIABLE):
        return from_environment
    if not KeyStore(directory).sealed():
        return None
    passphrase = kept_passphrase(directory) or (None if ask is None else ask())
    return None if passphrase is None else lambda: passphrase


def kept_passphrase(directory: Path) -> bytes | None:
    """What the operating system's keyring holds for the keys in this folder; None without a keyring or an entry."""
    try:
        return from_keyring(directory)
    except LedgerError:
        return None
