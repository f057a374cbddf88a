"""Prompts of a mesh file, and completion of what hosts type."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.types import PromptReference, ResourceTemplateReference, TextContent

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])
MESH = """\
[mesh]
name = "desk"
[dialogue]
task = "What is new?"
[agents.math]
model = "scripted:steps.json"
role = "You calculate."
[serve.prompts.sum]
text = "Add {a} to {b}, then say {a} again."
title = "A sum"
about = "Adds two numbers"
[serve.prompts.about]
text = "Ask {agent} about {dialogue}."
"""


@ERAS
async def test_prompts_fill_their_arguments_in(serve: Any, mode: str) -> None:
    async with serve(MESH) as served, Client(served.server, mode=mode) as client:
        listed = {prompt.name: prompt for prompt in (await client.list_prompts()).prompts}
        assert list(listed) == ["sum", "about", "usual_task"]
        assert (listed["sum"].title, listed["sum"].description) == ("A sum", "Adds two numbers")
        # Some hosts and the conformance suite want a description of every prompt.
        assert (listed["about"].title, listed["about"].description) == (
            "about",
            "Ask {agent} about {dialogue}.",
        )
        assert [(each.name, each.required) for each in listed["sum"].arguments or []] == [
            ("a", True),
            ("b", True),
        ]
        found = await client.get_prompt("sum", {"a": "{b}", "b": "2"})
        (message,) = found.messages
        assert message.role == "user" and isinstance(message.content, TextContent)
        assert message.content.text == "Add {b} to 2, then say {b} again."


@ERAS
async def test_the_mesh_s_own_task_is_a_prompt(serve: Any, mode: str) -> None:
    async with serve(MESH) as served, Client(served.server, mode=mode) as client:
        (message,) = (await client.get_prompt("usual_task")).messages
        assert isinstance(message.content, TextContent)
        assert message.content.text.endswith("What is new?") and "start_dialogue" in message.content.text


@ERAS
async def test_a_missing_argument_is_an_error(serve: Any, mode: str) -> None:
    async with serve(MESH) as served, Client(served.server, mode=mode) as client:
        with pytest.raises(MCPError):
            await client.get_prompt("sum", {"a": "1"})


@ERAS
async def test_a_damaged_ledger_completes_nothing_and_is_no_fault(serve: Any, mode: str) -> None:
    async with serve() as served, Client(served.server, mode=mode) as client:
        await client.call_tool("ask_math", {"question": "Hello?"})
        with closing(sqlite3.connect(served.live.ledger.place)) as database, database:
            database.execute("DELETE FROM head")
        entry = ResourceTemplateReference(uri="ledger://entry/{n}")
        assert (await client.complete(entry, {"name": "n", "value": ""})).completion.values == []


@ERAS
async def test_ids_entries_and_agents_are_completed(serve: Any, mode: str) -> None:
    async with serve(MESH, most_ended=1) as served, Client(served.server, mode=mode) as client:
        ids = []
        for _ in range(2):
            result = await client.call_tool("ask_math", {"question": "?"})
            assert isinstance(result.structured_content, dict)
            ids.append(result.structured_content["dialogue"])
        template = ResourceTemplateReference(uri="dialogue://{id}")
        found = (await client.complete(template, {"name": "id", "value": ids[0][:8]})).completion
        assert found.values == [ids[1], ids[0]] and found.total == 2  # the older one only the ledger knows
        assert (await client.complete(template, {"name": "id", "value": "x"})).completion.values == []
        entry = ResourceTemplateReference(uri="ledger://entry/{n}")
        newest = str(served.live.ledger.size - 1)
        assert (await client.complete(entry, {"name": "n", "value": ""})).completion.values[0] == newest
        prompt = PromptReference(name="about")
        assert (await client.complete(prompt, {"name": "agent", "value": "ma"})).completion.values == ["math"]
        assert (await client.complete(prompt, {"name": "dialogue", "value": ""})).completion.total == 2
        assert (await client.complete(prompt, {"name": "else", "value": ""})).completion.values == []
