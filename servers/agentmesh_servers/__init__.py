"""MCP tool servers: calculator, clock, files, notes, sql and units.

`build(name)` gives one to mount in memory; `agentmesh-server NAME` runs one over stdio. Importing this
package imports neither the MCP SDK nor any server.
"""

from agentmesh_servers.errors import ServersError
from agentmesh_servers.registry import build, names, options

__all__ = ["ServersError", "build", "names", "options"]
