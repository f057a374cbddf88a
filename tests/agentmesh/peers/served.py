"""A mesh served over HTTP with signing, as a process of its own: `python served.py MESH [MODE] [PORT]`.

It prints the URL once it listens, and ends when standard input does.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import uvicorn

from agentmesh.keys import open_keys
from agentmesh.mesh import load_mesh
from agentmesh.outside import answering
from agentmesh.runtime import open_mesh
from agentmesh.serving import tools
from agentmesh.serving.dialogues import open_dialogues
from agentmesh.serving.mesh_server import mesh_server
from agentmesh.serving.signing import sign_server


async def main(folder: str, mode: str, port: int) -> None:
    if patience := os.environ.get("PATIENCE"):
        tools.PATIENCE = float(patience)  # type: ignore[misc]  # how long a call waits before it answers with a handle
    mesh = load_mesh(Path(folder))
    place = mesh.log_place
    keys = open_keys(place.keys)
    async with open_mesh(mesh, listen=lambda event: None, keys=keys) as live, open_dialogues(live) as running:
        server = mesh_server(live, running)
        if mode != "bare":
            sign_server(server, answering(mesh, place, keys, live.ledger, mode=mode))  # type: ignore[arg-type]  # a mode
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        config = uvicorn.Config(
            server.streamable_http_app(), log_level="critical", timeout_graceful_shutdown=1
        )
        web = uvicorn.Server(config)

        async def until_told() -> None:
            await anyio.to_thread.run_sync(sys.stdin.read)
            web.should_exit = True

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(until_told)
            print(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp", flush=True)
            await web.serve(sockets=[listening])
            tasks.cancel_scope.cancel()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    given = dict(enumerate(sys.argv[1:]))
    anyio.run(main, given[0], given.get(1, "require"), int(given.get(2, "0")))
