"""A calendar, a Bitcoin node and block headers of the test's own, for the tests of OpenTimestamps."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

EASY = 0x207FFFFF  # the bits of Bitcoin's own regression tests: every second hash will do


def mine(merkle_root: bytes, *, bits: int = EASY, time: int = 1_800_000_000, version: int = 4) -> bytes:
    """A block header over this merkle root with a real proof of work."""
    size, word = bits >> 24, bits & 0x7FFFFF
    target = word << 8 * (size - 3)
    start = version.to_bytes(4, "little") + bytes(32) + merkle_root
    start += time.to_bytes(4, "little") + bits.to_bytes(4, "little")
    for nonce in range(2**32):
        header = start + nonce.to_bytes(4, "little")
        digest = hashlib.sha256(hashlib.sha256(header).digest()).digest()
        if int.from_bytes(digest, "little") <= target:
            return header
    raise AssertionError("no nonce will do")


Served = tuple[int, bytes]


class WebServer:
    """Real HTTP on a port of its own. What it was asked stands in `asked`; `answer` may be replaced by a test's lies."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        self.answer: Callable[[str, str, bytes], Served | None] = lambda *_: (404, b"Not found")
        self.held = threading.Event()
        """Set when the test is over: what a lying answer waits for."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.asked.append((self.command, self.path, body))
                found = outer.answer(self.command, self.path, body)
                if found is None:
                    self.close_connection = True
                    return
                status, data = found
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", data.decode())
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Content-Type", "application/octet-stream")
                self.end_headers()
                try:
                    self.wfile.write(data)
                except OSError:
                    self.close_connection = True  # whoever asked has had enough

            do_GET = _serve
            do_POST = _serve

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.held.set()
        self._server.shutdown()
        self._thread.join(30)
        self._server.server_close()


@dataclass
class Calendar(WebServer):
    """A calendar as opentimestamps-server answers: it takes a digest at once, and has it in a block when the test says so.

    As there, what it commits to is not the digest itself but one with its own time and key in it.
    """

    height: int = 900_000
    bits: int = EASY
    headers: dict[int, bytes] = field(default_factory=dict)
    commitments: list[bytes] = field(default_factory=list)
    _complete: dict[bytes, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self.answer = self.honest

    def honest(self, method: str, path: str, body: bytes) -> Served | None:
        if (method, path) == ("POST", "/digest"):
            return 200, self._take(body)
        if method == "GET" and path.startswith("/timestamp/"):
            found = self._complete.get(bytes.fromhex(path.removeprefix("/timestamp/")))
            return (404, b"Pending confirmation in Bitcoin blockchain") if found is None else (200, found)
        return 404, b"not found"

    def _take(self, digest: bytes) -> bytes:
        from opentimestamps.core.notary import PendingAttestation
        from opentimestamps.core.op import OpAppend, OpPrepend, OpSHA256
        from opentimestamps.core.timestamp import Timestamp

        stamp = Timestamp(digest)
        tip = stamp.ops.add(OpPrepend(len(self.commitments).to_bytes(4, "big"))).ops.add(OpSHA256())
        tip = tip.ops.add(OpAppend(b"its own k"))
        tip.attestations.add(PendingAttestation(self.url))
        self.commitments.append(tip.msg)
        return written(stamp)

    def confirm(self, *, time: int = 1_800_000_000) -> bytes:
        """Puts all that is pending in the next block: every commitment in a transaction of two, its header mined."""
        from opentimestamps.core.notary import BitcoinBlockHeaderAttestation
        from opentimestamps.core.op import OpAppend, OpPrepend, OpSHA256
        from opentimestamps.core.timestamp import Timestamp, cat_sha256d, make_merkle_tree

        pending = [Timestamp(each) for each in self.commitments if each not in self._complete]
        tip = make_merkle_tree([each.ops.add(OpSHA256()) for each in pending])
        txid = tip.ops.add(OpPrepend(b"\x01\x00\x00\x00 an input, ")).ops.add(OpAppend(b", an output"))
        txid = txid.ops.add(OpSHA256()).ops.add(OpSHA256())
        merkle_root = cat_sha256d(Timestamp(hashlib.sha256(b"coinbase").digest()), txid)
        merkle_root.attestations.add(BitcoinBlockHeaderAttestation(self.height))
        header = mine(merkle_root.msg, bits=self.bits, time=time)
        self.headers[self.height] = header
        self.height += 1
        for each in pending:
            self._complete[each.msg] = written(each)
        return header


def written(stamp: object) -> bytes:
    """A timestamp as the library writes it."""
    from opentimestamps.core.serialize import BytesSerializationContext

    out = BytesSerializationContext()
    stamp.serialize(out)  # type: ignore[attr-defined]  # the library has no types
    return bytes(out.getbytes())


@pytest.fixture
def calendar() -> Iterator[Calendar]:
    pytest.importorskip("opentimestamps", reason="the extra ots is not installed")
    made = Calendar()
    yield made
    made.close()


@pytest.fixture
def other_calendar() -> Iterator[Calendar]:
    made = Calendar()
    yield made
    made.close()


@pytest.fixture
def web() -> Iterator[WebServer]:
    """A server whose answers a test gives."""
    made = WebServer()
    yield made
    made.close()


@pytest.fixture(scope="session")
def block() -> Callable[..., bytes]:
    """Makes a block header over a merkle root, with a real proof of work."""
    return mine


@pytest.fixture(scope="session")
def block_hash() -> Callable[[bytes], str]:
    """The hash of a header, as Bitcoin's programs write it."""
    return hash_of


@pytest.fixture(scope="session")
def serialised() -> Callable[[object], bytes]:
    """A timestamp as the library writes it."""
    return written


@pytest.fixture
def node(web: WebServer, calendar: Calendar) -> WebServer:
    """A Bitcoin node's REST interface over the calendar's blocks."""

    def answer(method: str, path: str, body: bytes) -> Served:
        for height, header in calendar.headers.items():
            name = hash_of(header)
            if path == f"/rest/blockhashbyheight/{height}.hex":
                return 200, f"{name}\n".encode()
            if path == f"/rest/headers/{name}.hex?count=1":
                return 200, f"{header.hex()}\n".encode()
        return 404, b"Block height out of range"

    web.answer = answer
    return web


def hash_of(header: bytes) -> str:
    return hashlib.sha256(hashlib.sha256(header).digest()).digest()[::-1].hex()
