"""What names a record: a file, opened once and read as a stream, or a database's URL; and checkpoints that were kept."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Final

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.note import MAX_NOTE
from agentmesh_ledger.policy import MAX_POLICY, Policy, parse_policy

STANDARD_INPUT: Final = "-"
_DATABASES: Final = frozenset({"postgresql", "postgresql+psycopg", "postgres"})
# What stands between the user's name and the last @ before the host; and what a driver takes from the query.
_PASSWORD: Final = re.compile(r"^([^:/?#]+://[^:/?#@]*):.*@", re.DOTALL)
_SECRET: Final = re.compile(r"(?i)([?&](?:ssl)?password=)[^&#]*")
_MAGIC: Final = b"SQLite format 3\x00"
_AT_HAND: Final = 128 * 1024  # bytes read at once: a transcript's lines are looked through in blocks
_MAX_BYTES: Final = 4 * MAX_NOTE  # a character of UTF-8 has at most four


def open_file(path: str | os.PathLike[str]) -> BufferedReader:
    """The file's bytes as a stream.

    Raises: LedgerError(not_found, unreadable).
    """
    try:
        return BufferedReader(Path(path).open("rb", buffering=0), _AT_HAND)
    except FileNotFoundError as error:
        raise LedgerError("not_found", "there is no such file", path=str(path)) from error
    except OSError as error:
        raise _unreadable(error, path) from error


def is_database(place: str) -> bool:
    """Whether the text is the URL of a PostgreSQL database. Opens nothing."""
    scheme, mark, _ = place.partition("://")
    return bool(mark) and scheme in _DATABASES


def without_password(place: str) -> str:
    """The text as it may be shown: of a database's URL the password is left out, anything else is as it was."""
    if not is_database(place):
        return place
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1:***@", place))


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BufferedReader]:
    """The file's bytes as a stream, closed at the end; `-` is standard input, as for the commands.

    Raises: LedgerError(not_found, unreadable).
    """
    try:
        # Not sys.stdin, which may be missing.
        if os.fspath(path) == STANDARD_INPUT:
            stream: BufferedReader = BufferedReader(open(0, "rb", buffering=0, closefd=False), _AT_HAND)
        else:
            stream = open_file(path)
    except OSError as error:
        raise _unreadable(error, path) from error
    with stream:
        yield stream


def is_ledger(stream: BufferedReader, path: str | os.PathLike[str]) -> bool:
    """Whether the stream just opened at this path is a ledger file's. Takes nothing from it: a pipe gives each byte once.

    Raises: LedgerError(unreadable) for a ledger that comes through a pipe; a database is read at its path.
    """
    try:
        # One read of a pipe may give less, but a pipe with a ledger in it is of no use either.
        if stream.peek(len(_MAGIC))[: len(_MAGIC)] != _MAGIC:
            return False
        is_file = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError as error:
        raise _unreadable(error, path) from error
    if os.fspath(path) == STANDARD_INPUT or not is_file:
        raise LedgerError(
            "unreadable",
            "a ledger cannot be read through a pipe",
            path=str(path),
            hint="Give its path, or an exported transcript",
        )
    return True


def read_note(path: str | os.PathLike[str]) -> str:
    """The text of a checkpoint file, byte for byte: a line end that was changed is another text.

    Raises: LedgerError(not_found, unreadable), and `consistency` where it is no text.
    """
    try:
        with open_file(path) as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(error, path) from error
    if len(data) > _MAX_BYTES:
        raise LedgerError("consistency", "the checkpoint you brought is too long", path=str(path))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LedgerError("consistency", "the checkpoint you brought is not UTF-8", path=str(path)) from error


def read_policy(path: str | os.PathLike[str]) -> Policy:
    """The policy in a file; `-` is standard input.

    Raises: LedgerError(not_found, unreadable), and `policy` where it is none.
    """
    try:
        with opened(path) as stream:
            data = stream.read(MAX_POLICY + 1)
    except OSError as error:
        raise _unreadable(error, path) from error
    return parse_policy(data)


def _unreadable(error: OSError, path: str | os.PathLike[str]) -> LedgerError:
    return LedgerError("unreadable", f"the file cannot be read: {error.strerror}", path=str(path))
