"""A mesh comes to life: dialogues over a scripted model, real MCP servers in memory and a real ledger."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from agentmesh.errors import ToolboxError
from agentmesh.events import Ended, Event, MessageAdded, Opened, ToolCallAdded, ToolResultAdded
from agentmesh.mesh import load_mesh
from agentmesh.runtime import open_mesh, run_dialogue
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.store import verify_ledger

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def write_mesh(folder: Path, text: str, steps: Sequence[object]) -> Path:
    (folder / "steps.json").write_text(json.dumps(steps))
    path = folder / "mesh.toml"
    path.write_text(text)
    return path


def kinds(ledger: Path, dialogue: str) -> list[str]:
    with Ledger.open(ledger, read_only=True) as log:
        return [record.message.kind for record in log.read(dialogue=dialogue)]


CHAIN = """
[mesh]
name = "pair"
[dialogue]
pattern = "chain"
[agents.ada]
model = "scripted:steps.json"
role = "You draft."
[agents.ben]
model = "scripted:steps.json"
role = "You polish."
prompt = "Polish this: {previous}"
"""

TOOLS = """
[mesh]
name = "tools"
[dialogue]
pattern = "orchestrator"
lead = "front"
[dialogue.limits]
{limits}
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


async def test_a_chain_hands_on_what_was_said_and_leaves_a_ledger_that_verifies(tmp_path: Path) -> None:
    steps = [{"say": "draft"}, {"say": "polished", "expect": "Polish this: draft"}]
    mesh = load_mesh(write_mesh(tmp_path, CHAIN, steps))
    events: list[Event] = []
    ended = await run_dialogue(mesh, "Write.", listen=events.append)
    assert (ended.reason, ended.answer, ended.tool_calls) == ("done", "polished", 0)
    assert kinds(mesh.log_place.ledger, ended.dialogue) == [
        "open", "task", "inference", "say", "inference", "say", "close",
    ]  # fmt: skip
    assert ended.messages == 7
    said = [e for e in events if isinstance(e, MessageAdded)]
    assert [(e.agent, e.text) for e in said] == [("host", "Write."), ("ada", "draft"), ("ben", "polished")]
    assert isinstance(events[0], Opened) and events[-1] == ended
    verified = verify_ledger(mesh.log_place.ledger)
    assert verified.entries >= 7
    assert {name for _, name, _ in verified.signers} == {"host", "ada", "ben"}


async def test_a_lead_asks_a_peer_over_mcp_and_the_peer_calls_a_real_tool(tmp_path: Path) -> None:
    steps = [
        {"call": {"name": "ask_math", "arguments": {"question": "What is 17 * 23?"}}},
        {"call": {"name": "evaluate", "arguments": {"expression": "17 * 23"}}, "expect": "What is 17 * 23?"},
        {"say": "The result is 391.", "expect": "391"},
        {"say": "Math says: The result is 391.", "expect": "The result is 391."},
    ]
    mesh = load_mesh(write_mesh(tmp_path, TOOLS.format(limits=""), steps))
    events: list[Event] = []
    ended = await run_dialogue(mesh, "What is 17 * 23?", listen=events.append)
    assert (ended.reason, ended.tool_calls) == ("done", 2)
    assert ended.answer == "Math says: The result is 391."
    calls = [e for e in events if isinstance(e, ToolCallAdded)]
    assert [(c.agent, c.server, c.tool) for c in calls] == [
        ("front", "peers", "ask_math"),
        ("math", "calculator", "evaluate"),
    ]
    results = [e for e in events if isinstance(e, ToolResultAdded)]
    assert [(r.agent, r.text, r.is_error) for r in results] == [
        ("math", "391", False),
        ("front", "The result is 391.", False),
    ]
    assert kinds(mesh.log_place.ledger, ended.dialogue) == [
        "open", "task", "inference", "call", "inference", "call", "result", "inference", "say", "result",
        "inference", "say", "close",
    ]  # fmt: skip
    verify_ledger(mesh.log_place.ledger)


async def test_every_message_is_in_the_ledger_before_it_is_told(tmp_path: Path) -> None:
    mesh = load_mesh(write_mesh(tmp_path, CHAIN, [{"say": "one"}, {"say": "two"}]))
    seen: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, MessageAdded):
            with Ledger.open(mesh.log_place.ledger, read_only=True) as log:
                (record,) = log.read(event.index, event.index + 1)
            part = record.parts[0]
            assert part.data is not None
            seen.append(part.data.decode())

    await run_dialogue(mesh, "Go.", listen=listen)
    assert seen == ["Go.", "one", "two"]


@pytest.mark.parametrize(
    ("limits", "steps", "reason"),
    [
        ("turns = 1", [{"call": {"name": "ask_math", "arguments": {"question": "?"}}}], "limit_turns"),
        ("tokens = 1", [{"call": {"name": "ask_math", "arguments": {"question": "?"}}}], "limit_tokens"),
        (
            "tool_calls = 1",
            [
                {"call": {"name": "ask_math", "arguments": {"question": "?"}}},
                {"call": {"name": "evaluate", "arguments": {"expression": "1"}}},
            ],
            "limit_tool_calls",
        ),
        (
            "identical_calls = 2",
            [
                {"call": {"name": "ask_math", "arguments": {"question": "?"}}},
                *[{"call": {"name": "evaluate", "arguments": {"expression": "1"}}}] * 3,
            ],
            "limit_identical_calls",
        ),
    ],
)
async def test_each_limit_closes_the_dialogue_with_its_reason(
    tmp_path: Path, limits: str, steps: list[object], reason: str
) -> None:
    mesh = load_mesh(write_mesh(tmp_path, TOOLS.format(limits=limits), steps))
    events: list[Event] = []
    ended = await run_dialogue(mesh, "Go.", listen=events.append)
    assert ended.reason == reason
    assert isinstance(events[-1], Ended)
    assert kinds(mesh.log_place.ledger, ended.dialogue)[-1] == "close"
    verify_ledger(mesh.log_place.ledger)


HANGING = """
[mesh]
name = "hanging"
[dialogue]
pattern = "chain"
[dialogue.limits]
seconds = {seconds}
[agents.ada]
model = "scripted:steps.json"
role = "You wait."
tools = ["slow"]
[servers.slow]
command = ["{python}", "slow.py"]
"""

SLOW_SERVER = """
import anyio
from mcp.server import MCPServer

server = MCPServer("slow", log_level="ERROR")

@server.tool()
async def wait() -> str:
    await anyio.sleep_forever()

server.run()
"""


async def test_seconds_end_a_dialogue_in_the_middle_of_a_call(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW_SERVER)
    steps = [{"call": {"name": "wait", "arguments": {}}}]
    mesh = load_mesh(write_mesh(tmp_path, HANGING.format(seconds=1, python=sys.executable), steps))
    with anyio.fail_after(60):
        ended = await run_dialogue(mesh, "Go.", listen=lambda event: None)
    assert ended.reason == "limit_seconds"
    assert kinds(mesh.log_place.ledger, ended.dialogue) == ["open", "task", "inference", "call", "close"]
    verify_ledger(mesh.log_place.ledger)


async def test_cancelling_closes_the_dialogue_and_leaves_a_ledger_that_verifies(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW_SERVER)
    steps = [{"call": {"name": "wait", "arguments": {}}}]
    mesh = load_mesh(write_mesh(tmp_path, HANGING.format(seconds=600, python=sys.executable), steps))
    events: list[Event] = []
    with anyio.fail_after(60):
        with anyio.CancelScope() as scope:

            def listen(event: Event) -> None:
                events.append(event)
                if isinstance(event, ToolCallAdded):
                    scope.cancel()

            await run_dialogue(mesh, "Go.", listen=listen)
    assert scope.cancelled_caught
    ended = events[-1]
    assert isinstance(ended, Ended) and ended.reason == "cancelled"
    assert kinds(mesh.log_place.ledger, ended.dialogue)[-1] == "close"
    verify_ledger(mesh.log_place.ledger)


async def test_a_tool_that_nobody_serves_is_told_before_anything_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW_SERVER)
    text = HANGING.format(seconds=5, python=sys.executable).replace('"slow"]', '"slow.wate"]')
    mesh = load_mesh(write_mesh(tmp_path, text, []))
    with pytest.raises(ToolboxError, match="wait"):
        await run_dialogue(mesh, "Go.", listen=lambda event: None)
    assert not mesh.log_place.ledger.exists()


async def test_a_live_mesh_holds_several_dialogues_side_by_side(tmp_path: Path) -> None:
    text = CHAIN.replace("scripted:steps.json", "scripted:a.json", 1).replace(
        "scripted:steps.json", "scripted:b.json"
    )
    path = write_mesh(tmp_path, text, [])
    (tmp_path / "a.json").write_text(json.dumps([{"say": "from ada"}]))
    (tmp_path / "b.json").write_text(json.dumps([{"say": "from ben"}]))
    answers: dict[str, str] = {}
    async with open_mesh(load_mesh(path), listen=lambda event: None) as live:

        async def ask(agent: str) -> None:
            answers[agent] = (await live.ask(agent, "Who?")).answer

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "ada")
            tasks.start_soon(ask, "ben")
    assert answers == {"ada": "from ada", "ben": "from ben"}
    assert verify_ledger(tmp_path / ".agentmesh" / "ledger.db").entries >= 10


async def test_a_peer_that_says_nothing_is_an_error_its_caller_reads(tmp_path: Path) -> None:
    steps = [
        {"call": {"name": "ask_math", "arguments": {"question": "?"}}},
        {"say": " "},
        {"say": "Math gave no answer.", "expect": "math gave no answer"},
    ]
    mesh = load_mesh(write_mesh(tmp_path, TOOLS.format(limits=""), steps))
    events: list[Event] = []
    ended = await run_dialogue(mesh, "Go.", listen=events.append)
    assert (ended.reason, ended.answer) == ("done", "Math gave no answer.")
    (result,) = [e for e in events if isinstance(e, ToolResultAdded)]
    assert result.is_error


@pytest.mark.parametrize("kind", [Opened, MessageAdded, Ended])
async def test_a_failing_listener_leaves_no_dialogue_open(tmp_path: Path, kind: type[Event]) -> None:
    mesh = load_mesh(write_mesh(tmp_path, CHAIN, [{"say": "one"}, {"say": "two"}]))

    def listen(event: Event) -> None:
        if isinstance(event, kind):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await run_dialogue(mesh, "Go.", listen=listen)
    with Ledger.open(mesh.log_place.ledger, read_only=True) as log:
        (dialogue,) = log.dialogues()
    assert dialogue.closed is not None


async def test_a_failing_listener_closes_the_dialogue_as_failed(tmp_path: Path) -> None:
    mesh = load_mesh(write_mesh(tmp_path, CHAIN, [{"say": "one"}, {"say": "two"}]))

    def listen(event: Event) -> None:
        if isinstance(event, MessageAdded) and event.kind == "say":
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await run_dialogue(mesh, "Go.", listen=listen)
    with Ledger.open(mesh.log_place.ledger, read_only=True) as log:
        (dialogue,) = log.dialogues()
    assert dialogue.closed == "failed"


async def test_a_checker_compares_answers_in_code(tmp_path: Path) -> None:
    text = """
[mesh]
name = "opinions"
[dialogue]
pattern = "round_robin"
order = ["ada", "ben", "checker"]
[agents.ada]
model = "scripted:steps.json"
role = "You answer."
context = "task"
[agents.ben]
model = "scripted:steps.json"
role = "You answer."
context = "task"
[agents.checker]
model = "scripted:steps.json"
role = "You check."
tools = ["calculator"]
checks = ["ada", "ben"]
context = "task"
[servers.calculator]
builtin = "calculator"
"""
    steps = [
        {"say": "It is 391."},
        {"say": "It is 401."},
        {"call": {"name": "evaluate", "arguments": {"expression": "17 * 23"}}, "expect": "What is 17 * 23?"},
    ]
    mesh = load_mesh(write_mesh(tmp_path, text, steps))
    ended = await run_dialogue(mesh, "What is 17 * 23?", listen=lambda event: None)
    assert ended.answer == "evaluate says 391: ada agrees; ben disagrees (says 401)."
    with Ledger.open(mesh.log_place.ledger, read_only=True) as log:
        said = [r.message for r in log.read(dialogue=ended.dialogue) if r.message.kind == "say"]
    assert said[-1].facts["verdicts"] == {"ada": "agree", "ben": "disagree"}


async def test_a_planned_task_is_put_to_the_lead_one_sentence_at_a_time(tmp_path: Path) -> None:
    steps = [
        {"say": "First.", "expect": "What is 1 + 1?"},
        {"say": "Second.", "expect": "And what is 2 + 2?"},
    ]
    text = TOOLS.format(limits="").replace('lead = "front"', 'lead = "front"\nplan = "sentences"')
    mesh = load_mesh(write_mesh(tmp_path, text, steps))
    ended = await run_dialogue(mesh, "What is 1 + 1? And what is 2 + 2?", listen=lambda event: None)
    assert ended.answer == "First. Second."
