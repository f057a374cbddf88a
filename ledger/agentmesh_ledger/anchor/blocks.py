"""Where the header of a Bitcoin block comes from: a file, or a node of the person's own."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Final, TypeAlias

from agentmesh_ledger.anchor.bitcoin import HEADER_SIZE, parse_header
from agentmesh_ledger.anchor.calendar import Question, ask_all, plain_url
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.source import opened

HeaderSource: TypeAlias = Callable[[int, bytes, float], bytes | None]
"""The header of the block of this height, or with this merkle root, in so many seconds; None where the source has none.

Its answer is held against the proof by whoever asks. Raises: LedgerError(node).
"""
MAX_HEADERS: Final = 1024
_HASH: Final = re.compile(r"[0-9a-f]{64}\Z")


def headers_in(path: str | os.PathLike[str]) -> HeaderSource:
    """The headers in a file: 160 hex digits a line, or 80 bytes each.

    Raises: LedgerError(not_found, unreadable).
    """
    limit = MAX_HEADERS * 2 * (HEADER_SIZE + 1)
    with opened(path) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise LedgerError("unreadable", f"more than {MAX_HEADERS} block headers", path=str(path))
    found: dict[bytes, bytes] = {}
    try:
        for each in _headers(data):
            found[parse_header(each).merkle_root] = each
    except (ValueError, LedgerError) as error:
        what = error.message if isinstance(error, LedgerError) else "it is neither bytes nor hex"
        raise LedgerError("unreadable", f"no Bitcoin block headers: {what}", path=str(path)) from error
    return lambda _height, merkle_root, _within: found.get(merkle_root)


def headers_of(url: str) -> HeaderSource:
    """The headers that a Bitcoin Core node gives (`bitcoind -rest=1`, release 24 or newer).

    Raises: LedgerError(refused) where the URL is none.
    """
    node = plain_url(url)

    def header(height: int, _merkle_root: bytes, within: float) -> bytes | None:
        deadline = time.monotonic() + within
        block = _told(node, f"rest/blockhashbyheight/{height}.hex", within)
        if block is None:
            return None
        if not _HASH.match(block):
            raise LedgerError("node", f"{node}: its hash of block {height} is none")
        left = max(deadline - time.monotonic(), 0.001)
        text = _told(node, f"rest/headers/{block}.hex?count=1", left)
        try:
            return bytes.fromhex(text) if text else None
        except ValueError as error:
            raise LedgerError("node", f"{node}: its header of block {height} is none") from error

    return header


def _headers(data: bytes) -> list[bytes]:
    text = data.strip()
    if len(data) % HEADER_SIZE == 0 and text.strip(b"0123456789abcdefABCDEF \r\n\t"):
        return [data[place : place + HEADER_SIZE] for place in range(0, len(data), HEADER_SIZE)]
    return [bytes.fromhex(line.decode("ascii")) for line in text.split()]


def _told(node: str, path: str, within: float) -> str | None:
    (answer,) = ask_all([Question(url=node, path=path)], within=within)
    if isinstance(answer, LedgerError):
        raise answer
    return None if answer is None else answer.decode("ascii", "replace").strip()
