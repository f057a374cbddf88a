"""Hostile clients against a real `agentmesh serve --http`: no 500, bounded memory, and it still answers."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp.shared.inbound import encode_header_value

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")

MESH = """\
[mesh]
name = "desk"

[agents.front]
model = "scripted:steps.json"
role = "You answer."
"""
MODERN = "2026-07-28"
MIB = 1024 * 1024
# Generous: what a leak of one request each would take at the least is ten times as much.
ALLOWED_MIB = 250
HALF_OPEN = 10_000
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# Closes with a reset: thousands of sockets must not stay behind in TIME_WAIT.
LINGER = b"\1\0\0\0\0\0\0\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The process that is attacked."""

    pid: int
    port: int

    def exchange(self, data: bytes, wait: float = 10.0) -> bytes:
        """What is answered on a connection of its own: a whole answer as far as its length is told, else what came."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as connection:
            answer = b""
            try:
                connection.sendall(data)
                while not _is_whole(answer.removeprefix(CONTINUE)):
                    piece = connection.recv(65_536)
                    if not piece:
                        break
                    answer += piece
            except (ConnectionError, TimeoutError):
                pass  # what came until then is judged
            # What comes before the answer proper, to a client that asked whether it may go on.
            return answer.removeprefix(CONTINUE)

    def status(self, data: bytes, wait: float = 10.0) -> int:
        """The status of the answer; 0 where the connection was closed without one."""
        answer = self.exchange(data, wait)
        return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0

    def request(self, body: bytes, **headers: str | None) -> bytes:
        """A request, with its usual headers or others (None leaves one out)."""
        usual: dict[str, str | None] = {
            "host": f"127.0.0.1:{self.port}",
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
            "content-length": str(len(body)),
            "mcp-protocol-version": MODERN,
        }
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{name}: {value}" for name, value in (usual | given).items() if value is not None]
        head = "POST /mcp HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n"
        return head.encode("latin-1", "replace") + body

    def call(self, method: str = "tools/list", **params: Any) -> bytes:
        """A good request."""
        headers = {"mcp_method": method}
        if "name" in params:
            headers["mcp_name"] = params["name"]
        return self.request(json.dumps(message(method, **params)).encode(), **headers)

    def resident(self, which: str = "VmRSS") -> int:
        """MiB that the process has, or had at most (VmHWM)."""
        found = re.search(rf"{which}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found.group(1)) // 1024

    def sockets(self) -> int:
        """How many sockets the process has open."""
        count = 0
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                count += os.readlink(entry).startswith("socket:")
            except FileNotFoundError:
                pass  # closed meanwhile
        return count


def message(method: str, **params: Any) -> dict[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}


def _is_whole(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    if length is not None:
        return len(body) >= int(length.group(1))
    # A stream: its first event is answer enough, or its end.
    return b"\n\n" in body or b"\r\n\r\n" in body or b"chunked" not in head.lower()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The server; every test must leave it answering."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "mesh.toml").write_text(MESH)
    (folder / "steps.json").write_text("[]")
    errors = folder / "errors"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "agentmesh", "serve", str(folder), "--http", "0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "AGENTMESH_THREADS": "1"},
        )
    try:
        yield Target(pid=process.pid, port=_port(errors, process))
        assert process.poll() is None
        # Nobody may fill the disk behind standard error, nor find a fault that only the log tells.
        assert "Traceback" not in errors.read_text() and errors.stat().st_size < MIB
    finally:
        process.kill()
        process.wait(timeout=30)


def _port(errors: Path, process: subprocess.Popen[bytes]) -> int:
    ticks = threading.Event()
    for _ in range(600):
        found = re.search(r"serving desk at http://127\.0\.0\.1:(\d+)/mcp", errors.read_text())
        if found is not None:
            return int(found.group(1))
        assert process.poll() is None, errors.read_text()
        ticks.wait(0.1)
    raise AssertionError("it did not come up in a minute")


@pytest.fixture(autouse=True)
def _still_well(target: Target) -> Iterator[None]:
    """After whatever is done to it, it has about the memory it had, and answers a good call."""
    before = target.resident()
    yield
    answer = target.exchange(target.call())
    assert answer.startswith(b"HTTP/1.1 200 ") and b"ask_front" in answer
    assert target.resident() - before < ALLOWED_MIB


_TEXTS = st.text(max_size=30)


def _made_of(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda below: st.lists(below, max_size=4) | st.dictionaries(_TEXTS, below, max_size=4),
        max_leaves=12,
    )


_VALUES = _made_of(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**30, -(10**400), 1e308, -0.0, "NEST30", "desk", "ask_front", "dialogue://x"])
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS
)
# Refused before anything looks at it, so not in most of the examples: lone surrogates, which `json.dumps` writes as
# escapes, no numbers, and what is too deep.
_DIRTY = _made_of(
    st.text(alphabet=st.characters(codec=None), max_size=9)
    | st.floats()
    | st.sampled_from(["NEST70", "NEST3000"])
)
_METHODS = st.sampled_from(
    [
        "tools/call", "tools/list", "initialize", "ping", "server/discover", "resources/read", "resources/list",
        "resources/templates/list", "prompts/get", "prompts/list", "completion/complete", "logging/setLevel",
        "resources/subscribe", "tasks/get", "notifications/cancelled", "notifications/initialized", "rpc.discover", "",
    ]
)  # fmt: skip
_FIELDS = (
    "name", "arguments", "uri", "_meta", "ref", "argument", "protocolVersion", "capabilities", "clientInfo",
    "cursor", "level", "requestState", "inputResponses", "taskId", "task",
)  # fmt: skip
_PARAMS = st.dictionaries(st.sampled_from(_FIELDS) | _TEXTS, _VALUES, max_size=5)
_HEADER = st.none() | st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=40)
_HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "mcp_method": _HEADER | _METHODS,
        "mcp_name": _HEADER | st.sampled_from(["ask_front", "=?base64?////?=", "=?base64?YQ==?="]),
        "mcp_protocol_version": _HEADER | st.sampled_from(["2025-06-18", "1999-01-01", "2026-07-28 "]),
        "mcp_session_id": _HEADER,
        "mcp_param_question": _HEADER,
        "last_event_id": _HEADER,
        "content_type": _HEADER | st.sampled_from(["application/json; charset=utf-16", "application/jsonx"]),
        "accept": _HEADER | st.sampled_from(["*/*", "application/json", "text/event-stream", "text/html"]),
        "content_encoding": st.sampled_from(["gzip", "identity"]),
        "expect": st.just("100-continue"),
    },
)


def _written(value: Any) -> bytes:
    """As JSON, with the nesting that no recursive writer could make."""
    text = json.dumps(value)
    return re.sub(
        r'"NEST(\d+)"', lambda found: "[" * int(found.group(1)) + "]" * int(found.group(1)), text
    ).encode()


def _fuzzing(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        return settings(
            max_examples=examples, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
        )(test)

    return decorate


def _judged(target: Target, request: bytes) -> None:
    answer = target.exchange(request, wait=5.0)
    status = int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
    assert status < 500, (request[:2_000], answer[:2_000])
    # With HTTP's 200, what the SDK says where a handler of ours or its own failed in a way nobody foresaw.
    assert b"Internal server error" not in answer, (request[:2_000], answer[:2_000])


@_fuzzing(250)
@given(method=_METHODS, params=_PARAMS | _VALUES, has_meta=st.booleans(), headers=_HEADERS)
def test_no_parameters_of_any_method_end_in_a_500(
    target: Target, method: str, params: Any, has_meta: bool, headers: dict[str, str | None]
) -> None:
    body = message(method)
    if isinstance(params, dict):
        body["params"] = body["params"] | params if has_meta else params
    else:
        body["params"] = params
    name = params.get("name") if isinstance(params, dict) else None
    usual: dict[str, str | None] = {"mcp_method": method}
    if isinstance(name, str) and name.isascii() and name.isprintable():
        usual["mcp_name"] = name
    _judged(target, target.request(_written(body), **(usual | headers)))


@_fuzzing(100)
@given(
    arguments=st.dictionaries(
        st.sampled_from(["question", "task", "dialogue", "seconds"]) | _TEXTS, _VALUES, max_size=4
    )
    | _VALUES,
    tool=st.sampled_from(["wait_dialogue", "stop_dialogue", "verify_record", "no_such_tool"]),
)
def test_no_arguments_of_any_tool_end_in_a_500(target: Target, arguments: Any, tool: str) -> None:
    if isinstance(arguments, dict):
        arguments["seconds"] = 0
    body = _written(message("tools/call", name=tool, arguments=arguments))
    _judged(target, target.request(body, mcp_method="tools/call", mcp_name=tool))


# Well-formed requests with one text of somebody's choice: these get through to what the mesh does with it.
_SHAPES: list[Callable[[str], tuple[str, str, dict[str, Any]]]] = [
    lambda text: ("tools/call", "ask_front", {"name": "ask_front", "arguments": {"question": text}}),
    lambda text: ("tools/call", "start_dialogue", {"name": "start_dialogue", "arguments": {"task": text}}),
    lambda text: (
        "tools/call",
        "wait_dialogue",
        {"name": "wait_dialogue", "arguments": {"dialogue": text, "seconds": 0}},
    ),
    lambda text: ("tools/call", "stop_dialogue", {"name": "stop_dialogue", "arguments": {"dialogue": text}}),
    lambda text: ("tools/call", text, {"name": text, "arguments": {}}),
    lambda text: ("resources/read", f"dialogue://{text}", {"uri": f"dialogue://{text}"}),
    lambda text: ("resources/read", f"ledger://entry/{text}", {"uri": f"ledger://entry/{text}"}),
    lambda text: ("resources/read", text, {"uri": text}),
    lambda text: ("prompts/get", text, {"name": text}),
    lambda text: (
        "completion/complete",
        "",
        {
            "ref": {"type": "ref/resource", "uri": "dialogue://{id}"},
            "argument": {"name": "id", "value": text},
        },
    ),
    lambda text: ("tools/list", "", {"cursor": text}),
]


@_fuzzing(120)
@given(
    text=st.text(max_size=60)
    | st.sampled_from(
        ["", "\0", "../../etc/passwd", "%00", "-1", "9" * 4_000, "\x1b[2J", "a" * 100_000, "\ufeff"]
    ),
    shape=st.sampled_from(_SHAPES),
)
def test_no_text_where_text_belongs_ends_in_a_500(
    target: Target, text: str, shape: Callable[[str], tuple[str, str, dict[str, Any]]]
) -> None:
    method, name, params = shape(text)
    body = json.dumps(message(method, **params)).encode()
    headers: dict[str, str | None] = {"mcp_method": method}
    if method in ("tools/call", "resources/read", "prompts/get"):
        headers["mcp_name"] = encode_header_value(name)
    _judged(target, target.request(body, **headers))


@_fuzzing(150)
@given(
    envelope=st.fixed_dictionaries(
        {},
        optional={
            "jsonrpc": st.just("2.0") | _VALUES,
            "id": _VALUES,
            "method": _METHODS | _VALUES,
            "params": _PARAMS | _VALUES,
            "result": _VALUES,
            "error": _VALUES | st.fixed_dictionaries({"code": _VALUES, "message": _VALUES}),
        },
    )
    | st.lists(_VALUES, max_size=3)
    | _VALUES
    | _DIRTY,
    version=st.sampled_from([MODERN, "2025-06-18", "2025-11-25", None]),
)
def test_no_envelope_ends_in_a_500(target: Target, envelope: Any, version: str | None) -> None:
    _judged(target, target.request(_written(envelope), mcp_protocol_version=version, mcp_method="tools/list"))


@_fuzzing(150)
@given(method=_METHODS, params=_PARAMS | _VALUES, identifier=_VALUES)
def test_no_message_in_a_session_of_the_older_era_ends_in_a_500(
    target: Target, method: str, params: Any, identifier: Any
) -> None:
    body = _written({"jsonrpc": "2.0", "id": identifier, "method": method, "params": params})
    headers = {"mcp_session_id": _session(target), "mcp_protocol_version": "2025-06-18"}
    _judged(target, target.request(body, **headers))


_SESSIONS: dict[int, str] = {}


def _session(target: Target) -> str:
    """One session that all of these messages go to."""
    kept = _SESSIONS.get(target.port)
    if kept is None:
        client = {"name": "fuzz", "version": "1"}
        params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}
        opening = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        answer = target.exchange(target.request(json.dumps(opening).encode(), mcp_protocol_version=None))
        found = re.search(rb"mcp-session-id: (\w+)", answer)
        assert found is not None
        kept = _SESSIONS[target.port] = found.group(1).decode()
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        headers = {"mcp_session_id": kept, "mcp_protocol_version": "2025-06-18"}
        assert target.status(target.request(json.dumps(ready).encode(), **headers)) == 202
    return kept


@_fuzzing(150)
@given(junk=st.binary(max_size=200), at=st.integers(0, 400), cut=st.integers(0, 40), pairs=st.booleans())
def test_no_bytes_on_the_wire_end_in_a_500(
    target: Target, junk: bytes, at: int, cut: int, pairs: bool
) -> None:
    good = target.call()
    bad = good[:at] + junk + good[at + cut :]
    # Half of them end there: otherwise the server rightly waits for the rest of what it takes for a request.
    _judged_quickly(target, bad + b"\r\n\r\n" + good if pairs else bad)


def _judged_quickly(target: Target, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", target.port), timeout=5) as connection:
        answer = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65_536):
                answer += piece
        except (ConnectionError, TimeoutError):
            pass
    assert not re.search(rb"HTTP/1\.1 5\d\d", answer), (data[:2_000], answer[:2_000])


@pytest.mark.parametrize(
    "method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "CONNECT", "X"]
)
@pytest.mark.parametrize("version", [MODERN, "2025-06-18", None])
@pytest.mark.parametrize(
    "path", ["/mcp", "/health", "/mcp/", "//mcp", "/mcp?x=%00", "*", "/%ff", "http://evil/mcp"]
)
def test_no_method_on_any_path_ends_in_a_500(
    target: Target, method: str, version: str | None, path: str
) -> None:
    request = target.request(b"", mcp_protocol_version=version).replace(
        b"POST /mcp ", f"{method} {path} ".encode(), 1
    )
    _judged_quickly(target, request)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_ten_megabytes_are_refused_from_many_at_once_in_bounded_memory(target: Target, framing: str) -> None:
    _forget_the_peak(target)
    before = target.resident()
    padding = b'{"jsonrpc": "2.0", "id": "' + b"x" * 10 * MIB + b'"}'
    if framing == "length":
        request = target.request(padding)
    else:
        piece = b"%x\r\n" % len(padding) + padding + b"\r\n0\r\n\r\n"
        head = target.request(b"", content_length=None, transfer_encoding="chunked")
        request = head + piece
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(target.status(request, wait=30))) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    # Where the client is still writing when the answer comes, its own system may lose it: 0.
    assert len(statuses) == 12 and set(statuses) <= {413, 0} and 413 in statuses
    assert target.resident("VmHWM") - before < ALLOWED_MIB


def test_four_megabytes_of_nothing_but_structure_are_refused_in_time(target: Target) -> None:
    for piece, end in (
        (b"[", b""),
        (b"[],", b"0]"),
        (b'{"a":', b""),
        (b"[[[]]],", b"0]"),
        (b'"\\ud800",', b"0]"),
    ):
        many = piece * (4 * MIB // len(piece) - 40)
        body = (b"[" if end else b"") + many + end
        assert target.status(target.request(body, mcp_method="tools/list"), wait=20) in (400, 413)
        wrapped = b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": ' + body[: 4 * MIB - 80] + b"}"
        assert target.status(target.request(wrapped, mcp_method="ping"), wait=20) in (400, 413)


def _forget_the_peak(target: Target) -> None:
    Path(f"/proc/{target.pid}/clear_refs").write_text("5")


def test_ten_thousand_half_open_calls_leave_it_answering_in_bounded_memory(target: Target) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = min(hard if hard > 0 else HALF_OPEN, HALF_OPEN + 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, room), hard))
    _forget_the_peak(target)
    before = target.resident()
    kinds = (
        b"POST /mcp HT",
        target.call()[:-20],
        target.call("subscriptions/listen", notifications={"toolsListChanged": True}),
        target.call() * 3,
        b"",
    )
    held: list[socket.socket] = []
    try:
        for number in range(HALF_OPEN):
            connection = _open(target, kinds[number % len(kinds)])
            held.append(connection)
            if len(held) >= room - 400:
                # Fewer descriptors than connections: the oldest go, as the server has let go of them too.
                held.pop(0).close()
            if number % 1_000 == 999:
                # Right in the middle of it, a good call is answered.
                _answers(target)
        assert target.sockets() < 512 + 64 + 20
        assert target.resident("VmHWM") - before < ALLOWED_MIB
        _answers(target)
    finally:
        for connection in held:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _answers(target: Target) -> None:
    """A client that comes again when it is told to is served."""
    for _ in range(20):
        answer = target.exchange(target.call(), wait=20)
        if answer.startswith(b"HTTP/1.1 200 "):
            return
        assert answer.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in answer, answer[:500]
        threading.Event().wait(1)
    raise AssertionError("it only ever told to come again")


def _open(target: Target, data: bytes) -> socket.socket:
    """A connection on which this was said, and nothing will be read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", target.port))
    try:
        connection.sendall(data)
    except ConnectionError:
        pass  # it made room for another already
    return connection
