"""Whatever a client sends or leaves out, the witness answers with a status other than 500 or closes, and serves the next one."""

from __future__ import annotations

import socket
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmesh_ledger.witness import connection as bounds
from agentmesh_ledger.witness.request import MAX_BODY

HEAD = b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\n"
MEBIBYTE = 1024 * 1024


def sent(connection: socket.socket, data: bytes) -> None:
    """All of it, or as much as the other side takes before it closes."""
    try:
        connection.sendall(data)
    except (ConnectionResetError, BrokenPipeError):
        pass


def serves(desk, log, dialled, posted, answered, port: int) -> None:
    """An honest log is cosigned, here and now."""
    connection = dialled(port)
    connection.sendall(posted(log.body(0, 5)))
    assert answered(connection)[0] in (200, 409)
    connection.sendall(posted(log.body(5, 5)))
    assert answered(connection)[0] == 200


HOSTILE: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "10 MiB with a length": (HEAD + b"Content-Length: 10485760\r\n\r\n" + b"x" * 10 * MEBIBYTE, (413, 0)),
    "10 MiB in chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"100000\r\n" + b"x" * MEBIBYTE + b"\r\n") * 10 + b"0\r\n\r\n", (413, 0)),
    "a length beyond numbers": (HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n", (400, 413, 0)),
    "a negative length": (HEAD + b"Content-Length: -1\r\n\r\n", (400,)),
    "two lengths": (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", (400,)),
    "a length and chunks": (HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
    "chunks that are none": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", (400,)),
    "an empty body": (HEAD + b"Content-Length: 0\r\n\r\n", (400,)),
    "no length": (HEAD + b"\r\n", (400,)),
    "not UTF-8": (HEAD + b"Content-Length: 12\r\n\r\nold 0\n\n\xff\xfe\xfd\xfc\n", (400,)),
    "zero bytes": (HEAD + b"Content-Length: 8\r\n\r\n" + bytes(8), (400,)),
    "a head without end": (HEAD + b"X-Y: " + b"y" * 5 * MEBIBYTE, (400, 0)),
    "heads without end": (HEAD + b"X-Y: z\r\n" * MEBIBYTE, (400, 0)),
    "a long head in one piece": (b"GET / HTTP/1.1\r\nHost: w\r\nX-Y: " + b"y" * 20_000 + b"\r\n\r\n", (400, 0)),
    "many heads in one piece": (b"GET / HTTP/1.1\r\nHost: w\r\n" + b"X: y\r\n" * 3_000 + b"\r\n", (400, 0)),
    "a path without end": (b"GET /" + b"a" * 2 * MEBIBYTE, (400, 0)),
    "a request in each line": (b"GET / HTTP/1.1\r\n\r\n" * 20_000, (200, 400)),
    "garbage": (bytes(range(256)) * 40, (400,)),
    "a greeting of TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), (400,)),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 0)),
    "HTTP/1.0": (b"POST /add-checkpoint HTTP/1.0\r\nContent-Length: 3\r\n\r\nold", (400,)),
    "CONNECT": (b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n", (400, 404, 405)),
    "a path of other bytes": (b"GET /\xff\xfe HTTP/1.1\r\nHost: w\r\n\r\n", (400, 404)),
    "an absolute URL": (b"GET http://w/ HTTP/1.1\r\nHost: w\r\n\r\n", (200,)),
    "a bad URL": (b"GET http://[::1 HTTP/1.1\r\nHost: w\r\n\r\n", (400,)),
    "an asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: w\r\n\r\n", (400, 404, 405)),
    "a web socket": (b"GET / HTTP/1.1\r\nHost: w\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAA\r\n\r\n", (200, 400)),
    "an upgrade to HTTP/2": (b"GET / HTTP/1.1\r\nHost: w\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n\r\n", (200, 400)),
    "a million signature lines": (
        HEAD + b"Content-Length: 16000007\r\n\r\nold 0\n\n" + "\N{EM DASH} a AAAAAAA=\n".encode() * 1_000_000,
        (413, 0),
    ),
}  # fmt: skip


@pytest.mark.spec("L-138")
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_bytes_are_refused_and_the_next_client_is_served(
    desk, log, dialled, posted, answered, kind: str
) -> None:
    data, allowed = HOSTILE[kind]
    with desk.serving() as (port, server):
        for _ in range(3):
            connection = dialled(port)
            sent(connection, data)
            assert answered(connection)[0] in allowed
            connection.close()
        serves(desk, log, dialled, posted, answered, port)
    assert not server.server_state.tasks and not server._app._waiting


@pytest.mark.spec("L-138")
def test_a_body_in_chunks_or_after_100_continue_is_as_good_as_any(desk, log, dialled, answered) -> None:
    with desk.serving() as (port, _):
        connection, body = dialled(port), log.body(0, 5)
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in (body[:7], body[7:90], body[90:]))
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert answered(connection)[0] == 200
        body = log.body(5, 9)
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert answered(connection)[0] == 200


@pytest.mark.spec("L-138")
@pytest.mark.parametrize(
    ("request_line", "begin", "more"),
    [
        (b"POST /add-checkpoint", b"0\r\n", b"X-Y: " + b"y" * 100 + b"\r\n"),
        (b"POST /add-checkpoint", b"0\r\nX-Y: ", b"y" * 100),
        (b"POST /add-checkpoint", b"5;", b"y" * 100),
        (b"POST /", b"", b"64\r\n" + b"y" * 100 + b"\r\n"),  # which is answered before its body is there
    ],
)
def test_what_stands_about_a_body_has_an_end_too(
    desk, log, dialled, posted, answered, request_line: bytes, begin: bytes, more: bytes
) -> None:
    with desk.serving() as (port, _):
        connection = dialled(port)
        connection.sendall(
            request_line + b" HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n" + begin
        )
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(64):
                connection.sendall(more * 10_000)
        serves(desk, log, dialled, posted, answered, port)


@pytest.mark.spec("L-138")
def test_trailers_are_dropped_and_a_body_in_tiny_chunks_is_read(desk, log, dialled, answered) -> None:
    with desk.serving() as (port, server):
        connection, body = dialled(port), log.body(0, 5)
        chunks = b"".join(b"1\r\n%c\r\n" % each for each in body + b"x" * (MAX_BODY - len(body)))
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert answered(connection)[0] == 400
        chunks = b"".join(b"1\r\n%c\r\n" % each for each in body)
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nX-Y: z\r\n\r\n")
        assert answered(connection)[0] == 200
        assert all(len(each.headers) == 2 for each in server.server_state.connections)


def closed_within(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionResetError:
        pass
    return True


STOPS = [
    b"",
    b"\r\n",
    b"P",
    HEAD,
    HEAD + b"Content-Length: 100\r\n\r\n",
    HEAD + b"Content-Length: 100\r\n\r\nold 0\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nold",
    HEAD + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n",
]


@pytest.mark.spec("L-138")
@pytest.mark.parametrize(
    ("said", "before"),
    # After an answer, silence is no request that stops: it is a connection kept open, which uvicorn ends.
    [*((said, False) for said in STOPS), *((said, True) for said in STOPS if said)],
)
def test_a_client_that_stops_half_way_is_dropped(
    desk, log, dialled, posted, answered, monkeypatch: pytest.MonkeyPatch, said: bytes, before: bool
) -> None:
    monkeypatch.setattr(bounds, "REQUEST_SECONDS", 0.3)
    with desk.serving() as (port, server):
        connection = dialled(port)
        if before:
            connection.sendall(posted(log.body(0, 5)))
            assert answered(connection)[0] == 200
        connection.sendall(said)
        assert closed_within(connection, 30)
        serves(desk, log, dialled, posted, answered, port)
    assert not server.server_state.tasks


@pytest.mark.spec("L-138")
def test_a_client_that_sends_a_byte_now_and_then_is_dropped_too(
    desk, log, dialled, posted, answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "REQUEST_SECONDS", 0.5)
    with desk.serving() as (port, _):
        connection, started = dialled(port), time.monotonic()
        data = posted(log.body(0, 5))
        connection.settimeout(0.02)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for byte in data:
                connection.send(bytes([byte]))
                try:
                    if connection.recv(1) == b"":
                        raise ConnectionResetError
                except TimeoutError:
                    continue
        assert time.monotonic() - started < 30
        serves(desk, log, dialled, posted, answered, port)


@pytest.mark.spec("L-138")
def test_a_client_that_reads_no_answer_is_dropped(
    desk, log, dialled, posted, answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "REQUEST_SECONDS", 0.5)
    with desk.serving(buffer=4096) as (port, server), socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", port))
        asked, until, state = 0, time.monotonic() + 60, server.server_state
        while not state.connections:
            assert time.monotonic() < until
        while state.connections:  # until it is cut off; without a bound, for ever
            assert time.monotonic() < until
            if state.total_requests == asked:
                sent(connection, b"GET / HTTP/1.1\r\nHost: w\r\n\r\n" * 8)
                asked += 8
        assert asked > state.total_requests > 0
        serves(desk, log, dialled, posted, answered, port)


@pytest.mark.spec("L-138")
def test_more_connections_than_there_is_room_for_do_not_shut_others_out(
    desk, log, dialled, posted, answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MAX_CONNECTIONS", 20)
    with desk.serving() as (port, server):
        silent = [dialled(port) for _ in range(60)]
        serves(desk, log, dialled, posted, answered, port)
        assert len(server.server_state.connections) <= 21
        assert sum(closed_within(each, 0.05) for each in silent) >= 39


@pytest.mark.spec("L-138")
def test_a_client_that_goes_away_leaves_nothing_behind(desk, log, dialled, posted, answered) -> None:
    with desk.serving() as (port, server):
        for cut in (10, 80, 120, None):
            for _ in range(10):
                connection = dialled(port)
                connection.sendall(posted(log.body(0, 5))[:cut])
                # An abortive close: the peer is told by a reset.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                connection.close()
        serves(desk, log, dialled, posted, answered, port)
    assert not server.server_state.tasks and not server._app._waiting


CHANGES = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 60), st.binary(max_size=9)), min_size=1, max_size=4
)


@pytest.mark.spec("L-138")
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES)
def test_a_submission_with_any_change_is_answered_as_the_specification_has_it(
    witness, log, changes: list[tuple[int, int, bytes]]
) -> None:
    witness.add_checkpoint(log.body(0, 5))
    body = log.body(5, 9)
    for where, length, data in changes:
        body = body[:where] + data + body[where + length :]
    answer = witness.add_checkpoint(body)
    assert answer.status in (200, 400, 403, 404, 409, 422)
    if answer.status == 200:  # then at most who else has signed was changed
        assert witness.checkpoint(log.name).body == log.note(9).encode() + answer.body


def test_the_longest_body_allowed_is_read_and_one_more_byte_is_not(
    desk, log, dialled, posted, answered
) -> None:
    with desk.serving() as (port, _):
        for length, status in ((MAX_BODY, 400), (MAX_BODY + 1, 413)):
            connection = dialled(port)
            connection.sendall(posted(b"x" * length))
            assert answered(connection)[0] == status
