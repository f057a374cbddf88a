"""`agentmesh serve` as a process: over HTTP and over stdio, until its end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client import Transport
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from agentmesh.serving.http.address import PORT
from agentmesh.serving.signing import KnownKeys, Policy, Signing, signed_transport
from agentmesh_ledger import KeyStore

Agentmesh = Callable[..., Any]
TOKEN = "a-token-of-some-length-42"

DESK = """\
[mesh]
name = "desk"

[agents.front]
model = "scripted:steps.json"
role = "You answer."
about = "Answers."
"""

SLOW = """\
[servers.slow]
command = ["{python}", "slow.py"]
"""

# Says through the pipe that it was called, and answers when it is told to.
SLOW_SERVER = """\
from pathlib import Path
import anyio
from mcp.server import MCPServer

server = MCPServer("slow", log_level="ERROR")

@server.tool()
async def wait() -> str:
    while not Path("go").exists():
        await anyio.sleep(0.02)
    return "gone"

server.run()
"""


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A mesh whose agent answers at once, the first time."""
    (tmp_path / "mesh.toml").write_text(DESK)
    says(tmp_path, 1)
    return tmp_path


def says(desk: Path, times: int) -> None:
    """How often the agent answers; what it does not come to say is a fault at the end."""
    (desk / "steps.json").write_text(json.dumps([{"say": "Hello."}] * times))


@pytest.fixture
def slow(desk: Path) -> Path:
    """A mesh whose agent answers when the file `go` is there."""
    text = DESK + 'tools = ["slow"]\n\n' + SLOW.format(python=sys.executable)
    (desk / "mesh.toml").write_text(text)
    (desk / "slow.py").write_text(SLOW_SERVER)
    steps = [{"call": {"name": "wait", "arguments": {}}}, {"say": "It is done."}]
    (desk / "steps.json").write_text(json.dumps(steps))
    return desk


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A process that serves, and where."""

    process: subprocess.Popen[str]
    url: str

    def until(self, words: str) -> str:
        """The next line of its standard error with these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if words in line:
                return line
        raise AssertionError(f"it never said {words!r}")

    def end(self, number: int) -> tuple[int, str, str]:
        """Send it a signal; its exit code and what it wrote."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@contextmanager
def started(*arguments: object, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "agentmesh", "serve", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=30)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def serving(*arguments: object, **environment: str) -> Iterator[Running]:
    with started(*arguments, **environment) as process:
        running = Running(process=process, url="")
        line = running.until("serving desk at http://")
        found = re.search(r"http://\S+", line)
        assert found is not None
        yield Running(process=process, url=found.group())


def asked(url: str, mode: str = "auto", **headers: str) -> dict[str, Any]:
    """What the agent answers to a real client."""

    async def ask() -> dict[str, Any]:
        with anyio.fail_after(60):
            async with (
                httpx2.AsyncClient(headers=headers, timeout=60) as http,
                Client(streamable_http_client(url, http_client=http), mode=mode) as client,
            ):
                result = await client.call_tool("ask_front", {"question": "Hello?"})
                assert result.structured_content is not None and not result.is_error
                return result.structured_content

    return anyio.run(ask)


def ends(agentmesh: Agentmesh, folder: Path) -> list[str]:
    """How the dialogues in the record ended, apart from what was said on the wire."""
    lines = agentmesh("log", "--ledger", folder, "--json").lines
    return [line["closed"] for line in lines if not line["dialogue"].startswith("wire:")]


def test_a_mesh_is_served_over_http_in_both_eras_and_recorded(agentmesh: Agentmesh, desk: Path) -> None:
    says(desk, 2)
    with serving(desk, "--http", "0") as running:
        for mode in ("auto", "legacy"):
            assert asked(running.url, mode)["answer"] == "Hello."
        code, out, err = running.end(signal.SIGINT)
    assert (code, out) == (130, ""), err
    assert "Traceback" not in err
    assert ends(agentmesh, desk) == ["done", "done"]
    assert agentmesh("verify", desk).code == 0


@pytest.mark.parametrize("order", ["mesh first", "mesh last"])
def test_the_lone_option_is_a_fixed_port_and_takes_no_other_word_for_its_address(
    desk: Path, order: str
) -> None:
    words: list[object] = [desk, "--http"] if order == "mesh first" else ["--http", desk]
    with started(*words) as process:
        line = Running(process=process, url="").until("agentmesh: ")
        if "cannot listen" in line:
            # Somebody else on this machine has it; it is still the one that was wanted.
            assert f"127.0.0.1:{PORT}: address already in use" in line
            assert process.wait(timeout=30) == 2
            return
        assert f"at http://127.0.0.1:{PORT}/mcp" in line
        assert httpx2.get(f"http://127.0.0.1:{PORT}/health").json() == {"status": "ok"}


def test_an_ipv6_address_is_served(desk: Path) -> None:
    with serving(desk, "--http", "[::1]:0") as running:
        assert re.fullmatch(r"http://\[::1\]:\d+/mcp", running.url)
        assert asked(running.url)["answer"] == "Hello."


def test_a_call_in_work_ends_after_ctrl_c(agentmesh: Agentmesh, slow: Path) -> None:
    answers: list[dict[str, Any]] = []

    async def call_and_stop(running: Running) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(ask, running.url)
            await anyio.to_thread.run_sync(running.until, "front calls slow.wait")
            running.process.send_signal(signal.SIGINT)
            await anyio.to_thread.run_sync(running.until, "stopping")
            (slow / "go").touch()

    async def ask(url: str) -> None:
        async with Client(url) as client:
            # Else the client asks for the list after the answer, when nobody is there any more.
            await client.list_tools()
            result = await client.call_tool("ask_front", {"question": "Wait."})
            answers.append(result.structured_content or {})

    with serving(slow, "--http", "0") as running:
        anyio.run(call_and_stop, running)
        assert running.process.wait(timeout=60) == 130
    assert answers[0]["answer"] == "It is done."
    assert ends(agentmesh, slow) == ["done"]


def test_a_call_that_does_not_end_is_cancelled_and_recorded_so(agentmesh: Agentmesh, slow: Path) -> None:
    (slow / "steps.json").write_text(json.dumps([{"call": {"name": "wait", "arguments": {}}}]))
    with serving(slow, "--http", "0") as running, httpx2.Client(timeout=60) as http:
        _begin(http, running)
        code, out, err = running.end(signal.SIGTERM)
    assert (code, out) == (130, ""), err
    assert "Traceback" not in err
    assert ends(agentmesh, slow) == ["cancelled"]
    assert agentmesh("verify", slow).code == 0


def test_a_second_ctrl_c_ends_at_once(slow: Path) -> None:
    with serving(slow, "--http", "0") as running, httpx2.Client(timeout=60) as http:
        _begin(http, running)
        running.process.send_signal(signal.SIGINT)
        running.until("stopping")
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(timeout=3) == 130


def _begin(http: httpx2.Client, running: Running) -> None:
    """A dialogue that waits, begun by a call that does not wait for it."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "start_dialogue", "arguments": {"task": "Wait."}, "_meta": meta}
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "start_dialogue",
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    assert http.post(running.url, json=body, headers=headers).status_code == 200
    running.until("front calls slow.wait")


def test_a_signal_before_anything_is_served_ends_too(desk: Path) -> None:
    os.mkfifo(desk / "pipe")
    text = DESK + 'tools = ["mute"]\n\n[servers.mute]\n' + f'command = ["{sys.executable}", "mute.py"]\n'
    (desk / "mesh.toml").write_text(text)
    (desk / "mute.py").write_text("import sys\nopen('pipe', 'w').close()\nsys.stdin.read()\n")
    with started(desk, "--http", "0") as process:
        (desk / "pipe").read_text()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130


def test_a_token_in_the_environment_is_asked_for(desk: Path) -> None:
    with serving(desk, "--http", "0", "--token-env", "MESH_TOKEN", MESH_TOKEN=TOKEN) as running:
        assert httpx2.post(running.url, json={}).status_code == 401
        assert asked(running.url, authorization=f"Bearer {TOKEN}")["answer"] == "Hello."
        code, _, err = running.end(signal.SIGINT)
    assert code == 130 and TOKEN not in err


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_an_address_that_others_reach_wants_a_token(agentmesh: Agentmesh, desk: Path, address: str) -> None:
    done = agentmesh("serve", desk, "--http", address)
    assert done.code == 2
    assert "without a token anyone there could use these agents" in done.err
    assert "--token-env or --token-file" in done.err
    assert not (desk / ".agentmesh").exists()


def test_with_tokens_others_may_reach_it_and_hear_what_they_risk(desk: Path) -> None:
    tokens = desk / "tokens"
    tokens.write_text(f"anna {TOKEN}\n")
    tokens.chmod(0o600)
    with started(desk, "--http", "0.0.0.0:0", "--token-file", tokens) as process:
        running = Running(process=process, url="")
        running.until("clear text")
        port = running.until("serving desk").rpartition(":")[2].partition("/")[0]
        url = f"http://127.0.0.1:{port}/mcp"
        assert httpx2.post(url, json={}).status_code == 401
        assert httpx2.post(url, json={}, headers={"host": "evil.example"}).status_code == 421
        assert asked(url, authorization=f"Bearer {TOKEN}")["answer"] == "Hello."


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--http", "70000"], "'70000' is not an address"),
        (["--token-env", "MESH_TOKEN"], "go with --http"),
        (["--allow-origin", "https://app.example"], "go with --http"),
        (["--http", "0", "--token-env", "NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE is not set"),
        (["--http", "0", "--token-file", "nowhere"], "No such file"),
        (["--http", "0", "--scope", "mesh:talk"], "go with --oauth-issuer"),
        (["--http", "0", "--oauth-issuer", "https://issuer.example"], "needs --resource"),
        (
            ["--http", "0", "--oauth-issuer", "http://issuer.example", "--resource", "https://a.example/mcp"],
            "is no https address",
        ),
        (["--http", "0", "--allow-host", "a b"], "'a b' is not a host"),
        (["--http", "0", "--allow-origin", "*"], "'*' is not an origin"),
        (["--http", "0", "--allow-origin", "http://["], "'http://[' is not an origin"),
        (["--http", "0", "--allow-origin", "https://a.example/path"], "is not an origin"),
        (["--signing", "maybe"], "'maybe' is none of require, prefer, off"),
        (["--http", "192.0.2.1:0"], "cannot listen on 192.0.2.1:0"),
        (["--http", "0", "--max-body", "0"], "--max-body"),
    ],
)
def test_options_that_make_no_sense_are_usage(
    agentmesh: Agentmesh, desk: Path, options: list[str], told: str
) -> None:
    done = agentmesh("serve", desk, *options)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert not (desk / ".agentmesh").exists()


def test_both_kinds_of_tokens_at_once_are_usage(
    agentmesh: Agentmesh, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_TOKEN", TOKEN)
    issuer = ["--oauth-issuer", "https://issuer.example", "--resource", "https://agents.example/mcp"]
    done = agentmesh("serve", desk, "--http", "0", "--token-env", "MESH_TOKEN", *issuer)
    assert done.code == 2 and "exclude one another" in done.err


def test_an_oauth_issuer_is_told_to_clients_without_a_token(desk: Path) -> None:
    resource = "https://agents.example/mesh/mcp"
    issuer = ["--oauth-issuer", "https://issuer.example", "--resource", resource, "--scope", "mesh:talk"]
    with serving(desk, "--http", "0", *issuer) as running:
        answer = httpx2.post(running.url, json={}, headers={"host": "agents.example"})
        found = re.search(
            r'resource_metadata="https://agents\.example(\S+)"', answer.headers["www-authenticate"]
        )
        assert answer.status_code == 401 and found is not None
        metadata = httpx2.get(running.url.removesuffix("/mcp") + found.group(1)).json()
        assert (metadata["resource"], metadata["scopes_supported"]) == (resource, ["mesh:talk"])


def _signed(folder: Path, server: Transport) -> Transport:
    policy = Policy(mode="require", known=KnownKeys())
    key = KeyStore(folder / "caller").agent("caller")
    return signed_transport(server, Signing(key=key, subject="caller@elsewhere", policy=policy), peer="desk")


@pytest.mark.parametrize("over", ["http", "stdio"])
@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_signing_can_be_required_of_callers(
    agentmesh: Agentmesh, desk: Path, tmp_path: Path, over: str, mode: str
) -> None:
    async def ask(server: Transport) -> str:
        with anyio.fail_after(60):
            async with Client(_signed(tmp_path, server), mode=mode) as client:
                return str((await client.call_tool("ask_front", {"question": "Hello?"})).structured_content)

    async def refused(server: Transport) -> None:
        with anyio.fail_after(60), pytest.RaisesGroup(MCPError, allow_unwrapped=True, flatten_subgroups=True):
            async with Client(server, mode=mode) as client:
                await client.call_tool("ask_front", {"question": "Hello?"})

    options = [str(desk), "--signing", "require"]
    if over == "http":
        with serving(*options, "--http", "0") as running:
            anyio.run(refused, streamable_http_client(running.url))
            assert "Hello." in anyio.run(ask, streamable_http_client(running.url))
            assert running.end(signal.SIGINT)[0] == 130
    else:
        program = StdioServerParameters(
            command=sys.executable,
            args=["-m", "agentmesh", "serve", *options],
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert "Hello." in anyio.run(ask, stdio_client(program))
    assert {each.name for each in (desk / ".agentmesh").iterdir()} >= {"known-keys.json", "nonces"}
    dialogues = [line["dialogue"] for line in agentmesh("log", "--ledger", desk, "--json").lines]
    assert any(each.startswith("wire:") for each in dialogues)
    assert agentmesh("verify", desk).code == 0


def test_a_dialogue_says_that_its_host_did_not_sign_unless_signing_is_off(
    agentmesh: Agentmesh, desk: Path
) -> None:
    nobody = {"author": "", "subject": "", "dialogue": "", "exchange": ""}
    for options, said in (([], nobody), (["--signing", "off"], None)):
        with serving(desk, "--http", "0", *options) as running:
            asked(running.url)
            running.end(signal.SIGINT)
        opened = agentmesh("show", "latest", "--ledger", desk, "--json").lines[0]
        assert (opened["kind"], opened["facts"].get("asked_by")) == ("open", said)
        shutil.rmtree(desk / ".agentmesh")


def test_the_help_shows_that_the_address_may_be_left_out(
    agentmesh: Agentmesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    assert re.search(r"--http +\[HOST:PORT\]", agentmesh("serve", "--help").out)


def test_stdio_ends_where_its_input_does(agentmesh: Agentmesh, desk: Path) -> None:
    says(desk, 0)
    with started(desk) as process:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, ""), err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stdio_ends_at_a_signal(desk: Path, number: int) -> None:
    opening = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    says(desk, 0)
    with started(desk) as process:
        assert process.stdin is not None and process.stdout is not None
        line = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": opening}
        process.stdin.write(json.dumps(line) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["result"]["serverInfo"]["name"] == "desk"
        process.send_signal(number)
        assert process.wait(timeout=30) == 130
