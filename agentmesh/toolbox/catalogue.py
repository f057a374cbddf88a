"""What a server says of itself and of its tools, and the digest that pins it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mcp import Client
from mcp.types import Tool as WireTool
from pydantic import JsonValue

from agentmesh.toolbox.pins import digest_of_tools
from agentmesh.toolbox.results import one_line

MAX_TOOLS: Final = 1_000
_MAX_PAGES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a server says it is. It says so itself: nothing here is proved."""

    name: str
    version: str
    protocol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool as its server describes it."""

    name: str
    title: str
    description: str
    input_schema: Mapping[str, JsonValue]
    output_schema: Mapping[str, JsonValue] | None
    annotations: Mapping[str, JsonValue]

    @property
    def may_repeat(self) -> bool:
        """Whether its server says that calling it twice does no more than calling it once."""
        return self.annotations.get("readOnlyHint") is True or self.annotations.get("idempotentHint") is True


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """All a server serves. `digest` is hex SHA-256 over the whole of it, so that any change shows."""

    identity: Identity
    instructions: str
    tools: tuple[Tool, ...]
    digest: str


async def read_catalogue(client: Client) -> Catalogue:
    """Ask a connected server for all its tools.

    Raises:
        ValueError: it serves none of sense: two tools of one name, too many, pages without end, or values that
            have no canonical form.
    """
    listed = await _list_tools(client)
    tools = tuple(_tool(tool) for tool in listed)
    names = [tool.name for tool in tools]
    if "" in names:
        raise ValueError("it lists a tool without a name")
    if len(set(names)) != len(names):
        raise ValueError("it lists two tools of one name")
    instructions = client.instructions or ""
    info = client.server_info
    return Catalogue(
        identity=Identity(
            name=one_line(info.name) if info else "",
            version=one_line(info.version) if info else "",
            protocol=client.protocol_version,
        ),
        instructions=instructions,
        tools=tools,
        digest=digest_of_tools([_wire_form(tool) for tool in listed], instructions),
    )


async def _list_tools(client: Client) -> list[WireTool]:
    tools: list[WireTool] = []
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools.extend(page.tools)
        if len(tools) > MAX_TOOLS:
            raise ValueError(f"it lists more than {MAX_TOOLS:,} tools")
        cursor = page.next_cursor
        if cursor is None:
            return tools
    raise ValueError(f"its list of tools goes on after {_MAX_PAGES} pages")


def _tool(wire: WireTool) -> Tool:
    form = _wire_form(wire)
    annotations = form.get("annotations")
    output_schema = form.get("outputSchema")
    return Tool(
        name=wire.name,
        title=wire.title or (wire.annotations.title if wire.annotations else None) or wire.name,
        description=wire.description or "",
        input_schema=wire.input_schema,
        output_schema=output_schema if isinstance(output_schema, dict) else None,
        annotations=annotations if isinstance(annotations, dict) else {},
    )


def _wire_form(tool: WireTool) -> dict[str, JsonValue]:
    """The tool's names, texts, schemas and annotations as they came over the wire."""
    kept = {"name", "title", "description", "input_schema", "output_schema", "annotations"}
    form: dict[str, JsonValue] = tool.model_dump(mode="json", by_alias=True, exclude_none=True, include=kept)
    return form
