"""A log written out as a C2SP tlog-tiles directory, which any web server can serve as it is.

Files appear whole or not at all, the checkpoint last: whoever reads at any moment, or after a crash, finds a
checkpoint and all that it needs. A later run writes only what the log has gained.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from agentmesh_ledger.checkpoint import Checkpoint, open_checkpoint
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.note import VerifierKey, parse_vkey
from agentmesh_ledger.text import shown
from agentmesh_ledger.tilelog import CHECKPOINT, DirectoryFiles, TileLog
from agentmesh_ledger.tiles import (
    WIDTH,
    TileHashes,
    TileId,
    TileSource,
    bundle_path,
    encode_bundle,
    split_tile,
    tiles_of,
)
from agentmesh_ledger.tree import leaf_hash, verify_consistency

EntriesOf: TypeAlias = Callable[[int, int], Iterable[bytes]]
Progress: TypeAlias = Callable[[int, int], None]
_NEW: Final = ".new"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishSummary:
    """What a run did: the tree sizes before and after, files written, their bytes, partial files removed."""

    directory: Path
    origin: str
    before: int
    size: int
    written: int
    bytes: int
    removed: int


def publish_tiles(
    directory: str | os.PathLike[str],
    note: str,
    keys: Sequence[str],
    source: TileSource,
    entries: EntriesOf,
    *,
    progress: Progress | None = None,
) -> PublishSummary:
    """Brings a tlog-tiles directory up to a checkpoint (SPEC L-34, L-37).

    `note` is the signed checkpoint, `keys` the log's vkeys; `entries(start, stop)` gives the entries of a range.
    Each new entry is hashed again and each new tile held against the one above it, up to the checkpoint's root,
    before the checkpoint is written: one wrong hash in public would be there for good.
    `progress` is told how many of the new files are done, and of how many.
    Raises: LedgerError: origin, consistency or log_key where the directory holds another log or a further one;
    root or tile where the source is not the checkpoint's tree; failed where it cannot be written.
    """
    named = tuple(map(parse_vkey, keys))
    head = open_checkpoint(note, named).checkpoint
    hashes = TileHashes(source, head.size)
    if hashes.root() != head.root:
        raise LedgerError("root", "the tiles to publish are not the tree that the checkpoint was signed for")
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            before = _published(folder, head, named, hashes)
            writer = _Writer(folder)
            _write_tiles(writer, hashes, before, head.size, entries, progress)
            writer.settle()  # before the checkpoint: it must never speak of files that a crash could still take
            writer.write(CHECKPOINT, note.encode("utf-8"))
            writer.settle()
            removed = _remove_partial(folder, before, head.size)
    except OSError as error:
        raise LedgerError(
            "failed", f"the directory cannot be written: {error.strerror}", path=str(folder)
        ) from error
    return PublishSummary(
        directory=folder,
        origin=head.origin,
        before=before,
        size=head.size,
        written=writer.written,
        bytes=writer.bytes,
        removed=removed,
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the directory: of two runs at once the slower one could put back an older checkpoint."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise LedgerError("failed", "another process is publishing there", path=str(folder)) from error
    finally:
        os.close(handle)


def _published(folder: Path, head: Checkpoint, keys: Sequence[VerifierKey], hashes: TileHashes) -> int:
    """The size that the directory has, once it is known to be a beginning of the same log."""
    try:
        old = open_checkpoint(TileLog(DirectoryFiles(folder)).checkpoint(), keys).checkpoint
    except LedgerError as error:
        if error.reason == "not_found":
            return 0
        raise LedgerError(
            error.reason, f"the checkpoint in the directory: {error.message}", path=str(folder)
        ) from error
    if old.origin != head.origin:
        raise LedgerError(
            "origin",
            "the directory holds another log",
            expected=head.origin,
            found=shown(old.origin),
            path=str(folder),
        )
    if old.size > head.size:
        raise LedgerError(
            "consistency",
            "the directory holds more entries than the checkpoint to publish",
            expected=f"at most {head.size}",
            found=str(old.size),
            path=str(folder),
        )
    verify_consistency(old.size, head.size, hashes.consistency(old.size), old.root, head.root)
    return old.size


def _write_tiles(
    writer: _Writer,
    hashes: TileHashes,
    before: int,
    size: int,
    entries: EntriesOf,
    progress: Progress | None,
) -> None:
    total = sum(2 if tile.level == 0 else 1 for tile in tiles_of(size, since=before))
    done = 0
    for tile in tiles_of(size, since=before):
        data = hashes.tile(tile.level, tile.number)
        if tile.is_full:
            hashes.require_above(tile.level, tile.number)
        if tile.level == 0:
            writer.write(bundle_path(tile.number, tile.width), _bundle(tile, data, entries))
            done += 1
        writer.write(tile.path, data)
        done += 1
        if progress is not None:
            progress(done, total)


def _bundle(tile: TileId, data: bytes, entries: EntriesOf) -> bytes:
    start = tile.number * WIDTH
    found = list(entries(start, start + tile.width))
    leaves = split_tile(data)
    if len(found) != len(leaves):
        raise LedgerError(
            "count",
            "entries are missing",
            index=start + len(found),
            expected=str(len(leaves)),
            found=str(len(found)),
        )
    for place, (entry, leaf) in enumerate(zip(found, leaves, strict=True)):
        if leaf_hash(entry) != leaf:
            raise LedgerError("tile", "the entry is not that of its leaf hash", index=start + place)
    return encode_bundle(found)


class _Writer:
    """Writes files below a folder, each whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.written = 0
        self.bytes = 0
        self._folder = folder
        self._touched: set[Path] = set()

    def write(self, path: str, data: bytes) -> None:
        target = self._folder / path
        if _holds(target, data):
            return  # an earlier run came as far as this
        target.parent.mkdir(parents=True, exist_ok=True)
        # One name for each target, so that what a kill leaves behind is overwritten by the next run.
        draft = target.with_name(f".{target.name}{_NEW}")
        try:
            _write_durably(draft, data)
            os.replace(draft, target)
        finally:
            draft.unlink(missing_ok=True)
        self.written += 1
        self.bytes += len(data)
        for folder in target.parents:
            self._touched.add(folder)
            if folder == self._folder:
                break

    def settle(self) -> None:
        """Makes the names durable as well."""
        for folder in sorted(self._touched, reverse=True):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        self._touched.clear()


def _write_durably(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0), 0o644)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(handle)


def _holds(target: Path, data: bytes) -> bool:
    try:
        return target.stat().st_size == len(data) and target.read_bytes() == data
    except (FileNotFoundError, NotADirectoryError):
        return False


def _remove_partial(folder: Path, before: int, size: int) -> int:
    """Deletes the partial files of tiles that are full now, as tlog-tiles allows. A stranger's file stays."""
    removed = 0
    for tile in tiles_of(size, since=before):
        if not tile.is_full:
            continue
        paths = [tile.path] + ([bundle_path(tile.number, tile.width)] if tile.level == 0 else [])
        for path in paths:
            partial = folder / f"{path}.p"
            if not partial.is_dir():
                continue
            for file in partial.iterdir():
                if file.name.lstrip(".").removesuffix(_NEW).isdecimal():
                    file.unlink()
                    removed += 1
            if not any(partial.iterdir()):
                partial.rmdir()
    return removed
