"""The tool `verify_record`: evidence with intact and complete apart, and damage told as a finding."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from mcp import Client
from mcp.types import CallToolResult, TextContent

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
async def test_the_whole_ledger_or_one_dialogue_is_verified(serve: Any, mode: str) -> None:
    async with serve() as served, Client(served.server, mode=mode) as client:
        dialogue = structure(await client.call_tool("ask_math", {"question": "?"}))["dialogue"]
        for arguments, entries in (({}, served.live.ledger.size), ({"dialogue": dialogue}, 7)):
            result = await client.call_tool("verify_record", arguments)
            found = structure(result)
            assert not result.is_error and found["intact"] is True and found["entries"] == entries
            assert found["complete"] and found["complete"] in text(result)
            assert "intact     yes" in text(result) and found["not_shown"]
            assert {each["name"] for each in found["signers"]} == {"host", "math"}


@ERAS
async def test_an_altered_ledger_is_told_as_a_finding(serve: Any, mode: str) -> None:
    async with serve() as served, Client(served.server, mode=mode) as client:
        dialogue = structure(await client.call_tool("ask_math", {"question": "?"}))["dialogue"]
        path = served.live.ledger.path
        with sqlite3.connect(path) as database:
            changed = database.execute("UPDATE parts SET data = X'626164' WHERE length(data) < 60").rowcount
        database.close()
        assert changed
        for arguments in ({}, {"dialogue": dialogue}):
            result = await client.call_tool("verify_record", arguments)
            found = structure(result)
            assert result.is_error and found["intact"] is False and found["failures"]
            assert found["failures"][0]["check"] == "part"
            assert "NOT VERIFIED" in text(result) and "not intact" in found["complete"]
