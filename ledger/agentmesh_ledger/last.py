"""The signer's memory: the newest checkpoint that a log's key signed, kept beside the key, not in the database."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

from agentmesh_ledger.checkpoint import open_checkpoint
from agentmesh_ledger.durable import create_file, lock, open_plain, replace_file, unlock
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.note import MAX_NOTE, VerifierKey

_SYNC_SECONDS: Final = 1.0
_PAGE: Final = 4096
_DRAFT: Final = ".note"
_LIMIT: Final = 4 * MAX_NOTE  # bytes of a note, each character of which may take four


class LastCheckpoint:
    """The file `logs/ORIGIN.checkpoint`: the newest checkpoint this key signed and the database committed.

    A database restored from an old backup is sound in itself. It would be continued on a second branch, and
    the key would sign a fork. This file shows it: whoever opens the log to write compares, and refuses
    (SPEC L-68, L-69).

    It is written after the commit, never before: a checkpoint written first and then not committed (a crash,
    a full disk) would make a sound log look rolled back for ever. It is not synced each time, which would
    double the cost of a commit. So it may lag behind the log, which is harmless: every checkpoint it holds
    was committed, and the log continues it. It is never ahead of what was committed.

    The content is exactly the note, so the file serves as `--expect`. Nothing is opened before the first call.
    """

    def __init__(
        self, path: Path, key: Callable[[], VerifierKey], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`key` is asked once, and only where there is a note to check; `clock` counts seconds."""
        self.path = path
        self._key = key
        self._clock = clock
        self._mutex = threading.Lock()
        self._handle: int | None = None
        self._inode = (0, 0)
        self._note = b""  # the bytes last found good, and their size: compared, so that they need no parsing
        self._size = -1
        self._synced = clock()
        self._dirty = False

    def __enter__(self) -> LastCheckpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self) -> str | None:
        """The note; None where this key never committed one, or the operator removed the file.

        Raises: LedgerError(key) where it is damaged or not of this log's key; (permissions, unreadable,
        failed, not_found).
        """
        with self._mutex:
            while True:
                try:
                    handle = self._open(os.O_RDONLY)
                except FileNotFoundError:
                    return None
                except OSError as error:
                    raise self._unreadable(error) from error
                try:
                    lock(handle, self.path, shared=True)
                    if self._identity(os.fstat(handle)) == self._named():
                        note = self._content(handle)
                        self._measure(note)
                        return note.decode("utf-8")
                except OSError as error:
                    raise self._unreadable(error) from error
                finally:
                    os.close(handle)

    def other_than(self, known: str) -> str | None:
        """The note, where it is another than this one; None where it is the same, or there is none.

        Two microseconds where it is the same.
        Raises: LedgerError as `read`.
        """
        with self._mutex:
            try:
                handle = self._handle
                if handle is not None and self._inode == self._named():
                    if self._content(handle) == known.encode("utf-8", "surrogatepass"):
                        return None
            except OSError as error:
                raise self._unreadable(error) from error
        note = self.read()  # under the lock, where a note is never half written
        return None if note == known else note

    def advance(self, note: str, size: int) -> None:
        """Remembers the note of a checkpoint of this size, signed by the log's key, once it is committed.

        Does nothing where the file holds one of this size or larger: commits may arrive out of order, and
        from several threads and processes. About 20 microseconds, with a sync once a second.

        Raises: LedgerError(refused) where note and size disagree; LedgerError(key, permissions, failed): the
        commit stands none the less, only its remembering failed.
        """
        data = note.encode("utf-8", "surrogatepass")
        if note.split("\n", 2)[1:2] != [str(size)] or len(data) > _LIMIT:
            raise LedgerError("refused", f"the note is not that of a checkpoint of size {size}")
        with self._mutex:
            try:
                self._advance(data, size)
                if self._dirty and self._clock() - self._synced >= _SYNC_SECONDS:
                    self._sync()
            except OSError as error:
                raise self._unwritable(error) from error

    def replace(self, note: str) -> None:
        """Puts this note in the place of a newer one: the operator accepts that the log was rolled back.

        From then on the key may sign a second branch; whoever holds the newer checkpoint can prove it. Old
        or new after a crash, and durable on return.

        Raises: LedgerError(refused) where the note is not signed by this log's key; (key, permissions,
        failed).
        """
        data = note.encode("utf-8", "surrogatepass")
        with self._mutex:
            try:
                size = self._measure(data)
            except LedgerError as error:
                if error.reason != "key":
                    raise
                raise LedgerError("refused", "the note is not one that this log's key signed") from error
            try:
                with self._locked(data):
                    self._replace(data, size)
            except OSError as error:
                raise self._unwritable(error) from error

    def close(self) -> None:
        """Makes the last note durable and lets the file go. Closing twice is fine.

        Raises: LedgerError(failed).
        """
        with self._mutex:
            try:
                if self._dirty:
                    self._sync()
            except OSError as error:
                raise self._unwritable(error) from error
            finally:
                self._let_go()

    def _advance(self, data: bytes, size: int) -> None:
        with self._locked(data) as handle:
            stored = self._content(handle)
            if self._measure(stored) >= size:
                return
            if len(stored) <= len(data) <= _PAGE:
                # One write inside one page: a kill leaves the old note or the new one, and so does a power
                # failure unless it tears the page, which the signature shows.
                if os.pwrite(handle, data, 0) != len(data):
                    raise OSError(28, "only a part was written")
                self._note, self._size, self._dirty = data, size, True
            else:
                self._replace(data, size)

    def _replace(self, data: bytes, size: int) -> None:
        replace_file(self.path, data, draft_suffix=_DRAFT)
        self._let_go()  # what is open is the old file, without a name now
        self._note, self._size, self._synced = data, size, self._clock()

    @contextmanager
    def _locked(self, first: bytes) -> Iterator[int]:
        """The file, made with this content where it is not there, open and locked against other writers."""
        while True:
            if self._handle is None:
                self._handle = self._opened(first)
                self._inode = self._identity(os.fstat(self._handle))
            handle = self._handle
            lock(handle, self.path)
            # While we waited for the lock the file may have been replaced: then we hold a nameless one.
            if self._inode == self._named():
                break
            self._let_go()
        try:
            yield handle
        finally:
            if self._handle is not None:
                unlock(handle)

    def _opened(self, first: bytes) -> int:
        while True:
            try:
                return self._open(os.O_RDWR)
            except FileNotFoundError:
                # Into a folder that is there: one without the key would only be in the way of its restoration.
                create_file(self.path, first, draft_suffix=_DRAFT)

    def _open(self, flags: int) -> int:
        handle = open_plain(self.path, flags)
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        if os.name == "posix" and mode & 0o022:
            os.close(handle)
            raise LedgerError(
                "permissions",
                "the last checkpoint can be written by others",
                path=str(self.path),
                expected="mode 600",
                found=f"{mode:o}",
                hint=f"If nobody else has written it: chmod 600 '{self.path}'",
            )
        return handle

    def _named(self) -> tuple[int, int] | None:
        try:
            return self._identity(os.stat(self.path, follow_symlinks=False))
        except FileNotFoundError:
            return None

    @staticmethod
    def _identity(status: os.stat_result) -> tuple[int, int]:
        return status.st_dev, status.st_ino

    @staticmethod
    def _content(handle: int) -> bytes:
        return os.pread(handle, _LIMIT + 1, 0)

    def _measure(self, data: bytes) -> int:
        """The size that these bytes testify to; they are held to everything that a checkpoint must satisfy."""
        if data == self._note and data:
            return self._size
        try:
            if len(data) > _LIMIT:
                raise LedgerError("checkpoint", "it is too long")
            signed = open_checkpoint(data.decode("utf-8"), [self._key()])
        except (LedgerError, UnicodeDecodeError) as error:
            why = error.message if isinstance(error, LedgerError) else "it is not UTF-8"
            if isinstance(error, LedgerError) and not error.is_check:
                raise
            raise LedgerError(
                "key",
                f"the last checkpoint is damaged or not of this log's key: {why}",
                path=str(self.path),
                hint="Without it nothing here shows whether the database was rolled back. Verify the database "
                "against a checkpoint kept elsewhere, then move this file away",
            ) from error
        self._note, self._size = data, signed.checkpoint.size
        return self._size

    def _sync(self) -> None:
        if self._handle is not None:
            os.fsync(self._handle)
        self._dirty = False
        self._synced = self._clock()

    def _let_go(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        self._dirty = False

    def _unreadable(self, error: OSError) -> LedgerError:
        return LedgerError(
            "unreadable", f"the last checkpoint cannot be read: {error.strerror}", path=str(self.path)
        )

    def _unwritable(self, error: OSError) -> LedgerError:
        return LedgerError(
            "failed", f"the last checkpoint cannot be written: {error.strerror}", path=str(self.path)
        )
