"""Prompts that hosts offer: the mesh's usual tasks."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

from mcp.server import MCPServer
from mcp.server.mcpserver.prompts.base import Prompt, PromptArgument

from agentmesh.mesh import Mesh
from agentmesh.mesh.spec import PromptSpec, first_sentence
from agentmesh.serving.icon import ICON

PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_]\w*)\}")
USUAL_TASK: Final = "usual_task"


def add_prompts(server: MCPServer, mesh: Mesh) -> None:
    """Put the mesh file's prompts on a server, and one for its own task."""
    for name, spec in mesh.serve.prompts.items():
        server.add_prompt(_prompt(name, spec))
    if mesh.dialogue.task and USUAL_TASK not in mesh.serve.prompts:
        text = (
            f"Give the mesh {mesh.name} this task with the tool start_dialogue, get the answer with wait_dialogue, "
            f"and tell me what it is:\n\n{mesh.dialogue.task}"
        )
        server.add_prompt(_fixed(text, mesh))


def placeholders(text: str) -> tuple[str, ...]:
    """The arguments of a prompt's text, each once, in order."""
    return tuple(dict.fromkeys(PLACEHOLDER.findall(text)))


def _prompt(name: str, spec: PromptSpec) -> Prompt:
    names = placeholders(spec.text)
    return Prompt(
        name=name,
        title=spec.title or name,
        description=spec.about or spec.title or first_sentence(spec.text),
        arguments=[PromptArgument(name=each, description=None, required=True) for each in names],
        fn=_filling(spec.text, names),
        icons=[ICON],
        context_kwarg=None,
    )


def _fixed(text: str, mesh: Mesh) -> Prompt:
    return Prompt(
        name=USUAL_TASK,
        title=f"The usual task of {mesh.name}",
        description="Gives the whole mesh the task that stands in its file",
        arguments=[],
        fn=_filling(text, ()),
        icons=[ICON],
        context_kwarg=None,
    )


def _filling(text: str, names: tuple[str, ...]) -> Callable[..., Awaitable[str]]:
    async def fill(**arguments: str) -> str:
        # In one pass: what an argument says is never taken for a placeholder.
        return PLACEHOLDER.sub(lambda found: str(arguments.get(found[1], found[0])), text) if names else text

    return fill
