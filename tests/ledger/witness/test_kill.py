"""kill -9 at any moment: what a witness has signed for is what it holds when it starts again, of every log.

Run as a program this file is the witness: a thread for each log submits one checkpoint after another, and writes down
each cosignature once it has it. A killed process loses nothing that it gave to the operating system: this shows that
nothing is signed before it is committed, not that the disk was waited for.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agentmesh_ledger.cosignature import cosignatures
from agentmesh_ledger.note import parse_note
from agentmesh_ledger.witness.folder import WitnessFolder

LIVES = 25
LOGS = 4
SIZES = 120


def witness_until_killed(folder: str, bodies: str) -> None:
    place = WitnessFolder.at(Path(folder))
    with place.opened(place.key(create=False)) as (witness, _):

        def submit(origin: str, waiting: list[str]) -> None:
            for each in waiting:
                answer = witness.add_checkpoint(bytes.fromhex(each))
                # Shorter than PIPE_BUF: never half written, and never mixed with another thread's.
                os.write(1, f"{origin} {answer.status} {answer.body.hex()}\n".encode())

        threads = [
            threading.Thread(target=submit, args=each)
            for each in json.loads(Path(bodies).read_text()).items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@pytest.mark.spec("L-134", "L-133")
def test_what_was_signed_for_before_the_kill_is_held_after_it(
    desk, log, tmp_path: Path, python_environment: dict[str, str]
) -> None:
    rng = random.Random(6)
    trees = [(log.checkpoint(size), log.proof(size - 1, size)) for size in range(1, SIZES + 1)]
    promises = killed_early = 0
    for life in range(LIVES):
        logs = {
            f"example.org/{life}-{each}": type(log)(name=f"example.org/{life}-{each}") for each in range(LOGS)
        }
        desk.trust(*logs.values())
        desk.place.key()
        bodies = {
            name: [body(each, tree, proof).hex() for tree, proof in trees] for name, each in logs.items()
        }
        (tmp_path / "bodies").write_text(json.dumps(bodies))
        signed = lived(desk.place.path, tmp_path / "bodies", rng.random() * 0.08, python_environment)
        promises += sum(map(len, signed.values()))
        killed_early += any(len(each) < SIZES for each in signed.values())
        hold(desk, logs, signed)
    assert promises > LIVES * LOGS and killed_early > LIVES // 2


def body(log, tree, proof: tuple[bytes, ...]) -> bytes:
    from agentmesh_ledger.checkpoint import Checkpoint
    from agentmesh_ledger.witness.request import Submission, write_submission

    note = Checkpoint(origin=log.name, size=tree.size, root=tree.root).sign(log)
    return write_submission(Submission(old=tree.size - 1, proof=proof, note=note))


def lived(folder: Path, bodies: Path, seconds: float, environment: dict[str, str]) -> dict[str, list[bytes]]:
    """The cosignatures that a witness made of each log before it was killed, so long after the first."""
    command = [sys.executable, __file__, str(folder), str(bodies)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    signed: dict[str, list[bytes]] = {}
    killer = threading.Timer(seconds, lambda: os.kill(process.pid, signal.SIGKILL))
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if not signed:
                killer.start()
            origin, status, answer = line.split()
            assert status == "200"
            signed.setdefault(origin, []).append(bytes.fromhex(answer))
    killer.join()
    assert process.wait(60) in (-signal.SIGKILL, 0)
    return signed


def hold(desk, logs, signed: dict[str, list[bytes]]) -> None:
    desk.now = 0.0  # whatever the clock says after the restart
    with desk.opened() as witness:
        for origin, lines in signed.items():
            log, size = logs[origin], len(lines)
            held = int(witness.add_checkpoint(log.forked(0).body(size - 1, size)).body)
            assert held in (size, size + 1)  # the last one may have been committed and not yet told
            (last,) = cosignatures(parse_note(log.note(size) + lines[-1].decode()), [witness.key.id])
            again = witness.add_checkpoint(log.body(held, held))
            (now,) = cosignatures(parse_note(log.note(held) + again.body.decode()), [witness.key.id])
            assert again.status == 200 and now.time >= last.time
            assert witness.add_checkpoint(log.forked(0).body(held, held)).status == 422
            assert witness.add_checkpoint(log.body(held, held + 3)).status == 200


if __name__ == "__main__":
    witness_until_killed(*sys.argv[1:])
