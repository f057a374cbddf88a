"""`agentmesh connect`: a mesh or a tool server in the assistants that people use."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

import typer

from agentmesh.cli.connect_publish import publish_bundle, publish_listing
from agentmesh.cli.exits import UNREADABLE
from agentmesh.cli.options import JsonOption
from agentmesh.errors import AgentMeshError, MeshFileError

if TYPE_CHECKING:
    from agentmesh.hosts.connection import Found, Result
    from agentmesh.hosts.server import Server
    from agentmesh.hosts.table import Host, Scope

_HOSTS: Final = "claude-desktop, claude-code, cursor, vscode, lm-studio, goose, codex, gemini"
_HostArgument: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="HOST", help=f"One of {_HOSTS}; mcpb or registry to publish.")
]
_MeshArgument: TypeAlias = Annotated[
    Path | None, typer.Argument(metavar="MESH", help="A mesh file, or the folder it is in.")
]
_Server: TypeAlias = Annotated[
    str | None, typer.Option("--server", metavar="NAME", help="A tool server (`agentmesh-server`) instead.")
]
_Options: TypeAlias = Annotated[
    list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="An option of it. May be repeated.")
]
_Url: TypeAlias = Annotated[
    str | None, typer.Option("--http", metavar="URL", help="A server that runs already, at this address.")
]
_TokenEnv: TypeAlias = Annotated[
    str | None, typer.Option("--token-env", metavar="NAME", help="The host's variable with the bearer token.")
]
_Name: TypeAlias = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="The entry's name. Default: the mesh's, the server's."),
]
_Env: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME=VALUE", help="A variable for the server; it stands in the file."),
]
_ScopeOption: TypeAlias = Annotated[
    Literal["user", "project"], typer.Option("--scope", help="The person's file, or this folder's.")
]
_Config: TypeAlias = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The host's file, where it is not the usual one."),
]
_Remove: TypeAlias = Annotated[bool, typer.Option("--remove", help="Take the entry out again.")]
_Print: TypeAlias = Annotated[bool, typer.Option("--print", help="Show the entry, and write nothing.")]
_Force: TypeAlias = Annotated[bool, typer.Option("--force", help="Also where the name is somebody else's.")]
_List: TypeAlias = Annotated[
    bool, typer.Option("--list", help="List the hosts, their files, and what is in them.")
]
_Output: TypeAlias = Annotated[
    str | None, typer.Option("-o", "--output", metavar="FILE", help="mcpb, registry: the file to write.")
]
_Id: TypeAlias = Annotated[
    str | None, typer.Option("--id", metavar="ID", help="registry: the name there, io.github.OWNER/NAME.")
]
_Author: TypeAlias = Annotated[
    str | None, typer.Option("--author", metavar="NAME", help="mcpb: who made it.")
]
_Version: TypeAlias = Annotated[
    str | None,
    typer.Option("--version", metavar="VERSION", help="mcpb, registry: its version. Default: AgentMesh's."),
]
_Bundle: TypeAlias = Annotated[
    Path | None,
    typer.Option("--bundle", metavar="FILE", help="registry: the .mcpb that --bundle-url answers with."),
]
_BundleUrl: TypeAlias = Annotated[
    str | None, typer.Option("--bundle-url", metavar="URL", help="registry: where the bundle is to be had.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the entry is to be of, as it stands on the command line."""

    mesh: Path | None
    server: str | None
    options: Mapping[str, str]
    url: str | None
    token_env: str | None
    env: Mapping[str, str]
    name: str | None


def connect(
    host: _HostArgument = None,
    mesh: _MeshArgument = None,
    server: _Server = None,
    option: _Options = None,
    http: _Url = None,
    token_env: _TokenEnv = None,
    name: _Name = None,
    env: _Env = None,
    scope: _ScopeOption = "user",
    config: _Config = None,
    remove: _Remove = False,
    show: _Print = False,
    force: _Force = False,
    list_: _List = False,
    output: _Output = None,
    id_: _Id = None,
    author: _Author = None,
    version: _Version = None,
    bundle: _Bundle = None,
    bundle_url: _BundleUrl = None,
    json: JsonOption = False,
) -> None:
    """Add a mesh, or a tool server, to an assistant; take it out again; or make what publishes it."""
    if list_:
        _list(scope, json=json)
        return
    if host is None:
        raise AgentMeshError("usage", "which host?", hint=f"{_HOSTS}; --list shows their files here")
    published = {"--output": output, "--id": id_, "--bundle": bundle, "--bundle-url": bundle_url}
    written = {"--env": env, "--config": config}
    options = _pairs("--option", option)
    if options and server is None:
        raise AgentMeshError("usage", "--option goes with --server")
    if host == "mcpb":
        _require_absent(host, written | published | {"--output": None, "--http": http})
        publish_bundle(mesh, server, options, output, author=author, version=version, name=name)
        return
    if host == "registry":
        _require_absent(host, written | {"--option": option, "--author": author, "--name": name})
        remote = None if http is None else _remote(http, token_env)
        publish_listing(
            mesh, server, output, id_, version=version, remote=remote, bundle=bundle, url=bundle_url
        )
        return
    from agentmesh.hosts.table import find_host

    target = find_host(host)
    _require_absent(host, published | {"--author": author, "--version": version})
    asked = _Asked(
        mesh=mesh,
        server=server,
        options=options,
        url=http,
        token_env=token_env,
        env=_pairs("--env", env),
        name=name,
    )
    called, wanted = _wanted(asked, remove=remove)
    _write(target, called, wanted, scope, config, remove=remove, show=show, force=force, json=json)


def _write(
    host: Host,
    name: str,
    server: Server | None,
    scope: Scope,
    config: Path | None,
    *,
    remove: bool,
    show: bool,
    force: bool,
    json: bool,
) -> None:
    from agentmesh.hosts.connection import config_path, disconnect, look, shown, this_machine
    from agentmesh.hosts.connection import connect as put
    from agentmesh.hosts.table import entry_for
    from agentmesh.view.text import one_line

    path = config_path(host, scope, this_machine(), config)
    if show and remove:
        _tell_entry(path, name, look(host, path).get(host.key(name)))
        return
    if server is not None and show:
        print(one_line(f"{host.title} reads this in {path}", 1000), file=sys.stderr)
        print(shown(host, name, entry_for(host, name, server)), end="")
        return
    if remove:
        _tell(disconnect(host, path, name, server, force=force), json=json)
        return
    assert server is not None  # only what is removed may be without one
    mode = 0o644 if scope == "project" else 0o600
    _tell(put(host, path, name, server, force=force, mode=mode), json=json)


def _wanted(asked: _Asked, *, remove: bool) -> tuple[str, Server | None]:
    """The entry's name, and what it is to hold; None where it goes, and its name is enough."""
    if asked.server is not None and (asked.mesh is not None or asked.url is not None):
        raise AgentMeshError("usage", "--server NAME needs no mesh and no address")
    if asked.token_env is not None and asked.url is None:
        raise AgentMeshError("usage", "--token-env goes with --http")
    if asked.url is not None:
        return _name(asked), _remote(asked.url, asked.token_env)
    if remove and asked.name is not None:
        return asked.name, None
    if asked.server is not None:
        from agentmesh.hosts.launch import server_launch

        launch = None if remove else server_launch(asked.server, asked.options, asked.env)
        return asked.name or asked.server, launch
    if asked.mesh is None:
        hint = "give its folder; or --server NAME, or --http URL"
        raise AgentMeshError("usage", "which mesh?", hint=hint)
    from agentmesh.hosts.launch import mesh_launch
    from agentmesh.mesh import load_mesh

    try:
        mesh = load_mesh(asked.mesh)
    except MeshFileError as error:
        if not remove:
            raise
        hint = "--remove --name NAME needs no mesh file; --list shows the names"
        raise AgentMeshError("usage", str(error), hint=hint) from error
    return asked.name or mesh.name, None if remove else mesh_launch(mesh, asked.env)


def _name(asked: _Asked) -> str:
    if asked.name is not None:
        return asked.name
    if asked.mesh is None:
        hint = "--name NAME, or the mesh that is served there"
        raise AgentMeshError("usage", "--http needs a name for the entry", hint=hint)
    from agentmesh.mesh import load_mesh

    return load_mesh(asked.mesh).name


def _remote(url: str, token_env: str | None) -> Server:
    from agentmesh.hosts.server import Remote
    from agentmesh.locations import is_address

    if not is_address(url) or "@" in url.partition("//")[2].partition("/")[0]:
        hint = "http://127.0.0.1:8765/mcp is one; a token goes into the environment, see --token-env"
        raise AgentMeshError("usage", f"--http {url}: this is no address of a server", hint=hint)
    if token_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", token_env):
        hint = "give the variable's name, never the token itself"
        raise AgentMeshError("usage", "--token-env: this is no name of an environment variable", hint=hint)
    return Remote(url=url, token_env=token_env, about=f"The MCP server at {url}.")


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for each in given or []:
        key, sign, value = each.partition("=")
        if not sign or not key:
            raise AgentMeshError("usage", f"{option} {each}: NAME=VALUE was expected")
        pairs[key] = value
    return pairs


def _require_absent(host: str, given: Mapping[str, object]) -> None:
    for option, value in given.items():
        if value is not None:
            raise AgentMeshError("usage", f"{option} is not for {host}")


def _list(scope: Scope, *, json: bool) -> None:
    from agentmesh.hosts.connection import find_all, this_machine
    from agentmesh.view.text import json_line, one_line

    found = find_all(scope, this_machine())
    for each in found:
        if json:
            print(json_line(_found_json(each)))
            continue
        state = "there" if each.present else "not there yet" if each.installed else "not installed here"
        ours = f", with {', '.join(each.ours)}" if each.ours else ""
        told = f"cannot be read: {each.fault}" if each.fault else f"{state}{ours}"
        print(f"{each.host.id:<15} {one_line(f'{each.path}: {told}', 400)}")
    if any(each.fault for each in found):
        raise typer.Exit(UNREADABLE)


def _found_json(each: Found) -> dict[str, object]:
    return {
        "host": each.host.id,
        "title": each.host.title,
        "file": str(each.path),
        "present": each.present,
        "installed": each.installed,
        "entries": list(each.ours),
        "fault": each.fault,
    }


def _tell(result: Result, *, json: bool) -> None:
    from agentmesh.view.text import json_line, one_line

    if json:
        backup = None if result.backup is None else str(result.backup)
        told: dict[str, object] = {"host": result.host.id, "file": str(result.path), "name": result.name}
        print(json_line(told | {"done": result.done, "backup": backup, "entry": result.entry}))
        return
    said = {
        "added": "added to",
        "replaced": "replaced in",
        "unchanged": "is as it should be in",
        "removed": "taken out of",
        "absent": "is not in",
    }[result.done]
    print(one_line(f"{result.name} {said} {result.path}", 1000))
    if result.backup is not None:
        print(one_line(f"what was there is kept as {result.backup}", 1000), file=sys.stderr)
    if result.done in ("added", "replaced", "removed"):
        print(f"next: {result.host.then}", file=sys.stderr)


def _tell_entry(path: Path, name: str, entry: object) -> None:
    import json as json_

    from agentmesh.view.text import one_line

    said = f"has no entry {name!r}" if entry is None else "this would go"
    print(one_line(f"{path}: {said}", 1000), file=sys.stderr)
    if entry is not None:
        print(json_.dumps(entry, indent=2, ensure_ascii=False))
