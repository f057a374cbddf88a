"""Secret keys of agents and logs, kept in files: made on first use, sealed where wanted, rotated."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote

from nacl.signing import SigningKey

from agentmesh_ledger.cosigned import CosignedNote
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.fork import Fork, keep_fork
from agentmesh_ledger.identity import AgentId, agent_id
from agentmesh_ledger.keyfile import Cost
from agentmesh_ledger.keyfolder import KeyFolder
from agentmesh_ledger.last import LastCheckpoint
from agentmesh_ledger.note import VerifierKey, parse_vkey
from agentmesh_ledger.sealing import DEFAULT_COST, Sealer
from agentmesh_ledger.secret import SecretKey
from agentmesh_ledger.text import is_agent_name, is_origin, shown

_Stamp: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentKey(SecretKey):
    """An agent's secret key: it signs messages and nothing else."""

    name: str
    id: AgentId


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKey(SecretKey):
    """A log's secret key: it signs checkpoints and nothing else. Its name is the origin."""

    name: str
    public: bytes

    @property
    def vkey(self) -> str:
        """The public half as C2SP writes it, for `--key` and for policies."""
        return str(VerifierKey(name=self.name, public=self.public))


class KeyStore:
    """A folder of key files, `agents/NAME.key` and `logs/ORIGIN.key` (SPEC L-60 to L-69).

    A key that is asked for and is not there is made, unless the caller says otherwise; two processes that
    ask at once get the same one. A file that others may read is refused: its key may be known.

    With a source of a passphrase new keys are sealed, and sealed ones can be used; plain ones stay plain
    until `seal`. The source is asked once, when the first sealed key is needed (see `passphrase.py` for
    some); argon2id then costs `cost`, once for the whole store.
    """

    def __init__(
        self, directory: Path, passphrase: Callable[[], bytes] | None = None, *, cost: Cost = DEFAULT_COST
    ) -> None:
        self.directory = Path(directory)
        self._folder = KeyFolder(self.directory, None if passphrase is None else Sealer(passphrase, cost))
        self._known: dict[str, tuple[str, _Stamp, AgentKey]] = {}

    def agent(self, name: str, *, create: bool = True) -> AgentKey:
        """The key of the agent with this name. Its file is read again once anything about it has changed.

        Raises: LedgerError(refused, not_found, permissions, key, failed, unreadable); what the passphrase's
        source raises.
        """
        known = self._known.get(name)
        if known is not None and known[1] == _stamp(known[0]):
            return known[2]
        owner = self._folder.owner("agent", _require_name(name))
        path = os.fspath(owner.path)
        stamp = _stamp(path)
        key = _agent_key(name, self._folder.key(owner, create=create))
        if stamp is not None and stamp == _stamp(path):
            self._known[name] = (path, stamp, key)
        return key

    def log(self, origin: str, *, create: bool = True) -> LogKey:
        """The key of the log with this origin.

        Raises: LedgerError(refused, not_found, permissions, key, failed, unreadable); what the passphrase's
        source raises.
        """
        owner = self._folder.owner("log", _require_origin(origin))
        key = self._folder.key(owner, create=create)
        return LogKey(name=origin, public=bytes(key.verify_key), _key=key)

    def agent_id(self, name: str) -> AgentId:
        """The public half of the agent's key. It needs no passphrase, and makes no key.

        Raises: LedgerError(refused, not_found, permissions, key, unreadable).
        """
        return AgentId(self._folder.parsed(self._folder.owner("agent", _require_name(name))).id)

    def vkey(self, origin: str) -> str:
        """The public half of the log's key, for `--key`. It needs no passphrase, and makes no key.

        Raises: LedgerError(refused, not_found, permissions, key, unreadable).
        """
        return self._folder.parsed(self._folder.owner("log", _require_origin(origin))).id

    def sealed(self) -> bool:
        """Whether any key here is under a passphrase. It needs none.

        Raises: LedgerError(permissions, key, unreadable).
        """
        return self._folder.sealed()

    def last_checkpoint(self, origin: str) -> LastCheckpoint:
        """The newest checkpoint that this log's key signed and that was committed; nothing is opened yet.

        It needs no passphrase.
        Raises: LedgerError(refused).
        """
        owner = self._folder.owner("log", _require_origin(origin))
        return LastCheckpoint(
            owner.path.with_suffix(".checkpoint"), lambda: parse_vkey(self._folder.parsed(owner).id)
        )

    def cosigned(self, origin: str) -> CosignedNote:
        """The newest checkpoint of this log with its cosignatures; nothing is opened yet. It needs no passphrase.

        Raises: LedgerError(refused).
        """
        owner = self._folder.owner("log", _require_origin(origin))
        return CosignedNote(owner.path.with_suffix(".cosigned"), self.directory)

    def cosigned_notes(self) -> dict[str, str]:
        """By origin, the notes that were cosigned, as they stand here; for a verifier, which believes none of them.

        Read them before the database: a log that grows meanwhile would seem cut to a note that is newer than what is read of it.
        Raises: LedgerError(key, unreadable).
        """
        found: dict[str, str] = {}
        for path in sorted(self._folder.home("log").glob("*.cosigned")):
            origin = unquote(path.stem)
            text = self.cosigned(origin).text() if is_origin(origin) else None
            if text is not None:
                found[origin] = text
        return found

    def keep_fork(self, origin: str, fork: Fork, size: int) -> Path:
        """Puts the proof that this log was forked beside its key; where 16 are kept already, gives the place of one.

        Raises: LedgerError(refused, failed).
        """
        home = self._folder.owner("log", _require_origin(origin)).path
        return keep_fork(home.parent, home.stem, fork, size)

    def names(self) -> tuple[str, ...]:
        """The agents that have a key here, sorted. A file whose name is not an agent's is none of ours."""
        return tuple(self._folder.names("agent"))

    def origins(self) -> tuple[str, ...]:
        """The logs that have a key here, sorted. A file whose name is not an origin's is none of ours."""
        return tuple(self._folder.names("log"))

    def seal(self) -> int:
        """Puts every plain key under the passphrase; the number of those. Needs a source of it.

        After a crash each file is plain or sealed, and whole; calling again goes on. What was on the disk
        before may still be read from the disk itself: a key that somebody may have seen is to be rotated.
        Raises: LedgerError(key, permissions, unreadable, failed); what the passphrase's source raises.
        """
        return self._folder.rewrite(seal=True)

    def unseal(self) -> int:
        """Writes every sealed key as it was before; the number of those. Needs a source of the passphrase.

        Raises: as `seal`.
        """
        return self._folder.rewrite(seal=False)

    def next_agent(self, name: str, *, create: bool = True) -> AgentKey:
        """The key that is to follow the agent's own: made, or found again after a crash, but not in use.

        To rotate: take it, append the rotation to the log, then `promote`. After a crash in between, the log
        tells: where it names this key as the agent's new one, `promote` is what is missing.
        Raises: LedgerError(not_found) where the agent has no key to follow, or, without `create`, no next
        one; otherwise as `agent`.
        """
        self._folder.parsed(self._folder.owner("agent", _require_name(name)))
        return _agent_key(name, self._folder.key(self._folder.successor(name), create=create))

    def promote(self, name: str) -> None:
        """Puts the next key in the place of the agent's own, which is kept among the retired ones.

        Does nothing where there is no next one. A crash at any point leaves the agent with the old key or the
        new one, and calling again ends it. It needs no passphrase.
        Raises: LedgerError(refused, not_found, permissions, key, unreadable, failed).
        """
        self._folder.promote(_require_name(name))

    def retired(self, name: str) -> tuple[AgentId, ...]:
        """The ids of the keys that the agent had before, in the order of their texts. It needs no passphrase.

        Raises: LedgerError(refused, not_found, permissions, key, unreadable).
        """
        files = self._folder.retired(_require_name(name))
        if not files:
            return ()
        # A crash in `promote` leaves the key in use under both names.
        own = self._folder.parsed(self._folder.owner("agent", name)).id
        ids = sorted(self._folder.parsed(each).id for each in files)
        return tuple(AgentId(each) for each in ids if each != own)


def _stamp(path: str) -> _Stamp | None:
    """What tells a file from every other and from itself before a change, its mode included; None where it is not there."""
    try:
        found = os.lstat(path)
    except OSError:  # reading it will say why
        return None
    return (found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _agent_key(name: str, key: SigningKey) -> AgentKey:
    return AgentKey(name=name, id=agent_id(bytes(key.verify_key)), _key=key)


def _require_name(name: str) -> str:
    if not is_agent_name(name):
        raise LedgerError(
            "refused",
            f"{shown(name)!r} cannot name an agent",
            hint="Use letters, digits, '.', '_' and '-', at most 64, beginning with a letter or digit",
        )
    return name


def _require_origin(origin: str) -> str:
    if not is_origin(origin):
        raise LedgerError(
            "refused",
            f"{shown(origin)!r} cannot be an origin",
            hint="Use something like example.org/desk: printable ASCII without spaces and '+', at most 200",
        )
    return origin
