"""One contract, every store: SQLite in a file, SQLite in memory, and a real PostgreSQL server."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmesh_ledger import Draft, DraftPart, KeyStore, Ledger, LedgerError, verify_transcript
from agentmesh_ledger.mirror import verify_tiles
from agentmesh_ledger.proof import verify_proof
from agentmesh_ledger.store.nodes import tree_of
from agentmesh_ledger.store.opening import open_store
from agentmesh_ledger.store.rows import Rows
from agentmesh_ledger.tree import Edge

ORIGIN = "agentmesh.local/desk"


def say(keys: KeyStore, name: str, text: str = "hello", dialogue: str = "d1") -> Draft:
    part = DraftPart(name="text", type="text/plain", data=text.encode())
    return Draft(author=keys.agent(name), kind="say", dialogue=dialogue, parts=(part,))


@pytest.fixture
def log(place: str, keys: KeyStore) -> Ledger:
    return Ledger.open(place, origin=ORIGIN, keys=keys, create=True)


def exported(log: Ledger, dialogue: str | None = None) -> bytes:
    out = io.BytesIO()
    log.export(out, dialogue=dialogue)
    return out.getvalue()


def test_what_is_appended_is_read_exported_and_verified(log: Ledger, keys: KeyStore) -> None:
    with log:
        receipts = log.append([say(keys, "ada"), say(keys, "ben", dialogue="d2"), say(keys, "ada", "bye")])
        assert [each.index for each in receipts] == [1, 3, 4] and {each.size for each in receipts} == {5}
        assert [record.parts[0].data for record in log.read() if record.parts] == [b"hello", b"hello", b"bye"]
        assert [each.id for each in log.dialogues()] == ["d1", "d2"]
        assert verify_transcript(io.BytesIO(exported(log))).entries == 5
        assert verify_transcript(io.BytesIO(exported(log, "d1"))).entries == 3
        assert verify_transcript(io.BytesIO(exported(log)), expect=log.checkpoint()).expected_size == 5
        found = log.verify(keys=[log.vkey()], expect=log.checkpoint())
        assert (found.entries, found.expected_size, found.pinned) == (5, 5, True)


@pytest.mark.spec("L-45", "L-46")
def test_many_threads_get_one_dense_order_each_under_a_checkpoint(log: Ledger, keys: KeyStore) -> None:
    got: list[int] = []

    def work(name: str) -> None:
        for _ in range(25):
            (receipt,) = log.append([say(keys, name, dialogue=name)])
            assert receipt.index < receipt.size <= log.size
            got.append(receipt.index)

    with log:
        threads = [threading.Thread(target=work, args=(f"a{k}",)) for k in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert log.size == 8 * 26 and len(set(got)) == 200
        evidence = verify_transcript(io.BytesIO(exported(log)))
        assert sorted(count for _, _, count in evidence.signers) == [26] * 8


def test_a_request_that_cannot_be_placed_fails_alone(log: Ledger, keys: KeyStore) -> None:
    with log:
        log.append([say(keys, "ada")])
        before = log.size
        futures = [log.submit([say(keys, "ada", dialogue=f"d{k}")]) for k in range(5)]
        late = Draft(author=keys.agent("ada"), kind="say", dialogue="d1", reply_to=999)
        futures.insert(2, log.submit([say(keys, "new"), late]))
        outcomes = [each.exception(timeout=30) for each in futures]
        assert [isinstance(each, LedgerError) for each in outcomes] == [
            False,
            False,
            True,
            False,
            False,
            False,
        ]
        assert isinstance(outcomes[2], LedgerError) and outcomes[2].reason == "refused"
        assert log.size == before + 5 and set(log.names().values()) == {"ada"}
        assert verify_transcript(io.BytesIO(exported(log))).entries == log.size


def test_one_database_holds_many_logs_each_with_its_key(lasting: str, tmp_path: Path) -> None:
    stores = {name: KeyStore(tmp_path / name) for name in ("north", "south", "west")}
    logs = {
        name: Ledger.open(lasting, origin=f"agentmesh.local/{name}", keys=keys, create=True)
        for name, keys in stores.items()
    }

    def work(name: str) -> None:
        for _ in range(20):
            logs[name].append([say(stores[name], "ada", dialogue="same")])

    threads = [threading.Thread(target=work, args=(name,)) for name in logs]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for name, log in logs.items():
        assert log.size == 21
        assert verify_transcript(io.BytesIO(exported(log)), keys=[log.vkey()]).origin.endswith(name)
        log.close()
    with pytest.raises(LedgerError) as caught:
        Ledger.open(lasting)
    assert caught.value.reason == "origin" and "agentmesh.local/west" in str(caught.value)
    with pytest.raises(LedgerError) as caught:
        Ledger.open(lasting, origin="agentmesh.local/north", keys=stores["south"])
    assert caught.value.reason == "key"


@pytest.mark.spec("L-45")
def test_a_block_that_raises_changes_nothing_and_the_next_one_works(log: Ledger, keys: KeyStore) -> None:
    with log:
        log.append([say(keys, "ada")])
        before = exported(log)
        (digest,) = [record.parts[0].hash for record in log.read() if record.parts]
        with pytest.raises(ZeroDivisionError), log._store.writing() as rows:
            assert rows.erase_parts(1, 1, [digest]) == 1
            raise ZeroDivisionError
        assert exported(log) == before
        assert log.append([say(keys, "ada")])[0].index == 2


@pytest.mark.spec("L-45")
def test_a_stale_head_is_not_swapped(log: Ledger, keys: KeyStore) -> None:
    with log:
        with log._store.reading() as rows:
            (old,) = rows.heads()
        log.append([say(keys, "ada")])
        with log._store.writing() as rows:
            assert not rows.swap_head(old, size=9, checkpoint="x", edge=b"")
            assert rows.lock_head(old.log) != old and rows.lock_head(old.log + 7) is None


def test_the_tiles_give_the_root_of_every_size(log: Ledger, keys: KeyStore) -> None:
    draft = Draft(author=keys.agent("ada"), kind="say", dialogue="d")
    with log:
        for count in (1, 254, 1, 1, 300, 513):
            log.append([draft] * count)
        leaves = [record.leaf_hash for record in log.read()]
        tree = Edge()
        with log._store.reading() as rows:
            (head,) = rows.heads()
            assert rows.totals(head.log).tiles == 5  # four full ones of leaves, and one above them
            for size, leaf in enumerate(leaves):
                if size % 51 == 0 or size % 256 in (0, 1, 255):
                    assert tree_of(rows, head).root(size) == tree.root(), size
                tree.append(leaf)
            assert tree_of(rows, head).root() == tree.root()


def test_a_log_that_is_opened_again_goes_on(lasting: str, keys: KeyStore) -> None:
    draft = Draft(author=keys.agent("ada"), kind="say", dialogue="d")
    for size in (300, 599, 600):
        with Ledger.open(lasting, origin=ORIGIN, keys=keys, create=True) as log:
            while log.size < size:
                log.append([draft] * min(100, size - log.size))
    with Ledger.open(lasting) as log:
        assert verify_transcript(io.BytesIO(exported(log))).entries == 600
        assert [record.message.seq for record in log.read(dialogue="d")] == list(range(599))


def test_content_is_deleted_and_nothing_else(log: Ledger, keys: KeyStore) -> None:
    with log:
        log.append([say(keys, "ada", "secret"), say(keys, "ada", "open")])
        digest = next(record.parts[0].hash for record in log.read(1, 2))
        with log._store.writing() as rows:
            assert rows.erase_parts(1, 1, [digest]) == 1
            assert rows.erase_parts(1, 1, [digest]) == 0
        assert [record.parts[0].data for record in log.read(1)] == [None, b"open"]
        assert verify_transcript(io.BytesIO(exported(log))).withheld == 1


def test_a_failed_read_back_signs_nothing(
    log: Ledger, keys: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[[Rows, int, int, int], list[bytes]] = Rows.stored
    with log:
        log.append([say(keys, "ada")])
        before = log.checkpoint()
        with monkeypatch.context() as patch:
            patch.setattr(Rows, "stored", lambda *args: [each[:-1] for each in real(*args)])
            with pytest.raises(LedgerError) as caught:
                log.append([say(keys, "ada")])
        assert caught.value.reason == "failed" and log.checkpoint() == before
        assert log.append([say(keys, "ada")])[0].index == 2


def test_a_closed_ledger_says_so(log: Ledger, keys: KeyStore) -> None:
    log.close()
    log.close()
    for use in (
        lambda: log.append([say(keys, "ada")]),
        lambda: log.submit([say(keys, "ada")]),
        lambda: log.size,
    ):
        with pytest.raises(LedgerError) as caught:
            use()
        assert caught.value.reason == "closed"


@pytest.mark.spec("L-96")
def test_postgres_waits_for_the_disk_whatever_its_configuration_says(
    server: str, database: str, keys: KeyStore
) -> None:
    import psycopg

    name = database.split("/")[3].split("?")[0]
    with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")  # type: ignore[call-overload]
    with (
        Ledger.open(database, origin=ORIGIN, keys=keys, create=True) as log,
        log._store.writing() as rows,
    ):
        assert rows.connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"


@pytest.mark.spec("L-96")
def test_a_postgres_server_that_does_not_sync_is_refused(server: str, database: str) -> None:
    import psycopg

    plain = server.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
        try:
            _until(lambda: connection.execute("SHOW fsync").fetchone() == ("off",))
            with pytest.raises(LedgerError) as caught:
                open_store(database, create=True)
            assert caught.value.reason == "refused" and "fsync" in str(caught.value)
        finally:
            connection.execute("ALTER SYSTEM RESET fsync")
            connection.execute("SELECT pg_reload_conf()")
            _until(lambda: connection.execute("SHOW fsync").fetchone() == ("on",))


def _until(met: Callable[[], bool]) -> None:
    """Asks until it is so; a setting reaches a session at its next question."""
    for _ in range(10_000):
        if met():
            return
    raise AssertionError("the server did not take the setting")


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE agentmesh.more (x int)",
        "CREATE VIEW agentmesh.v AS SELECT 1",
        "CREATE RULE r AS ON DELETE TO agentmesh.parts DO INSTEAD NOTHING",
        "ALTER TABLE agentmesh.parts ADD COLUMN more int",
        "DROP TABLE agentmesh.places",
        "CREATE FUNCTION agentmesh.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER t BEFORE INSERT ON agentmesh.parts FOR EACH ROW EXECUTE FUNCTION agentmesh.f()",
        "UPDATE agentmesh.version SET number = 99",
    ],
)
@pytest.mark.spec("L-92")
def test_a_postgres_schema_with_anything_else_in_it_is_refused(
    database: str, keys: KeyStore, change: str
) -> None:
    import psycopg

    Ledger.open(database, origin=ORIGIN, keys=keys, create=True).close()
    with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(change)  # type: ignore[call-overload]  # psycopg wants a literal
    for create in (False, True):
        with pytest.raises(LedgerError) as caught:
            Ledger.open(database, origin=ORIGIN, keys=keys, create=create)
        assert caught.value.reason == "corrupt"


def test_a_database_without_a_ledger_and_one_that_is_not_there_are_told_apart(database: str) -> None:
    with pytest.raises(LedgerError) as caught:
        Ledger.open(database)
    assert caught.value.reason == "not_found"
    with pytest.raises(LedgerError) as caught:
        Ledger.open(database.replace("/t", "/none"))
    assert caught.value.reason == "unreadable" and "none" in str(caught.value)


def test_no_password_stands_in_a_message() -> None:
    with pytest.raises(LedgerError) as caught:
        Ledger.open("postgresql+psycopg://ada:s3cret@127.0.0.1:1/x")
    assert "s3cret" not in str(caught.value) and "ada:***@" in str(caught.value)


@pytest.mark.spec("L-32", "L-34", "L-39", "L-88")
def test_proofs_and_tiles_come_out_of_every_store(log: Ledger, keys: KeyStore, tmp_path: Path) -> None:
    draft = Draft(author=keys.agent("ada"), kind="say", dialogue="d")
    with log:
        log.append([draft] * 300)
        for index in (0, 255, 256, 300):
            for with_entry in (True, False):
                text = log.prove(index, with_entry=with_entry)
                leaf = None if with_entry else next(log.read(index, index + 1)).leaf_hash
                found = verify_proof(text, leaf=leaf, keys=[log.vkey()])
                assert (found.index, found.tree_size, found.record is None) == (index, 301, not with_entry)
        with pytest.raises(LedgerError) as caught:
            log.prove(301)
        assert caught.value.reason == "not_found"
        assert log.publish(tmp_path / "tiles").size == 301
        log.append([draft] * 300)
        log.publish(tmp_path / "tiles")
        assert verify_tiles(str(tmp_path / "tiles"), keys=[log.vkey()]).log.entries == 601
