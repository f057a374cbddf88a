"""What a mesh file means by the paths, programs and addresses in it, and where its log is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from agentmesh_ledger.source import is_database, without_password

OWN_FOLDER = ".agentmesh"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPlace:
    """Where a log is: the file or the database's URL that holds it, its name there, and the folder of its secret keys.

    `origin` is None where the ledger is taken to hold one log only.
    """

    ledger: Path | str
    origin: str | None
    keys: Path

    @property
    def pins(self) -> Path:
        """The file of the tools that were accepted of servers and peers."""
        return self.keys.parent / "pins.json"

    @property
    def known_keys(self) -> Path:
        """The file of the keys that were pinned of those whom the mesh calls, and of those who call it."""
        return self.keys.parent / "known-keys.json"

    @property
    def nonces(self) -> Path:
        """The file of the statements that reached the mesh of late: each counts once, after a restart too."""
        return self.keys.parent / "nonces"

    def __str__(self) -> str:
        """For people: without a password."""
        return without_password(os.fspath(self.ledger))


def log_place(ledger: Path | str, *, origin: str | None, folder: Path) -> LogPlace:
    """The log in a file, whose keys stand beside it, or in a database, whose keys stand in `folder`/.agentmesh/keys."""
    if isinstance(ledger, str) and is_database(ledger):
        return LogPlace(ledger=ledger, origin=origin, keys=folder / OWN_FOLDER / "keys")
    path = Path(ledger)
    return LogPlace(ledger=path, origin=origin, keys=path.parent / "keys")


def place(folder: Path, written: str) -> Path:
    """The path that a mesh file in `folder` means by `written`; `~` is the home folder, where there is one."""
    try:
        return folder / Path(written).expanduser()
    except RuntimeError:
        return folder / written


def is_program(program: str, folder: Path, env: Mapping[str, str]) -> bool:
    """Whether a server can be started as `program`: with a slash a path from `folder`, else looked up as a shell does."""
    if "/" in program:
        return (folder / program).is_file()
    return shutil.which(program, path=env.get("PATH")) is not None


def is_address(url: str) -> bool:
    """Whether `url` is an http or https address with a host and, where one is given, a port that exists."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
