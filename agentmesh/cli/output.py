"""Where a command writes what others are to keep: a file that appears whole, a pipe, or standard output."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from agentmesh.errors import AgentMeshError

_COMPANIONS = ("", "-wal", "-shm", "-journal")


def require_target(output: str, ledger: Path | str) -> None:
    """Refuses a target that is no file, or is part of the ledger, which the output would replace.

    Raises: AgentMeshError.
    """
    if not output:
        raise AgentMeshError("usage", "-o '': give the file to write, or - for standard output")
    if output != "-" and os.path.isdir(output):
        raise AgentMeshError("usage", f"-o {output}: this is a folder; give the file to write")
    if isinstance(ledger, str):
        return  # a database is no file
    real = os.path.realpath(ledger)
    for suffix in _COMPANIONS:
        if _is_same(output, real + suffix):
            raise AgentMeshError("usage", f"-o {output}: this is the ledger itself, which would be replaced")


def _is_same(one: str, other: str) -> bool:
    # By name too: a companion that is not there now would be taken for SQLite's at the next opening.
    if os.path.realpath(one) == other:
        return True
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


@contextmanager
def output_file(output: str) -> Iterator[BinaryIO]:
    """What to write to: a file that appears whole or not at all, or what stands there and is no file."""
    if output == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        # A pipe or a device is written to; putting a file in its place would take it from whoever reads it.
        with open(output, "wb") if _is_special(output) else _draft(Path(os.path.realpath(output))) as out:
            yield out
    except OSError as error:
        raise OSError(error.errno, error.strerror, output) from error


def _is_special(output: str) -> bool:
    try:
        return not stat.S_ISREG(os.stat(output).st_mode)
    except FileNotFoundError:
        return False


@contextmanager
def _draft(path: Path) -> Iterator[BinaryIO]:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with draft.open("xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
