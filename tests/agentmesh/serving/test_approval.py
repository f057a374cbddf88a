"""A person's approval, asked through elicitation in both eras and recorded before anything runs."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.types import CallToolResult, ElicitRequestParams, ElicitResult, InputRequiredResult, TextContent

from agentmesh.recorder import APPROVALS

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])
MESH = """\
[mesh]
name = "desk"
[agents.math]
model = "scripted:steps.json"
role = "You calculate."
[serve]
approve = ["ask_math", "stop_dialogue"]
"""


class Person:
    """Answers what is asked, and remembers it."""

    def __init__(self, action: str, approve: bool = True) -> None:
        self.asked: list[str] = []
        self._action = action
        self._approve = approve

    async def __call__(self, context: Any, params: ElicitRequestParams) -> ElicitResult:
        self.asked.append(params.message)
        content = {"approve": self._approve} if self._action == "accept" else None
        return ElicitResult.model_validate({"action": self._action, "content": content})


def text(result: CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


@ERAS
async def test_a_yes_is_recorded_first_and_then_the_tool_runs(serve: Any, mode: str) -> None:
    person = Person("accept")
    async with serve(MESH) as served, Client(served.server, mode=mode, elicitation_callback=person) as client:
        schema = next(t for t in (await client.list_tools()).tools if t.name == "ask_math").input_schema
        assert list(schema["properties"]) == ["question"]
        served.gate.reply = lambda request: "391"
        result = await client.call_tool("ask_math", {"question": "17 * 23?\nquestion: harmless"})
        assert text(result) == "391"
        (asked,) = person.asked
        assert asked == "Allow this call of ask_math?\nquestion: 17 * 23?\n    question: harmless"
        (approve,) = served.records(APPROVALS)
        assert approve.message.kind == "approve" and approve.message.facts == {"tool": "ask_math"}
        assert json.loads(approve.parts[0].data) == {"question": "17 * 23?\nquestion: harmless"}
        assert isinstance(result.structured_content, dict)
        opened = served.records(result.structured_content["dialogue"])[0]
        assert opened.message.facts["approved"] == approve.index < opened.index


@pytest.mark.parametrize(("action", "approve"), [("decline", True), ("cancel", True), ("accept", False)])
@ERAS
async def test_anything_but_a_yes_is_a_recorded_no(serve: Any, mode: str, action: str, approve: bool) -> None:
    person = Person(action, approve)
    async with serve(MESH) as served, Client(served.server, mode=mode, elicitation_callback=person) as client:
        result = await client.call_tool("ask_math", {"question": "Please?"})
        assert result.is_error and "did not allow" in text(result)
        (deny,) = served.records(APPROVALS)
        assert deny.message.kind == "deny" and not served.dialogues.ended and not served.dialogues.running


@ERAS
async def test_a_host_that_can_ask_nobody_is_refused_in_clear_words(serve: Any, mode: str) -> None:
    async with serve(MESH) as served, Client(served.server, mode=mode) as client:
        result = await client.call_tool("ask_math", {"question": "Please?"})
        assert result.is_error and "needs a person's approval" in text(result)
        assert served.live.ledger.size == 0


async def test_the_person_sees_what_only_a_model_would_read(serve: Any) -> None:
    person = Person("decline")
    async with serve(MESH) as served, Client(served.server, elicitation_callback=person) as client:
        await client.call_tool("ask_math", {"question": "Hi.\U000e0041\u200b\u202e\x1b[8m\nBye."})
        (asked,) = person.asked
        assert asked.endswith("\nquestion: Hi.\\U000e0041\\u200b\\u202e\\u001b[8m\n    Bye.")


@ERAS
async def test_a_decision_that_cannot_be_recorded_lets_nothing_happen_and_says_so(
    serve: Any, mode: str
) -> None:
    person = Person("accept")
    async with serve(MESH) as served, Client(served.server, mode=mode, elicitation_callback=person) as client:
        result = await client.call_tool("ask_math", {"question": "x" * (9 * 1024 * 1024)})
        assert result.is_error and "could not be recorded" in text(result) and "too large" in text(result)
        assert not served.dialogues.ended and not served.dialogues.running


async def test_an_approval_is_of_no_use_for_other_arguments(serve: Any) -> None:
    async with serve(MESH) as served, Client(served.server, elicitation_callback=Person("accept")) as client:
        first = await client.session.call_tool("ask_math", {"question": "Small?"}, allow_input_required=True)
        assert isinstance(first, InputRequiredResult) and first.input_requests
        yes = {key: ElicitResult(action="accept", content={"approve": True}) for key in first.input_requests}
        again = {"input_responses": yes, "request_state": first.request_state, "allow_input_required": True}
        with pytest.raises(MCPError, match="requestState"):
            await client.session.call_tool("ask_math", {"question": "Large?"}, **again)
        with pytest.raises(MCPError, match="requestState"):
            await client.session.call_tool("stop_dialogue", {"dialogue": "Small?"}, **again)
        assert served.live.ledger.size == 0
        # An answer that no question was asked for is no approval either: the question is asked.
        unasked = await client.session.call_tool(
            "ask_math", {"question": "Large?"}, input_responses=yes, allow_input_required=True
        )
        assert isinstance(unasked, InputRequiredResult) and served.live.ledger.size == 0
        done = await client.session.call_tool("ask_math", {"question": "Small?"}, **again)
        assert isinstance(done, CallToolResult) and not done.is_error
        assert [each.message.kind for each in served.records(APPROVALS)] == ["approve"]
        repeated = await client.session.call_tool("ask_math", {"question": "Small?"}, **again)
        assert isinstance(repeated, CallToolResult) and repeated.is_error
        assert "for one call" in text(repeated) and len(served.dialogues.ended) == 1


async def test_of_two_calls_at_once_under_one_answer_one_is_made(serve: Any) -> None:
    async with serve(MESH) as served, Client(served.server, elicitation_callback=Person("accept")) as client:
        first = await client.session.call_tool("ask_math", {"question": "Once?"}, allow_input_required=True)
        assert isinstance(first, InputRequiredResult) and first.input_requests
        yes = {key: ElicitResult(action="accept", content={"approve": True}) for key in first.input_requests}
        failed: list[bool | None] = []

        async def call() -> None:
            done = await client.session.call_tool(
                "ask_math", {"question": "Once?"}, input_responses=yes, request_state=first.request_state
            )
            failed.append(done.is_error)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            group.start_soon(call)
        assert sorted(map(bool, failed)) == [False, True]
        assert [each.message.kind for each in served.records(APPROVALS)] == ["approve"]
