"""A published log read over HTTP: from a real server, followed, interrupted, and against servers that fail or lie."""

from __future__ import annotations

import gzip
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentmesh_ledger import LedgerError
from agentmesh_ledger.__main__ import main
from agentmesh_ledger.kept import read_kept
from agentmesh_ledger.mirror import TilesVerified, verify_tiles
from agentmesh_ledger.web import TRIES, WebFiles

SIZE = 600


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the surroundings stands between a test and its own server."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def log(talk):
    return talk(SIZE)


def check(log, source, **arguments: object) -> TilesVerified:
    return verify_tiles(source, keys=[log.key.vkey], **arguments)  # type: ignore[arg-type]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; `trick` may do otherwise, and says so by returning true."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if not self.server.trick(self):  # type: ignore[attr-defined]
            super().do_GET()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def served(
    folder: Path, trick: Callable[[Handler], bool] = lambda _: False
) -> Iterator[tuple[str, list[str]]]:
    def handler(*arguments: object) -> Handler:
        return Handler(*arguments, directory=str(folder))  # type: ignore[arg-type]

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            return  # the client hung up, as it should

    server = Server(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.asked, server.trick = [], trick  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", server.asked  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def web(url: str, **changes: object) -> tuple[WebFiles, list[float]]:
    pauses: list[float] = []
    return WebFiles(url, sleep=pauses.append, **changes), pauses  # type: ignore[arg-type]


@pytest.mark.spec("L-35", "L-38")
def test_a_log_behind_a_real_server_is_verified_and_followed(log, publish, tmp_path: Path) -> None:
    folder, state = publish(tmp_path / "log", log, 300), tmp_path / "state"
    with served(tmp_path) as (url, asked):
        found = check(log, f"{url}/log/", state=state)
        assert found.log.entries == 300 and found.files == 6
        assert all(".p/" not in path or path.endswith(("/44", "/1")) for path in asked), (
            "no arbitrary partial tile"
        )
        publish(folder, log, SIZE)
        asked.clear()
        assert check(log, f"{url}/log", state=state).since == 300
        assert "/log/tile/entries/000" not in asked
        with pytest.raises(LedgerError) as caught:
            check(log, f"{url}/nowhere")
        assert caught.value.reason == "not_found"


def test_files_are_fetched_ahead_each_once_and_a_fault_is_met_in_its_turn(
    talk, publish, tmp_path: Path
) -> None:
    log = talk(3000)
    publish(tmp_path / "log", log, 3000)
    state = tmp_path / "state"
    with served(tmp_path) as (url, asked):
        far = check(log, f"{url}/log")
        assert len(asked) == len(set(asked)) == far.files
        assert far == check(log, tmp_path / "log")
        (tmp_path / "log" / "tile" / "entries" / "010").rename(tmp_path / "away")
        with pytest.raises(LedgerError) as caught:
            check(log, f"{url}/log", state=state)
        assert caught.value.reason == "tile" and "tile/entries/010" in str(caught.value)
        (tmp_path / "away").rename(tmp_path / "log" / "tile" / "entries" / "010")
        asked.clear()
        found = check(log, f"{url}/log", state=state)
        assert found.since == 2560
        assert len(asked) == len(set(asked)) == found.files


def once(*paths: str) -> Callable[[str], bool]:
    """Whether a path is asked for the first time."""
    left = set(paths)

    def first(path: str) -> bool:
        if path in left:
            left.remove(path)
            return True
        return False

    return first


def body(handler: Handler, status: int, data: bytes, **headers: str) -> bool:
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(data)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)
    return True


def hang_up(handler: Handler) -> bool:
    handler.connection.shutdown(socket.SHUT_RDWR)
    return True


@pytest.mark.parametrize(
    "trick",
    [
        hang_up,
        lambda handler: body(handler, 503, b"busy"),
        lambda handler: body(handler, 500, b"x" * 100_000),
        lambda handler: body(handler, 429, b""),
        lambda handler: body(handler, 200, b"short", Content_Length="5000"),
        lambda handler: bool(handler.wfile.write(b"HTTP/1.1 banana\r\n\r\n")),
        lambda handler: bool(handler.wfile.write(b"\0\xff" * 500)),
        lambda handler: bool(
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nabc")
        ),
    ],
)
def test_what_fails_once_is_tried_again_and_what_fails_always_is_given_up(
    log, publish, tmp_path: Path, trick: Callable[[Handler], bool]
) -> None:
    publish(tmp_path, log, 300)
    first = once("/checkpoint", "/tile/0/000", "/tile/entries/000")
    with served(tmp_path, lambda handler: first(handler.path) and trick(handler)) as (url, _):
        files, pauses = web(url)
        assert check(log, files).log.entries == 300
        assert pauses == [0.5] * 3
    with served(tmp_path, lambda handler: handler.path == "/tile/entries/000" and trick(handler)) as (
        url,
        asked,
    ):
        files, pauses = web(url)
        with pytest.raises(LedgerError) as caught:
            check(log, files)
        assert caught.value.reason == "unreadable" and "/tile/entries/000" in str(caught.value)
        assert asked.count("/tile/entries/000") == TRIES and pauses == [0.5, 1.0, 2.0]


def garbage(handler: Handler) -> bool:
    return body(handler, 200, os.urandom(1000))


@pytest.mark.parametrize(
    ("path", "trick", "reason"),
    [
        ("/checkpoint", garbage, "checkpoint"),
        ("/checkpoint", lambda h: body(h, 200, b"x" * 300_000), "checkpoint"),
        ("/tile/0/000", garbage, "tile"),
        ("/tile/entries/000", garbage, "tile"),
        ("/tile/entries/000", lambda h: body(h, 200, b"", Content_Length=str(1 << 60)), "tile"),
        ("/tile/entries/000", lambda h: body(h, 200, b"x" * 70_000, Content_Length="7"), "tile"),
        ("/tile/0/000", lambda h: body(h, 200, b"x" * 8193), "tile"),
        ("/tile/0/000", lambda h: body(h, 404, b"gone"), "tile"),
        ("/tile/0/000", lambda h: body(h, 403, b"no"), "unreadable"),
        ("/tile/0/000", lambda h: body(h, 206, b"x"), "unreadable"),
        ("/tile/0/000", lambda h: body(h, 200, b"x", Content_Encoding="br"), "unreadable"),
        ("/tile/0/000", lambda h: body(h, 200, b"no gzip", Content_Encoding="gzip"), "tile"),
        ("/tile/0/000", lambda h: body(h, 200, gzip.compress(b"\0" * 50_000_000), Content_Encoding="gzip"), "tile"),
        ("/tile/0/000", lambda h: body(h, 200, gzip.compress(b"\0" * 8192)[:-1], Content_Encoding="gzip"), "tile"),
        ("/tile/0/000", lambda h: body(h, 302, b"", Location="file:///etc/hostname"), "unreadable"),
        ("/tile/0/000", lambda h: body(h, 301, b"", Location="https://127.0.0.1/x"), "unreadable"),
        ("/tile/0/000", lambda h: body(h, 307, b"", Location="ftp://127.0.0.1/x"), "unreadable"),
        ("/tile/0/000", lambda h: body(h, 302, b"", Location="/tile/0/000"), "unreadable"),
        ("/tile/0/000", lambda h: body(h, 302, b"", Location="http://127.0.0.1:99999999/"), "unreadable"),
        ("/tile/0/000", lambda h: body(h, 302, b"", Location="http://[::1/"), "unreadable"),
        ("/tile/0/000", lambda h: body(h, 302, b""), "unreadable"),
    ],
)  # fmt: skip
def test_a_hostile_answer_is_refused_with_its_reason(
    log, publish, tmp_path: Path, path: str, trick: Callable[[Handler], bool], reason: str
) -> None:
    publish(tmp_path, log, 300)
    with served(tmp_path, lambda handler: handler.path == path and trick(handler)) as (url, asked):
        files, _ = web(url)
        with pytest.raises(LedgerError) as caught:
            check(log, files)
        assert caught.value.reason == reason
        assert len(asked) < 20


def test_gzip_and_redirects_within_the_scheme_are_followed(log, publish, tmp_path: Path) -> None:
    publish(tmp_path / "real", log, 300)

    def trick(handler: Handler) -> bool:
        if handler.path.startswith("/moved/"):
            return body(handler, 302, b"x" * 10, Location=handler.path.replace("/moved/", "/real/", 1))
        data = (tmp_path / handler.path[1:]).read_bytes() if (tmp_path / handler.path[1:]).is_file() else None
        return data is not None and body(handler, 200, gzip.compress(data), Content_Encoding="gzip")

    with served(tmp_path, trick) as (url, _):
        assert check(log, f"{url}/moved").log.entries == 300


@pytest.mark.parametrize("headers", [True, False])
def test_a_server_that_drips_is_given_up(log, tmp_path: Path, headers: bool) -> None:
    stop = threading.Event()

    def trick(handler: Handler) -> bool:
        if not headers:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
        for _ in range(2000):
            if stop.wait(0.01):
                break
            handler.wfile.write(b"X: y\r\n" if headers and _ % 2 else b"H" if not headers else b"")
            handler.wfile.flush()
        return True

    with served(tmp_path, trick) as (url, asked):
        files, _ = web(url, whole=0.1, silence=5.0)
        try:
            with pytest.raises(LedgerError) as caught:
                check(log, files)
        finally:
            stop.set()
        assert caught.value.reason == "unreadable" and len(asked) == TRIES


def test_a_server_that_is_silent_or_away_is_given_up(log) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        files, pauses = web(f"http://127.0.0.1:{port}", silence=0.05)
        with pytest.raises(LedgerError) as caught:
            check(log, files)
        assert caught.value.reason == "unreadable" and len(pauses) == TRIES - 1
    files, _ = web(f"http://127.0.0.1:{port}")
    with pytest.raises(LedgerError) as caught:
        check(log, files)
    assert caught.value.reason == "unreadable"


@pytest.mark.parametrize(
    "url", ["http://", "https://a b/", "http://x/?q=1", "http://x/#f", "http://x/\n", "http://[/"]
)
def test_what_is_no_url_of_a_log_is_refused(log, url: str) -> None:
    with pytest.raises(LedgerError) as caught:
        check(log, url)
    assert caught.value.reason == "unreadable"


def test_control_c_ends_the_command_with_130_and_the_next_run_does_the_rest(
    log, publish, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(tmp_path / "log", log, SIZE)
    state = tmp_path / "state"
    asked, go_on = threading.Event(), threading.Event()

    def trick(handler: Handler) -> bool:
        if handler.path.endswith("tile/entries/001"):
            asked.set()
            go_on.wait(30)
            return hang_up(handler)
        return False

    with served(tmp_path, trick) as (url, _):
        words = ["tiles", f"{url}/log", "--key", log.key.vkey, "--state", str(state)]
        running = subprocess.Popen(
            [sys.executable, "-m", "agentmesh_ledger", *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert asked.wait(30)
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=30)
        finally:
            running.kill()
            running.wait(30)
            go_on.set()
    assert (running.returncode, out) == (130, b"")
    assert b"interrupted" in err and b"Traceback" not in err
    kept = read_kept(state)
    assert kept is not None and kept.seen == log.checkpoint(SIZE).sign(log.key)
    assert main(["tiles", str(tmp_path / "log"), "--key", log.key.vkey, "--state", str(state)]) == 0
    assert f"entries of {SIZE}" in capsys.readouterr().out
