"""Hearing from a server of the modern era that its tools changed.

Servers of the `initialize` era send that unasked; those of 2026-07-28 send it on a stream that a client has to open.
Either way it passes the connection's watch, which takes note of it.
"""

from __future__ import annotations

from typing import Final

import anyio
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from agentmesh.toolbox import failures
from agentmesh.toolbox.backoff import Backoff
from agentmesh.toolbox.wire import Watch

# A stream that ends again and again is opened a few times, a minute apart at last; the lists read before each dialogue remain.
_AGAIN: Final = Backoff(tries=20, first=1.0, most=60.0)


async def listen_for_changes(client: Client, watch: Watch) -> None:
    """Keep a stream of changes open, until cancelled; whenever it was lost the tools count as unlooked-at."""
    tools = client.server_capabilities.tools
    if client.protocol_version not in MODERN_PROTOCOL_VERSIONS or tools is None or not tools.list_changed:
        return
    for wait in _AGAIN.waits():
        try:
            async with client.listen(tools_list_changed=True) as changes:
                async for _ in changes:
                    pass
        except MCPError:
            return  # it serves no such stream after all
        except failures.FAILURES as error:
            if failures.is_ours(error):
                raise
        watch.stale = True
        await anyio.sleep(wait)
