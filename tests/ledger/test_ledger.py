from __future__ import annotations

import io
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from agentmesh_ledger import (
    Draft,
    DraftPart,
    KeyStore,
    Ledger,
    LedgerError,
    Ports,
    verify_ledger,
    verify_transcript,
)
from agentmesh_ledger.checkpoint import open_checkpoint
from agentmesh_ledger.note import parse_vkey
from agentmesh_ledger.store.rows import EntryValues, Rows
from agentmesh_ledger.store.sqlite import SqliteStore

ORIGIN = "agentmesh.local/desk"


def say(keys: KeyStore, name: str, text: str = "hello", dialogue: str = "d1", **more: object) -> Draft:
    part = DraftPart(name="text", type="text/plain", data=text.encode())
    return Draft(author=keys.agent(name), kind="say", dialogue=dialogue, parts=(part,), **more)  # type: ignore[arg-type]


def test_what_was_appended_is_read_back_with_its_content(spoken: Ledger, keys: KeyStore) -> None:
    records = list(spoken.read())
    assert [record.index for record in records] == list(range(7))
    assert [record.message.kind for record in records] == [
        "key.register", "open", "task", "key.register", "say", "open", "close",
    ]  # fmt: skip
    assert records[2].parts[0].data == b"17 * 23?"
    assert records[4].message.reply_to == 2
    assert records[2].message.to == (keys.agent("ben").id,)
    assert [record.index for record in spoken.read(2, 5)] == [2, 3, 4]
    assert [record.index for record in spoken.read(dialogue="d1")] == [1, 2, 4, 6]
    assert [record.index for record in spoken.read(2, 6, dialogue="d1")] == [2, 4]


def test_dialogues_and_names_are_told_at_a_glance(spoken: Ledger, keys: KeyStore) -> None:
    one, two = spoken.dialogues()
    ada, ben = keys.agent("ada").id, keys.agent("ben").id
    assert (one.id, one.first, one.last, one.messages, one.closed) == ("d1", 1, 6, 4, "done")
    assert one.participants == (ada, ben)
    assert one.opened == "2026-11-24T08:00:00.000Z"
    assert (two.id, two.messages, two.closed, two.participants) == ("d2", 1, None, (ben,))
    assert spoken.names() == {ada: "ada", ben: "ben"}


@pytest.mark.spec("L-46")
def test_every_append_returns_under_a_signed_checkpoint(ledger: Ledger, keys: KeyStore) -> None:
    key = parse_vkey(ledger.vkey())
    assert open_checkpoint(ledger.checkpoint(), [key]).checkpoint.size == 0
    for size in (2, 3, 4):
        (receipt,) = ledger.append([say(keys, "ada")])
        assert receipt.index == size - 1 and receipt.size == size
        assert open_checkpoint(ledger.checkpoint(), [key]).checkpoint.size == size
        assert verify_ledger(ledger.path).entries == size
    assert next(iter(ledger.read(3))).leaf_hash == receipt.leaf_hash


def test_an_empty_ledger_verifies_and_so_does_its_transcript(ledger: Ledger) -> None:
    assert verify_ledger(ledger.path).entries == 0
    out = io.BytesIO()
    ledger.export(out)
    assert verify_transcript(io.BytesIO(out.getvalue())).tree_size == 0
    assert ledger.append([]) == ()
    assert ledger.names() == {} and ledger.dialogues() == ()


def test_a_reopened_ledger_goes_on_where_it_was(spoken: Ledger, keys: KeyStore) -> None:
    spoken.close()
    spoken.close()
    with Ledger.open(f"sqlite:///{spoken.path}", keys=keys) as again:
        assert again.origin == ORIGIN
        (receipt,) = again.append([say(keys, "ada")])
        assert receipt.index == 7  # ada is known: no second registration
    assert verify_ledger(spoken.path).entries == 8


def test_a_closed_ledger_says_so(spoken: Ledger, keys: KeyStore) -> None:
    spoken.close()
    for use in (lambda: spoken.size, lambda: spoken.append([say(keys, "ada")]), lambda: list(spoken.read())):
        with pytest.raises(LedgerError) as caught:
            use()
        assert caught.value.reason == "closed"


def test_a_dialogue_that_is_not_there_is_refused_with_those_that_are(spoken: Ledger) -> None:
    for use in (lambda: list(spoken.read(dialogue="d9")), lambda: spoken.export(io.BytesIO(), dialogue="d9")):
        with pytest.raises(LedgerError) as caught:
            use()
        assert caught.value.reason == "not_found" and "d1, d2" in str(caught.value)


REFUSED = [
    {"kind": "Say"},
    {"dialogue": "a b"},
    {"to": ("nobody",)},
    {"reply_to": 99},
    {"reply_to": 1.5},
    {"reply_to": True},
    {"reply_to": "1"},
    {"facts": {"x": float("nan")}},
    {"facts": {"x": 2**53}},
    {"facts": {"x": "\ud800"}},
    {"facts": {"x": b"bytes"}},
    {"parts": (DraftPart(name="", type="text/plain", data=b""),)},
    {"parts": (DraftPart(name="a", type="text", data=b""),)},
    {"parts": (DraftPart(name="a", type="a/b", data=b""), DraftPart(name="a", type="a/b", data=b""))},
    {"kind": "key.register", "dialogue": "log"},
]


@pytest.mark.parametrize("changes", REFUSED)
def test_a_message_no_verifier_would_accept_is_refused_and_nothing_written(
    spoken: Ledger, keys: KeyStore, changes: dict[str, object]
) -> None:
    fields = {"author": keys.agent("ada"), "kind": "say", "dialogue": "d1", **changes}
    before = spoken.checkpoint()
    with pytest.raises(LedgerError) as caught:
        spoken.append([say(keys, "ada"), Draft(**fields)])  # type: ignore[arg-type]  # wrong on purpose
    assert caught.value.reason == "refused"
    assert spoken.checkpoint() == before and spoken.size == 7
    assert verify_ledger(spoken.path).entries == 7


@pytest.mark.spec("L-29")
@pytest.mark.parametrize(
    "changes",
    [
        {"parts": (DraftPart(name="a", type="a/b", data=bytes(8 * 1024 * 1024 + 1)),)},
        {"parts": tuple(DraftPart(name=str(n), type="a/b", data=bytes(6 * 1024 * 1024)) for n in range(3))},
        {"parts": (DraftPart(name="a", type="a/b", data=memoryview(bytes(8_400_000)).cast("Q")),)},  # type: ignore[arg-type]
        {"parts": tuple(DraftPart(name=str(n), type="a/b", data=b"") for n in range(65))},
        {"facts": {"text": "x" * 50_000}},
    ],
)
def test_what_is_too_large_is_refused_and_nothing_written(
    spoken: Ledger, keys: KeyStore, changes: dict[str, object]
) -> None:
    with pytest.raises(LedgerError) as caught:
        spoken.append([Draft(author=keys.agent("cyd"), kind="say", dialogue="d1", **changes)])  # type: ignore[arg-type]
    assert caught.value.reason == "too_large"
    assert spoken.size == 7
    assert list(keys.directory.glob("agents/cyd.key"))
    assert keys.agent("cyd").id not in spoken.names()


@pytest.mark.spec("L-29")
def test_a_part_of_eight_mebibytes_goes_in_and_comes_out(spoken: Ledger, keys: KeyStore) -> None:
    data = os.urandom(1024) * 8192
    part = DraftPart(name="big", type="application/octet-stream", data=data)
    (receipt,) = spoken.append([Draft(author=keys.agent("ada"), kind="say", dialogue="d1", parts=(part,))])
    assert next(iter(spoken.read(receipt.index))).parts[0].data == data
    out = io.BytesIO()
    spoken.export(out)
    out.seek(0)
    assert verify_transcript(out).entries == 8


def test_a_missing_ledger_is_not_made_by_looking(tmp_path: Path, keys: KeyStore) -> None:
    path = tmp_path / "none.db"
    for options in ({"read_only": True}, {}, {"keys": keys}):
        with pytest.raises(LedgerError) as caught:
            Ledger.open(path, **options)  # type: ignore[arg-type]
        assert caught.value.reason == "not_found"
        assert str(path) in str(caught.value) and "create" in str(caught.value)
    assert not path.exists()


def test_wrong_use_is_told_apart(spoken: Ledger, tmp_path: Path, keys: KeyStore) -> None:
    def reason(**options: object) -> str:
        with pytest.raises(LedgerError) as caught:
            Ledger.open(**{"path_or_url": spoken.path, **options})  # type: ignore[arg-type]
        return caught.value.reason

    new = tmp_path / "new.db"
    assert reason(origin="agentmesh.local/other") == "origin"
    assert reason(origin="agentmesh.local/other", keys=keys) == "origin"
    assert reason(read_only=True, create=True) == "refused"
    assert reason(path_or_url="mysql://x/y") == "refused"
    assert reason(path_or_url="sqlite://x/y") == "refused"
    assert reason(path_or_url="postgresql://nobody@127.0.0.1:1/none") == "unreadable"
    assert reason(path_or_url="postgresql://a:b:c@x:y/z") == "refused"
    assert reason(path_or_url=new, create=True) == "refused"
    assert reason(path_or_url=new, create=True, keys=keys) == "refused"
    assert reason(path_or_url=new, create=True, keys=keys, origin="a b") == "refused"
    assert reason(path_or_url=tmp_path) == "unreadable"
    assert reason(keys=KeyStore(tmp_path / "other-keys")) == "key"
    assert not (tmp_path / "other-keys").exists() and not new.exists()
    stranger = KeyStore(tmp_path / "stranger")
    stranger.log(ORIGIN)
    assert reason(keys=stranger) == "key"
    (keys.directory / "logs" / "agentmesh.local%2Fdesk.key").chmod(0o644)
    assert reason(keys=keys) == "permissions"
    with pytest.raises(LedgerError) as caught, Ledger.open(spoken.path) as reader:
        reader.append([say(keys, "ada")])
    assert caught.value.reason == "key"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_fails_with_its_path(tmp_path: Path, keys: KeyStore) -> None:
    keys.log(ORIGIN)
    folder = tmp_path / "locked"
    folder.mkdir(0o500)
    with pytest.raises(LedgerError) as caught:
        Ledger.open(folder / "ledger.db", origin=ORIGIN, keys=keys, create=True)
    assert caught.value.reason == "failed" and str(folder) in str(caught.value)


def test_a_folder_in_the_ledgers_place_is_unreadable_to_all(tmp_path: Path, keys: KeyStore) -> None:
    for create in (True, False):
        with pytest.raises(LedgerError) as caught:
            Ledger.open(tmp_path, origin=ORIGIN, keys=keys, create=create)
        assert caught.value.reason == "unreadable" and str(tmp_path) in str(caught.value)


def limited(ledger: Ledger, pragma: str) -> None:
    """Runs a pragma on the connection that writes; a failed transaction throws that connection away."""
    store = ledger._store
    assert isinstance(store, SqliteStore) and store._writer is not None
    raw = store._writer.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    raw.execute(pragma)


def grow(ledger: Ledger, pages: int) -> None:
    """Lets the file grow by so many pages and no more."""
    with closing(sqlite3.connect(ledger.path)) as connection:
        (now,) = connection.execute("PRAGMA page_count").fetchone()
    limited(ledger, f"PRAGMA max_page_count = {now + pages}")


def test_a_full_disk_fails_and_nothing_is_lost_or_half_written(spoken: Ledger, keys: KeyStore) -> None:
    spoken.append([say(keys, "ada")])
    grow(spoken, 2)
    with pytest.raises(LedgerError) as caught:
        spoken.append([say(keys, "ada", "x" * 100_000)])
    assert caught.value.reason == "failed" and "full" in str(caught.value)
    assert spoken.size == 8 and verify_ledger(spoken.path).entries == 8
    assert spoken.append([say(keys, "ada", "x" * 100_000)])[0].index == 8


def test_a_read_only_database_fails_with_a_reason(spoken: Ledger, keys: KeyStore) -> None:
    limited(spoken, "PRAGMA query_only = ON")
    with pytest.raises(LedgerError) as caught:
        spoken.append([say(keys, "ada")])
    assert caught.value.reason == "failed"


@pytest.mark.spec("L-90")
def test_the_database_is_durable_and_private(spoken: Ledger) -> None:
    with spoken._store.writing() as rows:
        assert rows.connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert rows.connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert rows.connection.exec_driver_sql("PRAGMA secure_delete").scalar_one() == 1
    assert stat.S_IMODE(spoken.path.stat().st_mode) == 0o600


@pytest.mark.spec("L-45")
def test_a_database_that_stores_other_bytes_is_never_signed_for(
    spoken: Ledger, keys: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Rows.add_entries

    def flipped(self: Rows, rows: list[EntryValues]) -> None:
        real(self, [(*row[:2], bytes([row[2][0] ^ 1]) + row[2][1:], *row[3:]) for row in rows])

    before = spoken.checkpoint()
    with monkeypatch.context() as patch:
        patch.setattr(Rows, "add_entries", flipped)
        with pytest.raises(LedgerError) as caught:
            spoken.append([say(keys, "ada")])
    assert caught.value.reason == "failed"
    assert spoken.checkpoint() == before
    assert spoken.append([say(keys, "ada")])[0].index == 7


@pytest.mark.spec("L-45")
def test_a_head_that_moved_is_never_overwritten(
    spoken: Ledger, keys: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = spoken.checkpoint()
    with monkeypatch.context() as patch:
        patch.setattr(Rows, "swap_head", lambda *_, **__: False)
        with pytest.raises(LedgerError) as caught:
            spoken.append([say(keys, "new")])
    assert caught.value.reason == "failed" and spoken.checkpoint() == before
    assert verify_ledger(spoken.path).entries == 7
    assert spoken.append([say(keys, "new")])[0].index == 8  # and `new` is registered after all
    assert verify_ledger(spoken.path).entries == 9


@pytest.mark.spec("L-45")
def test_a_ledger_put_back_in_time_under_an_open_log_is_not_continued(
    spoken: Ledger, keys: KeyStore, tmp_path: Path
) -> None:
    old = _copy(spoken.path, tmp_path / "old.db")
    spoken.append([say(keys, "ada")])
    _copy(old, spoken.path)
    with pytest.raises(LedgerError) as caught:
        spoken.append([say(keys, "ada")])
    assert caught.value.reason == "consistency"


@pytest.mark.spec("L-45")
def test_a_ledger_replaced_by_a_longer_fork_under_an_open_log_is_not_continued(
    spoken: Ledger, keys: KeyStore, tmp_path: Path
) -> None:
    fork = _copy(spoken.path, tmp_path / "fork.db")
    elsewhere = KeyStore(Path(shutil.copytree(keys.directory, tmp_path / "elsewhere")))
    with Ledger.open(fork, keys=elsewhere) as other:
        other.append([say(keys, "ada", "one thing"), say(keys, "ada", "more")])
    spoken.append([say(keys, "ada", "another")])
    _copy(fork, spoken.path)
    with pytest.raises(LedgerError) as caught:
        spoken.append([say(keys, "ada")])
    assert caught.value.reason == "consistency" and "fork" in str(caught.value)


def test_a_commit_that_may_or_may_not_have_reached_the_disk_is_told_as_unknown(
    spoken: Ledger, keys: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.engine import RootTransaction
    from sqlalchemy.exc import OperationalError

    class Broken(sqlite3.OperationalError):
        sqlite_errorname = "SQLITE_IOERR_FSYNC"

    def fail(self: RootTransaction) -> None:
        raise OperationalError("COMMIT", {}, Broken("disk I/O error"))

    with monkeypatch.context() as patch:
        patch.setattr(RootTransaction, "commit", fail)
        with pytest.raises(LedgerError) as caught:
            spoken.append([say(keys, "new")])
    assert caught.value.reason == "unknown"
    assert spoken.append([say(keys, "new")])[0].index == 8
    assert verify_ledger(spoken.path).entries == 9


def _copy(path: Path, to: Path) -> Path:
    source, target = sqlite3.connect(path), sqlite3.connect(to)
    source.backup(target)
    source.close()
    target.close()
    return to


def test_threads_share_one_ledger_and_get_one_dense_order(ledger: Ledger, keys: KeyStore) -> None:
    receipts: list[int] = []
    authors = [keys.agent(f"a{n}") for n in range(4)]

    def work(number: int) -> None:
        for turn in range(8):
            draft = Draft(author=authors[number], kind="say", dialogue=f"d{turn % 3}")
            receipts.extend(receipt.index for receipt in ledger.append([draft, draft]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(set(receipts)) == 64
    assert ledger.size == 68
    assert verify_ledger(ledger.path).entries == 68


WRITER = """
import sys
from pathlib import Path
from agentmesh_ledger import Draft, KeyStore, Ledger
folder, name = Path(sys.argv[1]), sys.argv[2]
keys = KeyStore(folder / "keys")
sys.stdin.readline()
with Ledger.open(folder / "shared.db", origin="agentmesh.local/desk", keys=keys, create=True) as ledger:
    for turn in range(20):
        ledger.append([Draft(author=keys.agent(name), kind="say", dialogue="d1", facts={"turn": turn})])
"""


KILLED = """
import sys
from pathlib import Path
from agentmesh_ledger import Draft, DraftPart, KeyStore, Ledger
folder = Path(sys.argv[1])
keys = KeyStore(folder / "keys")
part = DraftPart(name="text", type="text/plain", data=b"x" * 2000)
with Ledger.open(folder / "killed.db", origin="agentmesh.local/desk", keys=keys, create=True) as ledger:
    while True:
        draft = Draft(author=keys.agent("ada"), kind="say", dialogue="d1", parts=(part,))
        print(ledger.append([draft, draft])[-1].index, flush=True)
"""


@pytest.mark.spec("L-46")
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    acknowledged = -1
    for turns in (1, 7, 20):
        writer = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(turns):
            acknowledged = int(writer.stdout.readline())
        writer.kill()
        acknowledged = max([acknowledged, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        writer.wait(timeout=60)
        writer.stdout.close()
        verified = verify_ledger(tmp_path / "killed.db")
        assert verified.entries > acknowledged and verified.withheld == 0


@pytest.mark.spec("L-90")
def test_processes_share_one_new_file_and_get_one_dense_order(tmp_path: Path) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("ada", "ben", "cyd")
    ]
    for each in running:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in running:
        _, errors = each.communicate(timeout=120)
        assert each.returncode == 0, errors
    verified = verify_ledger(tmp_path / "shared.db")
    assert verified.entries == 63
    assert sorted(count for _, _, count in verified.signers) == [21, 21, 21]


def test_a_reader_sees_each_commit_of_a_writer_whole(spoken: Ledger, keys: KeyStore) -> None:
    with Ledger.open(spoken.path, read_only=True) as reader:
        reading = reader.read()
        assert next(reading).index == 0
        spoken.append([say(keys, "ada"), say(keys, "ben")])
        assert [record.index for record in reading] == [1, 2, 3, 4, 5, 6]
        assert reader.size == 9


def test_erased_content_is_withheld_and_breaks_nothing(spoken: Ledger) -> None:
    with sqlite3.connect(spoken.path) as connection:
        connection.execute("DELETE FROM parts WHERE idx = 2")
    connection.close()
    assert next(iter(spoken.read(2))).parts[0].data is None
    assert verify_ledger(spoken.path).withheld == 1
    out = io.BytesIO()
    assert spoken.export(out).withheld == 1
    out.seek(0)
    assert verify_transcript(out).withheld == 1


def test_the_same_ports_and_keys_write_the_same_log(tmp_path: Path, keys: KeyStore, ports: Ports) -> None:
    from datetime import UTC, datetime

    def write(name: str) -> str:
        fixed = Ports(now=lambda: datetime(2026, 1, 1, tzinfo=UTC), salt=lambda: b"s" * 16)
        same = KeyStore(tmp_path / name / "keys")
        shutil.copytree(keys.directory, same.directory)
        with Ledger.open(
            tmp_path / name / "l.db", origin=ORIGIN, keys=same, create=True, ports=fixed
        ) as ledger:
            ledger.append([say(same, "ada")])
            return ledger.checkpoint()

    keys.log(ORIGIN), keys.agent("ada")

    assert write("one") == write("two")


def test_the_readme_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = Path(__file__).parents[2] / "ledger" / "README.md"
    code = readme.read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, str(readme), "exec"), names)
    assert names["evidence"].entries == 2  # type: ignore[attr-defined]


def test_a_ledger_whose_name_is_no_utf8_is_written_read_and_verified(tmp_path: Path) -> None:
    try:
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff %?#"))
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    keys = KeyStore(tmp_path / "keys")
    with Ledger.open(folder / "l.db", origin=ORIGIN, keys=keys, create=True) as log:
        log.append([say(keys, "ada")])
    assert verify_ledger(folder / "l.db").entries == 2
    assert {each.split("-")[0] for each in os.listdir(folder)} == {"l.db"}
