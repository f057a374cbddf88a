"""A host's file on the disk: read as it is, kept before it changes, and replaced whole.

Every change is one rename of a finished file, so a host reads the old text or the new one. Two changes of ours wait for
each other; what a host itself writes meanwhile is seen before the rename, and the change is made again on that.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from agentmesh.errors import AgentMeshError
from agentmesh.hosts.fault import ConfigFault

Edit: TypeAlias = Callable[[str, Sequence[str]], str]
"""From a text, and those kept from before, to the new text."""
IsKept: TypeAlias = Callable[[str, Sequence[str]], bool]

_MOST_BYTES: Final = 64_000_000
_MOST_BACKUPS: Final = 20
_WAIT_SECONDS: Final = 20.0
_LOOK_AGAIN: Final = 0.02
_ATTEMPTS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What was done to a file: nothing where `changed` is false; `backup` is what it was before, where that was kept."""

    path: Path
    changed: bool
    backup: Path | None = None


def read_config(path: Path) -> str | None:
    """The text of a file; None, where there is none.

    Raises: ConfigFault for what is no text in UTF-8 without a mark before it; OSError.
    """
    data = _bytes(path)
    return None if data is None else _text(path, data)


def change_config(path: Path, edit: Edit, is_kept: IsKept, *, mode: int = 0o600) -> Change:
    """Replace a file by what `edit` makes of it, through a link at its target; a new one has the permissions `mode`.

    What was there is kept beside it as FILE.bak, then as FILE.TIME.bak; nothing is kept that `is_kept` knows already.

    Raises: ConfigFault (nothing is written), OSError; AgentMeshError `busy`.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target.parent):
        for _ in range(_ATTEMPTS):
            data = _bytes(path)
            before = None if data is None else _text(path, data)
            earlier = tuple(_backups(target))
            try:
                after = edit(before or "", earlier)
                is_new = before is not None and bool(data) and not is_kept(before, earlier)
            except ConfigFault as fault:
                raise fault.at(str(path)) from None
            if after == before:
                return Change(path=path, changed=False)
            kept = _keep(target, data) if is_new and data is not None else None
            if _replace(target, data, after.encode("utf-8"), mode):
                return Change(path=path, changed=True, backup=kept)
    raise AgentMeshError(
        "busy", f"{path}: another program keeps writing it", hint="close the host, and try again"
    )


def _bytes(path: Path) -> bytes | None:
    try:
        file = open(path, "rb", opener=_without_waiting)
    except FileNotFoundError:
        return None
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ConfigFault("is no file").at(str(path))
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ConfigFault(f"is larger than {_MOST_BYTES // 1_000_000} MB").at(str(path))
    return data


def _without_waiting(path: str, flags: int) -> int:
    """Opens a pipe, too, at once: it would wait for a writer for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _text(path: Path, data: bytes) -> str:
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        hint = "save it as UTF-8 without a mark (BOM), and run this again; it was left as it is"
        raise ConfigFault("begins with a byte order mark", line=1, hint=hint).at(str(path))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        hint = "save it as UTF-8, and run this again; it was left as it is"
        raise ConfigFault("is not text in UTF-8", line=line, hint=hint).at(str(path)) from None


def _backups(target: Path) -> Iterator[str]:
    """The texts kept beside a file, the newest first; what cannot be read is none."""
    names = [
        each.name
        for each in target.parent.iterdir()
        if each.name.startswith(f"{target.name}.") and each.name.endswith(".bak")
    ]
    for name in sorted(names, key=lambda name: (len(name), name), reverse=True)[:_MOST_BACKUPS]:
        with suppress(OSError, ConfigFault):
            text = read_config(target.with_name(name))
            if text is not None:
                yield text


def _keep(target: Path, data: bytes) -> Path:
    now = time.strftime("%Y%m%d-%H%M%S")
    names = [f"{target.name}.bak", f"{target.name}.{now}.bak"]
    names.append(f"{target.name}.{now}-{secrets.token_hex(3)}.bak")
    for name in names:
        with suppress(FileExistsError):
            kept = target.with_name(name)
            _write(kept, data, target)
            return kept
    raise AgentMeshError("busy", f"{target}: no name for a copy of it is free")


def _replace(target: Path, expected: bytes | None, data: bytes, mode: int) -> bool:
    """Put `data` in the place of `expected`; false where something else stands there by now."""
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        _write(draft, data, target, mode)
        if _bytes(target) != expected:
            return False
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(target.parent)
    return True


def _write(path: Path, data: bytes, like: Path, mode: int = 0o600) -> None:
    """A new file that outlasts a loss of power, with the permissions and owner of `like` where that is there."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            with suppress(FileNotFoundError):
                known = os.stat(like)
                mode = stat.S_IMODE(known.st_mode)
                if hasattr(os, "fchown"):
                    # Only root changes a file that is another's; for all others it is theirs already.
                    with suppress(PermissionError):
                        os.fchown(handle, known.st_uid, known.st_gid)
            os.chmod(path, mode)
            os.fsync(handle)
    except BaseException:  # also a signal: half a file must not stay behind
        path.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # no other system opens a folder
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One change of ours in a folder at a time. The folder itself is locked, so that no lock file is left in it."""
    try:
        import fcntl
    except ModuleNotFoundError:  # not on Windows: there only the look before the rename is left
        yield
        return
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    hint = "another `agentmesh connect` hangs: end it"
                    raise AgentMeshError(
                        "busy", f"{folder}: is being changed by another program", hint=hint
                    ) from None
                time.sleep(_LOOK_AGAIN)
            except OSError:
                break  # a network's file system may lock no folder; the look before the rename is left
        yield
    finally:
        os.close(handle)
