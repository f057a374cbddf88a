"""What docs/serving.md claims is so; how a served mesh behaves beyond that is proved in tests/agentmesh/serving."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.server import MCPServer
from mcp.types import TextContent

from agentmesh.mesh import load_mesh
from agentmesh.mesh.links import SERVED_TOOLS
from agentmesh.recorder import APPROVALS
from agentmesh.runtime import open_mesh
from agentmesh.serving import dialogues, tools
from agentmesh.serving.answers import DialogueAnswer
from agentmesh.serving.dialogues import open_dialogues
from agentmesh.serving.mesh_server import mesh_server
from agentmesh.serving.tasks import IDENTIFIER

pytestmark = pytest.mark.anyio
MESH = """\
[mesh]
name = "desk"
[dialogue]
task = "What is 17 * 23?"
[agents.math]
model = "scripted:steps.json"
role = "You calculate."
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "serving.md").read_text()


def column(page: str, head: str) -> list[str]:
    """The first column of the table with that head, code only."""
    table = page[page.index(f"| {head} |") :].split("\n\n")[0]
    return re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)


async def test_tools_resources_and_prompts_are_those_of_the_page(page: str, tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert set(tomllib.loads(block)) == {"serve"}
    (tmp_path / "mesh.toml").write_text(MESH + block)
    (tmp_path / "steps.json").write_text(json.dumps([]))
    mesh = load_mesh(tmp_path)
    assert mesh.serve.approve == ("ask_math",)
    with anyio.fail_after(60):
        async with open_mesh(mesh, listen=lambda event: None) as live, open_dialogues(live) as running:
            async with Client(mesh_server(live, running)) as client:
                served = [tool.name for tool in (await client.list_tools()).tools]
                assert column(page, "tool") == ["ask_<agent>", *SERVED_TOOLS]
                assert served == ["ask_math", *SERVED_TOOLS]
                templates = (await client.list_resource_templates()).resource_templates
                listed = [each.uri_template for each in templates]
                fixed = [str(each.uri) for each in (await client.list_resources()).resources]
                assert sorted(column(page, "resource")) == sorted(listed + fixed)
                prompts = [each.name for each in (await client.list_prompts()).prompts]
                assert prompts == ["sum", "usual_task"]
                wait = next(t for t in (await client.list_tools()).tools if t.name == "wait_dialogue")
                seconds = wait.input_schema["properties"]["seconds"]
                assert (seconds["default"], seconds["maximum"]) == (30, 50)


def test_the_numbers_and_names_of_the_page_are_those_of_the_code(page: str) -> None:
    assert f"after {tools.PATIENCE:.0f} seconds" in page and f'"{tools.PATIENCE_KEY}"' in page
    assert f"at most {tools.MOST_PATIENCE:.0f}" in page and f"at most {tools.MOST_WAIT:.0f}" in page
    assert f"At most {dialogues.MOST_RUNNING} run" in page and f"The last {dialogues.MOST_ENDED}" in page
    assert tools.TASK_GRACE == 1.0 and "longer than a second" in page
    assert f"`{IDENTIFIER}`" in page and f"the dialogue `{APPROVALS}`" in page
    states = DialogueAnswer.model_json_schema()["properties"]["state"]["enum"]
    assert column(page, "`state`") == ["state", *states]


async def test_the_code_of_the_page_runs(page: str) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    found: dict[str, Any] = {}
    exec(block, found)
    said: list[str] = []

    async def use(server: MCPServer) -> None:
        async with Client(server) as client:
            result = await client.call_tool("slow", {"text": "hello"})
            assert isinstance(result.content[0], TextContent)
            said.append(result.content[0].text)

    serve: Callable[[Callable[[MCPServer], Awaitable[None]]], Awaitable[None]] = found["serve_for_a_while"]
    with anyio.fail_after(30):
        await serve(use)
    assert said == ["HELLO"]
