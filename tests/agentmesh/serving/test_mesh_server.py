"""A mesh as an MCP server, with the SDK's client in both eras: asking, background dialogues, cut calls, limits."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.types import CallToolResult, TextContent

from agentmesh.errors import RunError
from agentmesh.mesh.links import SERVED_TOOLS
from agentmesh.serving import tools

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])


def text(result: CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


def structure(result: CallToolResult) -> dict[str, Any]:
    assert isinstance(result.structured_content, dict)
    return result.structured_content


@ERAS
async def test_tools_are_few_described_and_hinted_at(serve: Any, mode: str) -> None:
    async with serve() as served, Client(served.server, mode=mode) as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(listed) == ["ask_front", "ask_math", *SERVED_TOOLS]
        assert listed["ask_front"].title == "Ask front"
        assert listed["ask_front"].description == "Ask front. You take questions."
        for tool in listed.values():
            assert tool.title and tool.description and tool.annotations and tool.output_schema
            assert tool.icons and tool.icons[0].src.startswith("data:image/svg+xml;base64,")
        hints = {name: tool.annotations for name, tool in listed.items()}
        assert hints["ask_math"].read_only_hint is True and hints["ask_math"].idempotent_hint is False
        assert (
            hints["stop_dialogue"].destructive_hint is True and hints["stop_dialogue"].read_only_hint is False
        )
        assert hints["wait_dialogue"].idempotent_hint is True


@ERAS
async def test_instructions_are_short_and_say_first_how_to_use_it(serve: Any, mode: str) -> None:
    many = "".join(
        f'[agents.agent{n}]\nmodel = "scripted:steps.json"\nrole = "You are one of many agents, number {n}."\n'
        for n in range(60)
    )
    async with serve(f'[mesh]\nname = "crowd"\n{many}') as served, Client(served.server, mode=mode) as client:
        said = client.instructions or ""
        assert len(said) <= 2_048
        assert said.index("ask_<agent>") < said.index("wait_dialogue") < said.index("Agents:")
        shown = said.count("- agent")
        assert said.endswith(f"- and {60 - shown} more")


@ERAS
async def test_the_whole_answer_is_given_as_text_and_as_structure(serve: Any, mode: str) -> None:
    async with serve() as served, Client(served.server, mode=mode) as client:
        served.gate.reply = lambda request: "391"
        result = await client.call_tool("ask_math", {"question": "What is 17 * 23?"})
        assert text(result) == "391" and not result.is_error
        value = structure(result)
        assert (value["answer"], value["state"], value["reason"]) == ("391", "ended", "done")
        kinds = served.kinds(value["dialogue"])
        assert kinds == ["open", "task", "inference", "say", "close"]


async def test_only_the_agents_that_the_mesh_serves_can_be_asked(serve: Any) -> None:
    async with serve(SERVES_MATH) as served, Client(served.server) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names == ["ask_math", *SERVED_TOOLS]


SERVES_MATH = """\
[mesh]
name = "desk"
[agents.front]
model = "scripted:steps.json"
role = "You take questions."
[agents.math]
model = "scripted:steps.json"
role = "You calculate."
[serve]
agents = ["math"]
"""


@ERAS
async def test_a_dialogue_is_started_and_waited_for(serve: Any, mode: str) -> None:
    async with serve() as served, Client(served.server, mode=mode) as client:
        served.gate.hold()
        started = structure(await client.call_tool("start_dialogue", {"task": "Go."}))
        assert started["state"] == "running" and started["dialogue"] in started["note"]
        waited = await client.call_tool("wait_dialogue", {"dialogue": started["dialogue"], "seconds": 0})
        assert structure(waited)["state"] == "running" and not waited.is_error
        served.gate.open()
        ended = await client.call_tool("wait_dialogue", {"dialogue": started["dialogue"]})
        assert structure(ended)["state"] == "ended" and structure(ended)["answer"] == text(ended)


@ERAS
async def test_a_long_answer_comes_as_a_handle_first(
    serve: Any, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(tools, "PATIENCE", 0.05)
    async with serve() as served, Client(served.server, mode=mode) as client:
        served.gate.hold()
        result = await client.call_tool("ask_math", {"question": "Long?"})
        value = structure(result)
        assert value["state"] == "running" and "call wait_dialogue" in text(result)
        served.gate.open()
        served.gate.reply = lambda request: "At last."
        assert text(await client.call_tool("wait_dialogue", {"dialogue": value["dialogue"]})) == "At last."


async def test_a_caller_that_has_patience_is_given_no_handle(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "PATIENCE", 0.0)
    async with serve() as served, Client(served.server) as client:
        result = await client.call_tool("ask_math", {"question": "?"}, meta={tools.PATIENCE_KEY: 30})
        assert structure(result)["state"] == "ended"
        result = await client.call_tool("ask_math", {"question": "?"}, meta={tools.PATIENCE_KEY: "for ever"})
        assert structure(result)["state"] == "running"


@ERAS
async def test_a_cut_call_leaves_its_dialogue_running_and_findable(serve: Any, mode: str) -> None:
    async with serve() as served, Client(served.server, mode=mode) as client:
        served.gate.hold()
        with pytest.raises(MCPError):
            await client.call_tool("ask_math", {"question": "Cut me."}, read_timeout_seconds=0.3)
        await served.gate.waiting.wait()
        listed = await client.call_tool("wait_dialogue", {})
        (found,) = structure(listed)["dialogues"]
        assert (found["state"], found["asked"], found["task"]) == ("running", "math", "Cut me.")
        assert found["dialogue"] in text(listed)
        served.gate.open()
        served.gate.reply = lambda request: "Still here."
        assert text(await client.call_tool("wait_dialogue", {"dialogue": found["dialogue"]})) == "Still here."
        assert served.kinds(found["dialogue"])[-1] == "close"


@ERAS
async def test_a_stopped_dialogue_is_closed_as_cancelled(serve: Any, mode: str) -> None:
    async with serve() as served, Client(served.server, mode=mode) as client:
        served.gate.hold()
        dialogue = structure(await client.call_tool("start_dialogue", {"task": "Go."}))["dialogue"]
        await served.gate.waiting.wait()
        for _ in range(2):  # stopping twice is no error of its own
            stopped = await client.call_tool("stop_dialogue", {"dialogue": dialogue})
            assert structure(stopped)["reason"] == "cancelled" and "stopped before its end" in text(stopped)
        closed = served.records(dialogue)[-1].message
        assert (closed.kind, closed.facts["reason"]) == ("close", "cancelled")


async def test_what_runs_when_the_server_ends_is_cancelled_and_closed(serve: Any) -> None:
    async with serve() as served:
        served.gate.hold()
        dialogue = served.dialogues.start("Go.")
        await served.gate.waiting.wait()
        served.dialogues.group.cancel_scope.cancel()
        await dialogue.wait()
        assert dialogue.over and dialogue.ended is not None and dialogue.ended.reason == "cancelled"
        assert served.kinds(dialogue.id)[-1] == "close"


async def test_an_error_of_the_body_comes_out_as_it_is(serve: Any) -> None:
    with pytest.raises(RunError, match="mine"):
        async with serve():
            raise RunError("mine", "mine")


LIMITED = """\
[mesh]
name = "desk"
[dialogue]
order = ["front", "math"]
[dialogue.limits]
turns = 1
[agents.front]
model = "scripted:steps.json"
role = "You take questions."
[agents.math]
model = "scripted:steps.json"
role = "You calculate."
"""


@ERAS
async def test_a_limit_gives_the_partial_answer_and_says_so(serve: Any, mode: str) -> None:
    async with serve(LIMITED) as served, Client(served.server, mode=mode) as client:
        served.gate.reply = lambda request: "So far."
        dialogue = structure(await client.call_tool("start_dialogue", {"task": "Go."}))["dialogue"]
        ended = await client.call_tool("wait_dialogue", {"dialogue": dialogue})
        value = structure(ended)
        assert not ended.is_error and value["reason"] == "limit_turns" and value["answer"] == "So far."
        assert "Only a part" in value["note"] and text(ended).startswith("So far.\n[Only a part")


@ERAS
async def test_a_dialogue_that_failed_is_an_error_to_read(serve: Any, mode: str) -> None:
    async with serve() as served, Client(served.server, mode=mode) as client:

        def fail(request: object) -> str:
            raise RuntimeError("a secret of this machine")

        served.gate.reply = fail
        result = await client.call_tool("ask_math", {"question": "?"})
        assert result.is_error and structure(result)["reason"] == "failed"
        assert "failed" in text(result) and "secret" not in text(result)
        served.gate.reply = lambda request: "Fine again."
        assert text(await client.call_tool("ask_math", {"question": "?"})) == "Fine again."


async def test_too_many_dialogues_are_refused_in_clear_words(serve: Any) -> None:
    async with serve(most_running=2) as served, Client(served.server) as client:
        served.gate.hold()
        for _ in range(2):
            await client.call_tool("start_dialogue", {"task": "Go."})
        refused = await client.call_tool("ask_math", {"question": "?"})
        assert refused.is_error and "2 dialogues are running" in text(refused) and "stop one" in text(refused)
        served.gate.open()


@ERAS
async def test_an_ended_dialogue_that_was_forgotten_is_answered_from_the_ledger(
    serve: Any, mode: str
) -> None:
    async with serve(most_ended=1) as served, Client(served.server, mode=mode) as client:
        served.gate.reply = lambda request: "Old news."
        old = structure(await client.call_tool("ask_math", {"question": "?"}))["dialogue"]
        served.gate.reply = lambda request: "New."
        await client.call_tool("ask_math", {"question": "?"})
        assert served.dialogues.find(old) is None
        found = structure(await client.call_tool("wait_dialogue", {"dialogue": old}))
        assert (found["answer"], found["state"], found["reason"]) == ("Old news.", "ended", "done")
        stopped = await client.call_tool("stop_dialogue", {"dialogue": old})
        assert structure(stopped)["reason"] == "done"


@pytest.mark.parametrize("hostile", ["../../etc/passwd", "\x1b[2Jx", "no-such", "a" * 200, "'; drop table"])
@ERAS
async def test_an_id_that_is_none_is_an_error_to_read(serve: Any, mode: str, hostile: str) -> None:
    async with serve() as served, Client(served.server, mode=mode) as client:
        for tool in ("wait_dialogue", "stop_dialogue", "verify_record"):
            result = await client.call_tool(tool, {"dialogue": hostile})
            assert result.is_error and "there is no dialogue" in text(result)
            assert "\x1b" not in text(result)


@ERAS
async def test_progress_rises_and_says_what_happens(serve: Any, mode: str) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def progress(done: float, of: float | None, message: str | None) -> None:
        told.append((done, of, message))
        if message and "begins" in message:
            served.gate.open()

    async with serve() as served, Client(served.server, mode=mode) as client:
        served.gate.hold()
        dialogue = structure(await client.call_tool("start_dialogue", {"task": "Go."}))["dialogue"]
        await client.call_tool("wait_dialogue", {"dialogue": dialogue}, progress_callback=progress)
    numbers = [each[0] for each in told]
    assert numbers == sorted(set(numbers)) and numbers
    assert any(message == "front begins" for _, _, message in told)


@ERAS
async def test_wrong_arguments_are_told_in_plain_words(serve: Any, mode: str) -> None:
    async with serve() as served, Client(served.server, mode=mode) as client:
        result = await client.call_tool("ask_math", {})
        assert result.is_error and "question: field required" in text(result)
        assert "http" not in text(result)
        result = await client.call_tool("wait_dialogue", {"dialogue": "x", "seconds": 1e9})
        assert result.is_error and "seconds" in text(result)


async def test_many_ask_at_once(serve: Any) -> None:
    async with serve() as served, Client(served.server) as client:
        served.gate.reply = lambda request: "one of many"
        answers: list[str] = []

        async def ask() -> None:
            answers.append(text(await client.call_tool("ask_math", {"question": "?"})))

        async with anyio.create_task_group() as group:
            for _ in range(64):
                group.start_soon(ask)
        assert answers == ["one of many"] * 64
        recorded = served.live.ledger.dialogues()
        assert len(recorded) == 64 and all(each.closed == "done" for each in recorded)


def test_the_limits_keep_below_what_hosts_cut_at() -> None:
    assert tools.PATIENCE < 60 and tools.MOST_WAIT < 60
