"""The answering side: a middleware that verifies what comes in and signs what goes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mcp.server import MCPServer
from mcp.server.lowlevel import Server

from agentmesh.serving.signing.identity import Signing
from agentmesh_ledger import AgentId


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """Who called. `author` is None for a host that does not sign; `digest` is that of the request's envelope."""

    author: AgentId | None
    subject: str
    dialogue: str
    digest: str

    async def recorded(self) -> int | None:
        """The index of the `received` request in the ledger, written by then; None where nothing is recorded."""
        raise NotImplementedError


def sign_server(server: MCPServer | Server[Any], signing: Signing) -> None:
    raise NotImplementedError


def current_exchange() -> Exchange | None:
    raise NotImplementedError
