"""Whose statements count: keys that were listed, or the first one that was seen under a name."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias

from agentmesh.serving.signing.failures import SigningError
from agentmesh_ledger import AgentId, LedgerError, shown
from agentmesh_ledger.durable import exclusive, replace_file
from agentmesh_ledger.identity import public_key

Side: TypeAlias = Literal["server", "client"]
"""What the named side is. Kept apart: no caller may take the name of a server that we call."""

MAX_PINS: Final = 4_096
_FORMAT: Final = "agentmesh-known-keys/v1"
_SIDES: Final[tuple[Side, ...]] = ("client", "server")

_Pins: TypeAlias = "dict[Side, dict[str, AgentId]]"


class KnownKeys:
    """A list of keys, or pins: under each name the first key that was seen there, until a person forgets it.

    With `listed` every other key is refused. Without, keys are pinned: in `path`, a JSON file that several processes
    share, or in memory only. At most `limit` names of each side are pinned: strangers choose theirs.
    """

    def __init__(
        self,
        *,
        listed: Iterable[str] | None = None,
        path: Path | None = None,
        limit: int = MAX_PINS,
    ) -> None:
        """Raises: LedgerError(identity) for a listed key that is none; SigningError(malformed) for a damaged file."""
        self._listed = None if listed is None else frozenset(_agent(each) for each in listed)
        self._path = path
        self._limit = limit
        self._pins: _Pins = {side: {} for side in _SIDES}
        self._read: tuple[int, int, int] | None = None
        if path is not None:
            self._refresh()

    def pin_of(self, side: Side, name: str) -> AgentId | None:
        """The key that is known under the name: its pin, or the only one of the list."""
        if self._listed is not None:
            return next(iter(self._listed)) if len(self._listed) == 1 else None
        self._refresh()
        return self._pins[side].get(name)

    def require(self, side: Side, name: str, key: AgentId) -> None:
        """Refuses a key that is not known, where the name has another. Nothing is pinned yet.

        Raises: SigningError(unknown_key, changed_key, too_many).
        """
        if self._listed is not None:
            if key not in self._listed:
                raise SigningError("unknown_key", f"the key {key} is not one of those that are known")
            return
        self._refresh()
        self._require_room(side, name, key)

    def pin(self, side: Side, name: str, key: AgentId) -> None:
        """Pins the key under the name, where none is; call it when all else about a statement was found good.

        Raises: SigningError(changed_key, too_many, unrecorded).
        """
        if self._listed is not None or self._pins[side].get(name) == key:
            return
        with self._changing():
            self._require_room(side, name, key)
            if self._pins[side].get(name) == key:
                return
            self._pins[side][name] = key
            try:
                self._write()
            except BaseException:  # also a signal: what is not in the file must not be believed either
                del self._pins[side][name]
                raise

    def forget(self, side: Side, name: str) -> bool:
        """Takes a pin out, so that the next key under the name is pinned; whether there was one.

        Raises: SigningError(unrecorded).
        """
        with self._changing():
            if self._pins[side].pop(name, None) is None:
                return False
            self._write()
            return True

    def _require_room(self, side: Side, name: str, key: AgentId) -> None:
        pins = self._pins[side]
        pinned = pins.get(name)
        if pinned is None:
            if len(pins) >= self._limit:
                raise SigningError("too_many", f"{self._limit} keys are pinned, there is no room for another")
        elif pinned != key:
            raise SigningError(
                "changed_key",
                f"{shown(name)} was known by the key {pinned} and now signs with {key}",
                hint="If that is meant, forget the old key",
            )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Alone with the file, and knowing what stands in it."""
        if self._path is None:
            yield
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with exclusive(self._path.parent / f"{self._path.name}.lock"):
                self._refresh()
                yield
        except (OSError, LedgerError) as error:
            raise SigningError(
                "unrecorded", f"the known keys cannot be written: {error}", hint=str(self._path)
            ) from error

    def _refresh(self) -> None:
        """Reads the file anew where another process has changed it."""
        if self._path is None:
            return
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _damaged(self._path, error) from error
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp == self._read:
            return
        try:
            self._pins = _parsed(json.loads(self._path.read_bytes()))
        except (OSError, ValueError, RecursionError, LedgerError) as error:
            raise _damaged(self._path, error) from error
        self._read = stamp

    def _write(self) -> None:
        if self._path is None:
            return
        text = json.dumps(
            {"format": _FORMAT, "pins": self._pins}, ensure_ascii=False, indent=1, sort_keys=True
        )
        replace_file(self._path, text.encode() + b"\n")
        found = os.stat(self._path)
        self._read = (found.st_ino, found.st_mtime_ns, found.st_size)


def _agent(text: str) -> AgentId:
    public_key(text)
    return AgentId(text)


def _damaged(path: Path, error: Exception) -> SigningError:
    return SigningError(
        "malformed",
        f"the file of known keys cannot be read: {shown(str(error))}",
        hint=f"Mend {path}, or move it away and pin anew",
    )


def _parsed(value: object) -> _Pins:
    """Raises: ValueError, LedgerError(identity)."""
    if not isinstance(value, dict) or set(value) != {"format", "pins"} or value["format"] != _FORMAT:
        raise ValueError(f"it is not of the format {_FORMAT}")
    pins = value["pins"]
    if not isinstance(pins, dict) or set(pins) != set(_SIDES):
        raise ValueError("it has not the pins of clients and of servers")
    found: _Pins = {}
    for side in _SIDES:
        names = pins[side]
        if not isinstance(names, dict) or not all(isinstance(each, str) for each in names.values()):
            raise ValueError("a pin is not a name with a key")
        found[side] = {str(name): _agent(key) for name, key in names.items()}
    return found
