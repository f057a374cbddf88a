"""The folder of a key store: which file holds whose key, and how files come to be, are sealed and take turns."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from nacl.signing import SigningKey

from agentmesh_ledger.durable import (
    create_file,
    exclusive,
    open_plain,
    remove_drafts,
    replace_file,
    sync_folder,
)
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.keyfile import MAX_FILE, Owner, PlainKey, Role, SealedKey, encode_plain, parse_key
from agentmesh_ledger.sealing import Sealer
from agentmesh_ledger.text import is_agent_name, is_origin, shown

_PREFIX: Final = "did:key:"
_HOMES: Final[Mapping[Role, str]] = {"agent": "agents", "log": "logs", "witness": "witnesses"}
_NAMED: Final[tuple[Role, ...]] = ("log", "witness")  # by a name in the form of an origin
_RETIRED: Final = re.compile(r"(.+)\.(z[1-9A-HJ-NP-Za-km-z]{11})\.retired\Z")


class KeyFolder:
    """The files `agents/NAME.key`, `.key.next` and `.ID.retired`, `logs/ORIGIN.key`, `witnesses/NAME.key` (SPEC L-60 to L-67).

    Files change only under the lock `.lock` of the folder. Readers take none: a file is replaced whole.
    """

    def __init__(self, directory: Path, sealer: Sealer | None) -> None:
        self.directory = directory
        self._sealer = sealer

    def owner(self, role: Role, name: str, suffix: str = ".key") -> Owner:
        """The key file of this name."""
        return Owner(role=role, name=name, path=self.home(role) / f"{quote(name, safe='')}{suffix}")

    def successor(self, name: str) -> Owner:
        """The file of the key that is to follow the agent's own."""
        return self.owner("agent", name, ".key.next")

    def retired(self, name: str) -> list[Owner]:
        """The files of the keys that the agent had before, in the order of their names."""
        return [each for each in self._owners() if each.name == name and each.path.suffix == ".retired"]

    def names(self, role: Role) -> list[str]:
        """Whose keys are here, sorted."""
        return sorted(
            each.name for each in self._owners() if each.role == role and each.path.suffix == ".key"
        )

    def sealed(self) -> bool:
        """Whether any file here is sealed.

        Raises: LedgerError(permissions, key, unreadable).
        """
        return any(isinstance(self.parsed(each), SealedKey) for each in self._owners())

    def parsed(self, owner: Owner) -> PlainKey | SealedKey:
        """The key in the file, closed where it is sealed.

        Raises: LedgerError(not_found, permissions, key, unreadable).
        """
        try:
            return parse_key(_read(owner), owner)
        except FileNotFoundError as error:
            raise LedgerError(
                "not_found", f"there is no {owner.role} key for {shown(owner.name)}", path=str(owner.path)
            ) from error
        except OSError as error:
            raise LedgerError(
                "unreadable", f"the key file cannot be read: {error.strerror}", path=str(owner.path)
            ) from error

    def key(self, owner: Owner, *, create: bool) -> SigningKey:
        """The secret key in the file, which is made where it is not there and may be.

        Raises: LedgerError(not_found, permissions, key, unreadable, failed); what the passphrase's source raises.
        """
        try:
            found = self.parsed(owner)
        except LedgerError as error:
            if error.reason != "not_found" or not create:
                raise
            found = self._create(owner)
        return self._opened(found, owner).key

    def rewrite(self, *, seal: bool) -> int:
        """Seals all plain files, or opens all sealed ones; the number of those.

        Raises: LedgerError(key) where there is no passphrase, it is wrong or a file is damaged: then nothing
        was changed. LedgerError(failed) where some may be changed: each is whole, and the next call goes on.
        """
        sealer = self._need_sealer(self.directory)
        sealer.ask()
        with self._changing():
            todo: list[tuple[Owner, bytes]] = []
            for owner in self._owners():
                data = _read(owner)
                parsed = parse_key(data, owner)
                if isinstance(parsed, SealedKey):
                    # Those that stay are opened too: one store must not end under two passphrases.
                    data = sealer.open(parsed, owner)
                if isinstance(parsed, PlainKey) == seal:
                    todo.append((owner, data))
            for owner, data in todo:
                replace_file(owner.path, sealer.seal(data, owner) if seal else data)
        return len(todo)

    def promote(self, name: str) -> None:
        """Puts the agent's next key in the place of its own, which is kept as retired.

        The old key gets its second name first, and then loses the first to the new one in one step: at no
        moment is the agent without a key, and a crash anywhere is mended by the next call.
        Raises: LedgerError(not_found, permissions, key, unreadable, failed, refused).
        """
        own, successor = self.owner("agent", name), self.successor(name)
        with self._changing():
            old = self.parsed(own)
            if not os.path.lexists(successor.path):
                return  # it was promoted already
            self.parsed(successor)  # a damaged one must not take the place of a good one
            retired = self.owner("agent", name, f".{old.id.removeprefix(_PREFIX)[:12]}.retired")
            try:
                os.link(own.path, retired.path)
            except FileExistsError:
                if self.parsed(retired).id != old.id:
                    raise LedgerError(
                        "refused", "another retired key has this name", path=str(retired.path)
                    ) from None
            sync_folder(own.path.parent)
            os.replace(successor.path, own.path)
            sync_folder(own.path.parent)

    def _create(self, owner: Owner) -> PlainKey | SealedKey:
        if self._sealer is not None:
            self._sealer.ask()
        with self._changing():
            if not os.path.lexists(owner.path):
                data = encode_plain(SigningKey.generate(), owner)
                if self._sealer is not None:
                    self._prove(self._sealer)
                    data = self._sealer.seal(data, owner)
                owner.path.parent.mkdir(mode=0o700, exist_ok=True)
                create_file(owner.path, data)
        # Read back: it is another process's where that one was first.
        return self.parsed(owner)

    def _prove(self, sealer: Sealer) -> None:
        """Opens one sealed key, if there is one: a slip of the finger must not seal the next one for ever."""
        for owner in self._owners():
            found = self.parsed(owner)
            if isinstance(found, SealedKey):
                sealer.open(found, owner)
                return

    def _opened(self, found: PlainKey | SealedKey, owner: Owner) -> PlainKey:
        if isinstance(found, SealedKey):
            plain = parse_key(self._need_sealer(owner.path).open(found, owner), owner)
            assert isinstance(plain, PlainKey)  # `open` refuses another
            return plain
        return found

    def _need_sealer(self, path: Path) -> Sealer:
        if self._sealer is None:
            raise LedgerError(
                "key",
                "a passphrase is needed here, and none was given",
                path=str(path),
                hint="Set AGENTMESH_PASSPHRASE, or name another source of the passphrase",
            )
        return self._sealer

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Holds the folder's lock; what a crash left half done under it before is swept away."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with exclusive(self.directory / ".lock"):
                for role in _HOMES:
                    home = self.home(role)
                    if home.is_dir():
                        remove_drafts(home)
                yield
        except OSError as error:
            raise LedgerError(
                "failed",
                f"the key files cannot be changed: {error.strerror}",
                path=str(error.filename or self.directory),
            ) from error

    def home(self, role: Role) -> Path:
        """The folder of the key files of this role."""
        return self.directory / _HOMES[role]

    def _owners(self) -> list[Owner]:
        """All key files that are ours, sorted by path. A file with another name is none of ours."""
        found: list[Owner] = []
        for path in _listed(self.home("agent")):
            retired = _RETIRED.match(path.name)
            name = retired[1] if retired else path.name.removesuffix(".next").removesuffix(".key")
            ours = retired or path.name.endswith((".key", ".key.next"))
            if ours and is_agent_name(name):
                found.append(Owner(role="agent", name=name, path=path))
        for role in _NAMED:
            for path in _listed(self.home(role)):
                name = unquote(path.stem)
                # In one spelling only: what is percent-encoded otherwise is another file than the one that is read.
                if path.suffix == ".key" and is_origin(name) and quote(name, safe="") == path.stem:
                    found.append(Owner(role=role, name=name, path=path))
        return found


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _read(owner: Owner) -> bytes:
    # Not through a link: one planted in the folder could make another file's bytes the key.
    handle = open_plain(owner.path)
    with os.fdopen(handle, "rb") as file:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        if os.name == "posix" and mode & 0o077:
            raise LedgerError(
                "permissions",
                "the key file is open to others",
                path=str(owner.path),
                expected="mode 600",
                found=f"{mode:o}",
                hint=f"If nobody else has read it: chmod 600 '{owner.path}'",
            )
        return file.read(MAX_FILE + 1)
