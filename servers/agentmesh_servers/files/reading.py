"""What a folder lists, what a file says, and what is known of either."""

from __future__ import annotations

import codecs
import hashlib
import mimetypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO, Final

from agentmesh_servers.errors import ServersError
from agentmesh_servers.files import names
from agentmesh_servers.files.folder import MAX_SCANNED, Entry, Kind, kind_of, told
from agentmesh_servers.files.tree import Spot, Tree, not_found

MAX_LISTED: Final = 1_000
MAX_FILE_BYTES: Final = 64 * 1024 * 1024
MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_LINES: Final = 2_000
_PROBE_BYTES: Final = 8 * 1024
_BOM: Final = codecs.BOM_UTF8


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The entries of a folder, at most 1,000 and 64 KiB of names; `count` is how many there are, `more` that even that is a lower bound."""

    path: str
    entries: tuple[Entry, ...]
    count: int
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """Lines `first` to `last` of a file, as they stand there; `last` is less than `first` where there are none.

    `more` says that lines follow, `shortened` that the last line given is longer than an answer may be.
    """

    path: str
    text: str
    first: int
    last: int
    size: int
    more: bool
    shortened: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What is known of a file or folder. `kind`, `lines` and `sha256` are of the content and None where it was not read."""

    path: str
    kind: Kind
    size: int
    modified: str
    media_type: str | None = None
    text: bool | None = None
    lines: int | None = None
    sha256: str | None = None


def instant(seconds: float) -> str:
    """A moment in UTC to the second, ISO 8601; the epoch's limits where a file system tells nonsense."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, OSError, ValueError):
        return "unknown"


def list_folder(tree: Tree, path: str) -> Listing:
    """What is in a folder, in order of name. Raises `ServersError`."""
    if tree.named and path.strip("/") in ("", "."):
        roots = [Entry(name=name, kind="folder", size=0, modified=0) for name in tree.roots]
        return Listing(path="", entries=tuple(roots), count=len(roots), more=False)
    with tree.folder(path) as (folder, plain):
        try:
            found, more = folder.entries()
        except OSError as error:
            raise told(error, plain) from error
    served = [entry for entry in found if tree.serves(entry)]
    listed, room = served[:MAX_LISTED], MAX_ANSWER_BYTES
    for place, entry in enumerate(listed):
        room -= len(entry.name.encode(errors="replace"))
        if room < 0:
            listed = listed[:place]
            break
    return Listing(path=plain, entries=tuple(listed), count=len(served), more=more)


def read_file(tree: Tree, path: str, *, first: int, limit: int) -> Passage:
    """Up to `limit` lines of a text file from line `first` on, at most 64 KiB of them.

    Raises:
        ServersError: `unreadable` for a file that is no text, `too_large` over 64 MiB.
    """
    with opened_file(tree, path) as (file, spot):
        size = size_of(file, spot)
        require_text(file, spot, size)
        taken: list[bytes] = []
        room, line, more, shortened = MAX_ANSWER_BYTES, 0, False, False
        while piece := file.readline(MAX_FILE_BYTES):
            line += 1
            if line < first:
                continue
            if len(taken) == limit or (taken and len(piece) > room):
                more = True
                break
            if len(piece) > room:
                piece, shortened = piece[:room], True
                more = bool(file.read(1))
            taken.append(piece)
            room -= len(piece)
            if shortened:
                break
        if not taken and line < first - 1:
            raise ServersError("bad_input", f"{names.shown(spot.path)} has {line} lines, so no line {first}")
    raw = b"".join(taken)
    if first == 1:
        raw = raw.removeprefix(_BOM)
    # An answer that was cut may end within a character.
    text = raw.decode("utf-8", errors="replace").rstrip("\ufffd" if shortened else "")
    return Passage(
        path=spot.path,
        text=text,
        first=first,
        last=first + len(taken) - 1,
        size=size,
        more=more,
        shortened=shortened,
    )


def file_info(tree: Tree, path: str) -> Info:
    """What is known of a file or folder; a link is told as one, and what it leads to is not looked at."""
    if tree.named and path.strip("/") in ("", "."):
        return Info(path="", kind="folder", size=0, modified="unknown")
    with tree.spot(path) as spot:
        if not spot.name:
            status = spot.folder.status(".")
            return Info(path=spot.path, kind="folder", size=0, modified=instant(status.st_mtime))
        try:
            status = spot.folder.status(spot.name)
        except FileNotFoundError as error:
            raise not_found(spot.folder, spot.name, spot.path) from error
        except (OSError, ValueError) as error:
            raise told(error, spot.path) from error
        kind = kind_of(status.st_mode)
        size = status.st_size if kind == "file" else 0
        known = Info(path=spot.path, kind=kind, size=size, modified=instant(status.st_mtime))
    if kind != "file" or size > MAX_FILE_BYTES:
        return known
    with opened_file(tree, path) as (file, spot):
        return _with_content(known, file, size_of(file, spot))


def _with_content(known: Info, file: BinaryIO, size: int) -> Info:
    text = looks_like_text(file)
    digest, lines, last = hashlib.sha256(), 0, b"\n"
    left = MAX_FILE_BYTES  # the file may grow while it is read
    while left > 0 and (block := file.read(min(1 << 20, left))):
        digest.update(block)
        lines += block.count(b"\n")
        last = block[-1:]
        left -= len(block)
    return Info(
        path=known.path,
        kind=known.kind,
        size=size,
        modified=known.modified,
        media_type=mimetypes.guess_type(known.path)[0],
        text=text,
        lines=lines + (last != b"\n") if text else None,
        sha256=digest.hexdigest(),
    )


@contextmanager
def opened_file(tree: Tree, path: str) -> Iterator[tuple[BinaryIO, Spot]]:
    """A plain file, open for reading. Raises `ServersError`."""
    with tree.spot(path) as spot:
        if not spot.name:
            raise ServersError("bad_input", "name a file; list_folder tells which there are")
        try:
            with spot.folder.reading(spot.name) as file:
                yield file, spot
        except FileNotFoundError as error:
            raise not_found(spot.folder, spot.name, spot.path) from error
        except (OSError, ValueError) as error:
            raise told(error, spot.path) from error


def size_of(file: BinaryIO, spot: Spot, *, most: int = MAX_FILE_BYTES) -> int:
    """The size of an open file. Raises `ServersError` `too_large` where it is more than `most` bytes."""
    size = file.seek(0, 2)
    file.seek(0)
    if size > most:
        raise ServersError(
            "too_large",
            f"{names.shown(spot.path)} has {size:,} bytes; files of more than {most:,} are not read",
        )
    return size


def looks_like_text(file: BinaryIO) -> bool:
    """Whether a file begins as UTF-8 text does; leaves the file at its beginning."""
    head = file.read(_PROBE_BYTES)
    file.seek(0)
    if b"\0" in head:
        return False
    try:
        # Not final: the probe may end within a character.
        codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < _PROBE_BYTES)
    except UnicodeDecodeError:
        return False
    return True


def require_text(file: BinaryIO, spot: Spot, size: int) -> None:
    """Raises `ServersError` `unreadable`, with what the file is, unless it looks like text."""
    if looks_like_text(file):
        return
    kind = mimetypes.guess_type(spot.path)[0] or "of no known kind"
    raise ServersError(
        "unreadable",
        f"{names.shown(spot.path)} is not UTF-8 text: {size:,} bytes, {kind}; file_info tells more",
    )


def more_than_scanned(listing: Listing) -> str:
    """How many entries a listing stands for, in words."""
    return f"more than {MAX_SCANNED:,}" if listing.more else f"{listing.count:,}"
