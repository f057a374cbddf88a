"""The MCP servers of a mesh, and what each agent may call on them.

`open_servers` starts servers and keeps one session with each; `Toolbox` is one agent's selection of their tools.

A server is described by an object with the attributes of `ServerSource`; the mesh file's `ServerSpec` is one. Exactly
one of `builtin` (a name that `agentmesh_servers` knows), `command` (a program that speaks MCP on standard input and
output) and `url` (streamable HTTP) is set. `cwd` and the folders in `options` are relative to the mesh file's folder,
`timeout` is the seconds a call may take. An `mcp.server.MCPServer` may stand in its place and is mounted in memory,
without a time limit for its calls.
"""

from agentmesh.toolbox.catalogue import Identity, Tool
from agentmesh.toolbox.results import ToolResult
from agentmesh.toolbox.servers import Servers, open_servers
from agentmesh.toolbox.sessions import ServerSession
from agentmesh.toolbox.targets import ServerSource
from agentmesh.toolbox.toolbox import Toolbox

__all__ = [
    "Identity",
    "ServerSession",
    "ServerSource",
    "Servers",
    "Tool",
    "ToolResult",
    "Toolbox",
    "open_servers",
]
