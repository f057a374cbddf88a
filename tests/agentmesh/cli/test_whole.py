"""The command line from end to end: a scripted model, real MCP servers, a real ledger."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.types import TextContent

Agentmesh = Callable[..., Any]

DESK = """\
[mesh]
name = "desk"

[dialogue]
pattern = "orchestrator"
lead = "front"
layout = "agent"
task = "What is 17 * 23?"

[agents.front]
model = "scripted:steps.json"
role = "You ask."
peers = ["math"]

[agents.math]
model = "scripted:steps.json"
role = "You calculate."
tools = ["calculator"]

[servers.calculator]
builtin = "calculator"
"""

STEPS = [
    {"agent": "front", "call": {"name": "ask_math", "arguments": {"question": "What is 17 * 23?"}}},
    {"agent": "math", "call": {"name": "evaluate", "arguments": {"expression": "17 * 23"}}},
    {"agent": "math", "say": "The result is 391.", "expect": "391"},
    {"agent": "front", "say": "Math says: \x1b[31mThe result is 391."},
]

SLOW = """\
[mesh]
name = "slow"

[dialogue]
task = "Wait."

[agents.ada]
model = "scripted:steps.json"
role = "You wait."
tools = ["slow"]

[servers.slow]
command = ["{python}", "slow.py"]
"""

SLOW_SERVER = """\
import anyio
from mcp.server import MCPServer

server = MCPServer("slow", log_level="ERROR")

@server.tool()
async def wait() -> str:
    await anyio.sleep_forever()

server.run()
"""


def write(folder: Path, mesh: str, steps: Sequence[object]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "mesh.toml").write_text(mesh)
    (folder / "steps.json").write_text(json.dumps(steps))
    return folder


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    return write(tmp_path / "desk", DESK, STEPS)


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    folder = write(
        tmp_path / "slow", SLOW.format(python=sys.executable), [{"call": {"name": "wait", "arguments": {}}}]
    )
    (folder / "slow.py").write_text(SLOW_SERVER)
    return folder


def test_a_run_answers_on_standard_output_and_tells_the_dialogue_on_standard_error(
    agentmesh: Agentmesh, desk: Path
) -> None:
    done = agentmesh("run", desk)
    assert done.code == 0, done.err
    assert done.out == "Math says: The result is 391.\n"
    assert "host -> front (task): What is 17 * 23?" in done.err
    assert 'math calls calculator.evaluate(expression="17 * 23")' in done.err
    assert "math -> front: The result is 391." in done.err
    assert "Done. 13 messages, 2 tool calls" in done.err
    assert "\x1b" not in done.err


def test_the_two_commands_that_a_run_ends_with_work_as_printed(
    agentmesh: Agentmesh, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk.parent)
    printed = [
        shlex.split(line)
        for line in agentmesh("run", "desk").err.splitlines()
        if line.startswith("  agentmesh")
    ]
    verify, export = printed
    assert verify == ["agentmesh", "verify", "desk/.agentmesh/ledger.db"]
    assert agentmesh(*verify[1:]).code == 0
    assert agentmesh(*export[1:]).code == 0
    assert agentmesh("verify", export[-1]).code == 0


def test_a_run_for_programs_prints_one_event_a_line_and_ends_with_the_end(
    agentmesh: Agentmesh, desk: Path
) -> None:
    done = agentmesh("run", desk, "How much is 17 * 23?", "--json")
    assert done.code == 0, done.err
    assert [event["event"] for event in done.lines] == [
        "message", "tool_call", "tool_call", "tool_result", "message", "tool_result", "message", "end",
    ]  # fmt: skip
    task, ask, call, result, said, _, answer, end = done.lines
    assert (task["kind"], task["agent"], task["to"], task["text"]) == (
        "task",
        "host",
        ["front"],
        "How much is 17 * 23?",
    )
    assert (ask["agent"], ask["tool"]) == ("front", "ask_math")
    assert (call["server"], call["tool"], call["arguments"]) == (
        "calculator",
        "evaluate",
        {"expression": "17 * 23"},
    )
    assert (result["text"], result["error"]) == ("391", False)
    assert (said["agent"], said["to"]) == ("math", ["front"])
    assert answer["text"] == STEPS[-1]["say"]
    assert (end["reason"], end["answer"], end["tool_calls"]) == ("done", STEPS[-1]["say"], 2)
    assert Path(end["ledger"]) == desk / ".agentmesh" / "ledger.db"
    recorded = agentmesh("log", "--ledger", end["ledger"], "--json").lines
    assert [(each["dialogue"], each["messages"]) for each in recorded] == [(end["dialogue"], end["messages"])]


def test_a_run_prints_what_each_agent_reads_where_that_is_wanted(agentmesh: Agentmesh, desk: Path) -> None:
    done = agentmesh("run", desk, "--show-prompt")
    assert done.code == 0, done.err
    assert "math reads\n  system: You are math. You calculate.\n  user: What is 17 * 23?\n" in done.err
    assert "  tool: 391\n" in done.err


def test_a_quiet_run_prints_the_answer_and_nothing_else(agentmesh: Agentmesh, desk: Path) -> None:
    done = agentmesh("run", desk, "--quiet")
    assert (done.code, done.out, done.err) == (0, "Math says: The result is 391.\n", "")


def test_the_task_may_come_from_standard_input(desk: Path) -> None:
    done = command("run", str(desk), "-", "--json", input="What is it?\n")
    assert json.loads(done.stdout.splitlines()[0])["text"] == "What is it?"
    empty = command("run", str(desk), "-", input=" \n")
    assert empty.returncode == 2
    assert "there is no task" in empty.stderr


def test_a_run_can_be_recorded_elsewhere(agentmesh: Agentmesh, desk: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "elsewhere" / "ledger.db"
    assert agentmesh("run", desk, "--ledger", ledger).code == 0
    assert not (desk / ".agentmesh").exists()
    assert agentmesh("verify", ledger).code == 0
    assert "front" in agentmesh("keys", ledger).out


def test_a_recorded_run_is_replayed_with_its_marks(agentmesh: Agentmesh, desk: Path, tmp_path: Path) -> None:
    agentmesh("run", desk)
    file = tmp_path / "a.jsonl"
    agentmesh("export", "latest", "--ledger", desk, "-o", file)
    for source in (desk, file):
        done = agentmesh("replay", source)
        assert done.code == 0
        assert "ok  front -> host: Math says: The result is 391." in done.out
        assert done.err.endswith("all verified\n")
    assert len(agentmesh("replay", desk, "latest", "--json").lines) == 13
    data = file.read_bytes()
    place = data.index(b'"index":7')
    file.write_bytes(data[: place - 9] + bytes([data[place - 9] ^ 1]) + data[place - 8 :])
    damaged = agentmesh("replay", file)
    assert damaged.code == 1
    assert "NOT VERIFIED" in damaged.err
    assert "ok  " not in damaged.out


def test_show_reads_the_recorded_run(agentmesh: Agentmesh, desk: Path) -> None:
    agentmesh("run", desk)
    done = agentmesh("show", "--ledger", desk)
    assert done.code == 0
    assert 'math calls calculator.evaluate: expression="17 * 23"' in done.out
    assert "calculator.evaluate answers -> math: 391" in done.out


def test_a_limit_ends_a_run_with_a_code_of_its_own(agentmesh: Agentmesh, desk: Path) -> None:
    write(desk, DESK, STEPS[:1])
    done = agentmesh("run", desk, "--max-turns", "1")
    assert done.code == 4
    assert "limit_turns" in done.err
    assert agentmesh("verify", desk).code == 0


def test_a_timeout_ends_a_run_in_the_middle_of_a_call(agentmesh: Agentmesh, slow: Path) -> None:
    done = agentmesh("run", slow, "--timeout", "0.5", "--json")
    assert done.code == 4
    assert done.lines[-1]["reason"] == "limit_seconds"
    assert agentmesh("verify", slow).code == 0


def test_a_run_that_fails_says_why_and_where_what_was_said_is(agentmesh: Agentmesh, desk: Path) -> None:
    write(desk, DESK, [{"say": "x", "expect": "something else"}])
    done = agentmesh("run", desk)
    assert done.code == 1
    assert done.out == ""
    assert "Failed" in done.err
    assert "Traceback" not in done.err
    assert "agentmesh verify" in done.err
    assert agentmesh("log", "--ledger", desk, "--json").lines[0]["closed"] == "failed"
    assert agentmesh("verify", desk).code == 0


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        ('tools = ["calculator"]', 'tools = ["calculator.evaluat"]', 2, "evaluate"),
        (
            'tools = ["calculator"]',
            'tools = ["calculater"]',
            2,
            "mesh.toml:18: agents.math.tools: no server 'calculater'",
        ),
        ('builtin = "calculator"', 'command = ["no-such-program-here"]', 2, "no-such-program-here"),
        (
            'builtin = "calculator"',
            f'command = ["{sys.executable}", "-c", "raise SystemExit(3)"]',
            1,
            "did not start",
        ),
        (
            'model = "scripted:steps.json"',
            'model = "gone.gguf"',
            2,
            "mesh.toml:11: agents.front.model: no such file",
        ),
    ],
)
def test_bad_input_gets_one_screen_the_right_code_and_no_record(
    agentmesh: Agentmesh, desk: Path, old: str, new: str, code: int, says: str
) -> None:
    write(desk, DESK.replace(old, new, 1), [])
    done = agentmesh("run", desk)
    assert done.code == code, done.err
    assert says in done.err
    assert len(done.err.splitlines()) < 25
    assert "Traceback" not in done.err
    assert not (desk / ".agentmesh" / "ledger.db").exists()


def test_a_file_that_is_no_model_is_told_as_one(agentmesh: Agentmesh, desk: Path) -> None:
    (desk / "bad.gguf").write_bytes(b"GGUX" + bytes(64))
    write(desk, DESK.replace("scripted:steps.json", "bad.gguf", 1), [])
    done = agentmesh("run", desk)
    assert done.code == 3
    assert "bad.gguf" in done.err
    assert "Traceback" not in done.err


def test_ctrl_c_closes_the_dialogue_in_the_ledger_and_leaves_one_that_verifies(
    agentmesh: Agentmesh, slow: Path
) -> None:
    with started("run", str(slow), "--json") as process:
        assert process.stdout is not None
        events = [json.loads(line) for line in until(process.stdout, "tool_call")]
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert [event["event"] for event in events] == ["message", "tool_call"]
    end = json.loads(rest.splitlines()[-1])
    assert (end["event"], end["reason"]) == ("end", "cancelled")
    assert "Traceback" not in err
    verified = agentmesh("verify", slow)
    assert verified.code == 0
    assert agentmesh("log", "--ledger", slow, "--json").lines[0]["closed"] == "cancelled"


def test_ctrl_c_tells_a_person_where_the_record_is(slow: Path) -> None:
    with started("run", str(slow)) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "ada calls slow.wait" in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "stopping" in err
    assert "Cancelled; what was said until then is in the record." in err
    assert "agentmesh verify" in err


def test_ctrl_c_before_the_dialogue_began_leaves_no_record(desk: Path) -> None:
    # The server says through the pipe that it was started, and then never greets.
    os.mkfifo(desk / "pipe")
    write(desk, DESK.replace('builtin = "calculator"', f'command = ["{sys.executable}", "mute.py"]'), [])
    (desk / "mute.py").write_text("import sys\nopen('pipe', 'w').close()\nsys.stdin.read()\n")
    with started("run", str(desk)) as process:
        (desk / "pipe").read_text()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped before anything was recorded" in err
    assert not (desk / ".agentmesh").exists()


def test_a_second_ctrl_c_leaves_at_once_and_the_ledger_still_verifies(
    agentmesh: Agentmesh, slow: Path
) -> None:
    # A server that does not go when it is asked to: ending it takes seconds that nobody has to wait for.
    stubborn = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    (slow / "slow.py").write_text(stubborn + SLOW_SERVER + "time.sleep(20)\n")
    with started("run", str(slow)) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "ada calls slow.wait" in line:
                process.send_signal(signal.SIGINT)
            if "stopping" in line:
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=2) == 130
    assert agentmesh("verify", slow).code == 0


def test_whoever_stops_reading_is_not_complained_to(slow: Path, desk: Path) -> None:
    with started("run", str(desk), "--json") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        process.wait(timeout=60)
    assert err == ""
    assert process.returncode == 1


def test_a_termination_is_a_ctrl_c(slow: Path) -> None:
    with started("run", str(slow), "--json") as process:
        assert process.stdout is not None
        until(process.stdout, "tool_call")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out.splitlines()[-1])["reason"] == "cancelled"


def test_serve_offers_each_agent_and_writes_nothing_but_mcp(agentmesh: Agentmesh, desk: Path) -> None:
    steps = [
        {"call": {"name": "evaluate", "arguments": {"expression": "2 + 2"}}},
        {"say": "The result is 4."},
    ]
    write(desk, DESK, steps)

    async def host() -> None:
        program = StdioServerParameters(command=sys.executable, args=["-m", "agentmesh", "serve", str(desk)])
        with anyio.fail_after(60):
            async with Client(program) as client:
                tools = (await client.list_tools()).tools
                asking = [tool.name for tool in tools if tool.name.startswith("ask_")]
                assert asking == ["ask_front", "ask_math"]
                result = await client.call_tool("ask_math", {"question": "What is 2 + 2?"})
                (block,) = result.content
                assert isinstance(block, TextContent)
                assert block.text == "The result is 4."

    anyio.run(host)
    assert agentmesh("log", "--ledger", desk, "--json").lines[0]["closed"] == "done"
    assert agentmesh("verify", desk).code == 0


def test_serve_ends_at_a_signal_although_its_host_says_nothing(agentmesh: Agentmesh, slow: Path) -> None:
    # `wait` never answers: the dialogue is in the middle of a call.
    asked = {"name": "ask_ada", "arguments": {"question": "Wait."}}
    client = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "host", "version": "1"},
    }
    lines = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": asked},
    ]
    with started("serve", str(slow), stdin=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write("".join(json.dumps(line) + "\n" for line in lines))
        process.stdin.flush()
        for line in process.stderr:
            if "ada calls slow.wait" in line:
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    assert agentmesh("log", "--ledger", slow, "--json").lines[0]["closed"] == "cancelled"
    assert agentmesh("verify", slow).code == 0


@pytest.mark.parametrize("closed", ["0<&-", "2>&-"])
def test_a_stream_that_was_closed_before_the_start_does_no_harm(desk: Path, closed: str) -> None:
    line = f'exec "{sys.executable}" -m agentmesh run "{desk}" {closed}'
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "Math says: The result is 391.\n")


def test_a_tool_that_its_server_does_not_have_is_told_with_its_line(agentmesh: Agentmesh, desk: Path) -> None:
    write(desk, DESK.replace('"calculator"]', '"calculator.evalute"]'), STEPS)
    done = agentmesh("run", desk)
    assert done.code == 2
    assert "mesh.toml:18: agents.math.tools: calculator serves no tool 'evalute'" in done.err
    assert "did you mean calculator.evaluate?" in done.err


def test_models_lists_what_there_is(agentmesh: Agentmesh) -> None:
    done = agentmesh("models", "--json")
    assert done.code == 0, done.err
    names = {each["name"] for each in done.lines}
    assert {"nano", "scripted"} <= names
    assert "nano" in agentmesh("models").out
    info = agentmesh("models", "info", "nano", "--json").lines[0]
    assert info["bytes"] > 1_000_000
    assert len(info["digest"]) == 64
    missing = agentmesh("models", "info", "nan")
    assert missing.code == 2
    assert "did you mean 'nano'" in missing.err


def command(*arguments: str, input: str) -> subprocess.CompletedProcess[str]:
    """A command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "agentmesh", *arguments],
        input=input,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def started(*arguments: str, stdin: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """A command line that is running."""
    process = subprocess.Popen(
        [sys.executable, "-m", "agentmesh", *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(lines: Iterator[str], event: str) -> list[str]:
    """The lines up to the first one of this event."""
    seen: list[str] = []
    for line in lines:
        seen.append(line)
        if json.loads(line)["event"] == event:
            break
    return seen
