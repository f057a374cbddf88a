"""The witness over real HTTP: paths, statuses and bodies, connections kept open, requests that share a transaction."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import subprocess
import sys
import threading
import time
import urllib.request

import pytest

from agentmesh_ledger.cosignature import cosignatures, parse_cosigner
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.note import parse_note
from agentmesh_ledger.witness.server import listen
from agentmesh_ledger.witness.state import WitnessState


@pytest.mark.spec("L-132")
def test_statuses_types_and_bodies_are_those_of_the_specification(desk, log, other) -> None:
    with desk.serving() as (port, _):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

        def post(body: bytes) -> tuple[int, str | None, bytes]:
            client.request("POST", "/add-checkpoint", body)
            answer = client.getresponse()
            return answer.status, answer.getheader("content-type"), answer.read()

        text = "text/plain; charset=utf-8"
        status, kind, line = post(log.body(0, 5))
        assert (status, kind) == (200, text)
        assert len(cosignatures(parse_note(log.note(5) + line.decode()), [desk.place.key().id])) == 1
        assert post(log.body(0, 7)) == (409, "text/x.tlog.size", b"5\n")
        assert post(log.body(5, 9, ())) == (422, text, log.note(5).encode())
        assert [
            post(each)[0] for each in (other.body(0, 5), type(log)(name=log.name).body(0, 5), b"old 5\n")
        ] == [404, 403, 400]
        client.close()


@pytest.mark.spec("L-139")
def test_it_tells_its_name_and_key_and_the_newest_checkpoint(desk, log) -> None:
    with desk.serving() as (port, _):
        url = f"http://127.0.0.1:{port}"
        name, vkey = urllib.request.urlopen(f"{url}/", timeout=60).read().decode().splitlines()
        assert (name, parse_cosigner(vkey)) == (desk.place.key().name, desk.place.key().id)
        place = f"{url}/{hashlib.sha256(log.name.encode()).hexdigest()}/checkpoint"
        with pytest.raises(urllib.error.HTTPError, match="404") as error:
            urllib.request.urlopen(place, timeout=60)
        error.value.close()
        request = urllib.request.Request(f"{url}/add-checkpoint", log.body(0, 5), method="POST")
        line = urllib.request.urlopen(request, timeout=60).read()
        assert urllib.request.urlopen(place, timeout=60).read() == log.note(5).encode() + line


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/add-checkpoint", 405),
        ("PUT", "/add-checkpoint", 405),
        ("POST", "/", 405),
        ("DELETE", "/", 405),
        ("HEAD", "/", 405),
        ("GET", "/other", 404),
        ("GET", "/add-checkpoint/", 404),
        ("POST", "//add-checkpoint", 404),
        ("GET", f"/{'a' * 64}/checkpoint", 404),
        ("POST", f"/{'a' * 64}/checkpoint", 405),
        ("GET", f"/{'A' * 64}/checkpoint", 404),
        ("GET", "/../add-checkpoint", 404),
        ("GET", "/%2e%2e/%00", 404),
    ],
)
def test_other_methods_and_paths_are_told_so(desk, method: str, path: str, status: int) -> None:
    with desk.serving() as (port, _):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        client.request(method, path)
        answer = client.getresponse()
        assert answer.status == status
        assert (answer.getheader("allow") is not None) == (status == 405)
        client.close()


@pytest.mark.spec("L-134")
def test_requests_of_many_connections_share_transactions_and_each_has_its_own_answer(
    desk, log, dialled, posted, answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = [type(log)(name=f"example.org/{number}") for number in range(40)]
    desk.trust(*logs)
    groups: list[int] = []
    go = threading.Event()
    settle = WitnessState.settle

    def counted(state: WitnessState, proposals, now: int):
        groups.append(len(proposals))
        go.wait(60)  # until all have been sent: the disk may be as slow as that
        return settle(state, proposals, now)

    monkeypatch.setattr(WitnessState, "settle", counted)
    key = desk.place.key().id
    with desk.serving() as (port, server):
        connections = [dialled(port) for _ in logs]
        for each, connection in zip(logs, connections, strict=True):
            connection.sendall(posted(each.body(0, 4)))
        while len(server._app._waiting) + sum(groups) < len(
            logs
        ):  # each is read without waiting for the disk
            assert not go.wait(0.01)
        go.set()
        for each, connection in zip(logs, connections, strict=True):
            status, _, body = answered(connection)
            assert status == 200
            assert len(cosignatures(parse_note(each.note(4) + body.decode()), [key])) == 1
    assert sum(groups) == len(logs) and len(groups) <= 3


@pytest.mark.spec("L-134")
def test_branches_from_many_connections_at_once_one_wins(desk, log, dialled, posted, answered) -> None:
    with desk.serving() as (port, _):
        connections = [dialled(port) for _ in range(24)]
        connections[0].sendall(posted(log.body(0, 5)))
        assert answered(connections[0])[0] == 200
        branches = [posted(log.forked(5, salt=salt).body(5, 8)) for salt in (1, 2)]
        for number, connection in enumerate(connections):
            connection.sendall(branches[number % 2])
        assert sorted(answered(each)[0] for each in connections) == [200] + [409] * 23


def test_pipelined_requests_are_answered_in_their_order(desk, log, dialled, posted, answered) -> None:
    with desk.serving() as (port, _):
        connection = dialled(port)
        connection.sendall(posted(log.body(0, 3)) + posted(log.body(3, 5)) + posted(log.body(3, 6)))
        assert [answered(connection)[0] for _ in range(3)] == [200, 200, 409]


def test_a_log_trusted_while_it_runs_is_known_within_seconds(
    desk, log, other, dialled, posted, answered
) -> None:
    with desk.serving() as (port, _):
        connection = dialled(port)
        connection.sendall(posted(other.body(0, 5)))
        assert answered(connection)[0] == 404
        desk.trust(other)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            connection.sendall(posted(other.body(0, 5)))
            if answered(connection)[0] == 200:
                return
        pytest.fail("it was never looked at")


def test_it_stops_when_it_is_told_to_and_answers_what_is_in_work(
    desk, log, dialled, posted, answered
) -> None:
    with desk.serving() as (port, server):
        idle, busy = dialled(port), dialled(port)
        busy.sendall(posted(log.body(0, 5)))
        assert answered(busy)[0] == 200
        halfway = dialled(port)
        halfway.sendall(posted(log.body(5, 9))[:-1])
        while len(server.server_state.tasks) < 1:
            assert server.started
        server.stop()
        assert idle.recv(1) == b"" and busy.recv(1) == b""
        with contextlib.suppress(ConnectionResetError):
            assert halfway.recv(1) == b""


def test_an_address_that_is_taken_is_told(desk) -> None:
    with listen("127.0.0.1", 0) as taken:
        with pytest.raises(LedgerError) as error:
            listen("127.0.0.1", taken.getsockname()[1])
        assert error.value.reason == "failed"
    for host in ("no such host", "x" * 300, "203.0.113.9"):
        with pytest.raises(LedgerError):
            listen(host, 0)


def test_the_core_of_a_witness_needs_no_web_server(python_environment: dict[str, str]) -> None:
    code = "import sys, agentmesh_ledger.witness.folder; sys.exit('uvicorn' in sys.modules or 'sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=python_environment, timeout=60).returncode == 0
