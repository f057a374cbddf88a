"""A mesh served over a model whose replies a test gives, and can hold back; with a real ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.server import MCPServer

from agentmesh.events import Event
from agentmesh.inside import open_peers
from agentmesh.keys import open_keys
from agentmesh.mesh import load_mesh
from agentmesh.runtime import LiveMesh
from agentmesh.serving.dialogues import Dialogues, open_dialogues
from agentmesh.serving.mesh_server import mesh_server
from agentmesh.toolbox import open_servers
from agentmesh_ledger.log import Ledger
from agentmesh_models import Request

MESH = """\
[mesh]
name = "desk"
[dialogue]
pattern = "chain"
task = "What is new?"
[agents.front]
model = "scripted:steps.json"
role = "You take questions. You are kind."
[agents.math]
model = "scripted:steps.json"
role = "You calculate."
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Gate:
    """Replies `reply`, at once or, where it is held, when it is opened; a question `fail` is more than it can bear."""

    def __init__(self) -> None:
        self.reply: Callable[[Request], str] = lambda request: f"heard: {request.messages[-1].content[-40:]}"
        self.waiting = anyio.Event()
        self._open = anyio.Event()
        self._open.set()

    def hold(self) -> None:
        self._open = anyio.Event()
        self.waiting = anyio.Event()

    def open(self) -> None:
        self._open.set()

    async def __call__(self, request: Request) -> str:
        if not self._open.is_set():
            self.waiting.set()
        await self._open.wait()
        return self.reply(request)


@dataclass
class Served:
    """A served mesh."""

    server: MCPServer
    dialogues: Dialogues
    live: LiveMesh
    gate: Gate
    events: list[Event]
    folder: Path

    def records(self, dialogue: str) -> list[Any]:
        return list(self.live.ledger.read(dialogue=dialogue))

    def kinds(self, dialogue: str) -> list[str]:
        return [record.message.kind for record in self.records(dialogue)]


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve(tmp_path: Path, puppet: Callable[..., Any]) -> Serve:
    """Serves a mesh; its agents share one engine, which asks the gate."""

    @asynccontextmanager
    async def served(text: str = MESH, **more: int) -> AsyncIterator[Served]:
        (tmp_path / "mesh.toml").write_text(text)
        (tmp_path / "steps.json").write_text("[]")
        mesh = load_mesh(tmp_path)
        keys = open_keys(mesh.log_place.keys)
        events: list[Event] = []
        gate = Gate()
        engine = puppet(gate, n_ctx=8192)
        with (
            anyio.fail_after(60),
            Ledger.open(mesh.log_place.ledger, origin=mesh.origin, keys=keys, create=True) as log,
        ):
            async with open_servers(mesh.servers, base=mesh.folder) as servers, open_peers(mesh) as inside:
                live = LiveMesh(
                    mesh=mesh,
                    engines=dict.fromkeys(mesh.agents, engine),
                    servers=servers,
                    inside=inside,
                    log=log,
                    keys=keys,
                    where="here",
                    listen=events.append,
                )
                async with open_dialogues(live, **more) as dialogues:
                    yield Served(mesh_server(live, dialogues), dialogues, live, gate, events, tmp_path)

    return served
