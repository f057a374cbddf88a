"""A web server that misbehaves as it is told, and a stand-in of the hub with a storage host behind it."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agentmesh_models.store.download import Patience

HASTY = Patience(attempts=3, pause=0.0, longest_pause=0.0, silence=5.0)
"""No pauses: what is tested is what is done, not how long is waited."""

COMMIT = "ab" * 20


class Handler(BaseHTTPRequestHandler):
    """Hands every request to the site's script."""

    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.log.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        try:
            self.server.script(self.path)(self)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client hung up, as it may

    do_HEAD = do_GET

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Connection": "close", **headers}.items():
            self.send_header(key, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what came is in `Site.log`."""


Behaviour = Callable[[Handler], None]


def whole(data: bytes, *, etag: str | None = '"v1"', headers: Mapping[str, str] | None = None) -> Behaviour:
    """A server as it should be: it knows ranges, and gives the whole where the tag is another."""

    def behave(request: Handler) -> None:
        given = {"ETag": etag, **(headers or {})} if etag else dict(headers or {})
        found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        condition = request.headers.get("If-Range")
        if found and (condition is None or condition == etag):
            start = int(found[1])
            if start >= len(data):
                request.head(416, {**given, "Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
                return
            told = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            request.head(206, {**given, **told, "Content-Length": str(len(data) - start)})
            request.wfile.write(data[start:])
            return
        request.head(200, {**given, "Content-Length": str(len(data))})
        if request.command != "HEAD":
            request.wfile.write(data)

    return behave


def says(
    code: int, data: bytes, *, length: int | None = None, headers: Mapping[str, str] | None = None
) -> Behaviour:
    """An answer of which the announced length may be a lie; without ranges."""

    def behave(request: Handler) -> None:
        told = {"Content-Length": str(len(data) if length is None else length), **(headers or {})}
        request.head(code, told)
        request.wfile.write(data)

    return behave


def drop(data: bytes, after: int, *, etag: str | None = '"v1"') -> Behaviour:
    """The connection breaks in the middle."""
    return says(200, data[:after], length=len(data), headers={"ETag": etag} if etag else {})


def status(code: int, headers: Mapping[str, str] | None = None) -> Behaviour:
    return says(code, b"", headers=headers)


def redirect(location: str, code: int = 302) -> Behaviour:
    return status(code, {"Location": location})


def stall(data: bytes, after: int) -> Behaviour:
    """Some bytes, and then nothing, with the connection open."""

    def behave(request: Handler) -> None:
        request.head(200, {"Content-Length": str(len(data)), "ETag": '"v1"'})
        request.wfile.write(data[:after])
        request.wfile.flush()
        request.server.released.wait(30)

    return behave


def chunked(data: bytes, *, cut: bool = False) -> Behaviour:
    """No length beforehand; with `cut` the connection ends before the last chunk."""

    def behave(request: Handler) -> None:
        request.head(200, {"Transfer-Encoding": "chunked"})
        for at in range(0, len(data), 1000):
            part = data[at : at + 1000]
            request.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        if not cut:
            request.wfile.write(b"0\r\n\r\n")

    return behave


class Site(ThreadingHTTPServer):
    """A server on loopback. Of the behaviours of a path each request takes the next; the last one stays."""

    daemon_threads = True
    whole = staticmethod(whole)
    says = staticmethod(says)
    drop = staticmethod(drop)
    status = staticmethod(status)
    redirect = staticmethod(redirect)
    stall = staticmethod(stall)
    chunked = staticmethod(chunked)

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.log: list[tuple[str, str, dict[str, str]]] = []
        self.released = threading.Event()
        self.scheme = "http"
        self.unknown: Behaviour = status(404)
        self._scripts: dict[str, list[Behaviour]] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def serve(self, path: str, *behaviours: Behaviour) -> str:
        self._scripts[path] = list(behaviours)
        return self.url + path

    def script(self, path: str) -> Behaviour:
        with self._lock:
            waiting = self._scripts.get(path.partition("?")[0], [self.unknown])
            return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def asked(self, header: str) -> list[str | None]:
        """What each request said under a header."""
        return [headers.get(header) for _, _, headers in self.log]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


@contextmanager
def running() -> Iterator[Site]:
    site = Site()
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        site.released.set()
        site.shutdown()
        thread.join()
        site.server_close()


@pytest.fixture
def hasty() -> Patience:
    """No pauses."""
    return HASTY


@pytest.fixture
def site() -> Iterator[Site]:
    with running() as made:
        yield made


@pytest.fixture
def other() -> Iterator[Site]:
    """Another server: another origin."""
    with running() as made:
        yield made


@pytest.fixture
def model(make_gguf: Callable[..., Path]) -> bytes:
    """The bytes of a small whole model."""
    path = make_gguf(data=bytes(range(256)) * 256)
    data = path.read_bytes()
    path.unlink()
    return data


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The models' folder of this test."""
    place = tmp_path / "models"
    monkeypatch.setenv("AGENTMESH_MODELS", str(place))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return place


@dataclass
class Hub:
    """A stand-in of the hub's HTTP interface, as its own client uses it; files lie on another host."""

    site: Site
    storage: Site
    gated: bool = False
    token: str | None = None
    files: dict[str, bytes] = field(default_factory=dict)

    def put(
        self, repo: str, file: str, data: bytes, *, told: bytes | None = None, revision: str = "main"
    ) -> None:
        """Offer a file. `told` is what the metadata is of, where the storage sends something else."""
        digest = hashlib.sha256(data if told is None else told).hexdigest()
        size = len(data if told is None else told)
        self.files[f"{repo}/{file}"] = data
        behind = self.storage.serve(f"/{repo}/{file}", whole(data, etag=f'"{digest[:32]}"'))
        facts = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(size),
            "ETag": '"of the pointer"',
            "Location": behind + "?Signature=very-secret",
        }

        def resolve(request: Handler) -> None:
            if self.gated and request.headers.get("Authorization") != f"Bearer {self.token}":
                request.head(401, {"X-Error-Code": "GatedRepo", "Content-Length": "0"})
                return
            request.head(302, {**facts, "Content-Length": "0"})

        for at in (revision, COMMIT):
            self.site.serve(f"/{repo}/resolve/{at}/{file}", resolve)
        names = [each.removeprefix(f"{repo}/") for each in self.files if each.startswith(f"{repo}/")]
        about = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
        for path in (f"/api/models/{repo}", f"/api/models/{repo}/revision/{revision}"):
            self.site.serve(path, _json(about))


def _json(value: object) -> Behaviour:
    return says(200, json.dumps(value).encode(), headers={"Content-Type": "application/json"})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The hub that the real client is sent to; no token, no cache of the user's."""
    client = pytest.importorskip("huggingface_hub", reason="needs the extra 'hub'")
    import huggingface_hub.constants as constants

    with running() as site, running() as storage:
        monkeypatch.setenv("HF_ENDPOINT", site.url)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        site.unknown = status(404, {"X-Error-Code": "EntryNotFound"})
        yield Hub(site=site, storage=storage)
        client.close_session()
