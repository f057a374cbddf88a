"""A published log as its files: a tlog-tiles directory, or the same under a URL (see `web`)."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.note import MAX_NOTE
from agentmesh_ledger.text import shown
from agentmesh_ledger.tiles import (
    MAX_BUNDLE,
    TILE_BYTES,
    WIDTH,
    TileId,
    bundle_path,
    decode_bundle,
)
from agentmesh_ledger.tree import HASH_SIZE

CHECKPOINT: Final = "checkpoint"
MAX_CHECKPOINT: Final = 4 * MAX_NOTE  # a character of UTF-8 has at most four bytes


class Files(Protocol):
    """Read access to the files of one log by their paths in tlog-tiles.

    `fetch` gives a file of at most `limit` bytes, or raises LedgerError: `not_found`, `unreadable` where the
    surroundings are at fault, `tile` where the file is longer.
    """

    def fetch(self, path: str, limit: int) -> bytes: ...


@runtime_checkable
class Preparing(Protocol):
    """Files that can be fetched before they are asked for."""

    def prepare(self, path: str, limit: int) -> None: ...


class DirectoryFiles:
    """The files below a directory."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)

    def fetch(self, path: str, limit: int) -> bytes:
        """The bytes of a file.

        Raises: LedgerError(not_found, unreadable, tile).
        """
        full = self.directory / path
        try:
            # A pipe in the place of a file would make the open itself wait for ever.
            handle = os.open(full, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            with os.fdopen(handle, "rb") as file:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise LedgerError("unreadable", "it is not a regular file", path=str(full))
                data = file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise LedgerError("not_found", "there is no such file", path=str(full)) from error
        except OSError as error:
            raise LedgerError(
                "unreadable", f"the file cannot be read: {error.strerror}", path=str(full)
            ) from error
        if len(data) > limit:
            raise LedgerError("tile", f"the file is longer than {limit} bytes", path=str(full))
        return data


def open_files(source: str | os.PathLike[str]) -> Files:
    """The files of the log at a directory or an http(s) URL."""
    if isinstance(source, str) and source.lower().startswith(("http://", "https://")):
        # Only now: half of the time that `agentmesh-verify FILE` takes to start would go into the web's modules.
        from agentmesh_ledger.ahead import AheadFiles
        from agentmesh_ledger.web import WebFiles

        return AheadFiles(WebFiles(source))
    return DirectoryFiles(source)


class TileLog:
    """A published log, read file by file; `reads` and `bytes` count what was fetched. A `TileSource`."""

    def __init__(self, files: Files) -> None:
        self.reads = 0
        self.bytes = 0
        self._files = files

    def checkpoint(self) -> str:
        """The note of the newest checkpoint.

        Raises: LedgerError(not_found, unreadable, checkpoint).
        """
        try:
            return self._fetch(CHECKPOINT, MAX_CHECKPOINT).decode("utf-8")
        except UnicodeDecodeError as error:
            raise LedgerError("checkpoint", "the checkpoint is not UTF-8") from error
        except LedgerError as error:
            if error.reason == "tile":
                raise LedgerError("checkpoint", "the checkpoint is too long", path=error.path) from error
            raise

    def tile(self, level: int, number: int, width: int) -> bytes:
        """The first hashes of a tile. Ask only for widths of a checkpoint that was verified (SPEC L-35).

        Raises: LedgerError(tile, unreadable).
        """
        narrow, full = (TileId(level=level, number=number, width=each) for each in (width, WIDTH))
        data, found = self._either(narrow.path, full.path, width, TILE_BYTES)
        if len(data) != found * HASH_SIZE:
            raise LedgerError(
                "tile",
                f"the tile {level}/{number} has another length",
                expected=f"{found * HASH_SIZE} bytes",
                found=f"{len(data)}",
            )
        return data[: width * HASH_SIZE]

    def bundle(self, number: int, width: int) -> list[bytes]:
        """The first entries of a bundle.

        Raises: LedgerError(tile, unreadable).
        """
        data, found = self._either(bundle_path(number, width), bundle_path(number, WIDTH), width, MAX_BUNDLE)
        try:
            return decode_bundle(data, found)[:width]
        except LedgerError as error:
            raise LedgerError("tile", f"entry bundle {number}: {error.message}") from error

    def prepare(self, number: int, width: int) -> None:
        """Says that a bundle and its hash tile will be asked for soon."""
        if isinstance(self._files, Preparing):
            self._files.prepare(bundle_path(number, width), MAX_BUNDLE // WIDTH * width)
            if width == WIDTH:  # a partial tile was read for the root already
                self._files.prepare(TileId(level=0, number=number, width=width).path, TILE_BYTES)

    def _either(self, narrow: str, full: str, width: int, limit: int) -> tuple[bytes, int]:
        """The file and its width; the full one where the partial one was deleted since (SPEC L-35)."""
        try:
            return self._fetch(narrow, limit // WIDTH * width), width
        except LedgerError as error:
            if error.reason != "not_found":
                raise
            missing = error
        if width < WIDTH:
            try:
                return self._fetch(full, limit), WIDTH
            except LedgerError as error:
                if error.reason != "not_found":
                    raise
        raise LedgerError("tile", f"the log does not show {shown(narrow)}", path=missing.path) from missing

    def _fetch(self, path: str, limit: int) -> bytes:
        data = self._files.fetch(path, limit)
        self.reads += 1
        self.bytes += len(data)
        return data
