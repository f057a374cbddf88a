"""Agents as MCP servers: one tool `ask_<agent>` for each, in memory for a peer or over stdio for any MCP host."""

from agentmesh.serving.agents import AgentCard, agent_server
from agentmesh.serving.stdio import serve_stdio

__all__ = ["AgentCard", "agent_server", "serve_stdio"]
