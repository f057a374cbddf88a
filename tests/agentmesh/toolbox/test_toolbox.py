from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mcp.server import MCPServer

from agentmesh.errors import ToolboxError
from agentmesh.toolbox import Toolbox, open_servers

pytestmark = pytest.mark.anyio

Make = Callable[..., object]


def _server(name: str, *tools: str) -> MCPServer:
    server = MCPServer(name)

    async def say(text: str) -> str:
        return f"{name} heard {text}"

    for tool in tools:
        server.add_tool(say, name=tool, description=f"Say it to {name}.\x07")
    return server


async def test_an_agent_has_the_tools_it_is_allowed_in_the_order_it_names_them(
    source: Make, tmp_path: Path
) -> None:
    sources = {
        "clock": source(builtin="clock"),
        "calc": source(builtin="calculator"),
        "units": source(builtin="units"),
    }
    async with open_servers(sources, base=tmp_path) as servers:
        box = Toolbox(servers, allow=("units", "clock.convert_time"))
        assert [spec.name for spec in box.specs] == ["convert", "convert_time"]
        session, tool = box.locate("convert_time")
        assert (session.name, tool.name) == ("clock", "convert_time")
        assert (
            await box.call("convert", {"value": 10, "from_unit": "miles", "to_unit": "km"})
        ).text == "16.09344 kilometers"
        with pytest.raises(ToolboxError, match="there is no tool evaluate"):
            box.locate("evaluate")
        refused = await box.call("evaluate", {"expression": "1"})
        assert (refused.text, refused.is_error) == (
            "Error: there is no tool evaluate: there are convert, convert_time",
            True,
        )
        assert Toolbox(servers).specs == ()


async def test_a_model_is_shown_the_schema_in_its_plain_form(source: Make, tmp_path: Path) -> None:
    async with open_servers({"calc": source(builtin="calculator")}, base=tmp_path) as servers:
        (spec,) = Toolbox(servers, allow=("calc",)).specs
        assert (spec.name, spec.description) == ("evaluate", "Evaluate an arithmetic expression exactly.")
        assert dict(spec.parameters) == {
            "type": "object",
            "properties": {
                "expression": {
                    "type": "string",
                    "description": "The expression, for example 17 * 23 or 15% of 240",
                }
            },
            "required": ["expression"],
        }


async def test_tools_of_one_name_carry_the_names_of_their_servers(tmp_path: Path) -> None:
    sources = {"one": _server("one", "say", "only.one"), "two": _server("two", "say")}
    async with open_servers(sources, base=tmp_path) as servers:
        box = Toolbox(servers, allow=("one", "two"))
        assert [spec.name for spec in box.specs] == ["one_say", "only_one", "two_say"]
        assert box.specs[0].description == "Say it to one."
        assert (await box.call("two_say", {"text": "x"})).text == "two heard x"
        assert (await box.call("only_one", {"text": "x"})).text == "one heard x"


async def test_tools_of_extra_servers_are_allowed_whole(tmp_path: Path) -> None:
    async with open_servers({"peers": _server("peers", "ask_a", "ask_b")}, base=tmp_path) as extra:
        box = Toolbox({}, extra=extra)
        assert [spec.name for spec in box.specs] == ["ask_a", "ask_b"]


@pytest.mark.parametrize(
    ("entry", "reason", "words"),
    [
        (
            "calk",
            "no_such_server",
            "agents.a.tools: no server is called 'calk': did you mean calc? there are calc",
        ),
        ("calc.evalute", "no_such_tool", "did you mean calc.evaluate? it serves evaluate"),
        ("calc.draw", "no_such_tool", "calc serves no tool 'draw': it serves evaluate"),
    ],
)
async def test_a_tool_that_nobody_serves_is_an_error_with_advice(
    source: Make, tmp_path: Path, entry: str, reason: str, words: str
) -> None:
    async with open_servers({"calc": source(builtin="calculator")}, base=tmp_path) as servers:
        with pytest.raises(ToolboxError) as caught:
            Toolbox(servers, allow=(entry,), key="agents.a")
        assert caught.value.reason == reason
        assert words in caught.value.message
