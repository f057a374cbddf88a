"""The MCP servers of a mesh, and what each agent may call on them.

`open_servers` starts servers and keeps one session with each; `Toolbox` is one agent's selection of their tools.

A server is described by an object with the attributes of `ServerSource`; the mesh file's `ServerSpec` is one. Exactly
one of `builtin` (a name that `agentmesh_servers` knows), `command` (a program that speaks MCP on standard input and
output) and `url` (streamable HTTP) is set. `cwd` and the folders in `options` are relative to the mesh file's folder,
`timeout` is the seconds a call may take. An `mcp.server.MCPServer` may stand in its place and is mounted in memory,
without a time limit for its calls. A `Remote` is a mesh elsewhere, whose agents are asked.

What a server says of its tools is pinned when it is first used, where a `PinFile` is given; a server that says anything
else afterwards is used no more until somebody has accepted it.
"""

from agentmesh.toolbox.catalogue import Identity, Tool
from agentmesh.toolbox.changes import Change, ToolsChanged
from agentmesh.toolbox.pins import Pin, PinFile
from agentmesh.toolbox.results import ToolResult
from agentmesh.toolbox.servers import Servers, open_servers, recheck
from agentmesh.toolbox.sessions import ServerSession
from agentmesh.toolbox.targets import Remote, ServerSource
from agentmesh.toolbox.toolbox import Toolbox

__all__ = [
    "Change",
    "Identity",
    "Pin",
    "PinFile",
    "Remote",
    "ServerSession",
    "ServerSource",
    "Servers",
    "Tool",
    "ToolResult",
    "Toolbox",
    "ToolsChanged",
    "open_servers",
    "recheck",
]
