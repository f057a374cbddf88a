"""`agentmesh pins`: the tools of servers as they were accepted, and what has changed since."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from typer.core import TyperGroup

from agentmesh.cli.exits import FAILED, explain
from agentmesh.cli.options import DESCRIBED, JsonOption, MeshArgument, YesOption, example
from agentmesh.cli.passphrase import is_terminal, keys_in
from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh.mesh import Mesh
    from agentmesh.outside import Outside
    from agentmesh.toolbox import PinFile
    from agentmesh.toolbox.looking import Looked


class _ListIsMeant(TyperGroup):
    """`agentmesh pins MESH` is `agentmesh pins list MESH`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer vendors click's Context
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ListIsMeant,
    help="Look at the tools that servers are held to, and accept or refuse changes.",
    epilog=example("agentmesh pins diff examples/desk"),
    no_args_is_help=True,
    rich_markup_mode=DESCRIBED,
)

ServersArgument: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SERVER]...", help="Servers or peers of the mesh file. Default: all."),
]


@app.command("list", epilog=example("agentmesh pins list examples/desk"))
def list_pins(mesh: MeshArgument, json: JsonOption = False) -> None:
    """List what is pinned: every server's tools, and the keys of those that sign."""
    from agentmesh.outside import known_keys
    from agentmesh.view.pins import pin_json, pin_text
    from agentmesh.view.text import json_line

    loaded, outside, file = _opened(mesh)
    held = outside.held()
    pins = file.pins()
    keys = outside.keys_of(known_keys(loaded.log_place))
    for pin in pins:
        used, key = held.get(pin.server) == pin.source, keys.get(pin.server)
        print(json_line(pin_json(pin, used=used, key=key)) if json else pin_text(pin, used=used, key=key))
    missing = sorted(held.items() - {(pin.server, pin.source) for pin in pins})
    if not json:
        for server, source in missing:
            print(f"{server}: not pinned yet; its first start does it ({_clean(source)})", file=sys.stderr)
        if not pins and not missing:
            print("no server of this mesh is pinned: built-in ones are our own code", file=sys.stderr)


@app.command("diff", epilog=example("agentmesh pins diff examples/desk"))
def diff(mesh: MeshArgument, servers: ServersArgument = None, json: JsonOption = False) -> None:
    """Start the servers and show what differs from the pins. Exits with 1 if anything does."""
    from agentmesh.view.pins import looked_json, looked_text
    from agentmesh.view.text import json_line

    found = _look(mesh, servers)
    for each in found:
        print(json_line(looked_json(each)) if json else looked_text(each))
    if any(each.failure or each.change is not None for each in found):
        raise typer.Exit(FAILED)


@app.command("accept", epilog=example("agentmesh pins accept examples/desk web"))
def accept(
    mesh: MeshArgument, servers: ServersArgument = None, yes: YesOption = False, json: JsonOption = False
) -> None:
    """Start the servers, show what differs, and pin the tools they have now. On a terminal it asks first."""
    from agentmesh.view.pins import looked_json, looked_text
    from agentmesh.view.text import json_line

    _, _, file = _opened(mesh)
    found = _look(mesh, servers)
    for each in found:
        print(json_line(looked_json(each)) if json else looked_text(each), flush=True)
    fresh = [each for each in found if not each.failure and (each.change is not None or not each.pinned)]
    if fresh:
        names = ", ".join(each.server for each in fresh)
        if not yes and is_terminal() and not typer.confirm(f"Accept the tools of {names}?", err=True):
            raise AgentMeshError("declined", "nothing was changed")
        for each in fresh:
            if each.tools is not None:
                file.accept(each.server, each.source, each.tools)
        print(f"accepted: {names}", file=sys.stderr)
    if any(each.failure for each in found):
        raise typer.Exit(FAILED)


@app.command("forget", epilog=example("agentmesh pins forget examples/desk web"))
def forget(
    mesh: MeshArgument,
    servers: Annotated[list[str], typer.Argument(metavar="SERVER...", help="Servers or peers.")],
) -> None:
    """Forget the tools and keys of servers: what they show next is pinned anew."""
    from agentmesh.outside import known_keys

    loaded, outside, file = _opened(mesh)
    known = known_keys(loaded.log_place)
    file.pins()  # where they cannot be read, no key is forgotten either
    names = [*servers, *(outside.peers[name].pin for name in servers if name in outside.peers)]
    keys = [name for name in dict.fromkeys(names) if known.forget("server", name)]
    gone = file.forget(servers)
    unknown = [name for name in servers if name not in {*keys, *(pin.server for pin in gone)}]
    for pin in gone:
        print(f"{pin.server}: its tools are forgotten ({_clean(pin.source)})")
    for name in keys:
        print(f"{_clean(name)}: its key is forgotten")
    if unknown:
        hint = "`agentmesh pins list` shows what is pinned"
        raise AgentMeshError("usage", f"nothing is pinned of {', '.join(unknown)}", hint=hint)


def ask_to_accept(error: BaseException, file: PinFile) -> bool:
    """Whether a person at a terminal accepts the changed tools that stopped a run; they are pinned then.

    False for any other error, and wherever there is nobody to ask. Raises: AgentMeshError where the person does not.
    """
    from agentmesh.cli.exits import innermost
    from agentmesh.toolbox import ToolsChanged

    changed = innermost(error)
    if not isinstance(changed, ToolsChanged) or not is_terminal():
        return False
    print(f"agentmesh: {explain(changed)}", file=sys.stderr)
    if not typer.confirm("Accept these tools from now on, and run?", default=False, err=True):
        raise AgentMeshError("declined", "nothing was accepted, and nothing was run")
    for change in changed.changes:
        file.accept(change.server, change.source, change.found)
    return True


def _opened(path: Path) -> tuple[Mesh, Outside, PinFile]:
    from agentmesh.mesh import load_mesh
    from agentmesh.outside import Outside, pin_file

    mesh = load_mesh(path)
    return mesh, Outside(mesh), pin_file(mesh)


def _look(path: Path, servers: list[str] | None) -> list[Looked]:
    """What each server shows now, beside what is pinned of it; all of them where none are named."""
    import anyio

    from agentmesh.outside import look_at
    from agentmesh_ledger import KeyStore

    mesh, outside, _ = _opened(path)
    held = outside.held()
    for name in servers or []:
        if name not in held:
            what = (
                "is built in and not pinned" if name in mesh.servers else "is no server or peer of the mesh"
            )
            raise AgentMeshError("usage", f"{name} {what}", hint=f"there are: {', '.join(held) or 'none'}")
    folder = mesh.log_place.keys
    keys = keys_in(folder) if outside.is_signed else KeyStore(folder)
    return anyio.run(look_at, mesh, servers or list(held), keys)


def _clean(text: str) -> str:
    from agentmesh.view.text import clean

    return clean(text)
