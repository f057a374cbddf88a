"""What is done to the database file behind the ledger's back."""

from __future__ import annotations

import io
import os
import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from agentmesh_ledger import KeyStore, Ledger, LedgerError, verify_ledger
from agentmesh_ledger.checkpoint import Checkpoint


def change(path: Path, *statements: str, values: Sequence[object] = ()) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            done = connection.execute(statement, values)
            assert done.rowcount != 0, f"{statement} changed nothing"


def refusal(path: Path, **options: object) -> LedgerError:
    with pytest.raises(LedgerError) as caught:
        verify_ledger(path, **options)  # type: ignore[arg-type]
    return caught.value


def test_an_untouched_copy_verifies(file: Path) -> None:
    assert verify_ledger(file).entries == 7


SWAP = (
    "UPDATE entries SET idx = 100 WHERE idx = 2",
    "UPDATE entries SET idx = 2 WHERE idx = 4",
    "UPDATE entries SET idx = 4 WHERE idx = 100",
)
TAMPERED: list[tuple[tuple[str, ...], str, int | None]] = [
    (("UPDATE entries SET entry = CAST(REPLACE(entry, 'payloadType', 'payloadtype') AS BLOB) WHERE idx = 2",), "envelope", 2),
    (("UPDATE entries SET entry = x'' WHERE idx = 2",), "canonical", 2),
    (("UPDATE entries SET entry = entry || x'0a' WHERE idx = 2",), "store", 2),
    (("UPDATE entries SET entry = CAST(entry || ' ' AS BLOB) WHERE idx = 2",), "canonical", 2),
    (("UPDATE entries SET entry = 'text' WHERE idx = 2",), "store", 2),
    (("UPDATE entries SET entry = zeroblob(100000) WHERE idx = 2",), "envelope", 2),
    (("UPDATE entries SET entry = (SELECT entry FROM entries WHERE idx = 4) WHERE idx = 2",), "index", 2),
    (("DELETE FROM entries WHERE idx = 3",), "index", 3),
    (("DELETE FROM entries WHERE idx = 6",), "index", 6),
    (("DELETE FROM entries",), "index", 0),
    (SWAP, "index", 2),
    (("UPDATE entries SET leaf = zeroblob(32) WHERE idx = 2",), "store", 2),
    (("UPDATE entries SET dialogue = 'd2', seq = 9 WHERE idx = 2",), "store", 2),
    (("UPDATE entries SET seq = 99 WHERE idx = 2",), "store", 2),
    (("UPDATE entries SET kind = 'close' WHERE idx = 2",), "store", 2),
    (("UPDATE entries SET author = 'x' WHERE idx = 2",), "store", 2),
    (("UPDATE parts SET data = x'00' WHERE idx = 2",), "part", 2),
    (("UPDATE parts SET data = CAST('17 * 24?' AS BLOB) WHERE idx = 2",), "part", 2),
    (("UPDATE parts SET data = 'text' WHERE idx = 2",), "store", 2),
    (("UPDATE parts SET data = zeroblob(17000000) WHERE idx = 2",), "part", 2),
    (("UPDATE parts SET salt = zeroblob(16) WHERE idx = 2",), "part", 2),
    (("UPDATE parts SET salt = zeroblob(17) WHERE idx = 2",), "part", 2),
    (("UPDATE parts SET hash = zeroblob(32) WHERE idx = 2",), "part", 2),
    (("UPDATE parts SET idx = 1 WHERE idx = 2",), "part", 1),
    (("UPDATE parts SET idx = 100 WHERE idx = 2",), "part", None),
    (("UPDATE parts SET idx = -1 WHERE idx = 2",), "part", None),
    (("UPDATE parts SET log = 9 WHERE idx = 2",), "part", None),
    (("INSERT INTO entries SELECT 9, 0, entry, leaf, 'z', 0, kind, author FROM entries WHERE idx = 6",), "index", None),
    (("INSERT INTO entries SELECT log, 7, entry, leaf, 'z', 0, kind, author FROM entries WHERE idx = 6",), "index", None),
    (("INSERT INTO entries SELECT log, -1, entry, leaf, 'z', 0, kind, author FROM entries WHERE idx = 6",), "index", None),
    (("UPDATE head SET size = 6",), "store", None),
    (("UPDATE head SET origin = 'other'",), "store", None),
    (("UPDATE head SET edge = zeroblob(96)",), "root", None),
    (("UPDATE head SET edge = zeroblob(95)",), "root", None),
    (("UPDATE head SET edge = x''",), "root", None),
    (("UPDATE head SET checkpoint = REPLACE(checkpoint, char(10) || '7' || char(10), char(10) || '6' || char(10))",), "checkpoint", None),
    (("UPDATE head SET checkpoint = ''",), "checkpoint", None),
    (("UPDATE head SET checkpoint = NULL",), "corrupt", None),
    (("UPDATE head SET vkey = 'x'",), "log_key", None),
    (("DELETE FROM head",), "corrupt", None),
    (("UPDATE parts SET data = x'', salt = x''",), "part", 2),
    (("DELETE FROM parts", "INSERT INTO parts VALUES (1, 0, x'aa', x'', x'')"), "part", 0),
    (("INSERT INTO parts VALUES (1, 1.5, x'aa', x'bb', x'cc')",), "part", None),
    (("INSERT INTO parts VALUES (1, 'x', x'aa', x'bb', x'cc')",), "part", None),
    (("INSERT INTO parts VALUES (1.5, 2, x'aa', x'bb', x'cc')",), "part", None),
    (("INSERT INTO parts VALUES (1, 7, x'aa', x'', x'')",), "part", None),
    (("INSERT INTO entries SELECT log, 'x', entry, leaf, 'z', 0, kind, author FROM entries WHERE idx = 6",), "index", None),
    (("INSERT INTO tiles VALUES (1, 0, 0, zeroblob(8192))",), "store", None),
    (("INSERT INTO tiles VALUES (2, 0, 0, zeroblob(8192))",), "store", None),
    (("INSERT INTO tiles VALUES (1, 'x', 0, 'y')",), "store", None),
    (("INSERT INTO places VALUES (1, 'd1', 0, 1)",), "store", None),
    (("INSERT INTO places VALUES (2, 'd1', 0, 1)",), "store", None),
    (("DROP TABLE parts",), "corrupt", None),
    (("ALTER TABLE entries RENAME COLUMN entry TO body",), "corrupt", None),
    (("PRAGMA user_version = 4",), "corrupt", None),
    (("PRAGMA application_id = 0",), "corrupt", None),
]  # fmt: skip


@pytest.mark.spec("L-91")
def test_of_several_logs_the_one_meant_must_be_named(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("INSERT INTO head SELECT 2, 'other', vkey, size, checkpoint, edge FROM head")
    with pytest.raises(LedgerError) as caught:
        verify_ledger(file)
    assert caught.value.reason == "origin" and "agentmesh.local/desk, other" in str(caught.value)
    assert verify_ledger(file, origin="agentmesh.local/desk").entries == 7
    with pytest.raises(LedgerError):
        verify_ledger(file, origin="other")


@pytest.mark.spec("L-91")
@pytest.mark.parametrize(("statements", "reason", "index"), TAMPERED)
def test_every_change_of_a_row_is_seen_with_its_place(
    file: Path, statements: tuple[str, ...], reason: str, index: int | None
) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        if "NULL" in statements[0]:
            pytest.raises(sqlite3.IntegrityError, connection.execute, statements[0])
            return
        for statement in statements:
            connection.execute(statement)
    error = refusal(file)
    assert (error.reason, error.index) == (reason, index), str(error)
    assert error.is_check


def test_a_number_that_is_a_text_is_seen_by_the_reader_or_by_sqlite_itself(file: Path) -> None:
    change(file, "UPDATE head SET size = 'x'")
    assert refusal(file).reason in ("store", "corrupt")  # the check of a newer SQLite may tell it first


@pytest.mark.spec("L-91")
def test_more_rows_of_content_than_a_message_has_parts_are_not_read(file: Path) -> None:
    rows = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 65) SELECT 1, 2, x, x'', x'' FROM c"
    change(file, f"INSERT INTO parts {rows}")
    error = refusal(file)
    assert (error.reason, error.index) == ("part", 2) and "more content" in str(error)


@pytest.mark.spec("L-93")
def test_a_row_lost_from_an_index_alone_is_seen(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.executescript(  # the tables of version 2, whose index can be tampered with by SQLite's own means
            "DROP TABLE places; PRAGMA user_version = 2;"
            "CREATE UNIQUE INDEX entries_by_dialogue ON entries (log, dialogue, seq)"
        )
        connection.execute("PRAGMA writable_schema = ON")
        (sql,) = connection.execute(
            "SELECT sql FROM sqlite_master WHERE name = 'entries_by_dialogue'"
        ).fetchone()
        # SQLite is told that the index is another's, so that the row leaves the table's side of it alone.
        connection.execute(
            "UPDATE sqlite_master SET sql = sql || ' WHERE idx <> 4' WHERE name = 'entries_by_dialogue'"
        )
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("REINDEX entries_by_dialogue")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'entries_by_dialogue'", (sql,))
    error = refusal(file)
    assert error.reason == "corrupt" and "entries_by_dialogue" in str(error)
    with Ledger.open(file) as ledger, pytest.raises(LedgerError) as caught:
        list(ledger.read(dialogue="d1"))
    assert (caught.value.reason, caught.value.index) == ("sequence", 6)


HIDDEN = [
    ("DELETE FROM entries WHERE idx = 4", "index"),
    ("DELETE FROM entries WHERE idx = 6", "index"),
    ("UPDATE entries SET dialogue = 'hidden', seq = idx WHERE idx >= 4", "store"),
    ("UPDATE entries SET dialogue = 'hidden', seq = 0 WHERE idx = 6", "store"),
    ("UPDATE entries SET dialogue = 'log', seq = 2 WHERE idx = 6", "store"),
    ("UPDATE entries SET dialogue = 'd2', seq = 1 WHERE idx = 6", "store"),
]


@pytest.mark.spec("L-94")
@pytest.mark.parametrize(("statement", "reason"), HIDDEN)
def test_a_dialogue_that_lost_messages_is_neither_listed_nor_exported(
    file: Path, statement: str, reason: str
) -> None:
    change(file, statement)
    with Ledger.open(file) as ledger:
        for use in (ledger.dialogues, lambda: ledger.export(io.BytesIO(), dialogue="d1")):
            with pytest.raises(LedgerError) as caught:
                use()
            assert caught.value.reason == reason
        with pytest.raises(LedgerError) as caught:
            ledger.export(io.BytesIO())
        assert caught.value.is_check


@pytest.mark.spec("L-94")
@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("DELETE FROM entries WHERE idx = 4", "sequence"),
        ("DELETE FROM entries WHERE idx = 1", "sequence"),
        ("UPDATE entries SET dialogue = 'd1', seq = 4 WHERE idx = 5", "store"),
        ("UPDATE entries SET idx = 100 WHERE idx = 6", "index"),
    ],
)
def test_a_dialogue_is_read_without_a_gap_and_without_a_strangers_message_or_not_at_all(
    file: Path, statement: str, reason: str
) -> None:
    change(file, statement)
    with Ledger.open(file) as ledger, pytest.raises(LedgerError) as caught:
        list(ledger.read(dialogue="d1"))
    assert caught.value.reason == reason


def test_names_are_not_told_where_the_registrations_are_gone(file: Path) -> None:
    change(file, "DELETE FROM entries WHERE dialogue = 'log'")
    with Ledger.open(file) as ledger, pytest.raises(LedgerError) as caught:
        ledger.names()
    assert caught.value.reason == "author"


@pytest.mark.spec("L-91")
def test_any_byte_changed_in_an_entry_or_its_content_is_seen(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        (entry,) = connection.execute("SELECT entry FROM entries WHERE idx = 2").fetchone()
        (salt, data) = connection.execute("SELECT salt, data FROM parts WHERE idx = 2").fetchone()
    for column, whole, table in (
        ("entry", entry, "entries"),
        ("salt", salt, "parts"),
        ("data", data, "parts"),
    ):
        for place in range(0, len(whole), 1 if len(whole) < 100 else 9):
            altered = bytearray(whole)
            altered[place] ^= 1
            change(file, f"UPDATE {table} SET {column} = ? WHERE idx = 2", values=(bytes(altered),))
            error = refusal(file)
            assert error.index == 2 and error.is_check, (column, place, str(error))
        change(file, f"UPDATE {table} SET {column} = ? WHERE idx = 2", values=(whole,))
    assert verify_ledger(file).entries == 7


def test_a_tail_cut_with_the_operators_own_key_shows_only_against_a_kept_checkpoint(
    file: Path, spoken: Ledger, keys: KeyStore
) -> None:
    """The one thing no check inside a log can see, and what --expect is for."""
    kept = spoken.checkpoint()
    records = list(spoken.read(0, 5))
    from agentmesh_ledger.tree import Edge

    tree = Edge()
    for record in records:
        tree.append(record.leaf_hash)
    note = Checkpoint(origin=spoken.origin, size=5, root=tree.root()).sign(keys.log(spoken.origin))
    change(file, "DELETE FROM entries WHERE idx >= 5")
    change(file, "UPDATE head SET size = 5, checkpoint = ?, edge = ?", values=(note, b"".join(tree.hashes)))
    verified = verify_ledger(file)
    assert verified.entries == 5 and "nothing here shows whether the log went on" in verified.complete
    error = refusal(file, expect=kept)
    assert error.reason == "consistency" and "cut" in str(error)


def test_a_ledger_is_pinned_and_held_against_a_checkpoint(file: Path, spoken: Ledger, forge) -> None:
    verified = verify_ledger(file, keys=[spoken.vkey()], expect=spoken.checkpoint(), origin=spoken.origin)
    assert verified.pinned and verified.expected_size == 7
    assert refusal(file, keys=[forge.key.vkey]).reason == "log_key"
    assert refusal(file, origin="other").reason == "origin"


@pytest.mark.spec("L-91")
def test_a_damaged_file_never_shows_as_anything_but_a_ledger_error(file: Path, keys: KeyStore) -> None:
    whole = file.read_bytes()
    chance = random.Random(20261124)
    for damaged in _damage(whole, chance):
        file.write_bytes(damaged)
        for attempt in (verify_ledger, _use(keys)):
            try:
                attempt(file)
            except LedgerError:
                pass
    for cut in (0, 10, 16, 100, 512, 4096, len(whole) - 1):
        file.write_bytes(whole[:cut])
        assert refusal(file).reason == "corrupt" or cut == len(whole) - 1


def _damage(whole: bytes, chance: random.Random) -> Iterator[bytes]:
    for _ in range(60):
        altered = bytearray(whole)
        for _ in range(chance.choice((1, 1, 8, 64))):
            altered[chance.randrange(16, len(altered))] = chance.randrange(256)
        yield bytes(altered)
    for size in range(4096, len(whole), 4096):
        yield whole[:size]
        yield whole[:size] + chance.randbytes(4096) + whole[size + 4096 :]


def _use(keys: KeyStore):
    def use(path: Path) -> None:
        with Ledger.open(path, keys=keys) as ledger:
            list(ledger.read())
            ledger.dialogues()
            ledger.names()
            ledger.export(io.BytesIO())
            ledger.export(io.BytesIO(), dialogue="d1")

    return use


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 100, b"hello", b"SQLite format 3\x00", b"SQLite format 3\x00" + b"\xff" * 8000]
)
def test_a_file_that_is_no_ledger_is_told_so(tmp_path: Path, keys: KeyStore, data: bytes) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(data)
    for attempt in (verify_ledger, lambda path: Ledger.open(path), lambda path: Ledger.open(path, keys=keys)):
        with pytest.raises(LedgerError) as caught:
            attempt(path)
        assert caught.value.reason == "corrupt" and caught.value.path == str(path)
    assert path.read_bytes() == data


def test_another_programs_database_is_neither_verified_nor_written(tmp_path: Path, keys: KeyStore) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE entries (x)")
    for attempt in (
        lambda: verify_ledger(path),
        lambda: Ledger.open(path, keys=keys, origin="o", create=True),
    ):
        with pytest.raises(LedgerError) as caught:
            attempt()
        assert caught.value.reason == "corrupt"


def test_a_tampered_ledger_is_not_continued(file: Path, keys: KeyStore) -> None:
    change(file, "UPDATE entries SET entry = x'00' WHERE idx = 6")
    with pytest.raises(LedgerError) as caught:
        Ledger.open(file, keys=keys)
    assert caught.value.reason == "store" and caught.value.index == 6
    with Ledger.open(file) as ledger:
        assert len(list(ledger.read(0, 6))) == 6
    change(file, "UPDATE head SET edge = zeroblob(96)")
    with pytest.raises(LedgerError) as caught:
        Ledger.open(file, keys=keys)
    assert caught.value.reason == "root"


def test_reading_a_tampered_entry_names_it(file: Path) -> None:
    change(file, "UPDATE parts SET data = x'00' WHERE idx = 4")
    with Ledger.open(file) as ledger:
        reading = ledger.read(dialogue="d1")
        assert [next(reading).index, next(reading).index] == [1, 2]
        with pytest.raises(LedgerError):
            next(reading)
    with Ledger.open(file) as ledger, pytest.raises(LedgerError) as caught:
        list(ledger.read())
    assert (caught.value.reason, caught.value.index) == ("part", 4)


@pytest.mark.spec("L-94")
@pytest.mark.parametrize("dialogue", [None, "d1"])
@pytest.mark.parametrize(
    ("statement", "reason", "index"),
    [
        ("UPDATE parts SET data = x'00' WHERE idx = 4", "part", 4),
        ("UPDATE entries SET leaf = zeroblob(32) WHERE idx = 4", "store", 4),
        ("UPDATE entries SET kind = 'close' WHERE idx = 4", "store", 4),
    ],
)
def test_of_a_tampered_ledger_there_is_no_transcript(
    file: Path, dialogue: str | None, statement: str, reason: str, index: int
) -> None:
    change(file, statement)
    out = io.BytesIO()
    with Ledger.open(file) as ledger, pytest.raises(LedgerError) as caught:
        ledger.export(out, dialogue=dialogue)
    # With a wrong leaf no proof of the dialogue holds, so the first entry tells.
    assert caught.value.reason in (reason, "inclusion") and caught.value.index in (index, 0)
    assert b'"end"' not in out.getvalue()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_ledger_that_may_not_be_read_is_unreadable(file: Path) -> None:
    file.chmod(0)
    assert refusal(file).reason == "unreadable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_ledger_in_a_folder_that_may_not_be_written_is_verified(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    file.rename(folder / "ledger.db")
    folder.chmod(0o500)
    try:
        assert verify_ledger(folder / "ledger.db").entries == 7
        with Ledger.open(folder / "ledger.db") as ledger:
            assert len(list(ledger.read())) == 7
    finally:
        folder.chmod(0o700)


def test_verifying_leaves_the_file_as_it_was(file: Path) -> None:
    before = file.read_bytes()
    verify_ledger(file)
    assert file.read_bytes() == before
