"""A witness's secret key: a key file of the role `witness`, with the memory of what it cosigned beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agentmesh_ledger.cosignature import CosignerKey
from agentmesh_ledger.durable import create_file
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.keyfolder import KeyFolder
from agentmesh_ledger.sealing import Sealer
from agentmesh_ledger.secret import SecretKey
from agentmesh_ledger.text import is_origin, shown
from agentmesh_ledger.witness.state import blank_database

_DRAFT = ".memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessKey(SecretKey):
    """A witness's secret key: it cosigns checkpoints and nothing else."""

    name: str
    public: bytes

    @property
    def id(self) -> CosignerKey:
        """The public half."""
        return CosignerKey(name=self.name, public=self.public)

    @property
    def vkey(self) -> str:
        """The public half as C2SP writes it, for policies."""
        return str(self.id)


def witness_key(
    folder: Path, name: str, passphrase: Callable[[], bytes] | None = None, *, create: bool = True
) -> WitnessKey:
    """The key of the witness with this name in a folder of keys, made where it is not there and may be (SPEC L-130).

    The memory is made before the key. A key without one has lost it: it may have cosigned what nobody here knows of
    any more, and could cosign another branch of it. Such a key is refused (SPEC L-135).

    Raises: LedgerError(refused, not_found, permissions, key, failed, unreadable); what the passphrase's source raises.
    """
    if not is_origin(name):
        raise LedgerError(
            "refused",
            f"{shown(name)!r} cannot name a witness",
            hint="Use something like example.org/w1: printable ASCII without spaces and '+', at most 200",
        )
    keys = KeyFolder(Path(folder), None if passphrase is None else Sealer(passphrase))
    owner, memory = keys.owner("witness", name), memory_path(folder, name)
    if not os.path.lexists(owner.path):
        if create:
            _make_memory(memory)
    elif not os.path.lexists(memory):
        raise LedgerError(
            "key",
            "the memory of what this witness cosigned is missing beside its key",
            path=str(memory),
            hint="Put it back; or begin a witness with a new key in another folder, and tell those who count on this one",
        )
    key = keys.key(owner, create=create)
    return WitnessKey(name=name, public=bytes(key.verify_key), _key=key)


def witness_names(folder: Path) -> tuple[str, ...]:
    """The witnesses that have a key in this folder of keys, sorted."""
    return tuple(KeyFolder(Path(folder), None).names("witness"))


def memory_path(folder: Path, name: str) -> Path:
    """Where the witness's memory stands: beside its key, not with its state."""
    return KeyFolder(Path(folder), None).owner("witness", name, ".cosigned").path


def _make_memory(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Whole from its first moment: an empty file would be a memory that was cut, and must not pass for a new one.
        create_file(path, blank_database(), draft_suffix=_DRAFT)
    except OSError as error:
        raise LedgerError(
            "failed", f"the witness's memory cannot be made: {error.strerror}", path=str(path)
        ) from error
