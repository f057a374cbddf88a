"""How many checkpoints a witness cosigns for each second of its own processor time.

    python benchmarks/anchoring/witness.py [--seconds 5] [--dir FOLDER] [--profile] [--json]

The witness is a process of its own, over HTTP on loopback with connections kept open, its state and its memory on the disk
with synchronous FULL. 64 logs grow at once, each with one submission under way; trees begin at a million entries. Beside it the
core without HTTP, in groups of 64, and what PyNaCl itself makes of one verification and one signature, in turn with both.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import json
import multiprocessing
import os
import pstats
import selectors
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from nacl.signing import SigningKey

from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.note import VerifierKey
from agentmesh_ledger.tree import Edge, consistency_nodes, fold_proof, leaf_hash, parent
from agentmesh_ledger.witness.core import Answer
from agentmesh_ledger.witness.folder import WitnessFolder
from agentmesh_ledger.witness.request import Submission, write_submission
from agentmesh_ledger.witness.server import WitnessServer, listen
from agentmesh_ledger.witness.trusted import trust_logs

LOGS = 64
BEGINNING = 1 << 20
STEP = 7
ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSigner:
    """A log's name and key."""

    name: str
    key: SigningKey = field(default_factory=SigningKey.generate)

    @property
    def public(self) -> bytes:
        """The 32 bytes of its public key."""
        return bytes(self.key.verify_key)

    @property
    def vkey(self) -> str:
        """The key as a witness is told it."""
        return str(VerifierKey(name=self.name, public=self.public))

    def sign(self, data: bytes) -> bytes:
        """The signature."""
        return bytes(self.key.sign(data).signature)


def growth(start: int) -> Iterator[tuple[int, int, bytes, tuple[bytes, ...]]]:
    """A tree that grows for ever: old size, new size, new root, and the proof between them."""
    below = hashlib.sha256(b"a million entries").digest()
    nodes = {(20, 0): below}
    edge = Edge(BEGINNING, [below])
    old, number = 0, 0
    while True:
        for _ in range(STEP):
            leaf = leaf_hash(number.to_bytes(8, "big"))
            place, node, level = BEGINNING + number, bytes(leaf), 0
            nodes[0, place] = node
            while (place >> level) & 1:
                node = parent(nodes[level, (place >> level) - 1], node)
                level += 1
                nodes[level, place >> level] = node
            edge.append(leaf)
            number += 1
        new = edge.size
        yield old, new, edge.root(), tuple(fold_proof(consistency_nodes(old, new), nodes))
        old = new


def prepared(logs: list[LogSigner], each: int) -> list[list[bytes]]:
    """For each log so many requests, one after another."""
    steps = growth(0)
    found: list[list[bytes]] = [[] for _ in logs]
    for _ in range(each):
        old, size, root, proof = next(steps)
        for log, requests in zip(logs, found, strict=True):
            note = Checkpoint(origin=log.name, size=size, root=root).sign(log)
            requests.append(write_submission(Submission(old=old, proof=proof, note=note)))
    return found


def nacl_rate(seconds: float = 0.5) -> float:
    """Verifications with one signature each, a second of processor time, by PyNaCl's own classes."""
    log, own = SigningKey.generate(), SigningKey.generate()
    text = b"x" * 90  # what a checkpoint's text has
    signed = [log.sign(text + bytes([number])) for number in range(256)]
    public, count, started = log.verify_key, 0, time.process_time()
    while (now := time.process_time()) < started + seconds:
        for each in signed:
            own.sign(public.verify(each.message, each.signature))
        count += len(signed)
    return count / (now - started)


def core_rate(folder: Path, logs: list[LogSigner], requests: list[list[bytes]]) -> float:
    """Cosignatures a second of processor time, without HTTP."""
    place = WitnessFolder.at(folder)
    trust_logs(place.logs, [log.vkey for log in logs])
    with place.opened(place.key("bench.example/core"), told=print) as (witness, _):
        started = time.process_time()
        for group in zip(*requests, strict=True):
            read = [witness.read(body) for body in group]
            proposals = [each for each in read if not isinstance(each, Answer)]
            answers = witness.settle(proposals)
            assert [each.status for each in answers] == [200] * len(group)
        taken = time.process_time() - started
    return sum(map(len, requests)) / taken


def served(folder: str, vkeys: list[str], profile: bool, pipe: Connection) -> None:
    """A witness in a process of its own; tells its processor time whenever it is asked, and ends with the pipe."""
    place = WitnessFolder.at(Path(folder))
    trust_logs(place.logs, vkeys)
    with place.opened(place.key("bench.example/http"), told=print) as (witness, trusted):
        listener = listen("127.0.0.1", 0)
        server = WitnessServer(witness, trusted, ready=lambda: pipe.send(listener.getsockname()[1]))

        def told() -> None:
            try:
                while pipe.recv():
                    pipe.send(time.process_time())
            except EOFError:
                pass
            server.stop()

        threading.Thread(target=told, daemon=True).start()
        watch = cProfile.Profile() if profile else None
        if watch is not None:
            watch.enable()
        server.answer(listener)
        if watch is not None:
            watch.disable()
            pstats.Stats(watch, stream=sys.stderr).sort_stats("tottime").print_stats(30)


def http_rate(
    folder: Path, logs: list[LogSigner], requests: list[list[bytes]], profile: bool
) -> tuple[float, float]:
    """Cosignatures a second of the witness's processor time, and a second as we saw it."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(
        target=served, args=(os.fspath(folder), [log.vkey for log in logs], profile, theirs)
    )
    process.start()
    theirs.close()
    port = ours.recv()
    ours.send(True)
    before, started = ours.recv(), time.perf_counter()
    submit(port, requests)
    seen = time.perf_counter() - started
    ours.send(True)
    after = ours.recv()
    ours.close()
    process.join(30)
    count = sum(map(len, requests))
    return count / (after - before), count / seen


def submit(port: int, requests: list[list[bytes]]) -> None:
    """Each log's requests in their order, one at a time, over one connection a log; the lightest client there is."""
    with selectors.DefaultSelector() as selector:
        for each in requests:
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            waiting = iter(each)
            connection.sendall(_posted(next(waiting)))
            selector.register(connection, selectors.EVENT_READ, (waiting, bytearray()))
        left = len(requests)
        while left:
            for ready, _ in selector.select(30):
                waiting, answer = ready.data
                connection = ready.fileobj
                assert isinstance(connection, socket.socket)
                answer += connection.recv(4096)
                if not answer.endswith(b"\n") or b"\r\n\r\n" not in answer or answer.endswith(b"\r\n\r\n"):
                    continue
                assert answer.startswith(b"HTTP/1.1 200 "), bytes(answer)
                answer.clear()
                following = next(waiting, None)
                if following is None:
                    selector.unregister(connection)
                    connection.close()
                    left -= 1
                else:
                    connection.sendall(_posted(following))


def _posted(body: bytes) -> bytes:
    head = f"POST /add-checkpoint HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def measure(seconds: float, folder: Path | None = None, *, profile: bool = False) -> dict[str, float]:
    """The figures, medians of three rounds taken in turn; `seconds` is about what all rounds over HTTP take."""
    logs = [LogSigner(name=f"bench.example/log-{number}") for number in range(LOGS)]
    requests = prepared(logs, max(4, int(seconds / ROUNDS * 2500 / LOGS)))
    nacl, core, http, seen = [], [], [], []
    with tempfile.TemporaryDirectory(dir=folder) as made:
        for number in range(ROUNDS):
            place = Path(made, str(number))
            nacl.append(nacl_rate())
            core.append(core_rate(place / "core", logs, requests))
            nacl.append(nacl_rate())
            per_cpu, per_second = http_rate(place / "http", logs, requests, profile)
            http.append(per_cpu)
            seen.append(per_second)
            nacl.append(nacl_rate())
            shutil.rmtree(place)
    limit = median(nacl)
    return {
        "witness_per_nacl": median(http) / limit,
        "witness_core_per_nacl": median(core) / limit,
        "witness_per_cpu_second": median(http),
        "witness_core_per_cpu_second": median(core),
        "witness_per_second": median(seen),
        "nacl_per_second": limit,
    }


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--dir", type=Path, help="where the witness's files stand; a real disk")
    parser.add_argument("--profile", action="store_true", help="the witness's event loop under cProfile")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.seconds, options.dir, profile=options.profile)
    for name, value in found.items():
        print(f"{name:32} {value:10.2f}")
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
