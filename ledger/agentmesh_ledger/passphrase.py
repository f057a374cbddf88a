"""Where the passphrase of a key store comes from: the environment, a file, a descriptor, the system's keyring."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import ModuleType
from typing import Final

from agentmesh_ledger.errors import LedgerError

VARIABLE: Final = "AGENTMESH_PASSPHRASE"
SERVICE: Final = "agentmesh"
MAX_PASSPHRASE: Final = 1024


def from_environment(variable: str = VARIABLE) -> bytes:
    """The bytes of an environment variable. Child processes inherit it; a file or a keyring does not leak so.

    Raises: LedgerError(key) where it is not set or empty.
    """
    text = os.environ.get(variable, "")
    if not text:
        raise LedgerError("key", f"{variable} is not set", hint=f"Put the passphrase into {variable}")
    return os.fsencode(text)


def from_file(path: Path) -> bytes:
    """The first line of a file that only its owner may access, without its line end.

    A link is followed, and a pipe read: secrets are mounted as the one and handed over as the other.
    Raises: LedgerError(permissions, key, unreadable).
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise LedgerError(
            "unreadable", f"the passphrase file cannot be read: {error.strerror}", path=str(path)
        ) from error
    try:
        return from_descriptor(handle, path)
    finally:
        os.close(handle)


def from_descriptor(handle: int, path: Path | None = None) -> bytes:
    """The first line of an open descriptor, such as a pipe of a secrets manager; it stays open.

    A line end is not needed where the descriptor ends. `path` is for the error. Where the descriptor is a
    file, others may not have access to it.
    Raises: LedgerError(permissions, key, unreadable).
    """
    where = str(path) if path is not None else f"descriptor {handle}"
    data = b""
    try:
        mode = os.fstat(handle).st_mode
        if os.name == "posix" and stat.S_ISREG(mode) and stat.S_IMODE(mode) & 0o077:
            raise LedgerError(
                "permissions",
                "the passphrase file is open to others",
                path=where,
                expected="mode 600",
                found=f"{stat.S_IMODE(mode):o}",
                hint="If nobody else has read it, make its mode 600; else change the passphrase",
            )
        # One byte at a time: what follows the line on a pipe is not ours.
        while len(data) <= MAX_PASSPHRASE and not data.endswith(b"\n"):
            piece = os.read(handle, 1)
            if not piece:
                break
            data += piece
    except OSError as error:
        raise LedgerError(
            "unreadable", f"the passphrase cannot be read: {error.strerror}", path=where
        ) from error
    line = data.removesuffix(b"\n").removesuffix(b"\r")
    if not line or len(line) > MAX_PASSPHRASE:
        raise LedgerError("key", f"the passphrase is empty or longer than {MAX_PASSPHRASE} bytes", path=where)
    return line


def from_keyring(directory: Path) -> bytes:
    """The passphrase that the operating system's keyring holds for the store in this directory, as UTF-8.

    Raises: LedgerError(key) where it holds none; LedgerError(failed) where there is no keyring, it is locked,
    or the `keyring` package is not installed.
    """
    keyring = _keyring()
    user = str(directory.resolve())
    try:
        text: object = keyring.get_password(SERVICE, user)
    except (keyring.errors.KeyringError, OSError, RuntimeError, ValueError) as error:
        raise _unusable(error) from error
    if not isinstance(text, str) or not text:
        raise LedgerError(
            "key",
            "the keyring holds no passphrase for this key store",
            path=user,
            hint=f"Store one, under the service {SERVICE!r} and this path as the user",
        )
    return text.encode("utf-8", "surrogateescape")


def to_keyring(directory: Path, passphrase: bytes) -> None:
    """Stores the passphrase of the store in this directory in the keyring, over one that is there.

    Raises: LedgerError(refused) for what is empty or not UTF-8: keyrings hold text; LedgerError(failed).
    """
    try:
        text = passphrase.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LedgerError("refused", "a keyring holds text, and this passphrase is not UTF-8") from error
    if not text or len(passphrase) > MAX_PASSPHRASE:
        raise LedgerError("refused", f"the passphrase is empty or longer than {MAX_PASSPHRASE} bytes")
    keyring = _keyring()
    try:
        keyring.set_password(SERVICE, str(directory.resolve()), text)
    except (keyring.errors.KeyringError, OSError, RuntimeError, ValueError) as error:
        raise _unusable(error) from error


def _keyring() -> ModuleType:
    """The optional package; imported here, since a verifier must do without."""
    try:
        import keyring
        import keyring.errors
    except ImportError as error:
        raise LedgerError(
            "failed",
            "the passphrase is to come from the keyring, and the package keyring is not installed",
            hint="pip install keyring, or give the passphrase in another way",
        ) from error
    return keyring


def _unusable(error: Exception) -> LedgerError:
    # Only the kind of error: a backend's message may quote what it was given.
    return LedgerError(
        "failed",
        f"the operating system's keyring cannot be used ({type(error).__name__})",
        hint="Unlock it, or start one (on a server there is none); or give the passphrase in another way",
    )
