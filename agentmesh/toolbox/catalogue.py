"""What a server says of itself and of its tools, and the digest that pins it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from mcp import Client
from mcp.types import Tool as WireForm
from pydantic import JsonValue

from agentmesh.toolbox.pins import ToolSet, WireTool
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
    """All a server serves that is used of it. `tool_set` is that in the form which is digested and pinned."""

    identity: Identity
    tools: tuple[Tool, ...]
    tool_set: ToolSet


def any_tool(name: str) -> bool:
    """Every tool of a server is used."""
    return True


async def read_catalogue(client: Client, *, used: Callable[[str], bool] = any_tool) -> Catalogue:
    """Ask a connected server for all its tools, never a cache for them; those not `used`, by their names, are left out.

    Raises:
        ValueError: it serves none of sense: two tools of one name, too many, pages without end, or values that
            have no canonical form.
    """
    listed = [tool for tool in await _list_tools(client) if used(tool.name)]
    names = [tool.name for tool in listed]
    if "" in names:
        raise ValueError("it lists a tool without a name")
    if len(set(names)) != len(names):
        raise ValueError("it lists two tools of one name")
    info = client.server_info
    forms = [_wire_form(tool) for tool in listed]
    return Catalogue(
        identity=Identity(
            name=one_line(info.name) if info else "",
            version=one_line(info.version) if info else "",
            protocol=client.protocol_version,
        ),
        tools=tuple(_tool(form) for form in forms),
        tool_set=ToolSet.of(forms, client.instructions or ""),
    )


async def _list_tools(client: Client) -> list[WireForm]:
    tools: list[WireForm] = []
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        page = await client.list_tools(cursor=cursor, cache_mode="bypass")
        tools.extend(page.tools)
        if len(tools) > MAX_TOOLS:
            raise ValueError(f"it lists more than {MAX_TOOLS:,} tools")
        cursor = page.next_cursor
        if cursor is None:
            return tools
    raise ValueError(f"its list of tools goes on after {_MAX_PAGES} pages")


def catalogue_of(tool_set: ToolSet) -> Catalogue:
    """What is known of a server that is away: its tools as they are pinned, and nothing of who it is."""
    return Catalogue(
        identity=Identity(name="", version="", protocol=""),
        tools=tuple(_tool(form) for form in tool_set.tools),
        tool_set=tool_set,
    )


def _tool(form: WireTool) -> Tool:
    name, title, description = form.get("name"), form.get("title"), form.get("description")
    annotations, input_schema, output_schema = (
        _object(form.get(key)) for key in ("annotations", "inputSchema", "outputSchema")
    )
    return Tool(
        name=str(name),
        title=str(title or (annotations or {}).get("title") or name),
        description=str(description or ""),
        input_schema=input_schema or {},
        output_schema=output_schema,
        annotations=annotations or {},
    )


def _object(value: JsonValue) -> dict[str, JsonValue] | None:
    return value if isinstance(value, dict) else None


def _wire_form(tool: WireForm) -> WireTool:
    """The tool's names, texts, schemas and annotations as they came over the wire."""
    kept = {"name", "title", "description", "input_schema", "output_schema", "annotations"}
    form: WireTool = tool.model_dump(mode="json", by_alias=True, exclude_none=True, include=kept)
    return form
