"""Logs that can be forked, a witness in a folder, and the same over real HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.note import VerifierKey
from agentmesh_ledger.tree import Edge, collect, consistency_nodes, fold_proof, leaf_hash
from agentmesh_ledger.witness.core import Witness
from agentmesh_ledger.witness.evidence import Evidence
from agentmesh_ledger.witness.folder import WitnessFolder
from agentmesh_ledger.witness.key import memory_path
from agentmesh_ledger.witness.request import Submission, write_submission
from agentmesh_ledger.witness.server import WitnessServer, listen
from agentmesh_ledger.witness.state import WitnessState
from agentmesh_ledger.witness.trusted import TrustedLogs, trust_logs

ORIGIN = "agentmesh.local/desk"
WAIT_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A log whose entries are numbers; from `fork` on they are others than those of the log without one."""

    name: str = ORIGIN
    fork: int | None = None
    key: SigningKey = field(default_factory=SigningKey.generate)

    @property
    def public(self) -> bytes:
        return bytes(self.key.verify_key)

    @property
    def vkey(self) -> str:
        return str(VerifierKey(name=self.name, public=self.public))

    def sign(self, data: bytes) -> bytes:
        return bytes(self.key.sign(data).signature)

    def forked(self, at: int, *, salt: int = 1) -> Log:
        """The same log, signed by the same key, with other entries from there on."""
        return Log(name=self.name, fork=at * 1000 + salt, key=self.key)

    def leaves(self, size: int) -> list[bytes]:
        fork, salt = (size, 0) if self.fork is None else divmod(self.fork, 1000)
        return [leaf_hash(b"%d/%d" % (each, salt if each >= fork else 0)) for each in range(size)]

    def checkpoint(self, size: int) -> Checkpoint:
        edge = Edge()
        for leaf in self.leaves(size):
            edge.append(leaf)
        return Checkpoint(origin=self.name, size=size, root=edge.root())

    def note(self, size: int) -> str:
        return self.checkpoint(size).sign(self)

    def proof(self, old: int, new: int) -> tuple[bytes, ...]:
        pieces = consistency_nodes(old, new)
        nodes = collect({node for piece in pieces for node in piece}, self.leaves(new))
        return tuple(fold_proof(pieces, nodes))

    def body(self, old: int, new: int, proof: tuple[bytes, ...] | None = None) -> bytes:
        """The request that submits the tree of size `new` to a witness that holds `old`."""
        shown = self.proof(old, new) if proof is None else proof
        return write_submission(Submission(old=old, proof=shown, note=self.note(new)))


@dataclass(slots=True, kw_only=True)
class Desk:
    """A witness's folder, what it told its operator, and its clock."""

    place: WitnessFolder
    said: list[str] = field(default_factory=list)
    now: float = 1_800_000_000.0

    @property
    def state(self) -> Path:
        return self.place.path / "witness.db"

    @property
    def memory(self) -> Path:
        return memory_path(self.place.keys, self.place.name(None))

    def trust(self, *logs: Log) -> None:
        trust_logs(self.place.logs, [log.vkey for log in logs])

    @contextmanager
    def opened(self) -> Iterator[Witness]:
        key = self.place.key()
        state = WitnessState.open(self.state, memory=memory_path(self.place.keys, key.name))
        try:
            yield Witness(
                state,
                key,
                TrustedLogs(self.place.logs),
                lambda: self.now,
                evidence=Evidence(self.place.forks),
                told=self.said.append,
            )
        finally:
            state.close()

    @contextmanager
    def serving(self, *, buffer: int | None = None) -> Iterator[tuple[int, WitnessServer]]:
        """The witness over HTTP: its port, and the server; `buffer` is what the system takes of answers unread."""
        ready = threading.Event()
        with self.opened() as witness, listen("127.0.0.1", 0) as listener:
            if buffer is not None:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            server = WitnessServer(witness, TrustedLogs(self.place.logs), ready=ready.set)
            thread = threading.Thread(target=server.answer, args=(listener,))
            thread.start()
            try:
                assert ready.wait(WAIT_SECONDS)
                yield listener.getsockname()[1], server
            finally:
                server.stop()
                thread.join(WAIT_SECONDS)
                assert not thread.is_alive()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def other() -> Log:
    """Another log, with a key of its own."""
    return Log(name="example.org/other")


@pytest.fixture
def desk(tmp_path: Path, log: Log) -> Desk:
    """A witness that trusts the log."""
    made = Desk(place=WitnessFolder.at(tmp_path / "w1"))
    made.trust(log)
    return made


@pytest.fixture
def witness(desk: Desk) -> Iterator[Witness]:
    with desk.opened() as opened:
        yield opened


@pytest.fixture
def dialled() -> Iterator[Callable[[int], socket.socket]]:
    """Opens connections to a port of this machine, and closes them in the end."""
    with ExitStack() as stack:

        def dial(port: int) -> socket.socket:
            made = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
            return stack.enter_context(made)

        yield dial


@pytest.fixture(scope="session")
def posted() -> Callable[[bytes], bytes]:
    """The bytes of an HTTP request with this body."""

    def post(body: bytes, path: str = "/add-checkpoint") -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: witness\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    return post


@pytest.fixture(scope="session")
def answered() -> Callable[[socket.socket], tuple[int, dict[str, str], bytes]]:
    """Reads one answer from a connection: status, headers and body; status 0 where it was closed without one."""

    def read(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
        data = b""
        try:
            while b"\r\n\r\n" not in data:
                piece = connection.recv(1)  # what follows is the next answer's
                if not piece:
                    return 0, {}, data
                data += piece
            head = data.decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:-2])}
            body = b""
            while len(body) < int(headers["content-length"]):
                piece = connection.recv(int(headers["content-length"]) - len(body))
                assert piece
                body += piece
        except (ConnectionResetError, BrokenPipeError):
            return 0, {}, data
        return int(head[0].split(" ")[1]), headers, body

    return read
