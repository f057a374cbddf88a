"""kill -9 under load: what `append` has returned is there when the ledger is opened again, every time.

Run as a program this file is the nursery of the writers: a process that has everything imported and forks one for
each order on its standard input, so that 200 starts take seconds. A killed process loses nothing that it gave to the
operating system: this shows that commits are whole and acknowledged late enough, not that the disk was waited for.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentmesh_ledger import Draft, DraftPart, KeyStore, Ledger, LedgerAudit
from agentmesh_ledger.keys import AgentKey

ORIGIN = "agentmesh.local/killed"
KILLS = 200
KILLS_OF_ONE_LEDGER = 20  # then a new one, so that verifying stays short
WRITERS = 4
PATIENCE = 30.0  # seconds until a silent writer is a failure


def messages(author: AgentKey, dialogue: str, count: int) -> list[Draft]:
    part = DraftPart(name="text", type="text/plain", data=b"x" * 600)
    return [Draft(author=author, kind="say", dialogue=dialogue, parts=(part,)) for _ in range(count)]


def write_until_killed(path: Path, seed: int) -> None:
    """Several threads append for ever, and write down each receipt once they have it."""
    keys = KeyStore(path.with_name("keys"))
    with Ledger.open(path, origin=ORIGIN, keys=keys, create=True) as log:

        def write(number: int) -> None:
            author, rng = keys.agent(f"writer{number}"), random.Random(f"{seed}:{number}")
            while True:
                for receipt in log.append(messages(author, f"d{number}", rng.choice((1, 1, 1, 3)))):
                    # Shorter than PIPE_BUF: never half written, and never mixed with another thread's.
                    os.write(1, f"{receipt.index} {receipt.leaf_hash.hex()}\n".encode())

        threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def nurse() -> None:
    """Forks a writer for each line `SEED PATH`, kills it at the next line, and says when it is dead."""
    while order := sys.stdin.readline():
        seed, path = order.rstrip("\n").split(" ", 1)
        writer = os.fork()
        if writer == 0:
            try:
                write_until_killed(Path(path), int(seed))
            finally:
                os._exit(1)  # only an error leads here
        sys.stdin.readline()
        os.kill(writer, signal.SIGKILL)
        _, status = os.waitpid(writer, 0)
        os.write(1, f"dead {os.waitstatus_to_exitcode(status)}\n".encode())


class Nursery:
    """The nursery as the test sees it: orders in, acknowledgements out."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._orders, self._pipe = process.stdin, process.stdout.fileno()
        self._rest = b""

    def order(self, line: str) -> None:
        self._orders.write(line.encode() + b"\n")
        self._orders.flush()

    def lines(self, patience: float = PATIENCE) -> list[str]:
        """What has been said since; waits for the first line, and gives none where that does not come."""
        while select.select([self._pipe], [], [], patience)[0]:
            new = os.read(self._pipe, 1 << 16)
            *lines, self._rest = (self._rest + new).split(b"\n")
            if lines or not new:
                return [line.decode() for line in lines]
        return []


@contextmanager
def nursery() -> Iterator[Nursery]:
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield Nursery(process)
        finally:
            process.kill()


def kill_once(nurse: Nursery, path: Path, seed: int) -> dict[int, str]:
    """What a writer had acknowledged when it was killed, at a moment that follows from the seed."""
    rng = random.Random(seed)
    enough, moment = rng.choice((0, rng.randrange(1, 30))), rng.uniform(0, 0.03)
    nurse.order(f"{seed} {path}")
    heard: list[str] = []
    while len(heard) < enough:
        new = nurse.lines()
        assert new, "the writer says nothing"
        heard += new
    heard += nurse.lines(patience=moment)
    nurse.order("kill")
    while not heard or not heard[-1].startswith("dead"):
        new = nurse.lines()
        assert new, "the nursery says nothing"
        heard += new
    assert heard.pop() == f"dead {-signal.SIGKILL}", "the writer ended by itself"
    pairs = (line.split() for line in heard)
    return {int(index): leaf for index, leaf in pairs}


@pytest.mark.spec("L-46")
def test_whatever_was_acknowledged_before_a_kill_is_there_and_verifies_two_hundred_times(
    tmp_path: Path,
) -> None:
    kept: dict[int, str] = {}
    acknowledged = unacknowledged = 0
    with nursery() as nurse:
        for number in range(KILLS):
            path = tmp_path / f"{number // KILLS_OF_ONE_LEDGER}" / "ledger.db"
            if number % KILLS_OF_ONE_LEDGER == 0:
                kept.clear()
            new = kill_once(nurse, path, number)
            assert not new.keys() & kept.keys(), "one index was given out twice"
            kept |= new
            acknowledged += len(new)
            # Alternately the next writer and the verifier find the file as the kill left it.
            keys = KeyStore(path.with_name("keys"))
            if number % 2 or not kept:  # where nothing was acknowledged there may be no ledger to verify yet
                with Ledger.open(path, origin=ORIGIN, keys=keys, create=True) as log:
                    receipt = log.append(messages(keys.agent("survivor"), "after", 1))[0]
                    kept[receipt.index] = receipt.leaf_hash.hex()
            audit = LedgerAudit(path)
            found = {record.index: record.leaf_hash.hex() for record in audit}
            assert audit.verified().entries == len(found)
            lost = {index for index, leaf in kept.items() if found.get(index) != leaf}
            assert not lost, f"kill {number}: acknowledged and gone: {sorted(lost)}"
            unacknowledged += len(found) - len(kept)
    # Otherwise the kills fell where nothing was going on, and the test shows nothing.
    assert acknowledged > 5 * KILLS and unacknowledged > 0


if __name__ == "__main__":
    nurse()
