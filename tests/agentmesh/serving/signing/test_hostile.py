"""Whatever a stranger sends where a statement belongs: one clear refusal, never another exception, and nothing kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp.types import (
    CallToolResult,
    JSONRPCError,
    JSONRPCRequest,
    JSONRPCResponse,
    ListToolsResult,
    TextContent,
    Tool,
)
from nacl.signing import SigningKey

from agentmesh.serving.signing import (
    KEY,
    KnownKeys,
    NonceStore,
    Policy,
    Signing,
    SigningError,
    memory_transport,
    reason_of,
    sign_server,
    signed_transport,
)
from agentmesh.serving.signing.calls import MAX_UNDER_WAY, Calls
from agentmesh.serving.signing.server import _SigningMiddleware
from agentmesh.serving.signing.statements import opened, seal
from agentmesh_ledger import AgentKey
from agentmesh_ledger.identity import agent_id
from agentmesh_ledger.statement import PAYLOAD_TYPE


def agent(seed: int) -> AgentKey:
    key = SigningKey(bytes([seed]) * 32)
    return AgentKey(name=f"a{seed}", id=agent_id(bytes(key.verify_key)), _key=key)


ADA, BEN = agent(1), agent(2)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary().map(str),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=8), each, max_size=3),
    max_leaves=10,
)
envelopes = json_values | st.fixed_dictionaries(
    {
        "payload": json_values,
        "payloadType": st.just(PAYLOAD_TYPE),
        "signatures": st.lists(
            st.fixed_dictionaries({"keyid": st.just(ADA.id) | json_values, "sig": json_values}), max_size=2
        ),
    }
)


def side(key: AgentKey, **more: Any) -> Signing:
    return Signing(
        key=key, subject=f"{key.name}@x.org/y", policy=Policy(mode="require", known=KnownKeys(), **more)
    )


@given(envelopes)
def test_whatever_stands_for_a_statement_is_malformed(value: Any) -> None:
    with pytest.raises(SigningError) as caught:
        opened(value)
    assert caught.value.reason == "malformed"


@given(envelopes, st.booleans() | st.none())
def test_a_server_refuses_it_and_so_does_a_client(value: Any, error: bool | None) -> None:
    server = _SigningMiddleware(side(BEN))
    with pytest.raises(MCPError) as caught:
        server._admitted("tools/call", {"name": "x", "_meta": {KEY: value}})
    assert reason_of(caught.value) == "malformed"
    calls = Calls(side(ADA), peer="lab", audience=BEN.id)
    calls.sign(JSONRPCRequest(jsonrpc="2.0", id=1, method="tools/call", params={"name": "x"}))
    answer: JSONRPCResponse | JSONRPCError = JSONRPCResponse(
        jsonrpc="2.0", id=1, result={"_meta": {KEY: value}}
    )
    if error:
        answer = JSONRPCError.model_validate(
            {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "", "data": {KEY: value}}}
        )
    settled = calls.settle(SessionMessage(answer), answer)
    assert settled is not None and isinstance(settled.item, SessionMessage)
    assert isinstance(settled.item.message, JSONRPCError)
    assert settled.item.message.error.data == {"dev.agentmesh/reason": "malformed"}


@given(json_values)
def test_no_shape_of_params_or_meta_is_more_than_a_refusal(meta: Any) -> None:
    server = _SigningMiddleware(side(BEN))
    for params in ({"_meta": meta}, {"name": meta, "uri": meta}, {"_meta": meta, "name": meta}):
        with pytest.raises(MCPError) as caught:
            server._admitted("tools/call", params)
        assert reason_of(caught.value) in ("unsigned", "malformed")


@given(json_values)
def test_whatever_a_caller_claims_leaves_as_a_statement_or_not_at_all(claim: Any) -> None:
    calls = Calls(side(ADA), peer="lab", audience=BEN.id)
    request = JSONRPCRequest(jsonrpc="2.0", id=1, method="tools/call", params={"_meta": {KEY: claim}})
    try:
        sent = calls.sign(request)
    except SigningError as error:
        assert error.reason in ("malformed", "not_canonical")
    else:
        assert claim is None and opened((sent.params or {})["_meta"][KEY])


def test_an_answer_nobody_waits_for_is_dropped() -> None:
    calls = Calls(side(ADA), peer="lab", audience=BEN.id)
    for identity in (1, "1", "x"):
        answer = JSONRPCResponse(jsonrpc="2.0", id=identity, result={})
        assert calls.settle(SessionMessage(answer), answer) is None


def test_a_second_answer_is_dropped_and_an_id_may_come_back_as_text() -> None:
    calls = Calls(side(ADA), peer="lab", audience=BEN.id)
    calls.sign(JSONRPCRequest(jsonrpc="2.0", id=7, method="ping"))
    answer = JSONRPCResponse(jsonrpc="2.0", id="7", result={})
    settled = calls.settle(SessionMessage(answer), answer)
    assert settled is not None and isinstance(settled.item, SessionMessage) and settled.item.message is answer
    assert calls.settle(SessionMessage(answer), answer) is None


def test_requests_under_way_are_bounded() -> None:
    calls = Calls(side(ADA), peer="lab", audience=BEN.id)
    for number in range(MAX_UNDER_WAY):
        calls.sign(JSONRPCRequest(jsonrpc="2.0", id=number, method="tools/list"))
    with pytest.raises(SigningError) as caught:
        calls.sign(JSONRPCRequest(jsonrpc="2.0", id="one more", method="tools/list"))
    assert caught.value.reason == "too_many"
    calls.unsent(0)
    calls.sign(JSONRPCRequest(jsonrpc="2.0", id="one more", method="tools/list"))


def test_a_statement_of_an_answer_is_no_request() -> None:
    sealed = seal(
        ADA, Policy(mode="require", known=KnownKeys()), type="result", method="tools/call", name="x", content=b"{}",
        subject="ada", audience=BEN.id, dialogue="", request="",
    )  # fmt: skip
    with pytest.raises(MCPError) as caught:
        _SigningMiddleware(side(BEN))._admitted(
            "tools/call", {"name": "x", "_meta": {KEY: dict(sealed.wire)}}
        )
    assert reason_of(caught.value) == "malformed"


def test_of_a_refused_request_neither_nonce_nor_pin_is_kept() -> None:
    here, there = side(ADA), side(BEN)
    server = _SigningMiddleware(there)
    calls = Calls(here, peer="lab", audience=BEN.id)
    sent = calls.sign(JSONRPCRequest(jsonrpc="2.0", id=1, method="tools/call", params={"name": "x"}))
    for params in ({**(sent.params or {}), "name": "y"}, {**(sent.params or {}), "arguments": {}}):
        with pytest.raises(MCPError) as caught:
            server._admitted("tools/call", params)
        assert reason_of(caught.value) == "altered_arguments"
    with pytest.raises(MCPError):
        server._admitted("prompts/get", sent.params or {})
    assert len(there.policy.nonces) == 0
    assert there.policy.known.pin_of("client", "a1@x.org/y") is None
    assert server._admitted("tools/call", sent.params or {}).author == ADA.id


def test_a_full_nonce_store_refuses_and_says_so() -> None:
    server = _SigningMiddleware(side(BEN, nonces=NonceStore(limit=1)))
    calls = Calls(side(ADA), peer="lab", audience=BEN.id)
    sent = [
        calls.sign(JSONRPCRequest(jsonrpc="2.0", id=each, method="tools/list")).params or {}
        for each in (1, 2)
    ]
    server._admitted("tools/list", sent[0])
    with pytest.raises(MCPError) as caught:
        server._admitted("tools/list", sent[1])
    assert reason_of(caught.value) == "too_many"


@pytest.mark.anyio
@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_a_replay_to_a_server_that_was_started_again_is_refused(
    house: Any, served: Any, tmp_path: Path, era: str
) -> None:
    """A kept request of the run before: its nonce stands in the file."""
    kept: dict[str, Any] = {}
    key = house.server_key
    for again in (False, True):
        nonces = NonceStore(tmp_path / "nonces")
        server = served.small_server()
        sign_server(server, house.there(nonces=nonces))
        line = house.middleman.between(memory_transport(server))
        with anyio.fail_after(30):
            async with Client(signed_transport(line, house.here(), peer="lab"), mode=era) as client:
                if again:

                    def replay(message: Any, kept: Any = kept) -> Any:
                        return {**kept, "id": message["id"]}

                    house.middleman.asks = replay
                    with pytest.raises(MCPError):
                        await client.call_tool("echo", {"text": "x"})
                    house.middleman.rest()
                    assert house.middleman.answered[-1]["error"]["data"]["dev.agentmesh/reason"] == "replayed"
                else:
                    await client.call_tool("echo", {"text": "x"})
                    kept = [each for each in house.middleman.seen if each["method"] == "tools/call"][-1]
        nonces.close()
        assert house.server_key == key
        house.records("there")


@pytest.mark.anyio
async def test_a_low_level_server_over_http_may_look_at_its_own_tools(
    house: Any, http: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK holds the headers of a call against the tool's schema, and lists the tools for that, unsigned."""

    async def tools(context: Any, params: Any) -> ListToolsResult:
        return ListToolsResult(tools=[Tool(name="x", input_schema={"type": "object"})])

    async def call(context: Any, params: Any) -> CallToolResult:
        return CallToolResult(content=[TextContent(text="done")])

    server: Server[Any] = Server("small", on_list_tools=tools, on_call_tool=call)
    sign_server(server, house.there())
    with anyio.fail_after(30):
        async with http(server.streamable_http_app()) as port:
            line = signed_transport(
                streamable_http_client(f"http://127.0.0.1:{port}/mcp"), house.here(), peer="lab"
            )
            async with Client(line, mode="auto") as client:
                result = await client.call_tool("x", {"a": 1})
                assert isinstance(result.content[0], TextContent) and result.content[0].text == "done"
    assert [each.message for each in caplog.records if each.levelname == "ERROR"] == []


@pytest.mark.anyio
@pytest.mark.parametrize("version", ["2026-07-28", "2025-11-25"])
async def test_nobody_else_can_make_a_request_look_like_that(house: Any, http: Any, version: str) -> None:
    server = house.served.small_server()
    sign_server(server, house.there())
    meta = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": version,
        "mcp-method": "tools/call",
        "mcp-name": "echo",
    }
    with anyio.fail_after(30):
        async with (
            http(server.streamable_http_app(stateless_http=True)) as port,
            httpx2.AsyncClient() as client,
        ):
            answer = await client.post(f"http://127.0.0.1:{port}/mcp", json=body, headers=headers)
    assert "inputSchema" not in answer.text and "error" in answer.text


@pytest.mark.anyio
async def test_a_call_in_the_name_of_an_agent_without_a_key_store_is_refused_here(house: Any) -> None:
    signing = replace(house.here(), keys=None)
    async with house.client("memory", "auto", signing) as client:
        with pytest.raises(MCPError) as caught:
            await client.call_tool("echo", {"text": "x"}, meta={KEY: {"agent": "critic", "dialogue": "d1"}})
    assert reason_of(caught.value) == "unknown_key"
