"""The logs a witness cosigns for: a file of log keys, one vkey a line, that may be edited while the witness runs."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from agentmesh_ledger.durable import exclusive, open_plain, replace_file
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.note import VerifierKey, parse_vkey
from agentmesh_ledger.text import is_origin, shown

MAX_LOGS: Final = 10_000
_MAX_FILE: Final = MAX_LOGS * 600
_LOOK_SECONDS: Final = 1.0
_DRAFT: Final = ".logs"


class TrustedLogs:
    """The keys in the file, by origin; a line may be empty or begin with `#`.

    The file is looked at again once a second at most. One that cannot be read then is told, and what was read before
    stays in force. A file that is not there trusts no log.
    """

    def __init__(
        self,
        path: Path,
        *,
        told: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._told = told
        self._clock = clock
        self._turn = threading.Lock()
        self._stamp = _stamp(path)
        self._looked = clock()
        self._take(read_logs(path))

    def keys(self, origin: str) -> Sequence[VerifierKey]:
        """The keys that may sign the log's checkpoints."""
        self._look()
        return self._keys.get(origin, ())

    def origins(self) -> tuple[str, ...]:
        """The logs that are trusted, sorted."""
        self._look()
        return tuple(sorted(self._keys))

    def named(self, digest: str) -> str | None:
        """The trusted log whose origin has this SHA-256, in lower-case hex."""
        self._look()
        return self._named.get(digest)

    def _look(self) -> None:
        if self._clock() - self._looked < _LOOK_SECONDS:
            return
        with self._turn:
            stamp, self._looked = _stamp(self._path), self._clock()
            if stamp == self._stamp:
                return
            self._stamp = stamp  # a file that cannot be read is told once, not once a second
            try:
                self._take(read_logs(self._path))
            except LedgerError as error:
                self._told(f"the list of logs stays as it was: {error}")

    def _take(self, keys: dict[str, tuple[VerifierKey, ...]]) -> None:
        self._keys = keys
        self._named = {hashlib.sha256(each.encode("ascii")).hexdigest(): each for each in keys}


def read_logs(path: Path) -> dict[str, tuple[VerifierKey, ...]]:
    """The keys in the file, by origin.

    Raises: LedgerError(unreadable, key).
    """
    return _parsed(_lines(path), path)


def trust_logs(path: Path, vkeys: Sequence[str]) -> int:
    """Adds these keys to the file, and gives the number of those that were not there. All of them or none.

    Raises: LedgerError(log_key) for what is no key of a log; (unreadable, key, failed).
    """
    wanted = [str(_log_key(each)) for each in vkeys]
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with exclusive(path.parent / ".lock"):
            lines = _lines(path)
            known = {str(key) for keys in _parsed(lines, path).values() for key in keys}
            new = [each for each in dict.fromkeys(wanted) if each not in known]
            if new:
                _parsed([*lines, *new], path)
                replace_file(
                    path, "".join(f"{each}\n" for each in [*lines, *new]).encode(), draft_suffix=_DRAFT
                )
            return len(new)
    except OSError as error:
        raise LedgerError(
            "failed", f"the list of logs cannot be written: {error.strerror}", path=str(path)
        ) from error


def _lines(path: Path) -> list[str]:
    try:
        with os.fdopen(open_plain(path), "rb") as file:
            data = file.read(_MAX_FILE + 1)
        if len(data) > _MAX_FILE:
            raise LedgerError("unreadable", "the list of logs is too long", path=str(path))
        # Not `splitlines`: behind a line separator in a comment would begin a line that nobody saw.
        return data.decode("utf-8").removesuffix("\n").split("\n") if data else []
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LedgerError(
            "unreadable", f"the list of logs cannot be read: {error.strerror}", path=str(path)
        ) from error
    except UnicodeDecodeError as error:
        raise LedgerError("unreadable", "the list of logs is not UTF-8", path=str(path)) from error


def _parsed(lines: Sequence[str], path: Path) -> dict[str, tuple[VerifierKey, ...]]:
    found: dict[str, tuple[VerifierKey, ...]] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            key = _log_key(text)
        except LedgerError as error:
            raise LedgerError(
                "unreadable", f"the list of logs cannot be used: {error.message}", line=number, path=str(path)
            ) from error
        known = found.get(key.name, ())
        found[key.name] = known if key in known else (*known, key)
    if len(found) > MAX_LOGS:
        raise LedgerError("unreadable", f"the list has more than {MAX_LOGS:,} logs", path=str(path))
    return found


def _log_key(text: str) -> VerifierKey:
    key = parse_vkey(text)
    if not is_origin(key.name):
        raise LedgerError("log_key", f"{shown(key.name)!r} is not an origin")
    return key


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:  # reading it says why
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
