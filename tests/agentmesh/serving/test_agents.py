from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.types import TextContent

from agentmesh.errors import RunError
from agentmesh.serving import AgentCard, agent_server

pytestmark = pytest.mark.anyio

CARDS = {
    "math": AgentCard(name="math", about="Calculates, converts units and tells the time."),
    "notes": AgentCard(name="notes", about="Keeps the notes."),
}


async def _ask(agent: str, question: str) -> str:
    if question == "fail":
        raise RunError("limit_turns", "the dialogue ran out of turns", hint="raise dialogue.limits.turns")
    return f"{agent} heard: {question}"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_each_agent_is_one_tool(mode: str) -> None:
    server = agent_server(CARDS, _ask, name="desk", instructions="Ask. " * 1_000)
    async with Client(server, mode=mode) as client:
        assert client.instructions is not None and len(client.instructions) == 2_048
        tools = (await client.list_tools()).tools
        assert [(tool.name, tool.title, tool.description) for tool in tools] == [
            ("ask_math", "Ask math", "Ask math. Calculates, converts units and tells the time."),
            ("ask_notes", "Ask notes", "Ask notes. Keeps the notes."),
        ]
        schema = tools[0].input_schema
        assert schema["properties"]["question"]["description"] == "The question, in full"
        assert schema["properties"]["question"]["type"] == "string" and schema["required"] == ["question"]
        hints = tools[0].annotations
        assert hints is not None and (hints.read_only_hint, hints.open_world_hint) == (True, True)


async def test_the_whole_answer_is_given_as_text_and_as_structure() -> None:
    async with Client(agent_server(CARDS, _ask, name="desk", instructions="Ask.")) as client:
        result = await client.call_tool("ask_math", {"question": "17 * 23?"})
        assert result.structured_content == {"answer": "math heard: 17 * 23?"}
        (block,) = result.content
        assert isinstance(block, TextContent) and block.text == "math heard: 17 * 23?"


async def test_a_dialogue_that_could_not_go_on_is_an_error_to_read() -> None:
    async with Client(agent_server(CARDS, _ask, name="desk", instructions="Ask.")) as client:
        result = await client.call_tool("ask_math", {"question": "fail"})
        (block,) = result.content
        assert result.is_error and isinstance(block, TextContent)
        assert block.text.endswith("the dialogue ran out of turns: raise dialogue.limits.turns")


_PROGRAM = """\
import anyio
from agentmesh.serving import AgentCard, agent_server, serve_stdio

async def ask(agent, question):
    print("a stray print", agent)
    return question.upper()

cards = {"loud": AgentCard(name="loud", about="Shouts.")}
anyio.run(serve_stdio, agent_server(cards, ask, name="desk", instructions="Ask."))
"""


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_agents_are_served_over_stdio_in_both_eras(tmp_path: Path, mode: str) -> None:
    program = tmp_path / "serve.py"
    program.write_text(_PROGRAM)
    with anyio.fail_after(40):
        async with Client(
            StdioServerParameters(command=sys.executable, args=[str(program)]), mode=mode
        ) as client:
            result = await client.call_tool("ask_loud", {"question": "hello"})
            assert result.structured_content == {"answer": "HELLO"}
