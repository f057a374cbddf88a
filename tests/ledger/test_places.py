"""The messages of each dialogue are found through places that are given by whole blocks of entries."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agentmesh_ledger import Draft, KeyStore, Ledger, LedgerError, verify_ledger, verify_transcript
from agentmesh_ledger.store.rows import Rows
from agentmesh_ledger.store.schema import BLOCK

ORIGIN = "agentmesh.local/places"


def say(keys: KeyStore, dialogue: str) -> Draft:
    return Draft(author=keys.agent("ada"), kind="say", dialogue=dialogue)


@pytest.fixture
def log(place: str, keys: KeyStore) -> Ledger:
    return Ledger.open(place, origin=ORIGIN, keys=keys, create=True)


def fill(log: Ledger, keys: KeyStore, size: int, turn: int = 0) -> None:
    """Messages of three dialogues in turn, until the log has this size; a fourth says something now and then."""
    while log.size < size:
        count = min(size - log.size, 97) if log.size else 1
        names = [f"d{(turn + k) % 3}" if (turn + k) % 50 else "rare" for k in range(count)]
        log.append([say(keys, name) for name in names])
        turn += count


def truly(log: Ledger) -> dict[str, list[int]]:
    """The indices of each dialogue's messages, from the signed bytes of the whole log."""
    found: dict[str, list[int]] = {}
    for record in log.read():
        found.setdefault(record.message.dialogue, []).append(record.index)
    return found


@pytest.mark.spec("L-99")
def test_a_dialogue_is_whole_wherever_the_last_block_ends(log: Ledger, keys: KeyStore) -> None:
    with log:
        for size in (BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 200):
            fill(log, keys, size, size)
            for dialogue, indices in truly(log).items():
                if dialogue != "log":
                    assert [each.index for each in log.read(dialogue=dialogue)] == indices, (size, dialogue)
                    later = [each.index for each in log.read(BLOCK - 3, BLOCK + 3, dialogue=dialogue)]
                    assert later == [each for each in indices if BLOCK - 3 <= each < BLOCK + 3]
            told = {each.id: (each.first, each.last, each.messages) for each in log.dialogues()}
            assert told == {
                name: (each[0], each[-1], len(each)) for name, each in truly(log).items() if name != "log"
            }
            out = io.BytesIO()
            log.export(out, dialogue="rare")
            out.seek(0)
            assert verify_transcript(out).entries == len(truly(log)["rare"]) + 1


@pytest.mark.spec("L-99")
def test_a_commit_over_several_blocks_gives_each_entry_its_place_once(log: Ledger, keys: KeyStore) -> None:
    with log:
        log.append([say(keys, f"d{k % 7}") for k in range(2 * BLOCK + 100)])
        with log._store.reading() as rows:
            (head,) = rows.heads()
            assert rows.totals(head.log).places == 2 * BLOCK
            assert rows.count_placed(head.log, 0, 2 * BLOCK) == 2 * BLOCK
        log.append([say(keys, f"d{k % 7}") for k in range(BLOCK)])
        with log._store.reading() as rows:
            assert rows.count_placed(head.log, 0, 3 * BLOCK) == rows.totals(head.log).places == 3 * BLOCK


@pytest.mark.spec("L-99")
def test_a_writer_that_opens_the_log_goes_on_with_every_dialogue(lasting: str, keys: KeyStore) -> None:
    for size in (BLOCK - 2, BLOCK, BLOCK + 2, BLOCK + 60):
        with Ledger.open(lasting, origin=ORIGIN, keys=keys, create=True) as log:
            fill(log, keys, size, size)
            log.append([say(keys, name) for name in ("d0", "rare", "new" + str(size), "d1")])
    assert verify_ledger(lasting).entries == BLOCK + 64


@pytest.mark.spec("L-99")
def test_a_writer_reads_the_newest_entries_once_and_not_for_each_dialogue(
    lasting: str, keys: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be large: a thousand first messages behind 511 of them took seconds under the lock."""
    asked: list[str] = []
    for name in ("last_seq", "newest_seqs"):
        whole = getattr(Rows, name)
        monkeypatch.setattr(
            Rows, name, lambda rows, *of, name=name, whole=whole: asked.append(name) or whole(rows, *of)
        )
    with Ledger.open(lasting, origin=ORIGIN, keys=keys, create=True) as log:
        fill(log, keys, BLOCK - 20)
    with Ledger.open(lasting, keys=keys) as log:
        asked.clear()
        log.append([say(keys, f"d{k}") for k in range(100)])
        log.append([say(keys, f"d{k}") for k in range(100)])
        assert not asked
        monkeypatch.setattr("agentmesh_ledger.append._MAX_SEQS", 10)
        for _ in range(4):
            log.append([say(keys, f"d{k}") for k in range(0, 200, 2)])
        assert asked == ["newest_seqs"] * 4
    assert verify_ledger(lasting).entries == BLOCK + 580


@pytest.fixture
def file(tmp_path: Path, keys: KeyStore) -> Path:
    path = tmp_path / "l.db"
    with Ledger.open(path, origin=ORIGIN, keys=keys, create=True) as log:
        fill(log, keys, 2 * BLOCK + 30)
    return path


@pytest.mark.spec("L-99")
@pytest.mark.parametrize(
    ("change", "index", "said"),
    [
        ("DELETE FROM places WHERE idx = 700", 0, "do not stand in their places"),
        ("UPDATE places SET idx = 701 WHERE idx = 700", 0, "do not stand in their places"),
        ("UPDATE places SET idx = -1 WHERE idx = 700", 0, "do not stand in their places"),
        ("UPDATE places SET idx = 'x' WHERE idx = 700", 0, "do not stand in their places"),
        ("UPDATE places SET dialogue = 'other' WHERE idx = 700", 0, "do not stand in their places"),
        ("UPDATE places SET seq = 5000 WHERE idx = 700", 0, "do not stand in their places"),
        ("UPDATE places SET log = 2 WHERE idx = 700", 0, "do not stand in their places"),
        ("INSERT INTO places VALUES (1, 'more', 0, 700)", None, "places of no entry"),
        ("INSERT INTO places VALUES (2, 'd1', 0, 700)", None, "places of no entry"),
        (
            "INSERT INTO places SELECT log, dialogue, seq, idx FROM entries WHERE idx > 1025",
            None,
            "places of no entry",
        ),
    ],
)
def test_every_change_of_a_place_is_seen(file: Path, change: str, index: int | None, said: str) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(change)
    with pytest.raises(LedgerError) as caught:
        verify_ledger(file)
    assert (caught.value.reason, caught.value.index) == ("store", index) and said in str(caught.value)
    assert caught.value.is_check


@pytest.mark.spec("L-99")
def test_a_reader_of_a_dialogue_sees_that_a_place_is_missing_or_anothers(file: Path) -> None:
    for place, change in (
        (700, "UPDATE places SET idx = 703 WHERE idx = 700"),
        (750, "DELETE FROM places WHERE idx = 750"),
    ):
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            asked = connection.execute("SELECT dialogue FROM entries WHERE idx = ?", (place,))
            (dialogue,) = asked.fetchone()
            connection.execute(change)
        with Ledger.open(file) as log:
            with pytest.raises(LedgerError) as caught:
                list(log.read(dialogue=dialogue))
            assert caught.value.reason == "sequence"
    with Ledger.open(file) as log, pytest.raises(LedgerError) as caught:
        log.dialogues()
    assert caught.value.reason == "index"


@pytest.mark.spec("L-99")
@pytest.mark.parametrize("dialogue", ["log", "d1"])
def test_places_that_lead_back_are_refused_and_end(tmp_path: Path, keys: KeyStore, dialogue: str) -> None:
    path = tmp_path / "l.db"
    with Ledger.open(path, origin=ORIGIN, keys=keys, create=True) as log:
        drafts = [Draft(author=keys.agent("ben"), kind="say", dialogue="d2")]
        log.append([*(say(keys, "d1") for _ in range(3)), *drafts * (BLOCK - 5)])
        assert log.size == BLOCK
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        places = "SELECT idx FROM places WHERE dialogue = ? ORDER BY seq DESC LIMIT 2"
        ((last,), (other,)) = connection.execute(places, (dialogue,))
        for swapped in (
            f"UPDATE places SET idx = -1 WHERE idx = {last}",
            f"UPDATE places SET idx = {last} WHERE idx = {other}",
            f"UPDATE places SET idx = {other} WHERE idx = -1",
        ):
            connection.execute(swapped)
    with Ledger.open(path) as log, pytest.raises(LedgerError, match="place of a message") as caught:
        log.export(io.BytesIO(), dialogue="d1")
    assert (caught.value.reason, caught.value.index) == ("sequence", last)
    if dialogue == "log":
        with pytest.raises(LedgerError, match="place of a message"):
            Ledger.open(path, keys=keys)


@pytest.mark.spec("L-99")
def test_a_log_that_an_older_writer_went_on_with_is_not_written_further(file: Path, keys: KeyStore) -> None:
    """It knows no places. Whoever believed them would register everybody a second time, and spoil the log for ever."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(f"DELETE FROM places WHERE idx >= {BLOCK}")
    with pytest.raises(LedgerError, match="newest messages") as caught:
        Ledger.open(file, keys=keys)
    assert (caught.value.reason, caught.value.index) == ("store", 2 * BLOCK - 1)


@pytest.mark.spec("L-99")
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entries SET dialogue = 'other' WHERE dialogue = 'd1' AND idx < 1024",
        "UPDATE entries SET dialogue = 'd1' WHERE dialogue = 'log'",
    ],
)
def test_dialogues_of_which_entries_and_places_tell_different_things_are_refused(
    file: Path, change: str
) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(change)
    with Ledger.open(file) as log, pytest.raises(LedgerError, match="other dialogues") as caught:
        log.dialogues()
    assert caught.value.reason == "store"


@pytest.mark.spec("L-08")
def test_a_store_of_version_2_is_read_as_it_is_and_its_index_becomes_places(
    file: Path, keys: KeyStore
) -> None:
    with Ledger.open(file) as log:
        dialogues, truth = log.dialogues(), truly(log)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.executescript(
            "DROP TABLE places; PRAGMA user_version = 2;"
            "CREATE UNIQUE INDEX entries_by_dialogue ON entries (log, dialogue, seq)"
        )
    assert verify_ledger(file).entries == 2 * BLOCK + 30
    with Ledger.open(file) as log:
        assert log.dialogues() == dialogues
        assert [each.index for each in log.read(dialogue="d1")] == truth["d1"]
        assert log.names()
    with Ledger.open(file, keys=keys) as log:
        assert log.dialogues() == dialogues
        assert [each.index for each in log.read(dialogue="d1")] == truth["d1"]
        log.append([say(keys, "d1"), say(keys, "new")])
    assert verify_ledger(file).entries == 2 * BLOCK + 32
    with closing(sqlite3.connect(file)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        assert "entries_by_dialogue" not in names and "places" in names
        assert connection.execute("SELECT count(*) FROM places").fetchone() == (2 * BLOCK,)
