"""A mesh as one MCP server: its agents, dialogues in the background, the record and its verification."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Final

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, ToolAnnotations
from pydantic import Field

from agentmesh.errors import AgentMeshError
from agentmesh.runtime import LiveMesh
from agentmesh.serving.answers import DialogueAnswer, listed, result, told
from agentmesh.serving.dialogues import Dialogue, Dialogues
from agentmesh.serving.exchange import asked_by
from agentmesh.serving.progress import Tell
from agentmesh_servers.face import distribution_version, logging_left_alone

MAX_INSTRUCTIONS: Final = 2_048
"""Claude Code cuts what is longer."""
PATIENCE: Final = 40.0
"""Seconds until a call answers with a handle: hosts cut calls at 60."""
WAIT: Final = 30.0
MOST_WAIT: Final = 50.0

_ASKS: Final = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=False, open_world_hint=True
)
_STARTS: Final = _ASKS
_WAITS: Final = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_STOPS: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)
Question = Annotated[str, Field(description="The question, in full")]
DialogueId = Annotated[str, Field(max_length=200, description="The dialogue's id")]


def mesh_server(live: LiveMesh, dialogues: Dialogues) -> MCPServer:
    """The MCP face of a mesh that is up. It answers as long as both are open."""
    mesh = live.mesh
    with logging_left_alone():
        server = MCPServer(
            mesh.name,
            title=mesh.name,
            instructions=instructions(mesh.name)[:MAX_INSTRUCTIONS],
            version=distribution_version(),
        )
    for name in mesh.serve.agents or tuple(mesh.agents):
        server.add_tool(
            _asking(dialogues, name),
            name=f"ask_{name}",
            title=f"Ask {name}",
            description=f"Ask {name}. {mesh.agents[name].about}".strip(),
            annotations=_ASKS,
        )
    _add_dialogue_tools(server, dialogues)
    return server


def instructions(name: str) -> str:
    return f"Ask the agents of the mesh {name}. Every answer is recorded."


def _asking(dialogues: Dialogues, agent: str) -> Callable[..., Awaitable[CallToolResult]]:
    async def ask(question: Question, ctx: Context) -> Annotated[CallToolResult, DialogueAnswer]:
        dialogue = _start(dialogues, question, agent)
        await dialogue.wait(PATIENCE, teller(ctx))
        return told(dialogue)

    return ask


def _add_dialogue_tools(server: MCPServer, dialogues: Dialogues) -> None:
    add = partial(server.tool, structured_output=True)

    @add(title="Start a dialogue", annotations=_STARTS)
    async def start_dialogue(
        task: Annotated[str, Field(description="The task, in full")],
    ) -> Annotated[CallToolResult, DialogueAnswer]:
        """Give a task to the whole mesh. Returns at once with the dialogue's id."""
        return told(_start(dialogues, task, None))

    @add(title="Wait for a dialogue", annotations=_WAITS)
    async def wait_dialogue(
        ctx: Context,
        dialogue: Annotated[str, Field(max_length=200, description="The dialogue's id")] = "",
        seconds: Annotated[float, Field(ge=0, le=MOST_WAIT, description="How long to wait")] = WAIT,
    ) -> Annotated[CallToolResult, DialogueAnswer]:
        """Wait for a dialogue and return its answer, or its state so far."""
        if not dialogue:
            return _choice(dialogues)
        found = _find(dialogues, dialogue)
        await found.wait(seconds, teller(ctx))
        return told(found)

    @add(title="Stop a dialogue", annotations=_STOPS)
    async def stop_dialogue(dialogue: DialogueId) -> Annotated[CallToolResult, DialogueAnswer]:
        """Stop a dialogue; what was said until then stays in the record."""
        found = _find(dialogues, dialogue)
        found.stop()
        await found.wait()
        return told(found)


def _choice(dialogues: Dialogues) -> CallToolResult:
    known = [*reversed(dialogues.running), *reversed(dialogues.ended)][:20]
    note = "Call wait_dialogue with one of these ids" if known else "No dialogue is running"
    return result(DialogueAnswer(state="none", note=note, dialogues=[listed(each) for each in known]))


def _find(dialogues: Dialogues, dialogue: str) -> Dialogue:
    found = dialogues.find(dialogue)
    if found is None:
        raise ToolError("there is no such dialogue")
    return found


def _start(dialogues: Dialogues, task: str, agent: str | None) -> Dialogue:
    try:
        return dialogues.start(task, agent=agent, facts=asked_by())
    except AgentMeshError as error:
        raise ToolError(f"{error.message}: {error.hint}" if error.hint else error.message) from error


def teller(ctx: Context) -> Tell:
    """Reports progress of one call, its number rising with each line."""
    count = 0

    async def tell(line: str) -> None:
        nonlocal count
        count += 1
        await ctx.report_progress(count, None, line)

    return tell
