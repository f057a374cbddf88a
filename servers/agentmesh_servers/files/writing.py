"""Changes in a tree: a file written, edited, moved or deleted, a folder made.

A file is written whole beside its place and then renamed there, so that a reader sees the old content or the new and a
crash leaves one of the two. Nothing is written through a link, and a file that has other names elsewhere (hard links) is
left as it is under those.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from agentmesh_servers.errors import ServersError
from agentmesh_servers.files import names
from agentmesh_servers.files.folder import Folder, kind_of, told
from agentmesh_servers.files.reading import opened_file, require_text, size_of
from agentmesh_servers.files.tree import Spot, Tree, not_found

MAX_WRITE_BYTES: Final = 1024 * 1024
_NO_HARD_LINKS: Final = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EACCES}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What was done, in the past tense, and to which path. `size` is the file's, in bytes."""

    done: str
    path: str
    size: int = 0


def write_file(tree: Tree, path: str, text: str, *, overwrite: bool) -> Change:
    """A file with exactly this text; one that is there is replaced only with `overwrite`. Raises `ServersError`."""
    content = _encoded(text)
    with tree.spot(path) as spot:
        old = _there(spot)
        if old is None:
            _require_new(spot)
        elif not overwrite:
            raise ServersError(
                "exists", f"{names.shown(spot.path)} is there already: set overwrite, or choose another name"
            )
        else:
            _require_plain(old, spot)
        _put(spot, content, old)
        return Change(done="replaced" if old else "written", path=spot.path, size=len(content))


def edit_file(tree: Tree, path: str, old: str, new: str) -> Change:
    """Replaces a text that a file holds exactly once. Raises `ServersError`, and then nothing is changed."""
    if not old:
        raise ServersError("bad_input", "old is empty: give the text to replace")
    with opened_file(tree, path) as (file, spot):
        before = os.fstat(file.fileno())
        require_text(file, spot, size_of(file, spot, most=MAX_WRITE_BYTES))
        content = file.read(MAX_WRITE_BYTES + 1)
    wanted = _encoded(old)
    count = content.count(wanted)
    if count == 1 and content.find(wanted, content.find(wanted) + 1) >= 0:
        count = 2  # the second begins within the first
    if count == 0:
        raise ServersError(
            "not_found", f"{names.shown(path)} does not hold that text: read_file shows what it holds"
        )
    if count > 1:
        raise ServersError(
            "bad_input", f"{names.shown(path)} holds that text {count} times: give more of what is around it"
        )
    content = content.replace(wanted, _encoded(new))
    if len(content) > MAX_WRITE_BYTES:
        raise _too_large(len(content))
    with tree.spot(path) as spot:
        now = _there(spot)
        if now is None or _version(now) != _version(before):
            raise ServersError("failed", f"{names.shown(spot.path)} was changed meanwhile: read it again")
        _put(spot, content, now)
        return Change(done="edited", path=spot.path, size=len(content))


def make_folder(tree: Tree, path: str) -> Change:
    """A folder, and those above it where they are missing; one that is there already is as good. Raises `ServersError`."""
    root, below = tree.split(path)
    made = 0
    for count in range(1, len(below) + 1):
        with tree.spot("/".join([*([root] if root else []), *below[:count]])) as spot:
            there = _there(spot)
            if there is None:
                _require_new(spot)
                target, handle = spot.folder.at(spot.name)
                try:
                    os.mkdir(target, dir_fd=handle)
                except FileExistsError:
                    continue
                except (OSError, ValueError) as error:
                    raise told(error, spot.path) from error
                made += 1
            elif kind_of(there.st_mode) != "folder":
                raise ServersError("exists", f"{names.shown(spot.path)} is there already, and is no folder")
    plain = "/".join([*([root] if root else []), *below])
    return Change(done="made" if made else "there already", path=plain)


def move(tree: Tree, path: str, to: str) -> Change:
    """A file or folder under another name, which nothing may have yet. Raises `ServersError`."""
    with tree.spot(path) as source, tree.spot(to) as target:
        _require_name(source)
        there = _there(source)
        if there is None:
            raise not_found(source.folder, source.name, source.path)
        if kind_of(there.st_mode) != "folder":
            _require_plain(there, source)
        taken = _there(target)
        # Where case does not count, a name may change its case only: then the two are one file.
        if taken is not None and (taken.st_dev, taken.st_ino) != (there.st_dev, there.st_ino):
            raise ServersError("exists", f"{names.shown(target.path)} is there already: choose another name")
        if taken is not None and names.alike(source.path) != names.alike(target.path):
            raise ServersError("exists", f"{names.shown(target.path)} is another name of the same file")
        _require_new(target, but=source.name if source.folder.path == target.folder.path else None)
        try:
            _rename(source, target, whole=kind_of(there.st_mode) == "file" and taken is None)
        except (OSError, ValueError) as error:
            raise told(error, f"{source.path} to {target.path}") from error
        return Change(done="moved", path=target.path, size=there.st_size)


def delete(tree: Tree, path: str) -> Change:
    """A file or an empty folder less. Raises `ServersError`."""
    with tree.spot(path) as spot:
        _require_name(spot)
        there = _there(spot)
        if there is None:
            raise not_found(spot.folder, spot.name, spot.path)
        target, handle = spot.folder.at(spot.name)
        try:
            if kind_of(there.st_mode) == "folder":
                os.rmdir(target, dir_fd=handle)
            else:
                _require_plain(there, spot)
                os.unlink(target, dir_fd=handle)
        except (OSError, ValueError) as error:
            raise told(error, spot.path) from error
        return Change(done="deleted", path=spot.path, size=there.st_size)


def _encoded(text: str) -> bytes:
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise ServersError("bad_input", "the text holds half a character (a lone surrogate)") from error
    if len(content) > MAX_WRITE_BYTES:
        raise _too_large(len(content))
    return content


def _too_large(size: int) -> ServersError:
    return ServersError(
        "too_large", f"that would be {size:,} bytes; {MAX_WRITE_BYTES:,} can be written at once"
    )


def _require_name(spot: Spot) -> None:
    if not spot.name:
        raise ServersError("refused", "that is the folder that is served itself: name something in it")


def _there(spot: Spot) -> os.stat_result | None:
    """What is known of what has the spot's name; None where nothing has it."""
    _require_name(spot)
    try:
        return spot.folder.status(spot.name)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise told(error, spot.path) from error


def _require_plain(status: os.stat_result, spot: Spot) -> None:
    kind = kind_of(status.st_mode)
    if kind != "file":
        what = {"folder": "a folder", "link": "a link"}.get(kind, "a device, a pipe or a socket")
        raise ServersError("refused", f"{names.shown(spot.path)} is {what}, not a file")


def _require_new(spot: Spot, *, but: str | None = None) -> None:
    """Lets pass a name that every system takes, and that none takes for one that is there (but for `but`)."""
    names.require_portable(spot.name)
    wanted = names.alike(spot.name)
    try:
        others = [entry.name for entry in spot.folder.entries()[0]]
    except OSError as error:
        raise told(error, spot.path) from error
    for other in others:
        if other != but and other != spot.name and names.alike(other) == wanted:
            raise ServersError(
                "exists", f"{names.shown(other)} is there, and differs in case or accents only"
            )


def _version(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _put(spot: Spot, content: bytes, old: os.stat_result | None) -> None:
    """The content under the spot's name; `old` is what is replaced, whose permissions are kept."""
    folder = spot.folder
    beside = Spot(folder=folder, name=f".agentmesh-{secrets.token_hex(8)}.part", path=spot.path)
    placed = False
    try:
        try:
            with folder.create(beside.name) as file:
                if old is not None and hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode) & 0o777)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if old is not None:
                target, handle = folder.at(spot.name)
                os.replace(folder.at(beside.name)[0], target, src_dir_fd=handle, dst_dir_fd=handle)
            else:
                _rename(beside, spot, whole=True)
            placed = True
        finally:
            if not placed:
                _forget(folder, beside.name)
    except FileExistsError as error:
        raise ServersError("exists", f"{names.shown(spot.path)} was made by another meanwhile") from error
    except (OSError, ValueError) as error:
        raise told(error, spot.path) from error
    _sync(folder)


def _rename(source: Spot, target: Spot, *, whole: bool) -> None:
    """Renames where nothing has the new name. Raises `OSError`.

    `whole` is for files: a second name is given and then the first is taken away, since to rename would replace
    what came there in between. Not all file systems can; there the gap remains, and for folders too, where only an
    empty folder can be replaced.
    """
    (old, old_handle), (new, new_handle) = source.folder.at(source.name), target.folder.at(target.name)
    if whole and hasattr(os, "link"):
        try:
            os.link(old, new, src_dir_fd=old_handle, dst_dir_fd=new_handle, follow_symlinks=False)
        except NotImplementedError:
            pass  # a platform whose `link` takes no folder's handle: renamed below, with the gap that is told of above
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
        else:
            os.unlink(old, dir_fd=old_handle)
            return
    os.rename(old, new, src_dir_fd=old_handle, dst_dir_fd=new_handle)


def _forget(folder: Folder, name: str) -> None:
    target, handle = folder.at(name)
    with suppress(OSError):  # it was never made, or the disk is gone
        os.unlink(target, dir_fd=handle)


def _sync(folder: Folder) -> None:
    """Makes a new name last through a loss of power, where folders can be synced."""
    if folder.handle is not None:
        with suppress(OSError):
            os.fsync(folder.handle)
