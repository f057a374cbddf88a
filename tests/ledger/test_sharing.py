"""One ledger, many users: threads, futures, signals, processes, copies of the file, several objects in one process."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from pathlib import Path

import pytest

from agentmesh_ledger import (
    Draft,
    DraftPart,
    KeyStore,
    Ledger,
    LedgerAudit,
    LedgerError,
    Receipt,
    verify_ledger,
)
from agentmesh_ledger.append import Request
from agentmesh_ledger.group import MAX_MESSAGES, GroupCommit
from agentmesh_ledger.tree import LeafHash

ORIGIN = "agentmesh.local/shared"
PATIENCE = 60.0  # seconds until something that hangs is a failure


def say(keys: KeyStore, name: str, dialogue: str = "d", text: str = "hello") -> Draft:
    part = DraftPart(name="text", type="text/plain", data=text.encode())
    return Draft(author=keys.agent(name), kind="say", dialogue=dialogue, parts=(part,))


def join(threads: list[threading.Thread]) -> None:
    for each in threads:
        each.join(PATIENCE)
    assert not any(each.is_alive() for each in threads), "a thread waits for ever"


# --- the group


class Numbered:
    """A commit that gives each request the next number, and now and then fails, or raises what nobody foresaw."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.size = 0
        self.together = 0

    def __call__(self, requests: object) -> list[tuple[Receipt, ...]]:
        assert isinstance(requests, list) and requests
        self.together += 1
        assert self.together == 1, "two batches at once"
        try:
            chance = self.rng.random()
            if chance < 0.1:
                raise LedgerError("failed", "the disk is full")
            if chance < 0.2:
                raise MemoryError
            first = self.size
            self.size += len(requests)
            return [
                (Receipt(index=first + k, leaf_hash=LeafHash(b""), size=self.size),)
                for k in range(len(requests))
            ]
        finally:
            self.together -= 1


EMPTY = Request(prepared=())


@pytest.mark.spec("L-87")
@pytest.mark.parametrize("seed", range(6))
def test_under_stress_no_outcome_is_lost_and_closing_at_any_time_waits_for_all(seed: int) -> None:
    commit = Numbered(seed)
    group = GroupCommit(commit)
    outcomes: list[str | int] = []
    futures: list[Future[tuple[Receipt, ...]]] = []

    def use(number: int) -> None:
        rng = random.Random(f"{seed}:{number}")
        for _ in range(150):
            try:
                if rng.random() < 0.5:
                    outcomes.append(group.run(EMPTY)[0].index)
                else:
                    futures.append(group.submit(EMPTY, rng.choice((0.0, 0.002, 0.05, 3600.0))))
            except LedgerError as error:
                outcomes.append(error.reason)
            except MemoryError:
                outcomes.append("memory")

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    if seed % 2:  # at any time: the threads go on, and are told that it is closed
        threads[seed].join(0.001 * seed)
        closers = [threading.Thread(target=group.close) for _ in range(3)]
        for each in closers:
            each.start()
        join(closers)
        assert all(each.done() for each in list(futures))
    join(threads)
    last = not seed % 2
    if last:  # what may wait for an hour is written with whatever comes next: nothing may have come after it
        try:
            outcomes.append(group.run(EMPTY)[0].index)
        except LedgerError as error:
            outcomes.append(error.reason)
        except MemoryError:
            outcomes.append("memory")
    done, late = wait_for(futures, PATIENCE)
    assert not late
    for each in done:
        error = each.exception(timeout=0)
        assert error is None or isinstance(error, LedgerError)
        outcomes.append(each.result()[0].index if error is None else error.reason)
    assert len(outcomes) == 8 * 150 + last
    indices = [each for each in outcomes if isinstance(each, int)]
    assert len(set(indices)) == len(indices) and set(outcomes) - set(indices) <= {
        "failed",
        "unknown",
        "memory",
        "closed",
    }
    assert set(range(commit.size)) == set(indices)
    closer = threading.Thread(target=group.close)
    closer.start()
    join([closer])


def test_the_thread_of_the_futures_outlives_whatever_the_commit_raises() -> None:
    faults: list[BaseException | None] = [MemoryError(), None]

    def commit(requests: object) -> list[tuple[()]]:
        fault = faults.pop(0)
        if fault is not None:
            raise fault
        return [()]

    group = GroupCommit(commit)
    error = group.submit(EMPTY).exception(timeout=PATIENCE)
    assert isinstance(error, LedgerError) and error.reason == "unknown"
    assert group.submit(EMPTY).result(timeout=PATIENCE) == ()
    group.close()


def test_a_callback_cannot_wait_for_the_thread_it_runs_in_and_is_told_so() -> None:
    entered, go = threading.Event(), threading.Event()

    def commit(requests: object) -> list[tuple[()]]:
        assert isinstance(requests, list)
        entered.set()
        assert go.wait(PATIENCE)
        return [()] * len(requests)

    group = GroupCommit(commit)
    heard: list[str] = []
    later: list[Future[tuple[Receipt, ...]]] = []

    def called(_: object) -> None:
        for use in (lambda: group.run(EMPTY), group.close):
            try:
                use()
            except LedgerError as error:
                heard.append(error.reason)
        later.append(group.submit(EMPTY))

    future = group.submit(EMPTY)
    assert entered.wait(PATIENCE)
    future.add_done_callback(called)
    go.set()
    assert future.result(timeout=PATIENCE) == ()
    closer = threading.Thread(target=group.close)
    while not later:
        future.result(timeout=PATIENCE)
    assert later[0].result(timeout=PATIENCE) == () and heard == ["refused", "refused"]
    closer.start()
    join([closer])


SIGNALLED = """
import signal, sys, threading
from agentmesh_ledger import LedgerError
from agentmesh_ledger.append import Request
from agentmesh_ledger.group import GroupCommit

def commit(requests):
    sum(range(2000))
    return [()] * len(requests)

group = GroupCommit(commit)
stop = threading.Event()
def others():
    while not stop.is_set():
        try:
            group.run(Request(prepared=()))
        except LedgerError:
            pass
threads = [threading.Thread(target=others, daemon=True) for _ in range(4)]
for each in threads:
    each.start()
rung = 0
def ring(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, ring)
while rung < 400:
    try:
        # Once, and set in here: on a busy machine a bell that repeats would ring outside as well.
        signal.setitimer(signal.ITIMER_REAL, 0.0007)
        while True:
            group.run(Request(prepared=()))
    except KeyboardInterrupt:
        rung += 1
for _ in range(50):
    group.run(Request(prepared=()))
stop.set()
for each in threads:
    each.join(30)
print("lost" if any(each.is_alive() for each in threads) else "whole", flush=True)
"""


def test_four_hundred_signals_at_any_moment_lose_no_turn() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.stdout == "whole\n", done.stderr


def test_an_append_under_way_is_written_before_the_ledger_closes(tmp_path: Path, keys: KeyStore) -> None:
    log = Ledger.open(tmp_path / "l.db", origin=ORIGIN, keys=keys, create=True)
    acknowledged: list[int] = []
    reasons: list[str] = []

    def work(name: str) -> None:
        while True:
            try:
                acknowledged.append(log.append([say(keys, name, name)])[0].index)
            except LedgerError as error:
                reasons.append(error.reason)
                return

    threads = [threading.Thread(target=work, args=(f"a{k}",)) for k in range(6)]
    for each in threads:
        each.start()
    while len(acknowledged) < 30:
        threads[0].join(0.001)
    log.close()
    join(threads)
    assert reasons == ["closed"] * 6
    found = {record.index for record in LedgerAudit(tmp_path / "l.db")}
    assert set(acknowledged) <= found and len(found) == len(acknowledged) + 6


# --- one file, several users


OTHER = """
import sys
from pathlib import Path
from agentmesh_ledger import Draft, KeyStore, Ledger
keys = KeyStore(Path(sys.argv[2]))
with Ledger.open(sys.argv[1], keys=keys) as log:
    print(log.append([Draft(author=keys.agent("other"), kind="say", dialogue="d")])[0].index)
"""


def other_process(path: Path, keys: KeyStore) -> int:
    done = subprocess.run(
        [sys.executable, "-c", OTHER, str(path), str(keys.directory)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.spec("L-46", "L-98")
@pytest.mark.parametrize("use", ["write", "read", "verify"])
def test_what_else_uses_the_file_in_this_process_takes_no_lock_away(
    tmp_path: Path, keys: KeyStore, use: str
) -> None:
    path = tmp_path / "l.db"
    with Ledger.open(path, origin=ORIGIN, keys=keys, create=True) as log:
        log.append([say(keys, "ada")])
        # To open and close the file as a file would release what SQLite holds; then the next process to end, taking
        # itself for the last user, removes the log file into which this one goes on writing.
        if use == "verify":
            verify_ledger(path)
        else:
            Ledger.open(path, keys=keys if use == "write" else None).close()
        assert other_process(path, keys) == 3
        assert log.append([say(keys, "ada")])[0].index == 4
        assert other_process(path, keys) == 5
    assert verify_ledger(path).entries == 6


@pytest.mark.spec("L-46", "L-98")
def test_a_commit_into_a_log_file_that_was_removed_is_not_acknowledged(
    tmp_path: Path, keys: KeyStore
) -> None:
    path = tmp_path / "l.db"
    with Ledger.open(path, origin=ORIGIN, keys=keys, create=True) as log:
        log.append([say(keys, "ada")])
        shutil.copyfile(path, tmp_path / "copy.db")  # SQLite's locks of this process are gone
        other_process(path, keys)
        assert not Path(f"{path}-wal").exists()
        with pytest.raises(LedgerError) as caught:
            log.append([say(keys, "ada")])
        assert caught.value.reason == "unknown" and "backup" in str(caught.value)
        receipts = [log.append([say(keys, "ada")])[0] for _ in range(3)]
        other_process(path, keys)
    found = {record.index: record.leaf_hash for record in LedgerAudit(path)}
    assert {each.index: each.leaf_hash for each in receipts}.items() <= found.items()


@pytest.mark.spec("L-09", "L-45")
def test_many_ledger_objects_of_one_process_keep_one_order(tmp_path: Path, keys: KeyStore) -> None:
    path = tmp_path / "l.db"
    Ledger.open(path, origin=ORIGIN, keys=keys, create=True).close()
    got: list[int] = []

    def work(name: str) -> None:
        for turn in range(4):
            with Ledger.open(path, keys=keys) as log:
                for _ in range(5):
                    got.append(log.append([say(keys, name, name)])[0].index)
                if turn == 2:
                    verify_ledger(path)

    threads = [threading.Thread(target=work, args=(f"a{k}",)) for k in range(6)]
    for each in threads:
        each.start()
    join(threads)
    assert len(set(got)) == 120 and verify_ledger(path).entries == 126


CREATE = """
import sys
from pathlib import Path
from agentmesh_ledger import Draft, KeyStore, Ledger
path, folder, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
keys = KeyStore(folder)
key = keys.agent(name)
print("ready", flush=True)
sys.stdin.readline()
with Ledger.open(path, origin="agentmesh.local/shared", keys=keys, create=True) as log:
    print(log.append([Draft(author=key, kind="say", dialogue="d")])[0].index, flush=True)
"""


@pytest.mark.spec("L-09")
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_eight_processes_that_make_one_ledger_at_once_make_one(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, keys: KeyStore
) -> None:
    place = str(tmp_path / "l.db") if kind == "sqlite" else request.getfixturevalue("database")
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE, place, str(keys.directory), f"a{k}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in range(8)
    ]
    for each in started:
        assert each.stdout is not None and each.stdout.readline() == "ready\n"
    for each in started:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    told = [each.communicate(timeout=PATIENCE) for each in started]
    assert [each.returncode for each in started] == [0] * 8, told
    assert len({int(out) for out, _ in told}) == 8
    assert verify_ledger(place).entries == 16
    if kind == "sqlite":
        assert {each.name for each in tmp_path.iterdir()} <= {"keys", "l.db", "l.db-wal", "l.db-shm"}


WRITER = """
import sys
from pathlib import Path
from agentmesh_ledger import Draft, KeyStore, Ledger
path, folder, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
keys = KeyStore(folder)
key = keys.agent(name)
with Ledger.open(path, origin="agentmesh.local/shared", keys=keys, create=True) as log:
    while True:
        for each in log.append([Draft(author=key, kind="say", dialogue=name)] * 2):
            print(each.index, each.leaf_hash.hex(), flush=True)
"""


@pytest.mark.spec("L-46")
def test_one_of_two_writing_processes_is_killed_again_and_again(tmp_path: Path, keys: KeyStore) -> None:
    path = tmp_path / "l.db"
    kept: dict[int, str] = {}
    stop = threading.Event()
    with Ledger.open(path, origin=ORIGIN, keys=keys, create=True) as log:

        def work() -> None:
            while not stop.is_set():
                for each in log.append([say(keys, "ada")]):
                    kept[each.index] = each.leaf_hash.hex()

        mine = threading.Thread(target=work)
        mine.start()
        for turn in range(6):
            with subprocess.Popen(
                [sys.executable, "-c", WRITER, str(path), str(keys.directory), f"w{turn}"],
                stdout=subprocess.PIPE,
                text=True,
            ) as process:
                assert process.stdout is not None
                lines = [process.stdout.readline() for _ in range(3 + 7 * turn)]
                process.send_signal(signal.SIGKILL)
                lines += [each for each in process.stdout if each.endswith("\n")]
            pairs = (each.split() for each in lines if each)
            new = {int(index): leaf for index, leaf in pairs}
            assert new and not new.keys() & kept.keys()
            kept.update(new)
        stop.set()
        join([mine])
    found = {record.index: record.leaf_hash.hex() for record in LedgerAudit(path)}
    assert kept.items() <= found.items() and list(found) == list(range(len(found)))


def test_a_fork_does_not_use_its_parents_ledger(tmp_path: Path, keys: KeyStore) -> None:
    with Ledger.open(tmp_path / "l.db", origin=ORIGIN, keys=keys, create=True) as log:
        log.append([say(keys, "ada")])
        child = os.fork()
        if child == 0:
            status = 1
            try:
                log.append([])
            except LedgerError as error:
                status = 0 if error.reason == "closed" else 2
            finally:
                log.close()
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert log.append([say(keys, "ada")])[0].index == 2
    assert verify_ledger(tmp_path / "l.db").entries == 3


# --- one key, one branch


@pytest.mark.spec("L-45", "L-95", "L-97")
def test_two_databases_of_one_origin_over_one_folder_of_keys_do_not_fork_the_log(
    tmp_path: Path, keys: KeyStore
) -> None:
    one = Ledger.open(tmp_path / "one.db", origin=ORIGIN, keys=keys, create=True)
    two = Ledger.open(
        tmp_path / "two.db", origin=ORIGIN, keys=keys, create=True
    )  # both are empty: no branch yet
    with one, two:
        one.append([say(keys, "ada")])
        for _ in range(2):  # it is not forgotten when it was said once
            with pytest.raises(LedgerError) as caught:
                two.append([say(keys, "ben")])
            assert caught.value.reason == "rollback" and two.size == 0
        assert one.append([say(keys, "ada")])[0].index == 2


@pytest.mark.spec("L-97")
def test_a_folder_of_keys_that_is_taken_away_stops_the_log_until_it_is_back(
    tmp_path: Path, keys: KeyStore
) -> None:
    away = tmp_path / "away"
    with Ledger.open(tmp_path / "l.db", origin=ORIGIN, keys=keys, create=True) as log:
        draft = say(keys, "ada")
        log.append([draft])
        keys.directory.rename(away)
        log.append([draft])  # committed before it could be seen; the next one is not
        with pytest.raises(LedgerError) as caught:
            log.append([draft])
        assert caught.value.reason == "failed" and log.size == 3 and not keys.directory.exists()
        away.rename(keys.directory)
        assert log.append([draft])[0].index == 3
        assert keys.last_checkpoint(ORIGIN).read() == log.checkpoint()


# --- very many dialogues


def test_more_dialogues_than_are_remembered_at_once_are_no_limit(
    tmp_path: Path, keys: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentmesh_ledger import append

    monkeypatch.setattr(append, "_MAX_SEQS", 10)
    with Ledger.open(tmp_path / "l.db", origin=ORIGIN, keys=keys, create=True) as log:
        ada = keys.agent("ada")
        for turn in range(3):
            log.append([Draft(author=ada, kind="say", dialogue=f"d{k % 25}") for k in range(40)])
            log.append([Draft(author=ada, kind="say", dialogue=f"e{turn}")])
        assert log._writer is not None and log._writer._tip is not None
        assert len(log._writer._tip.seqs) <= 10 + MAX_MESSAGES
    assert verify_ledger(tmp_path / "l.db").entries == 124


class Batches:
    """A commit that notes its batches."""

    def __init__(self) -> None:
        self.batches: list[list[Request]] = []

    def __call__(self, requests: Sequence[Request]) -> list[tuple[()]]:
        self.batches.append(list(requests))
        return [()] * len(requests)


def _request(number: int) -> Request:
    return Request(prepared=(), erase=(number, ()))


def test_what_may_wait_is_written_in_its_order_with_the_next_that_may_not() -> None:
    commit = Batches()
    group = GroupCommit(commit)
    lazy = [group.submit(_request(number), within=3600.0) for number in range(3)]
    assert not any(each.done() for each in lazy)
    group.run(_request(3))
    assert all(each.result(timeout=0) == () for each in lazy)
    assert commit.batches == [[_request(number) for number in range(4)]]
    group.close()


def test_what_may_wait_is_written_in_time_though_nobody_comes() -> None:
    commit = Batches()
    group = GroupCommit(commit)
    late = group.submit(_request(0), within=3600.0)
    soon = group.submit(_request(1), within=0.02)
    assert soon.result(timeout=PATIENCE) == () and late.result(timeout=0) == ()
    assert commit.batches == [[_request(0), _request(1)]]
    again = group.submit(_request(2), within=0.02)
    assert again.result(timeout=PATIENCE) == ()
    group.close()


def test_closing_writes_what_may_wait() -> None:
    commit = Batches()
    group = GroupCommit(commit)
    waiting = group.submit(_request(0), within=3600.0)
    group.close()
    assert waiting.result(timeout=0) == () and commit.batches == [[_request(0)]]


@pytest.mark.parametrize("within", [float("inf"), 1e10])
def test_longer_than_a_thread_can_wait_does_not_end_the_thread_that_writes(within: float) -> None:
    group = GroupCommit(Batches())
    waiting = group.submit(_request(0), within=within)
    assert group._worker is not None
    group._worker.join(timeout=0.2)  # it ends at once where it cannot wait that long
    assert group._worker.is_alive()
    assert group.submit(_request(1)).result(timeout=PATIENCE) == () and waiting.result(timeout=0) == ()
    group.close()


@pytest.mark.parametrize("within", [float("nan"), -1.0])
def test_what_may_wait_for_no_time_is_written_at_once(within: float) -> None:
    group = GroupCommit(Batches())
    assert group.submit(_request(0), within=within).result(timeout=PATIENCE) == ()
    group.close()
