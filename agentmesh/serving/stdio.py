"""Serving over this process's standard input and output."""

from __future__ import annotations

from mcp.server import MCPServer


async def serve_stdio(server: MCPServer) -> None:
    """Serve until standard input ends. While it does, what the program prints goes to standard error."""
    await server.run_stdio_async()
