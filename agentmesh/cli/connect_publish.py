"""`agentmesh connect mcpb` and `connect registry`: what others install a mesh or a tool server from."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh.hosts.server import Server
    from agentmesh.mesh import Mesh


def publish_bundle(
    mesh: Path | None,
    server: str | None,
    options: Mapping[str, str],
    output: str | None,
    *,
    author: str | None,
    version: str | None,
    name: str | None,
) -> None:
    """Write the .mcpb bundle of a mesh or of a tool server."""
    from agentmesh.cli.output import output_file
    from agentmesh.cli.version import own_version
    from agentmesh.hosts.bundle import mesh_bundle, server_bundle

    target, what = _target(output), _what(mesh, server)
    version = version or own_version()
    if isinstance(what, str):
        bundle = server_bundle(what, options, version=version, author=author, name=name)
    else:
        bundle = mesh_bundle(what, version=version, author=author, name=name)
    for note in bundle.notes:
        print(f"agentmesh: {note}", file=sys.stderr)
    with output_file(target) as out:
        out.write(bundle.data)
    print(f"{target}: {len(bundle.data):,} bytes, sha256 {bundle.digest}", file=sys.stderr)


def publish_listing(
    mesh: Path | None,
    server: str | None,
    output: str | None,
    name: str | None,
    *,
    version: str | None,
    remote: Server | None,
    bundle: Path | None,
    url: str | None,
) -> None:
    """Write the registry's server.json of a mesh or of a tool server."""
    from agentmesh.cli.output import output_file
    from agentmesh.cli.version import own_version
    from agentmesh.hosts.registry import Bundled, listing

    target, what = _target(output), _what(mesh, server)
    if name is None:
        raise AgentMeshError(
            "usage", "--id: the name in the registry is missing", hint="io.github.OWNER/NAME"
        )
    if (bundle is None) != (url is None):
        raise AgentMeshError("usage", "--bundle FILE and --bundle-url URL go together")
    bundled = None if bundle is None or url is None else Bundled(url=url, data=bundle.read_bytes())
    document = listing(what, name=name, version=version or own_version(), remote=remote, bundled=bundled)
    with output_file(target) as out:
        out.write((json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())


def _target(output: str | None) -> str:
    from agentmesh.cli.output import require_target

    if output is None:
        raise AgentMeshError("usage", "-o FILE is missing: the file to write, or - for standard output")
    require_target(output, "")
    return output


def _what(mesh: Path | None, server: str | None) -> Mesh | str:
    from agentmesh.hosts.launch import require_server
    from agentmesh.mesh import load_mesh

    if server is not None and mesh is None:
        require_server(server)
        return server
    if mesh is None or server is not None:
        raise AgentMeshError("usage", "give a mesh, or --server NAME")
    return load_mesh(mesh)
