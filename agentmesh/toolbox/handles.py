"""Waiting for an answer that a peer gives later.

A served mesh answers a call that takes long with a handle: structured content with the state "running" and the id of
the dialogue, which its tool `wait_dialogue` waits for. The caller's time limit stands around all of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import anyio
from mcp import Client
from mcp.types import CallToolResult, RequestParamsMeta

WAIT_TOOL: Final = "wait_dialogue"
_RUNNING: Final = "running"
_PAUSE: Final = 0.5


async def outcome(
    client: Client, result: CallToolResult, *, meta: RequestParamsMeta | None
) -> CallToolResult:
    """The result that a handle stands for, once there is one; a result that is no handle, as it is."""
    dialogue = _handle(result)
    while dialogue is not None:
        asked = time.monotonic()
        result = await client.call_tool(WAIT_TOOL, {"dialogue": dialogue}, meta=meta)
        dialogue = _handle(result)
        if dialogue is not None and time.monotonic() - asked < _PAUSE:
            await anyio.sleep(_PAUSE)  # a server that does not wait must not keep both of us busy
    return result


def _handle(result: CallToolResult) -> str | None:
    """The dialogue that still runs, if that is what the result says."""
    return handle_in({"isError": result.is_error, "structuredContent": result.structured_content})


def handle_in(result: Mapping[str, object]) -> str | None:
    """The same of a result as it is on the wire."""
    told = result.get("structuredContent")
    if result.get("isError") or not isinstance(told, Mapping) or told.get("state") != _RUNNING:
        return None
    dialogue = told.get("dialogue")
    return dialogue if isinstance(dialogue, str) and dialogue else None
