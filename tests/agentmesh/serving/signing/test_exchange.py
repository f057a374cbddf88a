"""A signed exchange on every transport and in both eras: it goes through, and either side alone can show it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from mcp.types import ElicitResult

from agentmesh.serving.signing import claims
from agentmesh_ledger.statement import content_digest, open_statement

pytestmark = pytest.mark.anyio

combinations = pytest.mark.parametrize(
    ("transport", "era"), [(line, era) for line in ("memory", "stdio", "http") for era in ("legacy", "auto")]
)


async def answer(context: Any, params: Any) -> ElicitResult:
    return ElicitResult(action="accept", content={"yes": True})


@combinations
async def test_calls_prompts_and_resources_are_signed_and_recorded_on_both_sides(
    house: Any, part: Any, transport: str, era: str
) -> None:
    async with house.client(transport, era, house.here(), elicitation_callback=answer) as client:
        expected = "2025-11-25" if era == "legacy" else "2026-07-28"
        assert client.protocol_version == expected
        said = await client.call_tool("echo", {"text": "hello"}, meta=claims(dialogue="d7", agent="critic"))
        assert said.content[0].text == "hello"
        got = await client.get_prompt("greeting", {"name": "Ada"})
        assert got.messages[0].content.text == "Greet Ada."
        read = await client.read_resource("notes://today")
        assert read.contents[0].text == "nothing"
        asked = await client.call_tool("delicate", {})
        assert asked.content[0].text == "answered True"

    critic = house.here_keys.agent("critic").id
    ours, theirs = house.records("here"), house.records("there")
    rounds = (
        5 if era == "auto" else 4
    )  # in the newer era a question is a result, and its answer another request
    assert [each.message.kind for each in ours] == ["sent", "received"] * rounds
    assert [each.message.kind for each in theirs] == ["received", "sent"] * rounds
    for mine, yours in zip(ours, theirs, strict=True):
        facts, other = mine.message.facts, yours.message.facts
        assert facts["exchange"] == other["exchange"] and len(str(facts["exchange"])) == 64
        assert (facts["type"], facts["method"]) == (other["type"], other["method"])
    asked_here, answered_here = ours[0], ours[1]
    assert asked_here.message.dialogue == "d7" and asked_here.message.author == critic
    assert theirs[0].message.dialogue == f"wire:{critic[-12:]}:d7"
    for record, mirror in ((asked_here, theirs[0]), (answered_here, theirs[1])):
        assert record.message.facts["statement"] == mirror.message.facts["statement"]
        envelope = part(record, "statement")
        assert envelope == part(mirror, "statement")
        sealed = open_statement(envelope)
        assert hashlib.sha256(envelope).hexdigest() == record.message.facts["statement"]
        assert sealed.statement.digest == content_digest(sealed.statement.nonce, part(record, "content"))
    request, result = open_statement(part(ours[0], "statement")), open_statement(part(ours[1], "statement"))
    assert request.statement.author == critic and request.statement.audience == house.server_key
    assert request.statement.subject == "critic@example.org/here" and request.statement.name == "echo"
    assert result.statement.author == house.server_key and result.statement.audience == critic
    assert result.statement.request == request.digest == ours[0].message.facts["exchange"]
    assert json.loads(part(ours[0], "content"))["arguments"] == {"text": "hello"}
    assert [each.message.facts["method"] for each in ours[2:6:2]] == ["prompts/get", "resources/read"]


@pytest.mark.parametrize("transport", ["memory", "stdio", "http"])
async def test_progress_and_updates_come_through_unsigned(house: Any, transport: str) -> None:
    told: list[float] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        told.append(done)

    async with house.client(transport, "auto", house.here()) as client:
        async with client.listen(resource_subscriptions=["notes://today"]) as updates:
            await client.call_tool("touch", {}, progress_callback=progress)
            async for update in updates:
                assert str(update.uri) == "notes://today"
                break
        assert (await client.call_tool("echo", {"text": "after"})).content[0].text == "after"
    assert told == [1.0]
