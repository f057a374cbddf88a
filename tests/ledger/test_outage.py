"""Disks that are full and servers that go away: what was acknowledged stays, and the ledger goes on afterwards."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import RootTransaction

from agentmesh_ledger import (
    Draft,
    DraftPart,
    KeyStore,
    Ledger,
    LedgerAudit,
    LedgerError,
    Ports,
    verify_ledger,
)
from agentmesh_ledger.store import sqlite
from agentmesh_ledger.store.rows import Rows

ORIGIN = "agentmesh.local/outage"

# Appends under a limit for the size of a file until that is hit, some times more, and once more without the limit.
FULL = """
import resource, signal, sys
from pathlib import Path
from agentmesh_ledger import Draft, DraftPart, KeyStore, Ledger, LedgerError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, folder, limit = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
keys = KeyStore(folder)
key = keys.agent("ada")
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
def append(size):
    part = DraftPart(name="text", type="text/plain", data=b"x" * size)
    (receipt,) = log.append([Draft(author=key, kind="say", dialogue="d", parts=(part,))])
    print(receipt.index, receipt.leaf_hash.hex(), flush=True)
with Ledger.open(path, origin="agentmesh.local/outage", keys=keys, create=True) as log:
    append(10)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    failures = 0
    while failures < 5:
        try:
            append((60_000, 20_000, 3_000, 100, 1)[failures])
        except LedgerError as error:
            print(error.reason, flush=True)
            failures += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    append(10)
    append(10)
"""


@pytest.mark.spec("L-46")
@pytest.mark.parametrize("limit", [200_000, 777_777, 6_000_000])
def test_a_file_that_may_not_grow_loses_nothing_and_grows_on_when_it_may(
    tmp_path: Path, keys: KeyStore, limit: int
) -> None:
    path = tmp_path / "l.db"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path), str(keys.directory), str(limit)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    reasons = {line[0] for line in lines if len(line) == 1}
    assert reasons and reasons <= {"failed", "unknown"}
    kept = {int(line[0]): line[1] for line in lines if len(line) == 2}
    audit = LedgerAudit(path)
    found = {record.index: record.leaf_hash.hex() for record in audit}
    assert kept.items() <= found.items() and audit.verified().entries >= 4
    with Ledger.open(path, keys=keys) as log:
        assert log.append([Draft(author=keys.agent("ada"), kind="say", dialogue="d")])[0].index == len(found)


@contextmanager
def at_most(log: Ledger, pages: int) -> Iterator[None]:
    """No connection may make the file larger than so many pages."""
    engine = log._store._engine  # type: ignore[attr-defined]

    def limit(connection: object, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")  # type: ignore[attr-defined]

    log._store._drop(log._store._write_connection())  # type: ignore[attr-defined]
    engine.dispose()
    event.listen(engine, "connect", limit)
    try:
        yield
    finally:
        event.remove(engine, "connect", limit)
        log._store._drop(log._store._write_connection())  # type: ignore[attr-defined]
        engine.dispose()


@pytest.mark.spec("L-45", "L-46")
def test_a_full_database_writes_nothing_says_so_and_goes_on_when_there_is_room(
    tmp_path: Path, keys: KeyStore
) -> None:
    path = tmp_path / "l.db"
    kept: dict[int, bytes] = {}
    part = DraftPart(name="text", type="text/plain", data=b"x" * 5000)
    draft = Draft(author=keys.agent("ada"), kind="say", dialogue="d", parts=(part,))
    with Ledger.open(path, origin=ORIGIN, keys=keys, create=True) as log:
        with at_most(log, 300):
            for count in (30, 7, 1):
                with pytest.raises(LedgerError) as caught:
                    while True:
                        for each in log.append([draft] * count):
                            kept[each.index] = each.leaf_hash
                assert caught.value.reason == "failed" and "full" in str(caught.value)
                assert log.size == len(kept) + 1
            receipts = [log.erase(index, by=draft.author) for index in (1, 2, 3)]
            receipts += log.append([draft])  # in the room of what was erased
        receipts += log.append([draft] * 40)
        kept.update({each.index: each.leaf_hash for each in receipts})
    found = {record.index: record.leaf_hash for record in LedgerAudit(path)}
    assert {**kept, 0: found[0]} == found  # the first one registers the author


# --- media and file systems that are not as they should be


@pytest.mark.spec("L-90")
def test_a_file_system_without_shared_memory_is_refused_and_not_written_without_wal(
    tmp_path: Path, keys: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sqlite._uri
    # This kind of SQLite's file access has, as some network file systems, no shared memory: WAL mode is silently not taken.
    monkeypatch.setattr(sqlite, "_uri", lambda path, read_only: real(path, read_only) + "&vfs=unix-dotfile")
    with pytest.raises(LedgerError) as caught:
        Ledger.open(tmp_path / "l.db", origin=ORIGIN, keys=keys, create=True)
    assert caught.value.reason == "failed" and "WAL" in str(caught.value)


def test_a_medium_that_cannot_be_written_is_told_at_once(
    tmp_path: Path, keys: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "l.db"
    Ledger.open(path, origin=ORIGIN, keys=keys, create=True).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # as a copy on such a medium may be
    real = sqlite._uri
    monkeypatch.setattr(sqlite, "_uri", lambda path, read_only: real(path, True))
    monkeypatch.setattr(sqlite.time, "sleep", lambda _: pytest.fail("it waits for what does not change"))
    with pytest.raises(LedgerError) as caught:
        Ledger.open(path, keys=keys)
    assert caught.value.reason == "failed" and "readonly" in str(caught.value)
    with Ledger.open(path, read_only=True) as log:
        assert log.size == 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("SQLITE_IOERR_LOCK", "failed"),
        ("SQLITE_IOERR_SHMMAP", "failed"),
        ("SQLITE_PROTOCOL", "failed"),
        ("SQLITE_BUSY_SNAPSHOT", "failed"),
        ("SQLITE_NOMEM", "failed"),
        ("SQLITE_CANTOPEN", "unreadable"),
        ("SQLITE_CORRUPT_VTAB", "corrupt"),
        ("SQLITE_NOTADB", "corrupt"),
    ],
)
def test_what_the_surroundings_do_is_not_taken_for_damage(
    tmp_path: Path, keys: KeyStore, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    class Locking(sqlite3.OperationalError):
        sqlite_errorname = name

    def broken(*_: object) -> None:
        raise Locking("as a lock on a network file system")

    draft = Draft(author=keys.agent("ada"), kind="say", dialogue="d")
    with Ledger.open(tmp_path / "l.db", origin=ORIGIN, keys=keys, create=True) as log:
        with monkeypatch.context() as patch, pytest.raises(LedgerError) as caught:
            patch.setattr(Rows, "lock_head", broken)
            log.append([draft])
        assert caught.value.reason == reason
        assert log.append([draft])[0].index == 1


def test_more_readers_than_there_are_connections_are_told_to_try_again(
    tmp_path: Path, keys: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(tmp_path / "l.db", origin=ORIGIN, keys=keys, create=True) as log, ExitStack() as readers:
        pool = log._store._engine.pool  # type: ignore[attr-defined]
        monkeypatch.setattr(pool, "_timeout", 0)
        with pytest.raises(LedgerError) as caught:
            for _ in range(100):
                readers.enter_context(log._store.reading()).heads()
        assert caught.value.reason == "failed"
        readers.close()
        assert log.size == 0


@pytest.mark.spec("L-25")
def test_a_clock_that_goes_back_changes_no_order(tmp_path: Path, keys: KeyStore) -> None:
    moments = iter(
        [datetime(2026, 11, 25, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC)]
    )
    path = tmp_path / "l.db"
    ports = Ports(now=lambda: next(moments))
    with Ledger.open(path, origin=ORIGIN, keys=keys, create=True, ports=ports) as log:
        for _ in range(3):
            log.append([Draft(author=keys.agent("ada"), kind="say", dialogue="d")])
    times = [record.message.time for record in LedgerAudit(path)]
    assert times[1:] == ["2026-11-25T00:00:00.000Z", "1970-01-01T00:00:00.000Z", "0001-01-02T00:00:00.000Z"]


# --- PostgreSQL goes away


def terminate(server: str, rows: Rows) -> None:
    """Ends the session of this transaction from another one, and waits until it is gone."""
    pid = rows.connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))


MOMENTS = {
    "add_entries": ("failed", False),
    "stored": ("failed", False),
    "swap_head": ("failed", False),
    "before the commit": ("unknown", False),
    "after the commit": ("unknown", True),
}


@pytest.mark.spec("L-45", "L-46")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_session_that_is_ended_in_the_middle_loses_nothing_and_the_next_one_goes_on(
    server: str, database: str, keys: KeyStore, moment: str
) -> None:
    draft = Draft(author=keys.agent("ada"), kind="say", dialogue="d")
    reason, is_written = MOMENTS[moment]
    held: list[Rows] = []
    with Ledger.open(database, origin=ORIGIN, keys=keys, create=True) as log:
        log.append([draft])
        assert [log.size for _ in range(3)] == [2] * 3
        with pytest.MonkeyPatch.context() as patch:
            _break(patch, server, moment, held)
            with pytest.raises(LedgerError) as caught:
                log.append([draft])
        assert held and caught.value.reason == reason
        assert log.size == 2 + is_written
        assert log.append([draft])[0].index == 2 + is_written
    assert verify_ledger(database).entries == 3 + is_written


def _break(patch: pytest.MonkeyPatch, server: str, moment: str, held: list[Rows]) -> None:
    """Ends the session at the moment named."""
    name = moment if moment in ("add_entries", "stored") else "swap_head"
    step: Callable[..., object] = getattr(Rows, name)
    commit = RootTransaction.commit

    def during(rows: Rows, *args: object, **more: object) -> object:
        held.append(rows)
        if moment == name:
            terminate(server, rows)
        return step(rows, *args, **more)

    def committing(self: RootTransaction) -> None:
        if moment == "before the commit":
            terminate(server, held[0])
        commit(self)
        if moment == "after the commit":
            raise psycopg.OperationalError("the answer is lost")

    patch.setattr(Rows, name, during)
    if " commit" in moment:
        patch.setattr(RootTransaction, "commit", committing)


@pytest.mark.spec("L-46")
def test_a_server_that_dies_and_starts_again_has_everything_and_is_found_again(
    database: str, crash: Callable[[], None], keys: KeyStore
) -> None:
    draft = Draft(author=keys.agent("ada"), kind="say", dialogue="d")
    kept: dict[int, bytes] = {}
    with Ledger.open(database, origin=ORIGIN, keys=keys, create=True) as log:
        reasons: list[str] = []

        def work() -> None:
            while not reasons:
                try:
                    for each in log.append([draft] * 10):
                        kept[each.index] = each.leaf_hash
                except LedgerError as error:
                    reasons.append(error.reason)

        thread = threading.Thread(target=work)
        thread.start()
        while len(kept) < 300:
            thread.join(0.001)
        crash()
        thread.join(60)
        assert not thread.is_alive() and reasons[0] in ("failed", "unknown")
        receipts = [log.append([draft])[0] for _ in range(3)]  # what is broken is left behind at once
        kept.update({each.index: each.leaf_hash for each in receipts})
    found = {record.index: record.leaf_hash for record in LedgerAudit(database)}
    assert kept.items() <= found.items() and list(found) == list(range(len(found)))
