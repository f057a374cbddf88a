"""`agentmesh keys`: the public halves of a mesh's keys, and the accounts that agents are bound to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentmesh.cli import keys_bind
from agentmesh.cli.implied import ListIsMeant
from agentmesh.cli.options import DESCRIBED, JsonOption, example
from agentmesh.errors import AgentMeshError

app = typer.Typer(
    cls=ListIsMeant,
    help="List the public keys of a mesh, and bind an agent's key to an account.",
    epilog=example("agentmesh keys examples/desk"),
    rich_markup_mode=DESCRIBED,
)


@app.command("list", epilog=example("agentmesh keys list examples/desk"))
def keys(
    where: Annotated[
        str, typer.Argument(metavar="MESH|DIR", help="A mesh file, its folder, or a folder of keys.")
    ] = ".",
    json: JsonOption = False,
) -> None:
    """List the public keys: each agent's did:key and the log's verifier key."""
    from agentmesh.view.text import json_line
    from agentmesh_ledger import KeyStore

    store = KeyStore(_folder(where))
    agents = [(name, store.agent_id(name)) for name in store.names()]
    logs = [(origin, store.vkey(origin)) for origin in store.origins()]
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


def _folder(where: str) -> Path:
    """The folder of keys meant: itself, the one beside a ledger, or a mesh's."""
    from agentmesh.locations import log_place
    from agentmesh.mesh import FILE_NAME, find_log

    path = Path(where)
    if path.suffix == ".toml" or (path / FILE_NAME).is_file():
        return find_log(path).keys
    if path.is_file():
        return log_place(path.absolute(), origin=None, folder=path.parent).keys
    for folder in (path, path / "keys", path / ".agentmesh" / "keys"):
        if (folder / "agents").is_dir() or (folder / "logs").is_dir():
            return folder
    return path


app.command("bind", epilog=example("agentmesh keys bind front --key-env EVM_KEY"))(keys_bind.bind)
app.command("unbind", epilog=example("agentmesh keys unbind front"))(keys_bind.unbind)
