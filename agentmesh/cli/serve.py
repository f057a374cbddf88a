"""`agentmesh serve`: the agents of a mesh as tools of an MCP host, over standard input and output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agentmesh.cli.exits import CANCELLED
from agentmesh.cli.options import MeshArgument
from agentmesh.cli.passphrase import keys_in
from agentmesh.cli.signals import watch_signals

if TYPE_CHECKING:
    from agentmesh.mesh import Mesh
    from agentmesh_ledger import KeyStore


def serve(mesh: MeshArgument) -> None:
    """Serve each agent of a mesh over MCP (stdio), as a tool ask_AGENT."""
    import anyio

    from agentmesh.mesh import load_mesh

    loaded = load_mesh(mesh)
    if anyio.run(_serve, loaded, keys_in(loaded.log_place.keys)):
        sys.stdout.flush()
        sys.stderr.flush()
        # All is closed by now. A thread may still wait for the host's next line, and Python would wait for it.
        os._exit(CANCELLED)


async def _serve(mesh: Mesh, keys: KeyStore) -> bool:
    """Serve until standard input ends, or a signal comes; true for a signal."""
    import anyio

    serving = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(watch_signals, serving.cancel)
        with serving:
            await _answer(mesh, keys)
        group.cancel_scope.cancel()
    return serving.cancel_called


async def _answer(mesh: Mesh, keys: KeyStore) -> None:
    from contextlib import AsyncExitStack

    from agentmesh.runtime import open_mesh
    from agentmesh.serving import AgentCard, agent_server, serve_stdio
    from agentmesh.view.plain import PlainLines

    view = PlainLines(lambda line: print(line, file=sys.stderr, flush=True))
    async with AsyncExitStack() as stack:
        with _standard_output_kept():
            live = await stack.enter_async_context(open_mesh(mesh, listen=view, keys=keys))

        async def ask(agent: str, question: str) -> str:
            return await live.ask(agent, question)

        cards = {name: AgentCard(name=name, about=spec.about) for name, spec in mesh.agents.items()}
        server = agent_server(
            cards,
            ask,
            name=mesh.name,
            instructions=f"Ask the agents of the mesh {mesh.name}. Every answer is recorded.",
        )
        await serve_stdio(server)


@contextmanager
def _standard_output_kept() -> Iterator[None]:
    """Until MCP takes standard output over, whatever writes there goes to standard error: one stray line of a
    library that greets would end the host's session."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
