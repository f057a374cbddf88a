"""Small files that appear whole or not at all, whatever crashes, and the lock under which they change."""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agentmesh_ledger.errors import LedgerError

LOCK_SECONDS: Final = 10.0
SECRET_DRAFT: Final = ".new"
_DRAFT: Final = re.compile(r"\.[0-9a-f]{16}\.new\Z")


def create_file(path: Path, data: bytes, *, draft_suffix: str = SECRET_DRAFT) -> bool:
    """Puts a new file of mode 600 at the path; False, and nothing done, where the name is taken.

    Whoever does not hold the folder's lock names its drafts otherwise than secrets: those are swept away.
    """
    draft = _write_draft(path.parent, data, draft_suffix)
    try:
        # A link appears whole and fails where the name is taken: nothing is ever replaced, nothing half read.
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def replace_file(path: Path, data: bytes, *, draft_suffix: str = SECRET_DRAFT) -> None:
    """Puts a file of mode 600 at the path, over one that may be there: old or new, at every moment."""
    draft = _write_draft(path.parent, data, draft_suffix)
    try:
        os.replace(draft, path)
    except BaseException:  # also a signal: a draft of a secret must not stay behind
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in the folder durable: a rename that is not synced may be undone by a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_drafts(folder: Path) -> None:
    """Removes what a crash left of `create_file` and `replace_file`; only for the holder of the folder's lock.

    A draft that was linked before the crash is a second name of the secret: sealing the first would be vain.
    """
    for path in folder.iterdir():
        if _DRAFT.match(path.name):
            path.unlink(missing_ok=True)


def open_plain(path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file, not of what a link planted in its place leads to, and without waiting.

    Raises: LedgerError(key) where it is not a regular file; OSError.
    """
    handle = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o600)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise LedgerError("key", "this is not a regular file", path=str(path))
    return handle


def lock(handle: int, path: Path, *, shared: bool = False) -> None:
    """Locks the open file against other descriptors, of this process too, until `unlock` or close.

    Raises: LedgerError(failed) where another holds it for 10 seconds: a stopped process must not stop us.
    """
    import fcntl  # not on Windows, where a verifier may still import this package

    # flock, not lockf: that one is shared by all threads, and lost when any descriptor of the file is closed.
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    deadline: float | None = None
    while True:
        try:
            return fcntl.flock(handle, how)
        except BlockingIOError as error:
            now = time.monotonic()
            deadline = now + LOCK_SECONDS if deadline is None else deadline
            if now > deadline:
                raise LedgerError(
                    "failed",
                    f"another process holds this file for {LOCK_SECONDS:.0f} seconds",
                    path=str(path),
                    hint="Look for a process that is stopped or hangs, and try again",
                ) from error
            time.sleep(0.001)


def unlock(handle: int) -> None:
    """Gives the lock back; the descriptor stays open."""
    import fcntl

    fcntl.flock(handle, fcntl.LOCK_UN)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds a lock file, made where it is not there and never removed: a lock on a removed file locks nothing.

    Raises: LedgerError(failed, key); OSError.
    """
    handle = open_plain(path, os.O_RDWR | os.O_CREAT)
    try:
        lock(handle, path)
        yield
    finally:
        os.close(handle)


def _write_draft(folder: Path, data: bytes, suffix: str) -> Path:
    draft = folder / f".{secrets.token_hex(8)}{suffix}"
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
    except BaseException:  # as above; it rises again
        draft.unlink(missing_ok=True)
        raise
    return draft
