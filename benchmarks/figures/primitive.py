"""The limits: what PyNaCl and SQLite can do by themselves on this machine, now."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from itertools import cycle
from pathlib import Path
from typing import Final

from nacl.signing import SigningKey

MESSAGE: Final = b"x" * 600


def rate(once: Callable[[], object], seconds: float = 0.5) -> float:
    """Calls a second of one thread, nothing else going on."""
    count, started = 0, time.perf_counter()
    while (now := time.perf_counter()) < started + seconds:
        for _ in range(50):
            once()
        count += 50
    return count / (now - started)


def sign_rate() -> float:
    """PyNaCl's signatures a second on one core, over 600 bytes."""
    key = SigningKey.generate()
    return rate(lambda: key.sign(MESSAGE))


def verify_rate() -> float:
    """PyNaCl's verifications a second on one core, over different messages of 600 bytes, as a log has them."""
    key = SigningKey.generate()
    public = key.verify_key
    signed = cycle([key.sign(bytes([number]) + MESSAGE[1:]) for number in range(256)])

    def verify() -> None:
        each = next(signed)
        public.verify(each.message, each.signature)

    return rate(verify)


class BareCommit:
    """One row of 600 bytes a transaction: WAL, synchronous FULL, as the ledger has it."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB)",
        ):
            self._connection.execute(statement)

    def __call__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("INSERT INTO t (data) VALUES (?)", (MESSAGE,))
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Gives the file back."""
        with closing(self._connection):
            pass
