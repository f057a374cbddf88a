"""A record that may lag behind: what a crash could lose, and what it never could."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError

from agentmesh.serving.signing import reason_of
from agentmesh_ledger import Draft

pytestmark = pytest.mark.anyio
_LONG = 3600.0
"""Longer than any test: what is written earlier was not written because of the time."""


async def test_an_answer_is_let_in_before_it_is_durable_and_stands_before_what_is_made_of_it(
    house: Any,
) -> None:
    ours = replace(house.here(), lag=_LONG)
    async with house.client("memory", "auto", ours) as client:
        await client.list_tools()
        for number in range(3):
            result = await client.call_tool("echo", {"text": str(number)})
            assert not result.is_error
        assert ours.ledger.size == 0
        made = Draft(author=ours.key, kind="result", dialogue="d1")
        (receipt,) = await ours.ledger.append_async([made])
    kinds = [record.message.kind for record in house.records("here")]
    assert kinds == ["sent", "received"] * 3
    # The registration of the key, and six statements.
    assert receipt.index == 7


async def test_a_lagging_record_is_written_in_time_and_by_closing(house: Any) -> None:
    ours = replace(house.here(), lag=_LONG)
    async with house.client("memory", "legacy", ours) as client:
        await client.list_tools()
        await client.call_tool("echo", {"text": "a"})
    assert [record.message.kind for record in house.records("here")] == ["sent", "received"]
    again = replace(house.here(), lag=0.02)
    async with house.client("memory", "legacy", again) as client:
        await client.list_tools()
        await client.call_tool("echo", {"text": "a"})
        # Submitted later, so written no earlier than the call's statements; nobody else appends.
        marker = Draft(author=again.key, kind="marker", dialogue="d1")
        receipt = again.ledger.submit([marker], within=_LONG).result(timeout=30)[0]
        assert receipt.index == again.ledger.size - 1


async def test_after_a_write_that_failed_no_answer_is_let_in(house: Any) -> None:
    ours = replace(house.here(), lag=_LONG)
    async with house.client("memory", "auto", ours) as client:
        await client.list_tools()
        await client.call_tool("echo", {"text": "a"})
        ours.ledger.close()
        with pytest.raises(MCPError) as refused:
            await client.call_tool("echo", {"text": "a"})
        assert reason_of(refused.value) == "unrecorded"


async def test_a_server_that_lags_has_written_what_it_answered_once_it_is_closed(house: Any) -> None:
    theirs = house.there
    house.there = lambda **policy: replace(theirs(**policy), lag=_LONG)
    async with house.client("memory", "auto", house.here()) as client:
        await client.list_tools()
        await client.call_tool("echo", {"text": "a"})
    assert [record.message.kind for record in house.records("there")] == ["received", "sent"]
