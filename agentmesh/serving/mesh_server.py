"""A mesh as one MCP server: its agents, dialogues in the background, the record and its verification."""

from __future__ import annotations

from typing import Any

from mcp.server import MCPServer
from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    GetPromptResult,
    InputRequiredResult,
    SubscribeRequestParams,
    UnsubscribeRequestParams,
)
from mcp.types import Resource as ListedResource

from agentmesh.runtime import LiveMesh
from agentmesh.serving.approval import note_answer
from agentmesh.serving.completion import add_completion
from agentmesh.serving.dialogues import Dialogues
from agentmesh.serving.icon import ICON
from agentmesh.serving.instructions import mesh_instructions
from agentmesh.serving.prompts import add_prompts
from agentmesh.serving.resources import add_resources, listed_dialogues
from agentmesh.serving.tasks import Tasks
from agentmesh.serving.tools import add_tools, exposed, task_tools
from agentmesh.serving.updates import Updates
from agentmesh_servers.face import ToolServer, distribution_version, logging_left_alone


def mesh_server(
    live: LiveMesh,
    dialogues: Dialogues,
    *,
    auth: AuthSettings | None = None,
    token_verifier: TokenVerifier | None = None,
) -> MCPServer:
    """The MCP face of a mesh that is up. It answers as long as both are open.

    `auth` and `token_verifier` are for a face that is served over HTTP as an OAuth resource server.
    """
    updates = Updates()
    with logging_left_alone():
        server = _MeshServer(dialogues, updates, auth=auth, token_verifier=token_verifier)
    server.middleware.insert(0, note_answer)
    if dialogues.till is not None:
        server.middleware.insert(0, dialogues.till.middleware)
    add_tools(server, dialogues)
    add_resources(server, dialogues, updates)
    add_prompts(server, live.mesh)
    add_completion(server, dialogues)
    # Hosts before 2026-07-28 subscribe to a URI, which the SDK's MCPServer does not serve by itself.
    inner = server._lowlevel_server
    inner.add_request_handler("resources/subscribe", SubscribeRequestParams, updates.on_subscribe)
    inner.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, updates.on_unsubscribe)
    dialogues.group.start_soon(updates.deliver)
    return server


class _MeshServer(ToolServer):
    """Lists the dialogues beside the fixed resources."""

    def __init__(
        self,
        dialogues: Dialogues,
        updates: Updates,
        *,
        auth: AuthSettings | None,
        token_verifier: TokenVerifier | None,
    ) -> None:
        mesh = dialogues.live.mesh
        super().__init__(
            mesh.name,
            title=mesh.name,
            instructions=mesh_instructions(mesh, exposed(mesh)),
            version=distribution_version(),
            icons=[ICON],
            auth=auth,
            token_verifier=token_verifier,
            subscriptions=updates,
            extensions=[Tasks(task_tools(mesh), dialogues.group)],
        )
        self._dialogues = dialogues

    async def list_resources(self) -> list[ListedResource]:
        """The checkpoint, then the dialogues, the newest first."""
        return [*await super().list_resources(), *listed_dialogues(self._dialogues)]

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[Any, Any] | None = None
    ) -> GetPromptResult | InputRequiredResult:
        """Get a prompt.

        Raises: MCPError for one that is not there, or arguments it cannot do with. The SDK (2.3) says that the server
            failed, and writes a traceback into the log for each.
        """
        try:
            return await super().get_prompt(name, arguments, context)
        except ValueError as error:
            raise MCPError(INVALID_PARAMS, str(error)) from error
