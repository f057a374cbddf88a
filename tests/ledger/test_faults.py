"""Every step of an append and of an erasure fails once before it is done and once after, in every store.

In the manner of Sunlight: a fault "not persisted" leaves the step undone, a fault "persisted" lets it happen and loses
the answer. Whatever it was, the error says the truth about what was written, nothing acknowledged is missing, and
the log goes on and verifies.
"""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from sqlalchemy.engine import Connection, RootTransaction
from sqlalchemy.exc import OperationalError

from agentmesh_ledger import (
    Draft,
    DraftPart,
    KeyStore,
    Ledger,
    LedgerAudit,
    LedgerError,
    Record,
    read_transcript,
)
from agentmesh_ledger.last import LastCheckpoint
from agentmesh_ledger.store.rows import Rows
from agentmesh_ledger.store.sqlite import SqliteStore

ORIGIN = "agentmesh.local/faults"
SECRET = b"the combination is 7-1-9"


class Fault(NamedTuple):
    """`undone` and `done`: what is heard where the step failed before it was done, and after; None is success.

    `written` says whether the messages are there in those two cases.
    """

    step: str
    undone: str | None
    done: str | None
    written: tuple[bool, bool]
    only: str = ""


#      step           not persisted  persisted    written         only in
TABLE = (
    Fault("begin", "failed", "failed", (False, False)),
    Fault("lock_head", "failed", "failed", (False, False)),
    Fault("add_entries", "failed", "failed", (False, False)),
    Fault("add_parts", "failed", "failed", (False, False)),
    Fault("erase_parts", "failed", "failed", (False, False), "erase"),
    Fault("stored", "failed", "failed", (False, False)),
    Fault("put_tiles", "failed", "failed", (False, False)),
    Fault("put_places", "failed", "failed", (False, False)),
    Fault("swap_head", "failed", "failed", (False, False)),
    Fault("commit", "unknown", "unknown", (False, True)),
    Fault("other_than", "failed", "failed", (False, False)),  # the memory beside the key is asked
    Fault("advance", None, None, (True, True)),  # and told
    Fault("scrub", "failed", "failed", (True, True), "erase"),
)
PLACES: dict[str, tuple[type, str]] = {
    "begin": (Connection, "begin"),
    "commit": (RootTransaction, "commit"),
    "other_than": (LastCheckpoint, "other_than"),
    "advance": (LastCheckpoint, "advance"),
}


class Died(BaseException):
    """The end of the process: nothing handles it."""


class NoDisk(sqlite3.OperationalError):
    sqlite_errorname = "SQLITE_IOERR_WRITE"


@contextmanager
def fault(log: Ledger, step: str, error: BaseException, *, persisted: bool) -> Iterator[list[str]]:
    """The step fails once, the first time it comes to it; the list says that it came to it."""
    owner, name = PLACES.get(step, (Rows, step))
    if step == "scrub":
        owner = type(log._store)
    real: Callable[..., object] = getattr(owner, name)
    hit: list[str] = []

    def broken(*args: object, **more: object) -> object:
        if hit or (step == "begin" and args[0] is not log._store._writer):  # type: ignore[attr-defined]
            return real(*args, **more)  # readers begin transactions as well
        if persisted:
            real(*args, **more)
        hit.append(step)
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, broken)
        yield hit


def driver_error(log: Ledger, step: str) -> Exception:
    """What the driver, or the layer above it, would raise there."""
    if step in ("other_than", "advance"):
        return LedgerError("failed", "no room for it")
    is_sqlite = isinstance(log._store, SqliteStore)
    error = NoDisk("disk I/O error") if is_sqlite else psycopg.OperationalError("the connection is lost")
    if step == "scrub":
        return LedgerError("failed", str(error))
    return OperationalError(step, {}, error) if step in PLACES else error


def drafts(keys: KeyStore, count: int) -> list[Draft]:
    """Messages with content, of several authors and dialogues: the first with an author who is not registered yet."""
    part = DraftPart(name="text", type="text/plain", data=b"x" * 40)
    return [
        Draft(author=keys.agent(f"a{k % 3}"), kind="say", dialogue=f"d{k % 2}", parts=(part,))
        for k in range(count)
    ]


class Kept:
    """What was acknowledged: the receipts, to be found again."""

    def __init__(self) -> None:
        self.leaves: dict[int, bytes] = {}

    def append(self, log: Ledger, messages: list[Draft]) -> None:
        for receipt in log.append(messages):
            assert receipt.index not in self.leaves
            self.leaves[receipt.index] = receipt.leaf_hash

    def erase(self, log: Ledger, keys: KeyStore) -> None:
        receipt = log.erase(1, by=keys.agent("a0"))
        self.leaves[receipt.index] = receipt.leaf_hash


def verified(log: Ledger) -> dict[int, Record]:
    """The records of the whole log, verified: entries, and of a store its columns, tiles and index as well.

    A database in memory can be opened by nobody else: there it is the transcript.
    """
    if log.place != ":memory:":
        audit = LedgerAudit(log.place, keys=[log.vkey()], expect=log.checkpoint())
        return {each.index: each for each in audit}
    out = io.BytesIO()
    log.export(out)
    size = log.size
    with log._store.reading() as rows:
        assert rows.totals(1).tiles == size // 256 + (size >= 256)
    return {each.index: each for each in read_transcript(io.BytesIO(out.getvalue()), keys=[log.vkey()])}


def opened(place: str, keys: KeyStore) -> Ledger:
    return Ledger.open(place, origin=ORIGIN, keys=keys, create=True)


def act(log: Ledger, keys: KeyStore, kept: Kept, what: str) -> None:
    """The act in which the fault falls; the append fills a tile of 256."""
    if what == "erase":
        kept.erase(log, keys)
    else:
        kept.append(log, drafts(keys, 8))


def prepared(place: str, keys: KeyStore, what: str) -> tuple[Ledger, Kept]:
    """A log two entries short of a full tile; of an erasure the second entry fills it."""
    log, kept = opened(place, keys), Kept()
    part = DraftPart(name="text", type="text/plain", data=SECRET)
    kept.append(log, [Draft(author=keys.agent("a0"), kind="say", dialogue="d0", parts=(part,))])
    short = 1 if what == "erase" else 3
    plain = Draft(author=keys.agent("a0"), kind="say", dialogue="d0")
    kept.append(log, [plain] * (256 - short - log.size))
    assert log.size == 256 - short
    return log, kept


CASES = [
    pytest.param(row, what, persisted, id=f"{what}-{row.step}-{'done' if persisted else 'undone'}")
    for what in ("append", "erase")
    for row in TABLE
    for persisted in (False, True)
    if row.only in ("", what)
]


@pytest.mark.spec("L-45", "L-46", "L-87", "L-89")
@pytest.mark.parametrize(("row", "what", "persisted"), CASES)
def test_a_step_that_fails_is_told_truly_and_nothing_acknowledged_is_lost(
    place: str, keys: KeyStore, row: Fault, what: str, persisted: bool
) -> None:
    log, kept = prepared(place, keys, what)
    before = log.size
    heard: str | None = None
    with fault(log, row.step, driver_error(log, row.step), persisted=persisted) as hit:
        try:
            act(log, keys, kept, what)
        except LedgerError as error:
            heard = error.reason
    assert hit == [row.step], "the fault did not fall"
    assert heard == (row.done if persisted else row.undone)
    assert (log.size > before) == row.written[persisted]
    kept.append(log, drafts(keys, 3))  # the same object goes on, and so does one that is opened anew
    if place != ":memory:":
        log.close()
        log = opened(place, keys)
    goes_on(log, keys, kept, what)


@pytest.mark.spec("L-45", "L-46")
@pytest.mark.parametrize(("row", "what", "persisted"), CASES)
@pytest.mark.parametrize("place", ["sqlite", "postgres"], indirect=True)
def test_a_process_that_dies_at_a_step_leaves_all_or_nothing(
    place: str, keys: KeyStore, row: Fault, what: str, persisted: bool
) -> None:
    log, kept = prepared(place, keys, what)
    before = log.size
    with fault(log, row.step, Died(), persisted=persisted) as hit, pytest.raises(Died):
        act(log, keys, kept, what)
    assert hit == [row.step]
    vanish(log)
    log = opened(place, keys)
    # What was not acknowledged may be there or not; it is there whole, or not at all.
    assert (log.size > before) == row.written[persisted]
    goes_on(log, keys, kept, what)


def vanish(log: Ledger) -> None:
    """What becomes of a process that ends: its descriptors are closed, and nothing is made durable."""
    assert log._writer is not None
    log._writer._memory._let_go()
    log._store.close()


def goes_on(log: Ledger, keys: KeyStore, kept: Kept, what: str) -> None:
    """Appends, or erases again, and holds the whole log against what was acknowledged; closes it."""
    if what == "erase":
        kept.erase(log, keys)
    kept.append(log, drafts(keys, 5))
    found = verified(log)
    assert list(found) == list(range(log.size)) and log.size > 256
    assert kept.leaves.items() <= {index: each.leaf_hash for index, each in found.items()}.items()
    assert [each.data for each in found[1].parts] == [None if what == "erase" else SECRET]
    log.close()
    if what == "erase" and Path(log.place).exists():
        assert SECRET not in b"".join(each.read_bytes() for each in Path(log.place).parent.glob("ledger.db*"))


@pytest.mark.spec("L-45")
def test_a_commit_refused_for_want_of_room_wrote_nothing_and_says_so(tmp_path: Path, keys: KeyStore) -> None:
    class Full(sqlite3.OperationalError):
        sqlite_errorname = "SQLITE_FULL"

    log, kept = prepared(str(tmp_path / "ledger.db"), keys, "append")
    before = log.size
    error = OperationalError("COMMIT", {}, Full("database or disk is full"))
    with fault(log, "commit", error, persisted=False), pytest.raises(LedgerError) as caught:
        act(log, keys, kept, "append")
    assert (caught.value.reason, log.size) == ("failed", before)
    goes_on(log, keys, kept, "append")


@pytest.mark.spec("L-45", "L-46")
@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_an_unknown_outcome_stays_unknown_though_the_connection_breaks_as_well(
    place: str, keys: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, kept = prepared(place, keys, "append")

    def broken(self: Connection) -> None:
        raise OperationalError("ROLLBACK", {}, NoDisk("disk I/O error"))

    with fault(log, "commit", driver_error(log, "commit"), persisted=True):
        with monkeypatch.context() as patch, pytest.raises(LedgerError) as caught:
            for name in ("close", "detach", "invalidate"):
                patch.setattr(Connection, name, broken)
            act(log, keys, kept, "append")
    assert caught.value.reason == "unknown"
    goes_on(log, keys, kept, "append")
