"""Folders that are entered name by name and never through a link.

Where the operating system has it, every step opens the next folder relative to the one held open (`dir_fd`, O_NOFOLLOW):
a folder that is swapped for a link while a call runs is then refused, not followed. Windows has no `dir_fd`; there each step
looks for a link first and is then resolved again, which a swap at the right moment can get past.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeAlias

from agentmesh_servers.errors import ServersError
from agentmesh_servers.files import names

Kind: TypeAlias = Literal["file", "folder", "link", "other"]
HELD_OPEN: Final = os.open in os.supports_dir_fd and os.scandir in os.supports_fd
MAX_SCANNED: Final = 20_000
_FOLDER_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_DIRECTORY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
)
# Not blocking: opening a named pipe would otherwise wait for a writer for ever.
FILE_FLAGS: Final = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOCTTY", 0)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One name in a folder. `size` is in bytes, `modified` in seconds since 1970."""

    name: str
    kind: Kind
    size: int
    modified: float


def kind_of(mode: int) -> Kind:
    """What a file's mode says it is; devices, pipes and sockets are `other`."""
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"


def told(error: OSError | ValueError, what: str) -> ServersError:
    """The operating system's refusal in words; `what` is the path as it was asked for."""
    code = error.errno if isinstance(error, OSError) else errno.EINVAL
    shown = names.shown(what) or "the folder"
    if code in (errno.ENOENT, errno.ENOTDIR):
        return ServersError("not_found", f"{shown} is not there")
    if code == errno.ELOOP:
        return ServersError("refused", f"{shown} is a link, and links are not followed")
    why = {
        errno.EACCES: "the operating system does not allow it",
        errno.EPERM: "the operating system does not allow it",
        errno.ENAMETOOLONG: "its name is too long",
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EROFS: "the file system is read-only",
        errno.ENOTEMPTY: "it is not empty",
        errno.EXDEV: "it would have to cross from one disk to another",
        errno.EINVAL: "no file system allows it",
        errno.EMFILE: "too many files are open; try again",
    }.get(code or 0, os.strerror(code or 0))
    return ServersError("unreadable", f"{shown}: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder that is open. `handle` is None where the system cannot hold one; `path` then leads to it."""

    handle: int | None
    path: Path
    root: Path

    def at(self, name: str) -> tuple[str, int | None]:
        """What to hand to the functions of `os` for a name in this folder: a path and its `dir_fd`."""
        return (str(self.path / name), None) if self.handle is None else (name, self.handle)

    def status(self, name: str) -> os.stat_result:
        """What is known of a name, of a link itself."""
        target, handle = self.at(name)
        found = os.stat(target, dir_fd=handle, follow_symlinks=False)
        # Windows has links of other kinds, which look like folders.
        if getattr(found, "st_reparse_tag", 0):
            raise OSError(errno.ELOOP, "a reparse point")
        return found

    def entries(self) -> tuple[list[Entry], bool]:
        """The names here in order, and whether there are more than the 20,000 that were looked at."""
        found: list[Entry] = []
        with os.scandir(self.path if self.handle is None else self.handle) as scan:
            for each in scan:
                if len(found) == MAX_SCANNED:
                    return sorted(found, key=_by_name), True
                try:
                    status = each.stat(follow_symlinks=False)
                except OSError:
                    continue  # it went away meanwhile
                kind: Kind = "link" if getattr(status, "st_reparse_tag", 0) else kind_of(status.st_mode)
                size = status.st_size if kind == "file" else 0
                found.append(Entry(name=each.name, kind=kind, size=size, modified=status.st_mtime))
        return sorted(found, key=_by_name), False

    @contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        """A plain file here, open for reading: never a link, a device or a pipe. Raises `OSError`, `ServersError`."""
        _require_file(self.status(name), name)  # first: to open some devices is to set them going
        target, handle = self.at(name)
        with os.fdopen(os.open(target, os.O_RDONLY | FILE_FLAGS, dir_fd=handle), "rb") as file:
            _require_file(os.fstat(file.fileno()), name)
            yield file

    def create(self, name: str) -> BinaryIO:
        """A new file here, open for writing. Raises `OSError`, also where the name is taken."""
        target, handle = self.at(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | FILE_FLAGS
        return os.fdopen(os.open(target, flags, 0o666, dir_fd=handle), "wb")

    @contextmanager
    def enter(self, name: str) -> Iterator[Folder]:
        """The folder of that name in this one. Raises `OSError`."""
        if self.handle is None:
            inner = self.path / name
            if kind_of(self.status(name).st_mode) == "link" or inner.resolve(strict=True) != inner:
                raise OSError(errno.ELOOP, "a link")
            if not inner.is_dir():
                raise OSError(errno.ENOTDIR, "not a folder")
            yield Folder(handle=None, path=inner, root=self.root)
            return
        try:
            handle = os.open(name, _FOLDER_FLAGS, dir_fd=self.handle)
        except NotADirectoryError:
            # Linux tells a link from a file in this place only when asked.
            if kind_of(self.status(name).st_mode) == "link":
                raise OSError(errno.ELOOP, "a link") from None
            raise
        try:
            yield Folder(handle=handle, path=self.path / name, root=self.root)
        finally:
            os.close(handle)


def _require_file(status: os.stat_result, name: str) -> None:
    kind = kind_of(status.st_mode)
    if kind == "link":
        raise OSError(errno.ELOOP, "a link")
    if kind != "file":
        what = "a folder" if kind == "folder" else "a device, a pipe or a socket"
        raise ServersError("refused", f"{names.shown(name)} is {what}, not a file")


def _by_name(entry: Entry) -> str:
    return entry.name


@contextmanager
def opened(root: Path) -> Iterator[Folder]:
    """The root itself, whose path is taken to be resolved. Raises `OSError`."""
    if not HELD_OPEN:
        if root.resolve(strict=True) != root or not root.is_dir():
            raise OSError(errno.ENOENT, "gone")
        yield Folder(handle=None, path=root, root=root)
        return
    handle = os.open(root, _FOLDER_FLAGS)
    try:
        yield Folder(handle=handle, path=root, root=root)
    finally:
        os.close(handle)
