"""What a writer promises: one order over processes, no fork from an old copy, keys that change, content that goes."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agentmesh_ledger import (
    AgentId,
    Draft,
    DraftPart,
    KeyStore,
    Ledger,
    LedgerError,
    read_transcript,
    verify_ledger,
    verify_transcript,
)
from agentmesh_ledger.affairs import ERASE, LOG_DIALOGUE, ROTATE
from agentmesh_ledger.append import Request
from agentmesh_ledger.group import GroupCommit
from agentmesh_ledger.store.rows import Rows

ORIGIN = "agentmesh.local/desk"


def say(keys: KeyStore, name: str, text: str = "hello", dialogue: str = "d1", **more: object) -> Draft:
    part = DraftPart(name="text", type="text/plain", data=text.encode())
    return Draft(author=keys.agent(name), kind="say", dialogue=dialogue, parts=(part,), **more)  # type: ignore[arg-type]


@contextmanager
def refused(reason: str) -> Iterator[list[LedgerError]]:
    """That the block ends with this reason."""
    found: list[LedgerError] = []
    with pytest.raises(LedgerError) as caught:
        yield found
    found.append(caught.value)
    assert caught.value.reason == reason, caught.value


def exported(log: Ledger, dialogue: str | None = None) -> bytes:
    out = io.BytesIO()
    log.export(out, dialogue=dialogue)
    return out.getvalue()


def copy_of(path: Path, to: Path) -> Path:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)
    return to


# --- an old copy


@pytest.mark.spec("L-95")
def test_a_database_put_back_from_an_old_copy_is_refused_with_what_would_fork(
    spoken: Ledger, keys: KeyStore, tmp_path: Path
) -> None:
    old = copy_of(spoken.path, tmp_path / "old.db")
    spoken.append([say(keys, "ada"), say(keys, "ben")])
    newest = spoken.checkpoint()
    spoken.close()
    with refused("rollback") as found:
        Ledger.open(old, keys=keys)
    assert found[0].index == 7 and "entries 7 to 8" in found[0].message and "9" in str(found[0].expected)
    with Ledger.open(old, read_only=True) as reader:
        assert reader.size == 7
    assert keys.last_checkpoint(ORIGIN).read() == newest
    with Ledger.open(old, keys=keys, accept_rollback=True) as log:
        assert log.append([say(keys, "ada", "another end")])[0].index == 7
    with Ledger.open(old, keys=keys) as log:
        assert log.size == 8
    with refused("rollback") as found:  # and now the newer copy is the other branch
        Ledger.open(spoken.path, keys=keys)
    assert "branch" in found[0].message
    with refused("consistency"):
        verify_ledger(old, expect=newest)


@pytest.mark.spec("L-95")
def test_a_ledger_made_anew_under_an_old_key_is_a_rollback_too(
    spoken: Ledger, keys: KeyStore, tmp_path: Path
) -> None:
    spoken.close()
    with refused("rollback") as found:
        Ledger.open(tmp_path / "new.db", origin=ORIGIN, keys=keys, create=True)
    assert "entries 0 to 6" in found[0].message and "a folder of its own" in str(found[0].hint)


@pytest.mark.spec("L-95")
def test_a_postgres_database_put_back_from_a_dump_is_refused(database: str, keys: KeyStore) -> None:
    import psycopg

    with Ledger.open(database, origin=ORIGIN, keys=keys, create=True) as log:
        log.append([say(keys, "ada")])
        with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
            kept = connection.execute("SELECT size, checkpoint, edge FROM agentmesh.head").fetchone()
            log.append([say(keys, "ada")])
            connection.execute("DELETE FROM agentmesh.parts WHERE idx = 2")
            connection.execute("DELETE FROM agentmesh.entries WHERE idx = 2")
            connection.execute("UPDATE agentmesh.head SET size = %s, checkpoint = %s, edge = %s", kept)
        with refused("consistency"):
            log.append([say(keys, "ada")])
    assert verify_ledger(database).entries == 2
    with refused("rollback"):
        Ledger.open(database, keys=keys)


def test_the_remembered_checkpoint_serves_as_the_one_an_auditor_kept(spoken: Ledger, keys: KeyStore) -> None:
    note = (keys.directory / "logs" / "agentmesh.local%2Fdesk.checkpoint").read_text()
    assert note == spoken.checkpoint() and verify_ledger(spoken.path, expect=note).expected_size == 7


def test_a_checkpoint_that_cannot_be_remembered_stops_the_next_append_but_not_this_one(
    spoken: Ledger, keys: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentmesh_ledger.last import LastCheckpoint

    def full(self: LastCheckpoint, note: str, size: int) -> None:
        raise LedgerError("failed", "no room", path="k")

    with monkeypatch.context() as patch:
        patch.setattr(LastCheckpoint, "advance", full)
        assert spoken.append([say(keys, "ada")])[0].index == 7
        with refused("failed") as found:
            spoken.append([say(keys, "ada")])
        assert "no room" in str(found[0]) and spoken.size == 8
    assert spoken.append([say(keys, "ada")])[0].index == 8  # there is room again
    assert keys.last_checkpoint(ORIGIN).read() == spoken.checkpoint()


# --- versions of the tables

OLD = "DROP TABLE places; CREATE UNIQUE INDEX entries_by_dialogue ON entries (log, dialogue, seq);"


@pytest.mark.spec("L-08")
def test_a_store_of_version_1_is_read_as_it_is_and_migrated_by_its_first_writer(
    tmp_path: Path, keys: KeyStore
) -> None:
    path = tmp_path / "l.db"
    draft = Draft(author=keys.agent("ada"), kind="say", dialogue="d")
    with Ledger.open(path, origin=ORIGIN, keys=keys, create=True) as log:
        log.append([draft] * 600)
        tiles = _rows(path, "SELECT level, number, data FROM tiles")
        assert len(tiles) == 3
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(f"{OLD} DROP TABLE tiles; PRAGMA user_version = 1")
    assert verify_ledger(path).entries == 601
    with Ledger.open(path, read_only=True) as reader:
        assert verify_transcript(io.BytesIO(exported(reader, "d"))).entries == 601
    assert _rows(path, "PRAGMA user_version") == [(1,)]
    with Ledger.open(path, keys=keys) as log:
        assert log.append([draft])[0].index == 601
    assert _rows(path, "SELECT level, number, data FROM tiles")[:2] == tiles[:2]
    assert verify_ledger(path).entries == 602


@pytest.mark.spec("L-08")
def test_a_migration_that_fails_leaves_the_old_version(
    tmp_path: Path, keys: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "l.db"
    with Ledger.open(path, origin=ORIGIN, keys=keys, create=True) as log:
        log.append([say(keys, "ada")])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(f"{OLD} DROP TABLE tiles; PRAGMA user_version = 1")

    def broken(*_: object) -> None:
        raise LedgerError("failed", "pulled")

    with monkeypatch.context() as patch:
        patch.setattr(Rows, "put_tiles", broken)
        with refused("failed"):
            Ledger.open(path, keys=keys)
    assert _rows(path, "PRAGMA user_version") == [(1,)] and verify_ledger(path).entries == 2


def _rows(path: Path, question: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


# --- keys


@pytest.mark.spec("L-14", "L-15")
def test_a_rotated_key_hands_its_name_on_and_writes_no_more(spoken: Ledger, keys: KeyStore) -> None:
    old, new = keys.agent("ada"), keys.agent("ada-2")
    receipt = spoken.rotate(old, new)
    assert receipt.index == 7
    with refused("refused") as found:
        spoken.append([Draft(author=old, kind="say", dialogue="d1")])
    assert "rotated at entry 7" in str(found[0])
    spoken.append([Draft(author=new, kind="say", dialogue="d1")])
    evidence = verify_ledger(spoken.path)
    assert (new.id, "ada", 1) in evidence.signers
    with refused("refused"):
        spoken.rotate(keys.agent("ben"), new)


def test_a_rotation_without_the_new_keys_consent_is_never_signed(spoken: Ledger, keys: KeyStore) -> None:
    from base64 import b64encode

    facts = {"new": keys.agent("eve").id, "consent": b64encode(b"x" * 64).decode()}
    with refused("refused") as found:
        spoken.append([Draft(author=keys.agent("ada"), kind=ROTATE, dialogue=LOG_DIALOGUE, facts=facts)])
    assert "did not sign" in found[0].message and spoken.size == 7


@pytest.mark.spec("L-55")
def test_a_dialogue_of_a_rotated_key_is_shown_with_the_keys_before_and_what_bears_on_it(
    spoken: Ledger, keys: KeyStore
) -> None:
    ada, ben, second, third = (keys.agent(name) for name in ("ada", "ben", "ben-2", "ben-3"))
    spoken.rotate(ben, second)
    spoken.rotate(second, third)  # never said anything itself
    spoken.append([Draft(author=third, kind="open", dialogue="d3"), say(keys, "ada", dialogue="d4")])
    spoken.revoke(third.id, after=9, by=ada)
    spoken.append([say(keys, "cyd", "secret", dialogue="d3")])
    spoken.erase(13, by=keys.agent("dee"))
    shown = list(read_transcript(io.BytesIO(exported(spoken, "d3"))))
    assert [each.index for each in shown] == [0, 3, 7, 8, 9, 11, 12, 13, 14, 15]
    evidence = verify_transcript(io.BytesIO(exported(spoken, "d3")))
    assert evidence.withheld == 1 and (third.id, "ben", 1) in evidence.signers
    assert spoken.names() == {
        **dict.fromkeys((ben.id, second.id, third.id), "ben"),
        **{keys.agent(name).id: name for name in ("ada", "cyd", "dee")},
    }


@pytest.mark.spec("L-16")
def test_a_revoked_key_writes_no_more_and_only_some_may_revoke(spoken: Ledger, keys: KeyStore) -> None:
    ada, ben = keys.agent("ada"), keys.agent("ben")
    with refused("refused"):
        spoken.revoke(ada.id, after=3, by=ben)  # ben is neither ada nor the author of entry 0
    with refused("refused"):
        spoken.revoke(AgentId(keys.agent("new").id), after=3, by=ada)
    with refused("refused"):
        spoken.revoke(ben.id, after=99, by=ada)
    spoken.revoke(ben.id, after=4, by=ada, reason="laptop stolen")
    with refused("refused"):
        spoken.append([say(keys, "ben")])
    with refused("refused"):
        spoken.revoke(ben.id, after=4, by=ada)
    spoken.append([say(keys, "ada")])
    assert verify_ledger(spoken.path).entries == 9


def test_the_standing_of_keys_is_found_again_by_another_process(spoken: Ledger, keys: KeyStore) -> None:
    spoken.rotate(keys.agent("ada"), keys.agent("ada-2"))
    spoken.close()
    with Ledger.open(spoken.path, keys=keys) as log:
        with refused("refused"):
            log.append([say(keys, "ada")])
        assert log.append([say(keys, "ada-2")])[0].index == 8


# --- erasure


@pytest.mark.spec("L-17", "L-89")
def test_erased_bytes_are_gone_from_every_file_and_every_proof_still_holds(
    tmp_path: Path, keys: KeyStore
) -> None:
    spoken = Ledger.open(tmp_path / "real.db", origin=ORIGIN, keys=keys, create=True)  # with salts of chance
    spoken.append([say(keys, "ada", str(k)) for k in range(5)] + [say(keys, "ben")])
    secret = "the combination is 7-1-9-" + "x" * 9000
    (receipt,) = spoken.append([say(keys, "ada", secret)])
    before, salt = spoken.checkpoint(), _rows(spoken.path, "SELECT salt FROM parts WHERE idx = 8")[0][0]
    assert isinstance(salt, bytes) and secret.encode()[:60] in files(spoken.path)
    done = spoken.erase(receipt.index, by=keys.agent("ben"), reason="asked for by the person concerned")
    assert (receipt.index, done.index) == (8, 9)
    for needle in (secret.encode()[:60], b"x" * 200, salt):
        assert needle not in files(spoken.path)
    evidence = verify_ledger(spoken.path, expect=before)
    assert (evidence.entries, evidence.withheld) == (10, 1)
    for dialogue in (None, "d1"):
        transcript = exported(spoken, dialogue)
        assert verify_transcript(io.BytesIO(transcript), expect=None).withheld == 1
        assert b'"withheld"' in transcript
    (tombstone,) = spoken.read(9)
    assert (tombstone.message.kind, tombstone.message.facts["entry"]) == (ERASE, 8)
    spoken.close()


def files(path: Path) -> bytes:
    """All bytes of a database: the file and what stands beside it."""
    return b"".join(each.read_bytes() for each in sorted(path.parent.glob(path.name + "*")))


@pytest.mark.spec("L-17")
def test_only_what_is_there_can_be_erased_and_parts_one_by_one(spoken: Ledger, keys: KeyStore) -> None:
    ada = keys.agent("ada")
    parts = tuple(DraftPart(name=name, type="text/plain", data=name.encode()) for name in ("a", "b"))
    spoken.append([Draft(author=ada, kind="say", dialogue="d1", parts=parts)])
    for wrong in (
        lambda: spoken.erase(99, by=ada),
        lambda: spoken.erase(7, by=ada, parts=["c"]),
        lambda: spoken.erase(0, by=ada),
    ):
        with refused("not_found"):
            wrong()
    spoken.erase(7, by=ada, parts=["a"])
    assert [each.data for record in spoken.read(7, 8) for each in record.parts] == [None, b"b"]
    spoken.erase(7, by=ada)  # also what is gone already: the files are scrubbed once more
    assert verify_ledger(spoken.path).entries == 10


@pytest.mark.spec("L-89")
def test_nobody_says_erased_without_erasing(spoken: Ledger, keys: KeyStore) -> None:
    spoken.append([say(keys, "ada", "secret")])
    digest = next(record.parts[0].hash for record in spoken.read(7, 8))
    facts = {"entry": 7, "hashes": [digest.hex()]}
    draft = Draft(author=keys.agent("ada"), kind=ERASE, dialogue=LOG_DIALOGUE, facts=facts)
    for use in (spoken.append, spoken.submit):
        with refused("refused") as found:
            use([draft])
        assert "Ledger.erase" in found[0].message
    assert [each.data for record in spoken.read(7, 8) for each in record.parts] == [b"secret"]


@pytest.mark.spec("L-16")
def test_what_was_signed_counts_and_not_what_the_caller_makes_of_it_later(
    spoken: Ledger, keys: KeyStore
) -> None:
    ada, ben = keys.agent("ada"), keys.agent("ben")

    class Fickle(dict[str, object]):
        def __getitem__(self, name: str) -> object:
            return ben.id if name == "agent" else super().__getitem__(name)

    facts = Fickle(agent=ada.id, after=3)
    spoken.append([Draft(author=ada, kind="key.revoke", dialogue=LOG_DIALOGUE, facts=facts)])  # type: ignore[arg-type]
    with refused("refused"):
        spoken.append([say(keys, "ada")])
    spoken.append([say(keys, "ben")])
    assert verify_ledger(spoken.path).entries == 9


@pytest.mark.spec("L-89")
def test_a_reader_in_the_way_is_told_and_the_deletion_stands(spoken: Ledger, keys: KeyStore) -> None:
    spoken.append([say(keys, "ada", "secret")])
    with closing(sqlite3.connect(spoken.path, isolation_level=None, timeout=0)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entries").fetchall()
        drop_connections(spoken)  # they wait 30 seconds for a reader; these are to wait not at all
        with impatient(), refused("failed") as found:
            spoken.erase(7, by=keys.agent("ada"))
        assert "deleted" in found[0].message
        reader.execute("COMMIT")
    assert [each.data for record in spoken.read(7, 8) for each in record.parts] == [None]
    spoken.erase(7, by=keys.agent("ada"))
    assert b"secret" not in files(spoken.path)


def drop_connections(log: Ledger) -> None:
    log._store._drop(log._store._write_connection())  # type: ignore[attr-defined]
    log._store._engine.dispose()  # type: ignore[attr-defined]


@contextmanager
def impatient() -> Iterator[None]:
    """Connections made meanwhile wait for nobody."""
    from agentmesh_ledger.store import sqlite

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite, "BUSY_SECONDS", 0)
        yield


def test_content_is_erased_from_postgres_too(database: str, keys: KeyStore) -> None:
    with Ledger.open(database, origin=ORIGIN, keys=keys, create=True) as log:
        log.append([say(keys, "ada", "secret")])
        log.erase(1, by=keys.agent("ada"))
        assert verify_transcript(io.BytesIO(exported(log))).withheld == 1
        with log._store.reading() as rows:
            assert rows.totals(1).parts == 0


# --- many writers

WRITER = """
import sys
from pathlib import Path
from agentmesh_ledger import Draft, DraftPart, KeyStore, Ledger
url, folder, name, count = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
keys = KeyStore(folder)
part = DraftPart(name="text", type="text/plain", data=name.encode())
with Ledger.open(url, origin="agentmesh.local/desk", keys=keys, create=True) as log:
    for _ in range(count):
        draft = Draft(author=keys.agent(name), kind="say", dialogue=name, parts=(part,))
        print(log.append([draft])[0].index, flush=True)
"""


@pytest.mark.spec("L-09", "L-45")
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_several_processes_keep_one_dense_order(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, keys: KeyStore
) -> None:
    place = str(tmp_path / "l.db") if kind == "sqlite" else request.getfixturevalue("database")
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, place, str(keys.directory), f"a{k}", "40"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in range(4)
    ]
    told = [each.communicate(timeout=120) for each in started]
    assert [each.returncode for each in started] == [0] * 4, told
    indices = [int(line) for out, _ in told for line in out.split()]
    assert len(set(indices)) == 160
    evidence = verify_ledger(place)
    assert evidence.entries == 164 and sorted(count for _, _, count in evidence.signers) == [41] * 4
    with Ledger.open(place, keys=keys) as log:
        mine = {record.index for record in log.read() if record.message.kind == "say"}
    assert mine == set(indices)


def test_a_signal_in_the_leader_is_told_to_those_who_waited_and_the_next_leads(tmp_path: Path) -> None:
    entered, go = threading.Event(), threading.Event()
    calls: list[int] = []

    def commit(requests: object) -> list[tuple[()]]:
        assert isinstance(requests, list)
        calls.append(len(requests))
        if len(calls) == 1:
            entered.set()
            assert go.wait(30)
            raise KeyboardInterrupt
        return [()] * len(requests)

    group = GroupCommit(commit)
    outcomes: list[object] = []

    def run() -> None:
        try:
            outcomes.append(group.run(Request(prepared=())))
        except BaseException as error:  # noqa: BLE001  # the test is about what rises here
            outcomes.append(type(error).__name__)

    from agentmesh_ledger import group as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.GroupCommit, "_take", _one_at_a_time)
        threads = [threading.Thread(target=run) for _ in range(3)]
        threads[0].start()
        assert entered.wait(30)
        for each in threads[1:]:
            each.start()
        go.set()
        for each in threads:
            each.join(30)
    assert outcomes.count("KeyboardInterrupt") == 1 and outcomes.count(()) == 2
    assert group.run(Request(prepared=())) == ()  # type: ignore[arg-type]


def _one_at_a_time(group: GroupCommit) -> list[object]:
    group._batch = [group._waiting.popleft()]
    return group._batch


def test_what_was_submitted_is_written_before_the_ledger_closes(tmp_path: Path, keys: KeyStore) -> None:
    log = Ledger.open(tmp_path / "l.db", origin=ORIGIN, keys=keys, create=True)
    futures = [log.submit([say(keys, "ada", dialogue=f"d{k}")]) for k in range(50)]
    log.close()
    assert sorted(each.result(timeout=0)[0].index for each in futures) == list(range(1, 51))
    assert verify_ledger(tmp_path / "l.db").entries == 51


def test_threads_and_futures_share_one_order(tmp_path: Path, keys: KeyStore) -> None:
    with Ledger.open(tmp_path / "l.db", origin=ORIGIN, keys=keys, create=True) as log:
        futures: list[object] = []

        def work(name: str) -> None:
            for _ in range(30):
                log.append([say(keys, name, dialogue=name)])
                futures.append(log.submit([say(keys, name, dialogue=f"{name}-later")]))

        threads = [threading.Thread(target=work, args=(f"a{k}",)) for k in range(6)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        done = [each.result(timeout=60) for each in futures]  # type: ignore[attr-defined]
        assert len({one[0].index for one in done}) == 180 and log.size == 6 * 61
    assert verify_ledger(tmp_path / "l.db").entries == 366


def test_tasks_of_an_event_loop_share_commits(tmp_path: Path, keys: KeyStore) -> None:
    async def main(log: Ledger) -> list[int]:
        async def speak(name: str) -> list[int]:
            found = []
            for _ in range(20):
                (receipt,) = await log.append_async([say(keys, name, dialogue=name)])
                found.append(receipt.index)
            return found

        async def wrong() -> str:
            try:
                await log.append_async([say(keys, "a0", reply_to=10_000)])
            except LedgerError as error:
                return error.reason
            return "none"

        spoken = await asyncio.gather(*(speak(f"a{k}") for k in range(8)))
        assert await wrong() == "refused" and await log.append_async([]) == ()
        return [each for one in spoken for each in one]

    with Ledger.open(tmp_path / "l.db", origin=ORIGIN, keys=keys, create=True) as log:
        assert len(set(asyncio.run(main(log)))) == 160
    with refused("closed"):
        asyncio.run(log.append_async([say(keys, "a0")]))
    assert verify_ledger(tmp_path / "l.db").entries == 168


def test_a_task_that_is_cancelled_harms_no_other(tmp_path: Path, keys: KeyStore) -> None:
    async def main(log: Ledger) -> None:
        tasks = [
            asyncio.create_task(log.append_async([say(keys, "ada", dialogue=f"d{k}")])) for k in range(20)
        ]
        await asyncio.sleep(0)
        for each in tasks[::2]:
            each.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in done[::2])
        assert len({each[0].index for each in done[1::2] if isinstance(each, tuple)}) == 10

    with Ledger.open(tmp_path / "l.db", origin=ORIGIN, keys=keys, create=True) as log:
        asyncio.run(main(log))
    assert verify_ledger(tmp_path / "l.db").entries >= 11


def test_a_loop_that_is_gone_keeps_nobody_waiting(tmp_path: Path, keys: KeyStore) -> None:
    with Ledger.open(tmp_path / "l.db", origin=ORIGIN, keys=keys, create=True) as log:
        loop = asyncio.new_event_loop()

        async def start() -> None:
            asyncio.ensure_future(log.append_async([say(keys, "ada")])).cancel()

        loop.run_until_complete(start())
        loop.close()
        assert log.append([say(keys, "ben")])[0].index >= 1
