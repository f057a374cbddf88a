"""Nonces that were seen: a statement counts once. Bounded, and where there is no room nothing passes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agentmesh.serving.signing.failures import SigningError
from agentmesh_ledger import LedgerError
from agentmesh_ledger.durable import lock, open_plain, replace_file, unlock

MAX_NONCES: Final = 200_000
MAX_PER_KEY: Final = 100_000
_HEAD: Final = b"agentmesh-nonces/v1\n"
# A file with more lines than this beyond what still counts is written anew.
_SPARE: Final = 50_000
_STEP: Final = 5.0


class NonceStore:
    """Remembers each nonce until its statement would be refused for its time anyway.

    With a `path` that survives a restart, and several processes that answer to one key share it: a statement taken from
    one of them is no good at another. It is not synced: only a power failure may lose the last ones.
    To look and to remember is one step, for all tasks, threads and processes.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        limit: int = MAX_NONCES,
        per_key: int = MAX_PER_KEY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises: SigningError(unrecorded) where the file cannot be used, or is no file of nonces."""
        self._limit = limit
        self._per_key = per_key
        self._clock = clock
        # In the order of a coarse time of expiry, so that what is over is found without looking at the rest.
        self._steps: dict[int, list[tuple[str, str]]] = {}
        self._seen: dict[str, set[str]] = {}
        self._size = 0
        self._turn = threading.Lock()
        self._path = path
        self._handle: int | None = None
        self._inode = self._offset = self._lines = 0
        if path is not None:
            with self._file(path):
                self._compact(path)

    def __len__(self) -> int:
        return self._size

    def close(self) -> None:
        """Gives the file back. Closing twice is no error."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def remember(self, key: str, nonce: str, until: float) -> None:
        """Takes note of a nonce under its author's key, until that second of the epoch.

        Raises: SigningError(replayed) where it is known, SigningError(too_many) where there is no room,
        SigningError(unrecorded) where the file does not take it.
        """
        if self._path is None:
            with self._turn:
                self._require_new(key, nonce)
                self._enter(key, nonce, until)
            return
        with self._turn, self._file(self._path) as handle:
            self._require_new(key, nonce)
            line = b"%d %b %b\n" % (int(until) + 1, key.encode(), nonce.encode())
            if os.write(handle, line) != len(line):
                # A torn line in the middle would stand in the way of all that follow.
                os.ftruncate(handle, self._offset)
                raise SigningError("unrecorded", f"there is no room for the file of nonces {self._path}")
            self._offset += len(line)
            self._lines += 1
            self._enter(key, nonce, int(until) + 1)
            if self._lines > self._size + _SPARE:
                self._compact(self._path)

    def _require_new(self, key: str, nonce: str) -> None:
        self._expire()
        known = self._seen.get(key, ())
        if nonce in known:
            raise SigningError("replayed", "this statement was used before")
        if self._size >= self._limit or len(known) >= self._per_key:
            raise SigningError(
                "too_many", "too many statements at once: there is no room to remember another nonce"
            )

    def _enter(self, key: str, nonce: str, until: float) -> None:
        known = self._seen.setdefault(key, set())
        if nonce in known:
            return
        known.add(nonce)
        self._size += 1
        self._steps.setdefault(int(until // _STEP) + 1, []).append((key, nonce))

    def _expire(self) -> None:
        now = self._clock()
        for step in sorted(each for each in self._steps if each * _STEP < now):
            for key, nonce in self._steps.pop(step):
                known = self._seen[key]
                known.discard(nonce)
                self._size -= 1
                if not known:
                    del self._seen[key]

    @contextmanager
    def _file(self, path: Path) -> Iterator[int]:
        """The file, locked, with all that others wrote into it taken note of."""
        try:
            handle = self._locked(path)
            try:
                self._read_on(handle, path)
                yield handle
            finally:
                if self._handle is not None:
                    unlock(self._handle)
        except (OSError, LedgerError) as error:
            raise SigningError("unrecorded", f"the file of nonces {path} cannot be used: {error}") from error

    def _locked(self, path: Path) -> int:
        """The descriptor of the file that stands at the path by now: another process may have written it anew."""
        while True:
            if self._handle is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._handle = open_plain(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
                self._inode = os.fstat(self._handle).st_ino
                self._offset = self._lines = 0
            lock(self._handle, path)
            try:
                if os.stat(path).st_ino == self._inode:
                    return self._handle
            except FileNotFoundError:
                pass  # it was taken away: a new one is made, and what is in memory stays known
            self.close()

    def _read_on(self, handle: int, path: Path) -> None:
        size = os.fstat(handle).st_size
        if size == 0:
            os.write(handle, _HEAD)
            self._offset = len(_HEAD)
            return
        if size == self._offset:
            return
        data = os.pread(handle, size - self._offset, self._offset)
        if self._offset == 0:
            if not data.startswith(_HEAD):
                raise LedgerError("unreadable", "it is no file of nonces")
            data, self._offset = data[len(_HEAD) :], len(_HEAD)
        whole = data.rfind(b"\n") + 1
        for line in data[:whole].splitlines():
            self._take(line)
        if whole != len(data):
            # The process that wrote this line died in the middle of it, and had not let its statement pass.
            os.ftruncate(handle, self._offset + whole)
        self._offset += whole

    def _take(self, line: bytes) -> None:
        until, _, rest = line.decode("ascii", "replace").partition(" ")
        key, _, nonce = rest.partition(" ")
        if not until.isdigit() or not nonce:
            raise LedgerError("unreadable", "it has a line that is none of ours")
        self._lines += 1
        if int(until) >= self._clock():
            self._enter(key, nonce, int(until))

    def _compact(self, path: Path) -> None:
        """Writes the file anew with what still counts; whoever has the old one open finds that it is not there any more."""
        self._expire()
        lines = [
            b"%d %b %b\n" % (int(step * _STEP), key.encode(), nonce.encode())
            for step, entries in sorted(self._steps.items())
            for key, nonce in entries
        ]
        if len(lines) == self._lines:
            return
        replace_file(path, _HEAD + b"".join(lines))
        self.close()
