"""Why a connection or a call failed, told in one line.

The SDK lets very different exceptions out, many of them inside exception groups. Those listed here are what servers,
networks and processes do to us; any other is a mistake of our own and goes on its way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import anyio
import httpx2
from mcp.shared.exceptions import MCPError
from mcp.types import CONNECTION_CLOSED, REQUEST_TIMEOUT
from pydantic import ValidationError

from agentmesh.errors import AgentMeshError
from agentmesh.toolbox.results import one_line

_CONNECTION: Final = (
    OSError,
    httpx2.HTTPError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)
# RuntimeError is how the SDK reports a result that does not fit the tool's output schema.
FAILURES: Final = (MCPError, ValueError, RuntimeError, ExceptionGroup, *_CONNECTION)


def is_ours(error: Exception) -> bool:
    """Whether the error, or any in the group, is none that a server can cause."""
    return not all(isinstance(leaf, FAILURES) for leaf in leaves(error))


def is_loss(error: Exception) -> bool:
    """Whether the connection is gone."""
    return any(
        isinstance(leaf, _CONNECTION) or (isinstance(leaf, MCPError) and leaf.code == CONNECTION_CLOSED)
        for leaf in leaves(error)
    )


def may_pass(error: Exception) -> bool:
    """Whether trying again later may help: nobody answered, the connection went, or the server is at its limits."""
    for leaf in leaves(error):
        if isinstance(leaf, httpx2.HTTPStatusError):
            return leaf.response.status_code == 429 or leaf.response.status_code >= 500
        if isinstance(leaf, _CONNECTION) or (isinstance(leaf, MCPError) and leaf.code == CONNECTION_CLOSED):
            return True
    return False


def refusals(error: Exception) -> Iterator[AgentMeshError]:
    """What we refused ourselves, inside the groups that tasks below wrapped it in."""
    return (leaf for leaf in leaves(error) if isinstance(leaf, AgentMeshError))


def words(error: Exception) -> str:
    """The error in words for a person or a model, without a full stop."""
    leaf = next(leaves(error))
    if isinstance(leaf, MCPError):
        if leaf.code == CONNECTION_CLOSED:
            return "it ended the connection"
        if leaf.code == REQUEST_TIMEOUT:
            return "it did not answer in time"
        return one_line(leaf.message) or f"it answered with error {leaf.code}"
    if isinstance(leaf, httpx2.HTTPStatusError):
        return f"it answered HTTP {leaf.response.status_code}"
    if isinstance(leaf, (httpx2.ConnectError, ConnectionError)):
        return "nothing answers at its address"
    if isinstance(leaf, httpx2.HTTPError):
        return one_line(str(leaf)) or type(leaf).__name__
    if isinstance(leaf, (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)):
        return "it ended the connection"
    if isinstance(leaf, ValidationError):
        return f"what it answered is not what MCP prescribes ({_first_mistake(leaf)})"
    if isinstance(leaf, OSError):
        return one_line(leaf.strerror or str(leaf))
    return one_line(str(leaf))


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside an exception group, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def _first_mistake(error: ValidationError) -> str:
    mistake = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in mistake["loc"] if not re.search(r"[\[\]()]", str(part)))
    return one_line(f"{where}: {mistake['msg']}" if where else mistake["msg"])
