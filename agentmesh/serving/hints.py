"""What asking an agent may do to the world, as truthfully as its tools tell: hosts decide by it what needs a person's word."""

from __future__ import annotations

from collections.abc import Iterator

from mcp.types import ToolAnnotations

from agentmesh.mesh import Mesh
from agentmesh.toolbox import Servers, Tool


def asking_hints(mesh: Mesh, servers: Servers, *agents: str) -> ToolAnnotations:
    """The annotations of a tool that lets these agents speak.

    It only reads where every tool within their reach, and their peers', says so of itself. The record that is kept of
    each dialogue does not count; what is answered depends on a model: another time it is another answer.
    """
    tools = list(_reachable(mesh, servers, agents))
    reads = all(tool is not None and tool.annotations.get("readOnlyHint") is True for tool in tools)
    destroys = any(tool is None or tool.annotations.get("destructiveHint") is not False for tool in tools)
    return ToolAnnotations(
        read_only_hint=reads,
        destructive_hint=destroys and not reads,
        idempotent_hint=False,
        open_world_hint=True,
    )


def _reachable(mesh: Mesh, servers: Servers, agents: tuple[str, ...]) -> Iterator[Tool | None]:
    """The tools that these agents and their peers may use; None for what cannot be looked at from here."""
    waiting, seen = list(agents), set(agents)
    while waiting:
        name = waiting.pop()
        spec = mesh.agents.get(name)
        if spec is None:
            yield None  # an agent of another mesh
            continue
        for entry in spec.tools:
            server, _, wanted = entry.partition(".")
            session = servers.get(server)
            if session is None:
                yield None
            else:
                yield from (tool for tool in session.tools if not wanted or tool.name == wanted)
        waiting += [peer for peer in spec.peers if peer not in seen]
        seen.update(spec.peers)
