"""The note beside the log's key: what may stand there, and what it counts for when a database is verified."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from agentmesh_ledger import KeyStore, Ledger, LedgerAudit, LedgerError, parse_policy, verify_ledger
from agentmesh_ledger.__main__ import main
from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.cosignature import cosign
from agentmesh_ledger.note import parse_note, parse_vkey

HUNG = 30.0


def notes_of(ledger: Path) -> dict[str, str]:
    """What a command finds beside the keys."""
    return KeyStore(ledger.parent / "keys").cosigned_notes()


@pytest.fixture
def seen(ledger, witnesses, make_policy, grow):
    """A log of five entries that one of two witnesses has seen, and the policy that wants one."""
    two = witnesses(2)
    two[1].trick = lambda handler: handler.say(404, b"") or True
    policy = make_policy(ledger.vkey(), two, 1)
    grow(ledger, 5)
    ledger.gather(policy, within=HUNG)
    return policy


def written(tmp_path: Path, policy) -> Path:
    """The policy's file again."""
    lines = [f"log {key}" for key in policy.logs]
    lines += [f"witness {each.name} {each.key}" for each in policy.witnesses]
    lines += ["group some any W0 W1", "quorum some"]
    path = tmp_path / "policy"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.spec("L-127")
def test_the_note_is_a_plain_file_beside_the_key(ledger, seen) -> None:
    path = ledger.path.parent / "keys" / "logs" / "agentmesh.local%2Fdesk.cosigned"
    note = path.read_text()
    assert note == ledger.cosigned() and path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in parse_note(note).signatures] == [ledger.origin, "w0.example"]
    assert KeyStore(ledger.path.parent / "keys").origins() == (ledger.origin,)
    left = [each.name for each in path.parent.iterdir() if each.name.startswith(".")]
    assert left == []


@pytest.mark.spec("L-127")
def test_only_what_is_signed_by_log_and_witness_is_written(ledger, seen, key_of) -> None:
    kept = KeyStore(ledger.path.parent / "keys").cosigned(ledger.origin)
    keys = [parse_vkey(ledger.vkey())]
    good = kept.text()
    text, _, lines = good.rpartition("\n\n")
    log_line, witness_line = lines.splitlines(keepends=True)
    stranger = cosign(good, key_of("stranger.example"), 7)
    bad = [
        (stranger, "refused"),
        (f"{text}\n\n{witness_line}", "log_key"),
        (good.replace("\n5\n", "\n6\n", 1), "checkpoint"),
        (
            cosign(ledger.checkpoint(), key_of("w0.example"), 7).replace(text, text + "", 1)[:-6] + "AA==\n",
            "checkpoint",
        ),
        ("", "checkpoint"),
    ]
    for note, why in bad:
        with pytest.raises(LedgerError) as caught:
            kept.keep(note, keys, seen, is_ours=lambda _: True)
        assert caught.value.reason == why, note
        assert kept.text() == good
    other = Checkpoint(origin="elsewhere.example", size=9, root=bytes(32)).sign(key_of("elsewhere.example"))
    with pytest.raises(LedgerError):
        kept.keep(other, keys, seen, is_ours=lambda _: True)


@pytest.mark.spec("L-127")
def test_what_meets_the_policy_gives_way_only_to_what_does_so_too_and_is_not_smaller(
    ledger, seen, grow, key_of
) -> None:
    kept = KeyStore(ledger.path.parent / "keys").cosigned(ledger.origin)
    keys = [parse_vkey(ledger.vkey())]
    five, witness = kept.text(), key_of("w0.example")
    grow(ledger, 8)
    eight = ledger.checkpoint()

    def keep(note: str, *, ours: bool = True) -> bool:
        return kept.keep(note, keys, seen, is_ours=lambda _: ours)

    assert not keep(eight) and kept.text() == five
    assert keep(cosign(eight, witness, 8)) and kept.text() != five
    assert not keep(five)
    # A log that went another way, after its operator accepted the loss, does not continue what stands there.
    assert keep(five, ours=False) and kept.text() == five
    # But not for what fewer signed: a database put back would take along what shows that here.
    assert not keep(eight, ours=False) and kept.text() == five
    kept.path.write_bytes(b"\xff damaged")
    assert keep(eight) and keep(five) and not keep(eight)


@pytest.mark.spec("L-127")
def test_whoever_reads_the_note_does_not_believe_it(ledger, seen, grow, tmp_path: Path) -> None:
    path = KeyStore(ledger.path.parent / "keys").cosigned(ledger.origin).path
    good = path.read_bytes()
    longer = good.replace(b"\n5\n", b"\n7\n", 1)
    for bad in (b"", b"\xff", good[:-1], longer, b"x" * 1_000_000, good.replace(b"agentmesh", b"elsewhere")):
        path.write_bytes(bad)
        assert ledger.cosigned() is None
        # The next gathering puts a good one in its place.
    found = ledger.gather(seen, within=HUNG)
    assert found.evidence is not None and path.read_text() == found.note
    path.unlink()
    assert ledger.cosigned() is None
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerError) as caught:
        ledger.cosigned()
    assert caught.value.reason in ("key", "unreadable")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_a_failure_and_not_a_verdict(ledger, seen, grow) -> None:
    folder = ledger.path.parent / "keys" / "logs"
    grow(ledger, 6)
    folder.chmod(0o500)
    try:
        with pytest.raises(LedgerError) as caught:
            ledger.gather(seen, within=HUNG)
    finally:
        folder.chmod(0o700)
    assert caught.value.reason == "failed"


def test_two_that_write_at_once_leave_one_whole_note(ledger, seen, grow, key_of) -> None:
    kept = KeyStore(ledger.path.parent / "keys").cosigned(ledger.origin)
    keys = [parse_vkey(ledger.vkey())]
    notes: list[str] = []
    for size in range(6, 14):
        grow(ledger, size)
        notes.append(cosign(ledger.checkpoint(), key_of("w0.example"), size))
    threads = [
        threading.Thread(target=kept.keep, args=(note, keys, seen), kwargs={"is_ours": lambda _: True})
        for note in notes
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join(HUNG)
    assert kept.text() == notes[-1]


@pytest.mark.spec("L-128")
def test_a_database_meets_a_policy_by_the_note_beside_its_key(ledger, seen, grow, tmp_path: Path) -> None:
    beside = notes_of(ledger.path)
    whole = verify_ledger(ledger.path, policy=seen, cosigned=beside)
    assert whole.policy == "met: quorum some, cosigned by W0"
    assert whole.witnessed is not None and whole.witnessed.size == whole.tree_size == 5
    grow(ledger, 8)
    found = verify_ledger(ledger.path, policy=seen, cosigned=beside)
    assert (
        found.policy
        == "met: quorum some, cosigned by W0, for the first 5 entries; 3 after them are not witnessed yet"
    )
    assert found.witnessed is not None and found.witnessed.size == 5 and found.tree_size == 8
    assert any("from 5 on" in each for each in found.not_shown)
    assert ledger.verify(policy=seen) == found
    audit = LedgerAudit(ledger.path, policy=seen, cosigned=beside)
    assert [record.index for record in audit] == list(range(8))
    assert audit.verified() == found
    # Without the note, or without a policy, it says nothing of witnesses.
    with pytest.raises(LedgerError) as caught:
        verify_ledger(ledger.path, policy=seen)
    assert caught.value.reason == "policy"
    assert verify_ledger(ledger.path, cosigned=beside).witnessed is None
    # Only the witnesses that the auditor trusts count.
    other = parse_policy(f"log {ledger.vkey()}\nwitness X {seen.witnesses[1].key}\nquorum X\n".encode())
    with pytest.raises(LedgerError) as caught:
        verify_ledger(ledger.path, policy=other, cosigned=beside)
    assert caught.value.reason == "policy" and "'X' is not met" in caught.value.message


@pytest.mark.spec("L-128")
def test_a_database_that_does_not_continue_the_note_is_refused(
    ledger, seen, grow, key_of, tmp_path: Path
) -> None:
    home, copy = ledger.path.parent, tmp_path / "copy"
    ledger.close()
    shutil.copytree(home, copy)
    with Ledger.open(home / "ledger.db", keys=KeyStore(home / "keys")) as here:
        grow(here, 8, "here")
        here.gather(seen, within=HUNG)
    beside = notes_of(home / "ledger.db")

    def refused(path: Path) -> LedgerError:
        with pytest.raises(LedgerError) as caught:
            verify_ledger(path, policy=seen, cosigned=beside)
        return caught.value

    short = refused(copy / "ledger.db")
    assert (short.reason, short.expected, short.found) == ("rollback", "at least 8 entries", "5")
    with Ledger.open(copy / "ledger.db", keys=KeyStore(copy / "keys")) as there:
        grow(there, 9, "there")
    fork = refused(copy / "ledger.db")
    assert fork.reason == "consistency" and "first 8 entries" in fork.message
    # Also where a policy wants no witness: the log's own signature contradicts it.
    nobody = parse_policy(f"log {seen.logs[0]}\nquorum none\n".encode())
    with pytest.raises(LedgerError) as caught:
        verify_ledger(copy / "ledger.db", policy=nobody, cosigned=beside)
    assert caught.value.reason == "consistency"
    # A note that is no note, or of another log, is told as such.
    note = beside[seen.logs[0].name]
    for bad in (
        note[:-1],
        "",
        Checkpoint(origin="x.example", size=1, root=bytes(32)).sign(key_of("x.example")),
    ):
        with pytest.raises(LedgerError) as caught:
            verify_ledger(home / "ledger.db", policy=seen, cosigned={seen.logs[0].name: bad})
        assert "the cosigned checkpoint beside the key" in caught.value.message


@pytest.mark.spec("L-128")
def test_tiles_that_were_made_to_fit_the_note_are_found(ledger, seen, grow) -> None:
    grow(ledger, 300)
    found = ledger.gather(seen, within=HUNG)
    assert found.size == 300
    grow(ledger, 600)
    beside = notes_of(ledger.path)
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as database:
        leaf = database.execute("SELECT leaf FROM entries WHERE idx = 7").fetchone()[0]
        data = database.execute("SELECT data FROM tiles WHERE level = 0 AND number = 0").fetchone()[0]
        assert data[7 * 32 : 8 * 32] == leaf
        database.execute(
            "UPDATE tiles SET data = ? WHERE level = 0 AND number = 0",
            (data[: 7 * 32] + bytes(32) + data[8 * 32 :],),
        )
    with pytest.raises(LedgerError) as caught:
        verify_ledger(ledger.path, policy=seen, cosigned=beside)
    assert caught.value.is_check


@pytest.mark.spec("L-128")
def test_the_command_finds_the_note_beside_the_keys(
    ledger, seen, grow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = written(tmp_path, seen)
    grow(ledger, 6)
    assert main([str(ledger.path), "--policy", str(policy)]) == 0
    told = capsys.readouterr().out
    assert "policy     met: quorum some, cosigned by W0, for the first 5 entries; 1 after them is not" in told
    assert "witness    W0  at 2023-11-14T22:13:20Z" in told and "from 5 on" in told
    assert main([str(ledger.path), "--policy", str(policy), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["witnessed_size"], value["tree_size"]) == (5, 6)
    path = KeyStore(ledger.path.parent / "keys").cosigned(ledger.origin).path
    path.write_bytes(b"\xff")
    assert main([str(ledger.path), "--policy", str(policy)]) == 1
    assert "the cosigned checkpoint beside the key" in capsys.readouterr().err
    path.unlink()
    assert main([str(ledger.path), "--policy", str(policy)]) == 1
    assert "check policy" in capsys.readouterr().err


def test_a_log_that_grows_and_is_cosigned_while_it_is_verified_does_not_seem_cut(
    ledger, seen, grow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = written(tmp_path, seen)
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            grow(ledger, ledger.size + 1)
            ledger.gather(seen, within=HUNG)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(15):
            assert main([str(ledger.path), "--policy", str(policy)]) == 0, capsys.readouterr()
    finally:
        over.set()
        thread.join(HUNG)
    assert ledger.size > 6


_ENDLESS = """\
import sys
from pathlib import Path
from agentmesh_ledger import Draft, KeyStore, Ledger
from agentmesh_ledger.source import read_policy

folder, policy = Path(sys.argv[1]), read_policy(sys.argv[2])
keys = KeyStore(folder / "keys")
with Ledger.open(folder / "ledger.db", keys=keys) as ledger:
    while True:
        ledger.append([Draft(author=keys.agent("ada"), kind="say", dialogue="d1")])
        print(ledger.gather(policy, within=30).evidence, flush=True)
"""


@pytest.mark.spec("L-127")
def test_a_process_that_is_killed_while_it_gathers_leaves_a_whole_note(
    ledger, witnesses, make_policy, grow, tmp_path: Path, python_environment: dict[str, str]
) -> None:
    (one,) = witnesses(1)
    grow(ledger, 3)
    policy = make_policy(ledger.vkey(), [one], 1)
    path = tmp_path / "policy"
    path.write_text(f"log {ledger.vkey()}\nwitness W0 {one.vkey} {one.url}\ngroup some any W0\nquorum some\n")
    script = tmp_path / "endless.py"
    script.write_text(_ENDLESS)
    for rounds in (1, 2, 4, 7):
        process = subprocess.Popen(
            [sys.executable, str(script), str(ledger.path.parent), str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env=python_environment | {"no_proxy": "127.0.0.1"},
        )
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(rounds)]
        process.kill()
        process.wait(HUNG)
        process.stdout.close()
        assert all("met: quorum some" in each for each in told)
        kept = ledger.cosigned()
        assert kept is not None and policy.judge(kept).size >= 3 + rounds
        assert ledger.verify(policy=policy, jobs=1).witnessed is not None
        assert ledger.gather(policy, within=HUNG).evidence is not None


def test_notes_of_logs_that_have_other_names_are_told_apart(ledger, seen) -> None:
    folder = ledger.path.parent / "keys" / "logs"
    (folder / "other.example%2Fx.y.cosigned").write_text("hello\n")
    (folder / "no origin.cosigned").write_text("hello\n")
    found = notes_of(ledger.path)
    assert set(found) == {ledger.origin, "other.example/x.y"} and found["other.example/x.y"] == "hello\n"
    assert notes_of(ledger.path.parent / "nowhere" / "ledger.db") == {}
