"""The record as MCP resources: reading, hostile ids, and telling of changes in both eras."""

from __future__ import annotations

import base64
import json
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.server.connection import Connection
from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated
from mcp.types import INVALID_PARAMS, ResourceUpdatedNotification, TextResourceContents

from agentmesh.serving import updates
from agentmesh_ledger import verify_proof, verify_transcript

pytestmark = pytest.mark.anyio
# The SDK's client warns of methods that only the older era has.
OLDER = pytest.mark.filterwarnings("ignore:resources/.*subscribe is removed")
ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])


async def read(client: Client, uri: str) -> TextResourceContents:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    return content


async def ask(client: Client, question: str = "What?") -> str:
    result = await client.call_tool("ask_math", {"question": question})
    assert isinstance(result.structured_content, dict)
    return str(result.structured_content["dialogue"])


@ERAS
async def test_resources_and_templates_are_listed(serve: Any, mode: str) -> None:
    async with serve() as served, Client(served.server, mode=mode) as client:
        dialogue = await ask(client, "What is \x1b[31mred?")
        listed = (await client.list_resources()).resources
        assert [str(each.uri) for each in listed] == ["ledger://checkpoint", f"dialogue://{dialogue}"]
        assert listed[1].title == "math was asked: What is red?"
        templates = {
            each.uri_template: each for each in (await client.list_resource_templates()).resource_templates
        }
        assert set(templates) == {"dialogue://{id}", "dialogue://{id}/transcript", "ledger://entry/{n}"}
        assert all(each.title and each.description and each.icons for each in templates.values())


@ERAS
async def test_a_dialogue_is_read_as_people_read_it(serve: Any, mode: str) -> None:
    async with serve() as served, Client(served.server, mode=mode) as client:
        served.gate.reply = lambda request: "It is \x1b[31mred."
        dialogue = await ask(client)
        content = await read(client, f"dialogue://{dialogue}")
        assert content.mime_type == "text/plain"
        assert "host -> math (task): What?" in content.text and "math -> host: It is red." in content.text


@ERAS
async def test_a_transcript_verifies_alone(serve: Any, mode: str) -> None:
    async with serve() as served, Client(served.server, mode=mode) as client:
        dialogue = await ask(client)
        content = await read(client, f"dialogue://{dialogue}/transcript")
        file = served.folder / "one.transcript.jsonl"
        file.write_bytes(content.text.encode())
        found = verify_transcript(file)
        assert found.selection == f"dialogue {dialogue}" and found.entries >= 5


@ERAS
async def test_checkpoint_and_entry_prove_each_other(serve: Any, mode: str) -> None:
    async with serve() as served, Client(served.server, mode=mode) as client:
        await ask(client)
        note = (await read(client, "ledger://checkpoint")).text
        assert note == served.live.ledger.checkpoint()
        value = json.loads((await read(client, "ledger://entry/1")).text)
        record = next(served.live.ledger.read(1, 2))
        assert value["kind"] == record.message.kind and value["leaf_hash"] == record.leaf_hash.hex()
        entry = base64.b64decode(value["entry"])
        found = verify_proof(value["proof"], entry=entry, keys=[served.live.ledger.vkey()])
        assert found.index == 1 and str(served.live.ledger.size) in note


@pytest.mark.parametrize(
    "uri",
    [
        "dialogue://no-such",
        "dialogue://..%2F..%2Fetc/transcript",
        "dialogue://%1B%5B2J",
        "ledger://entry/999999",
        "ledger://entry/-1",
        "ledger://entry/1e3",
        "ledger://entry/twelve",
        "ledger://entry/%D9%A1",
        "ledger://nothing",
    ],
)
@ERAS
async def test_what_is_not_there_is_an_error(serve: Any, mode: str, uri: str) -> None:
    async with serve() as served, Client(served.server, mode=mode) as client:
        await ask(client)
        with pytest.raises(MCPError) as caught:
            await client.read_resource(uri)
        assert caught.value.error.code == INVALID_PARAMS
        assert "\x1b" not in caught.value.error.message and "Traceback" not in caught.value.error.message


async def test_listeners_are_told_of_a_growing_dialogue(serve: Any) -> None:
    async with serve() as served, Client(served.server) as client:
        served.gate.hold()
        dialogue = served.dialogues.start("Go.").id
        await served.gate.waiting.wait()
        seen: list[Any] = []
        wanted = [f"dialogue://{dialogue}", "ledger://checkpoint"]
        async with client.listen(resource_subscriptions=wanted, resources_list_changed=True) as stream:
            served.gate.open()
            async for event in stream:
                seen.append(event)
                if ResourcesListChanged() in seen and {
                    e.uri for e in seen if isinstance(e, ResourceUpdated)
                } == set(wanted):
                    break


@OLDER
async def test_subscribers_of_the_older_era_are_told_until_they_unsubscribe(serve: Any) -> None:
    told: list[str] = []
    news = anyio.Event()

    async def hear(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            told.append(str(message.params.uri))
            news.set()

    async with serve() as served, Client(served.server, mode="legacy", message_handler=hear) as client:
        assert client.server_capabilities.resources and client.server_capabilities.resources.subscribe
        await client.session.subscribe_resource("ledger://checkpoint")
        await ask(client)
        await news.wait()
        assert set(told) == {"ledger://checkpoint"}
        await client.session.unsubscribe_resource("ledger://checkpoint")
        await client.session.unsubscribe_resource("ledger://checkpoint")
        told.clear()
        await ask(client)
        await client.list_tools()
        assert told == []


@OLDER
async def test_subscribing_again_and_again_takes_no_memory(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[Connection] = []

    def seen(session: Any) -> Connection:
        connections.append(session._connection)
        return connections[-1]

    monkeypatch.setattr(updates, "_connection", seen)
    async with serve() as served, Client(served.server, mode="legacy") as client:
        for number in range(20):
            await client.session.subscribe_resource(f"dialogue://{number}")
            await client.session.unsubscribe_resource(f"dialogue://{number}")
        assert len({id(each) for each in connections}) == 1
        kept: Any = connections[0].exit_stack
        assert len(kept._exit_callbacks) <= 2


@OLDER
async def test_subscriptions_are_bounded_and_end_with_their_connection(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updates, "MOST_SUBSCRIPTIONS", 2)
    async with serve() as served:
        for _ in range(2):  # the second time there is room again: the first connection is gone
            async with Client(served.server, mode="legacy") as client:
                await client.session.subscribe_resource("dialogue://a")
                await client.session.subscribe_resource("dialogue://a")
                await client.session.subscribe_resource("dialogue://b")
                with pytest.raises(MCPError, match="too many subscriptions"):
                    await client.session.subscribe_resource("dialogue://c")
