"""Keys that a command opens: who is at the terminal is asked for their passphrase where nothing else gives it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh_ledger import KeyStore


def keys_in(directory: Path) -> KeyStore:
    """The keys in this folder, to sign with; see `agentmesh.keys.open_keys`."""
    from agentmesh.keys import open_keys

    return open_keys(directory, ask=(lambda: _asked(directory)) if is_terminal() else None)


def passphrase_in(directory: Path) -> Callable[[], bytes] | None:
    """Where the passphrase of the keys in this folder comes from; see `agentmesh.keys.passphrase_of`."""
    from agentmesh.keys import passphrase_of

    return passphrase_of(directory, ask=(lambda: _asked(directory)) if is_terminal() else None)


def passphrase_for(directory: Path, file: Path | None, *, new: bool) -> Callable[[], bytes]:
    """Where the passphrase that seals or unseals this folder comes from: a file, the environment, the keyring, a person.

    A `new` one is asked for twice. Raises: AgentMeshError where there is none.
    """
    from agentmesh.keys import kept_passphrase
    from agentmesh_ledger.passphrase import VARIABLE, from_environment, from_file

    if file is not None:
        return lambda: from_file(file)
    if os.environ.get(VARIABLE):
        return from_environment
    kept = kept_passphrase(directory)
    if kept is not None:
        return lambda: kept
    if not is_terminal():
        raise AgentMeshError(
            "usage",
            "there is no passphrase",
            hint=f"set {VARIABLE}, name a file with --passphrase-file, or run this on a terminal",
        )
    return lambda: _asked(directory, twice=new)


def is_terminal() -> bool:
    """Whether a person can be asked: standard input and standard error are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _asked(directory: Path, *, twice: bool = False) -> bytes:
    from getpass import getpass

    try:
        first = getpass(f"Passphrase of the keys in {directory}: ")
        again = getpass("The same once more: ") if twice else first
    except EOFError as error:
        raise AgentMeshError("usage", "no passphrase was given") from error
    if not first or again != first:
        raise AgentMeshError("usage", "it is empty" if not first else "these are two passphrases, not one")
    return first.encode("utf-8", "surrogateescape")
