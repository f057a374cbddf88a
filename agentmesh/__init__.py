"""AgentMesh: local LLM agents that talk over MCP and leave a signed, chained record anyone can verify offline."""

from __future__ import annotations
