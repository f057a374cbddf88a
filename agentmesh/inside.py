"""An agent's peers of its own mesh, as an MCP server in memory: opened once, for every dialogue.

To make such a server costs more than a short dialogue does. Which dialogue a call belongs to is known by the context
of the task that calls: in memory the SDK answers a call in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import partial

from agentmesh.dialogue import Stage
from agentmesh.floor import PEERS
from agentmesh.mesh import Mesh
from agentmesh.mesh.peers import local_peers
from agentmesh.serving.agents import AgentCard, agent_server
from agentmesh.toolbox import Servers, open_servers

_stage: ContextVar[Stage] = ContextVar("stage")


@asynccontextmanager
async def open_peers(mesh: Mesh) -> AsyncIterator[Mapping[str, Servers]]:
    """For each agent that has peers in its own mesh, the server that they answer on. Entered and left by one task."""
    async with AsyncExitStack() as stack:
        inside: dict[str, Servers] = {}
        for name in mesh.agents:
            if peers := local_peers(mesh, name):
                cards = {peer: AgentCard(name=peer, about=mesh.agents[peer].about) for peer in peers}
                server = agent_server(
                    cards, partial(_answer, name), name=PEERS, instructions="Ask one of your peers."
                )
                inside[name] = await stack.enter_async_context(
                    open_servers({PEERS: server}, base=mesh.folder)
                )
        yield inside


@contextmanager
def on_stage(stage: Stage) -> Iterator[None]:
    """While the block runs, and in every task begun in it, peers answer in this dialogue."""
    token = _stage.set(stage)
    try:
        yield
    finally:
        _stage.reset(token)


async def _answer(caller: str, agent: str, question: str) -> str:
    return await _stage.get().answer_peer(caller, agent, question)
