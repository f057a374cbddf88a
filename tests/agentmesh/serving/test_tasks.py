"""The Tasks extension, on any server and on a mesh's, with a client that declares it, and with those that do not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar, Literal

import anyio
import anyio.lowlevel
import pytest
from mcp import Client, MCPError
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp.types import CallToolResult, ElicitResult, Request, RequestParams, Result, TextContent
from pydantic import BaseModel, ConfigDict

from agentmesh.serving import tools
from agentmesh.serving.tasks import IDENTIFIER, TaskTool, current_task, open_tasks

pytestmark = pytest.mark.anyio


class Created(Result):
    result_type: Literal["task"] = "task"
    task_id: str
    status: str
    ttl_ms: int
    poll_interval_ms: int
    created_at: str
    status_message: str = ""


class Detailed(Result):
    model_config = ConfigDict(extra="allow")
    task_id: str
    status: str
    status_message: str = ""
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    input_requests: dict[str, Any] | None = None


class Params(RequestParams):
    task_id: str
    input_responses: dict[str, Any] | None = None


class Ask(Request[Params, str]):
    name_param: ClassVar[str | None] = "taskId"
    method: str
    params: Params


async def send(session: Any, method: str, task: str, **more: Any) -> Any:
    kind = Detailed if method == "tasks/get" else Result
    return await session.send_request(Ask(method=method, params=Params(task_id=task, **more)), kind)


class Polling(ClientExtension):
    """Declares the extension, and polls a task to its end."""

    identifier = IDENTIFIER

    def __init__(self) -> None:
        self.tasks: list[str] = []

    def claims(self) -> Sequence[ResultClaim[Any]]:
        async def resolve(created: Created, ctx: ClaimContext) -> CallToolResult:
            self.tasks.append(created.task_id)
            while True:
                found = await send(ctx.session, "tasks/get", created.task_id)
                if found.status == "completed":
                    return CallToolResult.model_validate(found.result)
                await anyio.lowlevel.checkpoint()

        return (ResultClaim(result_type="task", model=Created, resolve=resolve),)


class Sure(BaseModel):
    sure: bool


class Bench:
    """A server with tools of each kind; `gate` holds `slow` back."""

    def __init__(self, server: MCPServer) -> None:
        self.server = server
        self.gate = anyio.Event()
        self.stopped: list[bool] = []


@asynccontextmanager
async def bench(**more: Any) -> AsyncIterator[Bench]:
    kinds = {
        "slow": TaskTool(),
        "quick": TaskTool(grace=5),
        "asks": TaskTool(),
        "asks_first": TaskTool(grace=5, required=True),
        "breaks": TaskTool(),
    }
    with anyio.fail_after(60):
        async with open_tasks(kinds, **more) as tasks:
            made = Bench(MCPServer("bench", extensions=[tasks], log_level="CRITICAL"))
            server = made.server

            @server.tool()
            async def slow(ctx: Context) -> str:
                await ctx.report_progress(1, 2, "half \x1b[1mway")
                try:
                    await made.gate.wait()
                except anyio.get_cancelled_exc_class():
                    task = current_task()
                    made.stopped.append(task is not None and task.stopped)
                    raise
                return "done"

            @server.tool()
            async def quick() -> str:
                return "at once"

            async def ask_once(ctx: Context) -> Elicit[Sure]:
                return Elicit("once?", Sure)

            async def ask_twice(ctx: Context) -> Elicit[Sure]:
                return Elicit("twice?", Sure)

            # Names of this function's own cannot be looked up by the SDK from text.
            async def asks(once: Any, twice: Any) -> str:
                return f"{once.sure} {twice.sure}"

            asks.__annotations__ = {
                "once": Annotated[Sure, Resolve(ask_once)],
                "twice": Annotated[Sure, Resolve(ask_twice)],
                "return": str,
            }
            server.add_tool(asks)

            async def asks_first(once: Any) -> str:
                return f"sure: {once.sure}"

            asks_first.__annotations__ = {"once": Annotated[Sure, Resolve(ask_once)], "return": str}
            server.add_tool(asks_first)

            @server.tool()
            async def breaks(how: str) -> str:
                if how == "protocol":
                    raise MCPError(-31999, "broken", {"why": "test"})
                raise ValueError("a secret")

            yield made


async def yes(context: Any, params: Any) -> ElicitResult:
    return ElicitResult(action="accept", content={"sure": True})


async def create(client: Client, tool: str, arguments: dict[str, Any] | None = None) -> Created:
    made = await client.session.call_tool(tool, arguments or {}, allow_claimed=True)
    assert isinstance(made, Created)
    return made


async def until(client: Client, task: str, status: str) -> Detailed:
    while True:
        found = await send(client.session, "tasks/get", task)
        assert isinstance(found, Detailed)
        if found.status == status:
            return found
        await anyio.lowlevel.checkpoint()


async def test_a_task_is_found_at_once_and_carries_its_result() -> None:
    async with bench() as made, Client(made.server, extensions=[Polling()]) as client:
        created = await create(client, "slow")
        assert created.status == "working" and created.ttl_ms > 0 and created.poll_interval_ms > 0
        found = await until(client, created.task_id, "working")
        assert found.result is None and found.error is None
        while not found.status_message:
            found = await until(client, created.task_id, "working")
        assert found.status_message == "half way"
        made.gate.set()
        found = await until(client, created.task_id, "completed")
        assert found.result is not None and found.result["content"][0]["text"] == "done"


async def test_a_client_s_extension_makes_of_it_an_ordinary_call() -> None:
    extension = Polling()
    async with bench() as made, Client(made.server, extensions=[extension]) as client:
        made.gate.set()
        result = await client.call_tool("slow")
        assert isinstance(result.content[0], TextContent) and result.content[0].text == "done"
        assert len(extension.tasks) == 1


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_who_does_not_declare_it_gets_the_call_as_ever(mode: str) -> None:
    async with bench() as made, Client(made.server, mode=mode, elicitation_callback=yes) as client:
        made.gate.set()
        result = await client.call_tool("slow")
        assert isinstance(result, CallToolResult) and not result.is_error
        code = -32021 if mode == "auto" else -32601
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            with pytest.raises(MCPError) as caught:
                await send(client.session, method, "x", input_responses={})
            assert caught.value.error.code == code
        with pytest.raises(MCPError) as caught:
            await client.call_tool("asks_first")
        assert caught.value.error.code == -32021


async def test_what_is_answered_within_its_grace_is_no_task() -> None:
    async with bench() as made, Client(made.server, extensions=[Polling()]) as client:
        result = await client.session.call_tool("quick", {}, allow_claimed=True)
        assert isinstance(result, CallToolResult)


async def test_a_cancelled_task_ends_as_cancelled_and_its_tool_knows_why() -> None:
    async with bench() as made, Client(made.server, extensions=[Polling()]) as client:
        created = await create(client, "slow")
        for _ in range(2):
            await send(client.session, "tasks/cancel", created.task_id)
            await until(client, created.task_id, "cancelled")
        assert made.stopped == [True]


async def test_a_task_asks_and_is_answered_piece_by_piece() -> None:
    async with bench() as made:
        async with Client(made.server, extensions=[Polling()], elicitation_callback=yes) as client:
            task = (await create(client, "asks")).task_id
            asked = (await until(client, task, "input_required")).input_requests or {}
            assert sorted(each["params"]["message"] for each in asked.values()) == ["once?", "twice?"]
            first, second = asked
            with pytest.raises(MCPError) as caught:
                await send(client.session, "tasks/update", task, input_responses={first: {"no": "answer"}})
            assert caught.value.error.code == -32602
            answer = {"action": "accept", "content": {"sure": True}}
            await send(client.session, "tasks/update", task, input_responses={first: answer, "unknown": {}})
            found = await until(client, task, "input_required")
            assert list(found.input_requests or {}) == [second]
            await send(client.session, "tasks/update", task, input_responses={second: answer})
            found = await until(client, task, "completed")
            assert found.result is not None and found.result["content"][0]["text"] == "True True"


async def test_answers_to_a_task_that_was_cancelled_do_not_bring_it_back() -> None:
    async with bench() as made:
        async with Client(made.server, extensions=[Polling()], elicitation_callback=yes) as client:
            task = (await create(client, "asks")).task_id
            asked = (await until(client, task, "input_required")).input_requests or {}
            await send(client.session, "tasks/cancel", task)
            assert (await until(client, task, "cancelled")).input_requests is None
            answer = {"action": "accept", "content": {"sure": True}}
            await send(client.session, "tasks/update", task, input_responses=dict.fromkeys(asked, answer))
            assert (await send(client.session, "tasks/get", task)).status == "cancelled"


async def test_a_task_whose_questions_nobody_answers_ends_with_its_time() -> None:
    async with bench(most=1, ttl=0.0) as made:
        async with Client(made.server, extensions=[Polling()], elicitation_callback=yes) as client:
            task = (await create(client, "asks")).task_id
            with pytest.raises(MCPError) as caught:
                while True:
                    await send(client.session, "tasks/get", task)
            assert caught.value.error.code == -32602
            await create(client, "slow")  # there is room again


async def test_what_is_asked_within_the_grace_is_asked_in_the_call_and_then_it_is_a_task() -> None:
    extension = Polling()
    async with bench() as made:
        async with Client(made.server, extensions=[extension], elicitation_callback=yes) as client:
            result = await client.call_tool("asks_first")
            assert isinstance(result.content[0], TextContent) and result.content[0].text == "sure: True"
            assert len(extension.tasks) == 1


async def test_errors_of_the_tool_and_of_the_protocol_are_told_apart() -> None:
    async with bench() as made, Client(made.server, extensions=[Polling()]) as client:
        task = (await create(client, "breaks", {"how": "protocol"})).task_id
        found = await until(client, task, "failed")
        assert found.error == {"code": -31999, "message": "broken", "data": {"why": "test"}}
        task = (await create(client, "breaks", {"how": "tool"})).task_id
        found = await until(client, task, "completed")
        assert found.result is not None and found.result["isError"] and "secret" not in str(found.result)


async def test_tasks_are_bounded_and_forgotten_after_their_time() -> None:
    async with bench(most=1, ttl=0.0) as made, Client(made.server, extensions=[Polling()]) as client:
        created = await create(client, "slow")
        with anyio.move_on_after(0.2):  # there is room for one: this call is an ordinary one, which waits
            await client.session.call_tool("slow", {}, allow_claimed=True)
            raise AssertionError
        await send(client.session, "tasks/cancel", created.task_id)
        made.gate.set()
        with pytest.raises(MCPError) as caught:
            while True:
                await send(client.session, "tasks/get", created.task_id)
        assert caught.value.error.code == -32602


async def test_a_long_question_to_an_agent_is_a_task(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "TASK_GRACE", 0.05)
    async with serve() as served, Client(served.server, extensions=[Polling()]) as client:
        served.gate.hold()
        served.gate.reply = lambda request: "In the end."
        task = (await create(client, "ask_math", {"question": "Long?"})).task_id
        found = await until(client, task, "working")
        while "math begins" not in found.status_message:
            found = await until(client, task, "working")
        served.gate.open()
        found = await until(client, task, "completed")
        assert found.result is not None and found.result["structuredContent"]["answer"] == "In the end."


async def test_cancelling_the_task_stops_the_dialogue(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "TASK_GRACE", 0.05)
    async with serve() as served, Client(served.server, extensions=[Polling()]) as client:
        served.gate.hold()
        task = (await create(client, "ask_math", {"question": "Long?"})).task_id
        (dialogue,) = served.dialogues.running
        await send(client.session, "tasks/cancel", task)
        await dialogue.wait()
        assert dialogue.ended is not None and dialogue.ended.reason == "cancelled"
        assert (await until(client, task, "cancelled")).result is None


async def test_a_call_cut_before_it_is_a_task_leaves_its_dialogue(serve: Any) -> None:
    async with serve() as served, Client(served.server, extensions=[Polling()]) as client:
        served.gate.hold()
        with pytest.raises(MCPError):
            await client.call_tool("ask_math", {"question": "?"}, read_timeout_seconds=0.3)
        await served.gate.waiting.wait()
        (dialogue,) = served.dialogues.running
        served.gate.open()
        await dialogue.wait()
        assert dialogue.ended is not None and dialogue.ended.reason == "done"


APPROVED = """\
[mesh]
name = "desk"
[agents.math]
model = "scripted:steps.json"
role = "You calculate."
[serve]
approve = ["ask_math"]
"""


async def test_a_person_is_asked_before_the_question_becomes_a_task(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "TASK_GRACE", 0.5)
    asked: list[str] = []

    async def person(context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"approve": True})

    extension = Polling()
    async with serve(APPROVED) as served:
        async with Client(served.server, extensions=[extension], elicitation_callback=person) as client:
            served.gate.hold()
            answers: list[str] = []

            async def ask() -> None:
                result = await client.call_tool("ask_math", {"question": "Long?"})
                assert isinstance(result.structured_content, dict)
                answers.append(result.structured_content["answer"])

            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                while not extension.tasks:
                    await anyio.lowlevel.checkpoint()
                served.gate.reply = lambda request: "Allowed."
                served.gate.open()
            assert answers == ["Allowed."] and len(asked) == 1 and len(extension.tasks) == 1
            assert [each.message.kind for each in served.records("approvals")] == ["approve"]
