"""The signer's memory: only forward, always a whole note, shared by threads and processes."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmesh_ledger import KeyStore, LedgerError, LogKey
from agentmesh_ledger import durable as durable_module
from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.last import LastCheckpoint
from agentmesh_ledger.note import parse_vkey

ORIGIN = "agentmesh.local/desk"


@pytest.fixture
def log(keys: KeyStore) -> LogKey:
    return keys.log(ORIGIN)


@pytest.fixture
def last(keys: KeyStore, log: LogKey) -> LastCheckpoint:
    return keys.last_checkpoint(ORIGIN)


def note(key: LogKey, size: int, root: bytes = b"r" * 32) -> str:
    return Checkpoint(origin=key.name, size=size, root=root).sign(key)


def cosigned(key: LogKey, size: int, lines: int) -> str:
    line = note(key, size).splitlines()[-1].replace(f" {key.name} ", " witness.example ")
    return note(key, size) + f"{line}\n" * lines


@pytest.mark.spec("L-68")
def test_the_file_is_exactly_the_newest_note(last: LastCheckpoint, log: LogKey, keys: KeyStore) -> None:
    assert last.read() is None
    for size in (0, 1, 9, 10, 11, 1000):
        last.advance(note(log, size), size)
        assert last.path.read_text() == note(log, size) == last.read()
    assert last.path == keys.directory / "logs" / "agentmesh.local%2Fdesk.checkpoint"
    assert stat.S_IMODE(last.path.stat().st_mode) == 0o600
    last.close()
    last.close()
    assert KeyStore(keys.directory).last_checkpoint(ORIGIN).read() == note(log, 1000)
    assert keys.origins() == (ORIGIN,)


@pytest.mark.spec("L-68")
def test_nothing_is_opened_or_made_before_the_first_note(tmp_path: Path) -> None:
    last = KeyStore(tmp_path / "keys").last_checkpoint(ORIGIN)
    assert last.read() is None
    last.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.spec("L-68")
def test_it_never_goes_back_by_itself(last: LastCheckpoint, log: LogKey) -> None:
    last.advance(note(log, 10), 10)
    for size in (9, 0, 10):
        last.advance(note(log, size, b"x" * 32), size)
        assert last.read() == note(log, 10)


@pytest.mark.spec("L-68")
def test_a_shorter_note_leaves_nothing_of_the_longer_one(last: LastCheckpoint, log: LogKey) -> None:
    last.advance(cosigned(log, 10, 3), 10)
    last.advance(note(log, 11), 11)
    assert last.read() == note(log, 11) == last.path.read_text()


@pytest.mark.spec("L-68")
def test_a_note_longer_than_a_page_is_put_there_whole(
    last: LastCheckpoint, log: LogKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    last.advance(note(log, 1), 1)
    writes: list[int] = []
    write = os.pwrite

    def counted(handle: int, data: bytes, offset: int) -> int:
        writes.append(len(data))
        return write(handle, data, offset)

    monkeypatch.setattr(os, "pwrite", counted)
    last.advance(cosigned(log, 2, 40), 2)
    assert writes == [] and len(cosigned(log, 2, 40).encode()) > 4096
    assert last.read() == cosigned(log, 2, 40)
    last.advance(cosigned(log, 3, 41), 3)
    assert writes == [] and last.read() == cosigned(log, 3, 41)
    last.advance(note(log, 4), 4)
    last.advance(note(log, 5), 5)
    assert writes == [len(note(log, 5).encode())]


@pytest.mark.spec("L-68")
def test_the_operator_may_put_an_older_one_there(last: LastCheckpoint, log: LogKey, keys: KeyStore) -> None:
    other = keys.last_checkpoint(ORIGIN)
    last.advance(note(log, 10), 10)
    other.advance(note(log, 11), 11)
    last.replace(note(log, 5))
    assert last.read() == other.read() == note(log, 5)
    # The other has the replaced file open, which no longer has a name: it must not write there.
    other.advance(note(log, 6), 6)
    assert last.read() == note(log, 6) == last.path.read_text()
    last.path.unlink()
    last.replace(note(log, 2))
    assert other.read() == note(log, 2)


@pytest.mark.spec("L-68", "L-69")
def test_a_note_of_another_key_is_not_taken(last: LastCheckpoint, log: LogKey, tmp_path: Path) -> None:
    stranger = KeyStore(tmp_path / "other").log(ORIGIN)
    last.advance(note(log, 10), 10)
    for text in (note(stranger, 5), "", "x", "\ud800", note(log, 5)[:-1]):
        with pytest.raises(LedgerError) as caught:
            last.replace(text)
        assert caught.value.reason == "refused"
    with pytest.raises(LedgerError) as caught:
        last.advance(note(log, 12), 11)
    assert caught.value.reason == "refused"
    assert last.read() == note(log, 10)


@pytest.mark.spec("L-69")
@given(data=st.binary(max_size=600), place=st.integers(0, 300), how=st.sampled_from(["put", "cut", "mix"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_a_damaged_file_is_an_error_and_never_a_missing_one(
    last: LastCheckpoint, log: LogKey, data: bytes, place: int, how: str
) -> None:
    good = note(log, 10).encode()
    bad = {"put": data, "cut": good[:place], "mix": good[:place] + data + good[place + len(data) :]}[how]
    last.path.write_bytes(bad)
    if bad == good:
        assert last.read() == good.decode()
        return
    for attempt in (last.read, lambda: last.advance(note(log, 11), 11)):
        with pytest.raises(LedgerError) as caught:
            attempt()
        assert caught.value.reason == "key"
        assert caught.value.hint and caught.value.path == str(last.path)
    assert last.path.read_bytes() == bad


@pytest.mark.spec("L-69")
def test_a_note_torn_between_two_sizes_is_found(last: LastCheckpoint, log: LogKey) -> None:
    old, new = note(log, 10, b"a" * 32).encode(), note(log, 11, b"b" * 32).encode()
    assert len(old) == len(new)
    for cut in range(1, len(old)):
        torn = new[:cut] + old[cut:]
        if torn in (old, new):
            continue
        last.path.write_bytes(torn)
        with pytest.raises(LedgerError) as caught:
            last.read()
        assert caught.value.reason == "key", cut


@pytest.mark.spec("L-69")
def test_what_others_can_write_and_what_is_no_file_is_refused(
    last: LastCheckpoint, log: LogKey, tmp_path: Path
) -> None:
    last.advance(note(log, 1), 1)
    last.close()
    last.path.chmod(0o620)
    for attempt in (last.read, lambda: last.advance(note(log, 2), 2)):
        with pytest.raises(LedgerError) as caught:
            attempt()
        assert caught.value.reason == "permissions" and "chmod 600" in str(caught.value)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(note(log, 1))
    elsewhere.chmod(0o600)
    last.path.unlink()
    last.path.symlink_to(elsewhere)
    for attempt in (last.read, lambda: last.advance(note(log, 2), 2)):
        with pytest.raises(LedgerError) as caught:
            attempt()
        assert caught.value.reason in ("unreadable", "failed")
    last.path.unlink()
    os.mkfifo(last.path, 0o600)
    for attempt in (last.read, lambda: last.advance(note(log, 2), 2)):
        with pytest.raises(LedgerError) as caught:
            attempt()
        assert caught.value.reason == "key"
    assert elsewhere.read_text() == note(log, 1)


def test_without_the_logs_key_a_note_is_not_believed(
    last: LastCheckpoint, log: LogKey, keys: KeyStore
) -> None:
    last.advance(note(log, 1), 1)
    (keys.directory / "logs" / "agentmesh.local%2Fdesk.key").unlink()
    with pytest.raises(LedgerError) as caught:
        keys.last_checkpoint(ORIGIN).read()
    assert caught.value.reason == "not_found"


@pytest.mark.spec("L-68")
def test_it_is_synced_once_a_second_and_on_closing(
    keys: KeyStore, log: LogKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    path = keys.directory / "logs" / "clocked.checkpoint"
    last = LastCheckpoint(path, lambda: parse_vkey(log.vkey), clock=lambda: now[0])
    last.advance(note(log, 1), 1)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    for step in range(2, 12):
        last.advance(note(log, step), step)
    assert len(synced) == 0
    now[0] += 1.0
    last.advance(note(log, 12), 12)
    assert len(synced) == 1
    last.advance(note(log, 13), 13)
    assert len(synced) == 1
    last.close()
    assert len(synced) == 2
    last.close()
    assert len(synced) == 2


@pytest.mark.spec("L-68")
@pytest.mark.parametrize("call", ["pwrite", "open", "flock"])
def test_a_disk_that_fails_is_an_error_and_the_old_note_stays(
    last: LastCheckpoint, log: LogKey, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    last.advance(note(log, 1), 1)
    if call == "open":
        last.close()

    def fail(*_: object) -> int:
        raise OSError(5, "input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl if call == "flock" else os, call, fail)
        with pytest.raises(LedgerError) as caught:
            last.advance(note(log, 2), 2)
        assert caught.value.reason == "failed"
    assert last.read() == note(log, 1)
    last.advance(note(log, 3), 3)
    assert last.read() == note(log, 3)


@pytest.mark.spec("L-68")
@pytest.mark.parametrize("persisted", [False, True])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_crash_while_replacing_leaves_the_old_note_or_the_new(
    last: LastCheckpoint, log: LogKey, monkeypatch: pytest.MonkeyPatch, step: str, persisted: bool
) -> None:
    last.advance(note(log, 9), 9)
    real: Callable[..., object] = getattr(os, step)
    done: list[object] = []

    def crash(*args: object) -> None:
        if persisted and not done:
            done.append(real(*args))
        raise OSError(5, "crash")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, crash)
        with pytest.raises(LedgerError) as caught:
            last.replace(note(log, 3))
    assert caught.value.reason == "failed"
    assert last.read() == (note(log, 3) if step == "replace" and persisted else note(log, 9))
    last.advance(note(log, 10), 10)
    assert last.read() == note(log, 10)


def test_a_holder_that_hangs_does_not_hang_us(
    last: LastCheckpoint, log: LogKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    last.advance(note(log, 1), 1)
    monkeypatch.setattr(durable_module, "LOCK_SECONDS", 0.02)
    with last.path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for attempt in (last.read, lambda: last.advance(note(log, 2), 2)):
            with pytest.raises(LedgerError) as caught:
                attempt()
            assert caught.value.reason == "failed" and caught.value.hint
    last.advance(note(log, 3), 3)
    assert last.read() == note(log, 3)


@pytest.mark.spec("L-68")
def test_threads_and_their_own_objects_end_at_the_largest(
    last: LastCheckpoint, log: LogKey, keys: KeyStore
) -> None:
    other = keys.last_checkpoint(ORIGIN)
    notes = [note(log, size) for size in range(200)]
    errors: list[LedgerError] = []
    seen: list[int] = []

    def write(mine: LastCheckpoint, start: int) -> None:
        try:
            for size in range(start, 200, 4):
                mine.advance(notes[size], size)
        except LedgerError as error:
            errors.append(error)

    def read() -> None:
        try:
            for _ in range(100):
                text = keys.last_checkpoint(ORIGIN).read()
                seen.append(-1 if text is None else int(text.split("\n")[1]))
        except LedgerError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(last if i % 2 else other, i)) for i in range(4)]
    threads.append(threading.Thread(target=read))
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert errors == [] and seen == sorted(seen)
    assert last.read() == notes[199]


WRITER = """
import sys
from pathlib import Path
from agentmesh_ledger import KeyStore
from agentmesh_ledger.checkpoint import Checkpoint
keys = KeyStore(Path(sys.argv[1]))
key, last = keys.log("agentmesh.local/desk"), keys.last_checkpoint("agentmesh.local/desk")
print("ready", flush=True)
sys.stdin.readline()
for size in range(int(sys.argv[2]), 1000, 2):
    last.advance(Checkpoint(origin=key.name, size=size, root=b"r" * 32).sign(key), size)
    print(size, flush=True)
sys.stdin.readline()
"""


@pytest.mark.spec("L-68", "L-69")
def test_two_processes_write_and_a_kill_leaves_a_whole_note(
    keys: KeyStore, log: LogKey, last: LastCheckpoint
) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(keys.directory), str(start)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for start in (0, 1)
    ]
    pipes = [(each.stdin, each.stdout) for each in running]
    told = [0, 0]
    for source, sink in pipes:
        assert source is not None and sink is not None
        assert sink.readline() == "ready\n"
        source.write("go\n")
        source.flush()
    for number, (_, sink) in enumerate(pipes):
        assert sink is not None
        while told[number] < 300 + number:
            told[number] = int(sink.readline())
    for each in running:
        each.kill()
    for number, each in enumerate(running):
        rest = each.communicate(timeout=60)[0].split("\n")[:-1]
        told[number] = max([told[number], *map(int, rest)])
    text = last.read()
    assert text is not None and int(text.split("\n")[1]) >= max(told) >= 300
