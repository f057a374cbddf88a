"""`agentmesh keys`: the public halves of a mesh's keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentmesh.cli.options import JsonOption
from agentmesh.errors import AgentMeshError


def keys(
    where: Annotated[
        Path, typer.Argument(metavar="MESH|DIR", help="A mesh file, its folder, or a folder of keys.")
    ] = Path(),
    json: JsonOption = False,
) -> None:
    """List the public keys: each agent's did:key and the log's verifier key."""
    from agentmesh.view.text import json_line
    from agentmesh_ledger import KeyStore

    store = KeyStore(_folder(where))
    agents = [(name, store.agent(name, create=False).id) for name in store.names()]
    logs = [(origin, store.log(origin, create=False).vkey) for origin in store.origins()]
    if not agents and not logs:
        hint = "keys are made by the first `agentmesh run`"
        raise AgentMeshError("no_ledger", f"{store.directory}: there are no keys", hint=hint)
    if json:
        for name, agent in agents:
            print(json_line({"role": "agent", "name": name, "id": agent}))
        for origin, vkey in logs:
            print(json_line({"role": "log", "name": origin, "id": vkey}))
        return
    for name, agent in agents:
        print(f"agent  {agent}  {name}")
    for _, vkey in logs:
        print(f"log    {vkey}")


def _folder(where: Path) -> Path:
    """The folder of keys meant: itself, the one beside a ledger, or a mesh's."""
    from agentmesh.mesh import FILE_NAME, find_ledger

    if where.suffix == ".toml" or (where / FILE_NAME).is_file():
        return find_ledger(where).parent / "keys"
    if where.is_file():
        return where.absolute().parent / "keys"
    for folder in (where, where / "keys", where / ".agentmesh" / "keys"):
        if (folder / "agents").is_dir() or (folder / "logs").is_dir():
            return folder
    return where
