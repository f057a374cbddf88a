"""Agents as the tools of one MCP server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Final

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field

from agentmesh.errors import AgentMeshError
from agentmesh_servers.face import logging_left_alone

MAX_INSTRUCTIONS: Final = 2_048
"""Claude Code cuts what is longer."""

# An answer changes nothing but the record of it. What it says depends on a model: another time it is another answer.
_ASKS: Final = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=False, open_world_hint=True
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCard:
    """What others know of an agent: its name, and one sentence about what it does."""

    name: str
    about: str


class AgentAnswer(BaseModel):
    """What an agent answered."""

    model_config = ConfigDict(title="Answer")

    answer: str = Field(title="Answer", description="The agent's answer, whole")


def agent_server(
    agents: Mapping[str, AgentCard],
    ask: Callable[[str, str], Awaitable[str]],
    *,
    name: str,
    instructions: str,
) -> MCPServer:
    """A server with one tool `ask_<agent>` for each agent; `ask` is given the agent's name and the question.

    An `AgentMeshError` from `ask` is a tool error with its message and hint, for the one who asked to read.
    """
    with logging_left_alone():
        server = MCPServer(name, title=name, instructions=instructions[:MAX_INSTRUCTIONS], version=_version())
    for agent, card in agents.items():
        server.add_tool(
            _tool(partial(ask, agent)),
            name=f"ask_{agent}",
            title=f"Ask {card.name}",
            description=f"Ask {card.name}. {card.about}".strip(),
            annotations=_ASKS,
        )
    return server


def _tool(
    ask: Callable[[str], Awaitable[str]],
) -> Callable[[str], Awaitable[CallToolResult]]:
    async def ask_agent(
        question: Annotated[str, Field(description="The question, in full")],
    ) -> Annotated[CallToolResult, AgentAnswer]:
        try:
            answer = await ask(question)
        except AgentMeshError as error:
            raise ToolError(f"{error.message}: {error.hint}" if error.hint else error.message) from error
        return CallToolResult(
            content=[TextContent(text=answer)], structured_content=AgentAnswer(answer=answer).model_dump()
        )

    return ask_agent


def _version() -> str:
    try:
        return version("agentmesh-runtime")
    except PackageNotFoundError:
        return "0"
