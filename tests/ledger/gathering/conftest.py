"""Small witnesses over real HTTP, honest or with a trick of their own, and a log for them to see."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from agentmesh_ledger import Draft, DraftPart, KeyStore, Ledger, LedgerError, Policy, Ports, parse_policy
from agentmesh_ledger.checkpoint import open_checkpoint, parse_checkpoint
from agentmesh_ledger.cosignature import CosignerKey, cosign
from agentmesh_ledger.keys import LogKey
from agentmesh_ledger.note import parse_note, parse_vkey
from agentmesh_ledger.tree import EMPTY_ROOT, verify_consistency
from agentmesh_ledger.witness.request import parse_submission

ORIGIN = "agentmesh.local/desk"
TIME = 1_700_000_000
WAIT = 20


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the surroundings stands between a test and its own witnesses."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def secret(name: str) -> LogKey:
    key = SigningKey(hashlib.sha256(name.encode()).digest())
    return LogKey(name=name, public=bytes(key.verify_key), _key=key)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    witness: SmallWitness

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answered(lambda: self.witness.add_checkpoint(body))

    def do_GET(self) -> None:
        self._answered(lambda: self.witness.get(self.path))

    def _answered(self, answer: Callable[[], tuple[int, bytes]]) -> None:
        self.witness.asked.append(self.path)
        self.close_connection = True
        if not self.witness.trick(self):
            self.say(*answer())

    def say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


class SmallWitness:
    """The rule of tlog-witness in memory. `trick` may answer otherwise, and says so by returning true."""

    def __init__(self, name: str) -> None:
        self.key = secret(name)
        self.name = name
        self.size, self.root, self.note = 0, EMPTY_ROOT, ""
        self.asked: list[str] = []
        self.olds: list[int] = []
        self.shows_note = True
        self.serves_note = False
        self.trick: Callable[[Handler], bool] = lambda _: False
        self.closing = threading.Event()
        self.url = ""
        self._turn = threading.Lock()

    @property
    def vkey(self) -> str:
        return str(CosignerKey(name=self.name, public=self.key.public))

    def line(self, note: str, time: int = TIME) -> bytes:
        """The cosignature of a note, as an answer."""
        return cosign(note, self.key, time)[len(note) :].encode()

    def add_checkpoint(self, body: bytes) -> tuple[int, bytes]:
        submission = parse_submission(body)
        self.olds.append(submission.old)
        checkpoint = parse_checkpoint(parse_note(submission.note).text)
        with self._turn:
            if submission.old != self.size:
                return 409, f"{self.size}\n".encode()
            try:
                verify_consistency(self.size, checkpoint.size, submission.proof, self.root, checkpoint.root)
            except LedgerError:
                return 422, self.note.encode() if self.shows_note else b"no\n"
            self.size, self.root, self.note = checkpoint.size, checkpoint.root, submission.note
        return 200, self.line(submission.note)

    def get(self, path: str) -> tuple[int, bytes]:
        wanted = f"/{hashlib.sha256(ORIGIN.encode()).hexdigest()}/checkpoint"
        return (200, self.note.encode()) if self.serves_note and path == wanted else (404, b"")

    def hang(self, _: Handler) -> bool:
        """Says nothing until the test is over."""
        self.closing.wait(WAIT)
        return True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = (
        128  # of five, the standard library's, a busy machine loses some where 64 come at once
    )

    def handle_error(self, request: object, client_address: object) -> None:
        return  # the client hung up, as it should


@pytest.fixture
def witnesses() -> Iterator[Callable[[int], list[SmallWitness]]]:
    """Starts so many witnesses."""
    running: list[tuple[SmallWitness, Server, threading.Thread]] = []

    def start(count: int) -> list[SmallWitness]:
        for _ in range(count):
            witness = SmallWitness(f"w{len(running)}.example")
            server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"witness": witness}))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            witness.url = f"http://127.0.0.1:{server.server_address[1]}"
            running.append((witness, server, thread))
        return [witness for witness, _, _ in running]

    yield start
    for witness, server, thread in running:
        witness.closing.set()
        server.shutdown()
        thread.join(WAIT)
        server.server_close()


@pytest.fixture
def make_policy() -> Callable[..., Policy]:
    """A policy that trusts a log, if any, and wants so many of the witnesses."""

    def make(vkey: str | None, found: list[SmallWitness], need: int) -> Policy:
        lines = [] if vkey is None else [f"log {vkey}"]
        lines += [f"witness W{at} {each.vkey} {each.url}" for at, each in enumerate(found)]
        lines.append(f"group some {need} " + " ".join(f"W{at}" for at in range(len(found))))
        lines.append("quorum some")
        return parse_policy(("\n".join(lines) + "\n").encode())

    return make


@pytest.fixture
def ledger(tmp_path: Path, ports: Ports) -> Iterator[Ledger]:
    """An empty log in a folder `desk`, with its keys beside it, as a command finds it."""
    folder = tmp_path / "desk"
    folder.mkdir()
    keys = KeyStore(folder / "keys")
    with Ledger.open(folder / "ledger.db", origin=ORIGIN, keys=keys, create=True, ports=ports) as opened:
        yield opened


@pytest.fixture
def grow() -> Callable[..., None]:
    """Appends messages, so that the log has just so many entries; what they say tells branches apart."""

    def append(ledger: Ledger, size: int, text: str = "391") -> None:
        ada = KeyStore(ledger.path.parent / "keys").agent("ada")
        part = DraftPart(name="text", type="text/plain", data=text.encode())
        draft = Draft(author=ada, kind="say", dialogue="d1", parts=(part,))
        if not ledger.size:
            size -= 1  # the registration of the author
        ledger.append([draft] * (size - ledger.size))

    return append


@pytest.fixture
def signed_by() -> Callable[[Ledger, str], int]:
    """The size of a note that the log signed."""
    return lambda ledger, note: open_checkpoint(note, [parse_vkey(ledger.vkey())]).checkpoint.size


@pytest.fixture
def key_of() -> Callable[[str], LogKey]:
    """A signer of any name."""
    return secret
