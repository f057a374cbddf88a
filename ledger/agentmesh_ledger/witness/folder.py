"""A witness's folder: what stands where in it, and the witness opened from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.text import is_origin, shown
from agentmesh_ledger.witness.core import Witness
from agentmesh_ledger.witness.evidence import Evidence
from agentmesh_ledger.witness.key import WitnessKey, memory_path, witness_key, witness_names
from agentmesh_ledger.witness.state import WitnessState
from agentmesh_ledger.witness.trusted import TrustedLogs

_LOCAL: Final = "agentmesh.local/"


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessFolder:
    """One witness's files: `witness.db`, `logs`, `forks/`, and the keys, by default in `keys/`.

    The keys, with the memory beside them, may lie elsewhere: then a copy put back in the place of this folder does
    not bring an old memory along.
    """

    path: Path
    keys: Path

    @classmethod
    def at(cls, path: Path, keys: Path | None = None) -> WitnessFolder:
        """The witness in this folder."""
        return cls(path=path, keys=path / "keys" if keys is None else keys)

    @property
    def logs(self) -> Path:
        """The list of the logs that it cosigns for."""
        return self.path / "logs"

    @property
    def forks(self) -> Path:
        """The proofs of forks that it found."""
        return self.path / "forks"

    def name(self, wanted: str | None) -> str:
        """The witness's name: the one whose key is here, or for a new one what is wanted, or made of the folder's.

        Raises: LedgerError(refused) where another name is wanted than the one here, or several are here.
        """
        found = witness_names(self.keys)
        if len(found) > 1 or (found and wanted not in (None, found[0])):
            # Two keys over one record would be sound, and yet two witnesses that are one count twice in a policy.
            raise LedgerError(
                "refused",
                f"there is a witness here already: {', '.join(found)}",
                path=str(self.keys),
                hint="One folder holds one witness; begin another in another folder",
            )
        if found:
            return found[0]
        own = self.path.absolute().name if wanted is None else wanted
        name = f"{_LOCAL}{own}" if wanted is None else own
        if not is_origin(name):
            raise LedgerError(
                "refused",
                f"{shown(name)!r} cannot name a witness",
                hint="Give it a name such as example.org/w1: printable ASCII without spaces and '+', at most 200",
            )
        return name

    def key(
        self, name: str | None = None, passphrase: Callable[[], bytes] | None = None, *, create: bool = True
    ) -> WitnessKey:
        """The witness's key, made where there is none yet and it may be.

        Raises: LedgerError as `witness_key`.
        """
        return witness_key(self.keys, self.name(name), passphrase, create=create)

    @contextmanager
    def opened(
        self,
        key: WitnessKey,
        *,
        told: Callable[[str], None] = lambda _: None,
    ) -> Iterator[tuple[Witness, TrustedLogs]]:
        """The witness with this key of the folder, and the logs it trusts.

        Raises: LedgerError(not_found, corrupt, unreadable, failed, key).
        """
        trusted = TrustedLogs(self.logs, told=told)
        state = WitnessState.open(self.path / "witness.db", memory=memory_path(self.keys, key.name))
        try:
            yield Witness(state, key, trusted, evidence=Evidence(self.forks), told=told), trusted
        finally:
            state.close()
