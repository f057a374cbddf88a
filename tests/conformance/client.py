"""The client under test: what agentmesh's toolbox uses, driven through one scenario of the official suite.

    MCP_CONFORMANCE_SCENARIO=tools_call python tests/conformance/client.py http://localhost:1234/mcp

Scenarios that only call tools go through the toolbox itself. The others need what no agent is given (forms, a login
page, resources), and go through the SDK's client. The suite asks for exit status 0.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from mcp.client import Transport
from mcp.client.context import ClientRequestContext
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.types import ElicitRequestFormParams, ElicitRequestParams, ElicitResult
from person import login, read_context
from pydantic import ValidationError
from side import signing_side

from agentmesh.mesh.spec import ServerSpec
from agentmesh.serving.signing import signed_transport
from agentmesh.toolbox import ServerSession, open_servers

_LIMIT = 25.0  # seconds; the suite gives 30


def example(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that a tool's schema allows: the required ones, each with some value of its type."""
    values: dict[str, Any] = {
        "string": "x",
        "number": 1.5,
        "integer": 2,
        "boolean": True,
        "array": [],
        "object": {},
    }
    properties = schema.get("properties", {})
    return {
        name: values[properties.get(name, {}).get("type", "string")] for name in schema.get("required", ())
    }


async def by_toolbox(url: str, context: dict[str, Any]) -> None:
    """List the tools and call each, with the arguments that the suite wants or such as the schema allows."""
    with tempfile.TemporaryDirectory() as folder, signing_side(Path(folder), "client") as signing:
        wraps = {"suite": partial(signed_transport, signing=signing, peer="suite")}
        async with open_servers({"suite": ServerSpec(url=url)}, base=Path(folder), wraps=wraps) as servers:
            session = servers["suite"]
            for name, arguments in _calls(session, context):
                await session.call(name, arguments)


def _calls(session: ServerSession, context: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    if "toolCalls" in context:
        return [(call["name"], call["arguments"]) for call in context["toolCalls"]]
    calls = [(tool.name, example(tool.input_schema)) for tool in session.tools]
    for tool in session.tools:
        if tool.name == "json_schema_echo":  # it wants to see what reached us of its neighbour's schema
            shown = next(each for each in session.tools if each.name == "json_schema_2020_12_tool")
            calls = [(tool.name, {"schema": dict(shown.input_schema)})]
    return calls


async def fill(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    """Send a form off with its defaults, and a yes where it asks for one."""
    if not isinstance(params, ElicitRequestFormParams):
        return ElicitResult(action="decline")
    fields = params.requested_schema["properties"]
    content = {name: field["default"] for name, field in fields.items() if "default" in field}
    content |= {
        name: True for name, field in fields.items() if field["type"] == "boolean" and name not in content
    }
    return ElicitResult(action="accept", content=content)


async def by_client(url: str, context: dict[str, Any], *, logged_in: bool = False) -> None:
    """List and use everything there is."""
    async with (
        _transport(url, context, logged_in) as transport,
        Client(transport, mode=_mode(), elicitation_callback=fill) as client,
    ):
        tools = (await client.list_tools()).tools
        for tool in tools:
            try:
                await client.call_tool(tool.name, example(tool.input_schema))
            except ValidationError as error:
                # One of the suite's servers leaves `resultType` out, which 2026-07-28 requires; the SDK refuses that.
                print(f"{tool.name}: {error}", file=sys.stderr)
        if client.server_capabilities.resources is not None:
            for resource in (await client.list_resources()).resources:
                await client.read_resource(resource.uri)
        if client.server_capabilities.prompts is not None:
            for prompt in (await client.list_prompts()).prompts:
                await client.get_prompt(prompt.name, {each.name: "x" for each in prompt.arguments or ()})


@asynccontextmanager
async def _transport(url: str, context: dict[str, Any], logged_in: bool) -> AsyncIterator[Transport]:
    auth = login(url, context) if logged_in else None
    async with create_mcp_http_client(auth=auth) as http:
        with tempfile.TemporaryDirectory() as folder, signing_side(Path(folder), "client") as signing:
            yield signed_transport(streamable_http_client(url, http_client=http), signing, peer="suite")


def _mode() -> str:
    """The era that this run of the suite is about."""
    version = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2026-07-28")
    return version if version >= "2026" else "legacy"


_TOOLS_ONLY = frozenset(
    {
        "http-custom-headers",
        "http-invalid-tool-headers",
        "json-schema-2020-12-preservation",
        "json-schema-ref-no-deref",
        "request-metadata",
        "tools_call",
    }
)


async def main(scenario: str, url: str, context: dict[str, Any]) -> None:
    """One scenario, to its end."""
    with anyio.fail_after(_LIMIT):
        if scenario in _TOOLS_ONLY:
            await by_toolbox(url, context)
        else:
            await by_client(url, context, logged_in=scenario.startswith("auth/"))


if __name__ == "__main__":
    anyio.run(
        main,
        os.environ["MCP_CONFORMANCE_SCENARIO"],
        sys.argv[1],
        read_context(os.environ.get("MCP_CONFORMANCE_CONTEXT")),
    )
