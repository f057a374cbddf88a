"""The rollback race of the tlog-witness page: of two branches at once exactly one is cosigned, by threads and by processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agentmesh_ledger.witness.folder import WitnessFolder
from agentmesh_ledger.witness.state import WitnessState

ROUNDS = 25
THREADS = 12
LOGS = 60


def at_once(witness, bodies: list[bytes]) -> list[int]:
    """The statuses of these submissions, each from a thread of its own, all let go at the same moment."""
    start = threading.Barrier(len(bodies))
    statuses = [0] * len(bodies)

    def submit(number: int) -> None:
        start.wait()
        statuses[number] = witness.add_checkpoint(bodies[number]).status

    threads = [threading.Thread(target=submit, args=(each,)) for each in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


@pytest.mark.spec("L-134")
def test_of_two_branches_from_many_threads_exactly_one_wins(desk, log) -> None:
    logs = [type(log)(name=f"example.org/{number}") for number in range(ROUNDS)]
    desk.trust(*logs)
    with desk.opened() as witness:
        for each in logs:
            assert witness.add_checkpoint(each.body(0, 5)).status == 200
            branches = [each.forked(5, salt=1 + number % 2) for number in range(THREADS)]
            statuses = at_once(witness, [branch.body(5, 9) for branch in branches])
            assert sorted(statuses) == [200] + [409] * (THREADS - 1)
            won = branches[statuses.index(200)]
            assert witness.checkpoint(each.name).body.startswith(won.checkpoint(9).text.encode())


@pytest.mark.spec("L-134")
def test_the_smaller_of_two_continuations_never_comes_after_the_larger(desk, log) -> None:
    """Step for step what the page warns of: N and N+K are both consistent with what was held, and N is stored last."""
    logs = [type(log)(name=f"example.org/{number}") for number in range(ROUNDS)]
    desk.trust(*logs)
    sizes = range(6, 6 + THREADS)
    with desk.opened() as witness:
        for each in logs:
            assert witness.add_checkpoint(each.body(0, 5)).status == 200
            statuses = at_once(witness, [each.body(5, size) for size in sizes])
            (won,) = [size for size, status in zip(sizes, statuses, strict=True) if status == 200]
            assert witness.add_checkpoint(each.body(0, 5)).body == f"{won}\n".encode()


@pytest.mark.spec("L-134")
def test_submissions_that_wait_together_share_one_transaction(
    desk, log, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = [type(log)(name=f"example.org/{number}") for number in range(THREADS)]
    desk.trust(*logs)
    groups: list[int] = []
    settle = WitnessState.settle

    def counted(state: WitnessState, proposals, now: int):
        groups.append(len(proposals))
        return settle(state, proposals, now)

    monkeypatch.setattr(WitnessState, "settle", counted)
    with desk.opened() as witness:
        statuses: list[int] = []

        def submit(body: bytes) -> None:
            statuses.append(witness.add_checkpoint(body).status)

        threads = [threading.Thread(target=submit, args=(each.body(0, 3),)) for each in logs]
        with witness._turn:
            for thread in threads:
                thread.start()
            while len(witness._waiting) < THREADS:  # bounded by the threads' own start
                assert any(thread.is_alive() for thread in threads)
        for thread in threads:
            thread.join()
    assert statuses == [200] * THREADS and groups == [THREADS]


def test_a_submission_that_breaks_the_witness_leaves_nobody_waiting(
    desk, log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(state: WitnessState, proposals, now: int):
        raise KeyboardInterrupt

    monkeypatch.setattr(WitnessState, "settle", broken)
    with desk.opened() as witness:
        with pytest.raises(KeyboardInterrupt):
            witness.add_checkpoint(log.body(0, 3))
        monkeypatch.undo()
        assert witness.add_checkpoint(log.body(0, 3)).status == 200


def submit_all(folder: str, bodies: str) -> None:
    """What each of two processes does: says that it is there, waits for the word, submits, and prints what it was told."""
    place = WitnessFolder.at(Path(folder))
    with place.opened(place.key(create=False)) as (witness, _):
        waiting = [bytes.fromhex(each) for each in json.loads(Path(bodies).read_text())]
        print("ready", flush=True)
        sys.stdin.readline()
        print(json.dumps([witness.add_checkpoint(each).status for each in waiting]), flush=True)


@pytest.mark.spec("L-134")
def test_of_two_branches_from_two_processes_on_one_file_exactly_one_wins(
    desk, log, tmp_path: Path, python_environment: dict[str, str]
) -> None:
    logs = [type(log)(name=f"example.org/{number}") for number in range(LOGS)]
    desk.trust(*logs)
    with desk.opened() as witness:
        assert {witness.add_checkpoint(each.body(0, 5)).status for each in logs} == {200}
    processes = []
    for salt in (1, 2):
        bodies = [each.forked(5, salt=salt).body(5, 9).hex() for each in logs]
        (tmp_path / f"{salt}.json").write_text(json.dumps(bodies))
        processes.append(
            subprocess.Popen(
                [sys.executable, __file__, str(desk.place.path), str(tmp_path / f"{salt}.json")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=python_environment,
            )
        )
    told = []
    for each in processes:
        assert each.stdout is not None and each.stdout.readline() == "ready\n"
    for each in processes:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in processes:
        out, _ = each.communicate(timeout=60)
        assert each.returncode == 0
        told.append(json.loads(out))
    assert [sorted(pair) for pair in zip(*told, strict=True)] == [[200, 409]] * LOGS


if __name__ == "__main__":
    submit_all(*sys.argv[1:])
