"""What the MCP faces of all servers share: how one is made, how it answers, how it refuses.

Knows the MCP SDK and nothing of any tool.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, InputRequiredResult, TextContent, ToolAnnotations
from pydantic import BaseModel, ValidationError

from agentmesh_servers.errors import ServersError

READS_ONLY: Final = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
# Changes something that was not there before, and nothing that was.
ADDS: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
CHANGES: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=False
)
# The same call a second time changes nothing more.
CHANGES_ONCE: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)


def distribution_version() -> str:
    """The version of the installed distribution, or `0` in a tree that was never installed."""
    try:
        return version("agentmesh-runtime")
    except PackageNotFoundError:
        return "0"


@contextmanager
def logging_left_alone() -> Iterator[None]:
    """Keeps the SDK from configuring the process's root logger while a server is built.

    `MCPServer()` calls `logging.basicConfig`, which would put its handler and level on whatever
    program mounts the server; with a handler already there it does nothing.
    """
    root = logging.getLogger()
    guard = logging.NullHandler()
    root.addHandler(guard)
    try:
        yield
    finally:
        root.removeHandler(guard)


def make_server(name: str, *, title: str, instructions: str) -> MCPServer:
    """An empty server with the identity that every server of this package carries."""
    with logging_left_alone():
        return ToolServer(name, title=title, instructions=instructions, version=distribution_version())


def answer(text: str, value: BaseModel) -> CallToolResult:
    """The whole answer twice: as the text a model reads and as named fields.

    Hosts show one or the other, so neither may hold less than the other.
    """
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=value.model_dump(mode="json")
    )


class ToolServer(MCPServer):
    """Tells of wrong arguments in words that a model can act on; the SDK's are pydantic's, with a web address."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool. Raises: ToolError, MCPError."""
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                raise ToolError(_wrong_arguments(name, error.__cause__)) from error
            raise


def _wrong_arguments(name: str, error: ValidationError) -> str:
    """What is wrong with the arguments of a call, for a model to read."""
    mistakes = [
        f"{'.'.join(map(str, found['loc']))}: {found['msg'][:1].lower()}{found['msg'][1:]}"
        for found in error.errors(include_url=False, include_input=False)
    ]
    return f"wrong arguments for {name}: {'; '.join(mistakes)}"


@contextmanager
def advice() -> Iterator[None]:
    """Turns this package's error into a tool result that the model can read and act on."""
    try:
        yield
    except ServersError as error:
        raise ToolError(error.message) from error
