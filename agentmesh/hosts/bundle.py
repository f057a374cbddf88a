"""An .mcpb bundle: a mesh or a tool server that a desktop assistant installs by opening one file.

A bundle carries AgentMesh's own code and names what it stands on; the host's uv fetches that (manifest 0.4, `server.type`
"uv"), since compiled wheels cannot be carried for every machine. A mesh in a bundle is copied to a folder of the person's
when it is first started: the bundle's own folder goes when it is updated, and a record must not go with it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from agentmesh.errors import AgentMeshError
from agentmesh.hosts.launch import PATHS, about_server, option_words, require_server
from agentmesh.hosts.start import MESH_START, SERVER_START
from agentmesh.locations import OWN_FOLDER, place

if TYPE_CHECKING:
    from agentmesh.mesh import Mesh

MANIFEST_VERSION: Final = "0.4"
_DISTRIBUTION: Final = "agentmesh-runtime"
_ENTRY: Final = "src/server.py"
_PYTHON: Final = ">=3.11"
_MOST_BYTES: Final = 500_000_000
_WHEN: Final = (2026, 1, 1, 0, 0, 0)  # the same files give the same bundle, whenever it is made
_SKIPPED_FOLDERS: Final = frozenset({"__pycache__", "node_modules", "venv"})
_EXTRA: Final = re.compile(r"""(?:\band\s+)?\bextra\s*==\s*['"]([\w-]+)['"](?:\s+and\b)?""")
_COMPANIONS: Final = ("", "-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A finished bundle, and what a person should know of it."""

    data: bytes
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The hex SHA-256 that a registry asks for."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """What goes into one bundle."""

    name: str
    title: str
    about: str
    version: str
    author: str
    start: str
    extras: frozenset[str]
    packages: tuple[ModuleType, ...]
    files: Mapping[str, Path]
    arguments: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    tools: tuple[Mapping[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def mesh_bundle(mesh: Mesh, *, version: str, author: str | None = None, name: str | None = None) -> Bundle:
    """The bundle of a mesh: all of its folder but the record, the keys, and names that begin with a dot.

    Raises: AgentMeshError, where a model lies outside of the folder, or the bundle would be too large; OSError.
    """
    import agentmesh
    import agentmesh_ledger
    import agentmesh_models
    import agentmesh_servers

    _require_models_inside(mesh)
    called = _bundle_name(name or mesh.name)
    shown = mesh.serve.agents or tuple(mesh.agents)
    files, notes = _mesh_files(mesh)
    return _packed(
        _Contents(
            name=called,
            title=f"{mesh.name} (AgentMesh)",
            about=f"The agents of the mesh {mesh.name}: {', '.join(shown)}. Every answer is recorded and signed.",
            version=version,
            author=author or f"the makers of {mesh.name}",
            start=MESH_START,
            extras=_extras(mesh),
            packages=(agentmesh, agentmesh_ledger, agentmesh_models, agentmesh_servers),
            files={f"mesh/{inside}": path for inside, path in files.items()},
            arguments=(mesh.path.name,),
            env={"AGENTMESH_BUNDLE_FOLDER": "${user_config.folder}"},
            settings={
                "folder": {
                    "type": "directory",
                    "title": "Folder",
                    "description": "Where the mesh, its record and its secret keys are kept.",
                    "required": True,
                    "default": "${HOME}/agentmesh/" + called,
                }
            },
            tools=tuple({"name": f"ask_{each}", "description": mesh.agents[each].about} for each in shown),
            notes=notes,
        )
    )


def server_bundle(
    server: str,
    options: Mapping[str, str] | None = None,
    *,
    version: str,
    author: str | None = None,
    name: str | None = None,
) -> Bundle:
    """The bundle of a stand-alone tool server; whoever installs it is asked for the path that `options` leave open.

    Raises: AgentMeshError for a server or an option that is not there.
    """
    import agentmesh_servers
    from agentmesh_servers.registry import options as known

    given = dict(options or {})
    require_server(server)
    asked = [
        each for each in PATHS if each in known(server) and not given.keys() & {*PATHS, "roots", "url_env"}
    ]
    words = option_words(server, given | {each: f"${{user_config.{each}}}" for each in asked})
    return _packed(
        _Contents(
            name=_bundle_name(name or f"agentmesh-{server}"),
            title=f"{server} (AgentMesh)",
            about=about_server(server),
            version=version,
            author=author or "AgentMesh",
            start=SERVER_START,
            extras=frozenset({"mcp"}),
            packages=(agentmesh_servers,),
            files={},
            arguments=(server, *words),
            settings={each: _setting(each) for each in asked},
        )
    )


def _setting(option: str) -> dict[str, object]:
    about = f"The {option} that the server is for."
    return {"type": PATHS[option], "title": option.capitalize(), "description": about, "required": True}


def _packed(contents: _Contents) -> Bundle:
    files: dict[str, bytes | Path] = {
        "manifest.json": _json(_manifest(contents)),
        "pyproject.toml": _project(contents).encode(),
        _ENTRY: contents.start.encode(),
    }
    for package in contents.packages:
        folder = Path(str(package.__file__)).parent
        files |= {f"src/{package.__name__}/{inside}": path for inside, path in _tree(folder)}
    files |= contents.files
    size = sum(path.stat().st_size if isinstance(path, Path) else len(path) for path in files.values())
    if size > _MOST_BYTES:
        hint = "keep large models out of the mesh's folder: agentmesh models pull, and their name in the mesh file"
        raise AgentMeshError("usage", f"the bundle would hold {size // 1_000_000} MB", hint=hint)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside in sorted(files):
            held = files[inside]
            info = zipfile.ZipInfo(inside, date_time=_WHEN)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, held.read_bytes() if isinstance(held, Path) else held)
    return Bundle(data=out.getvalue(), notes=contents.notes)


def _manifest(contents: _Contents) -> dict[str, object]:
    run = ["run", "--directory", "${__dirname}", _ENTRY, *contents.arguments]
    manifest: dict[str, object] = {
        "manifest_version": MANIFEST_VERSION,
        "name": contents.name,
        "display_name": contents.title,
        "version": contents.version,
        "description": contents.about,
        "author": {"name": contents.author},
        "server": {
            "type": "uv",
            "entry_point": _ENTRY,
            "mcp_config": {"command": "uv", "args": run, "env": dict(contents.env)},
        },
        "tools": [dict(tool) for tool in contents.tools],
        "tools_generated": True,
        "compatibility": {"platforms": ["darwin", "linux"], "runtimes": {"python": _PYTHON}},
    }
    return manifest | ({"user_config": dict(contents.settings)} if contents.settings else {})


def _project(contents: _Contents) -> str:
    wanted = ",\n".join(f"  {json.dumps(each)}" for each in _dependencies(contents.extras))
    return (
        f'[project]\nname = "{contents.name.lower()}-bundle"\nversion = "0"\nrequires-python = "{_PYTHON}"\n'
        f"dependencies = [\n{wanted},\n]\n\n# The code is in src/ as it is; there is nothing to build.\n"
        "[tool.uv]\npackage = false\n"
    )


def _dependencies(extras: frozenset[str]) -> list[str]:
    """What AgentMesh itself asks for, with these extras; its own name is left out."""
    try:
        asked = requires(_DISTRIBUTION) or []
    except PackageNotFoundError:
        hint = "pip install -e . in its folder"
        raise AgentMeshError(
            "usage", "AgentMesh runs from its source and is not installed", hint=hint
        ) from None
    found: dict[str, None] = {}
    for each in asked:
        what, _, marker = each.partition(";")
        extra = _EXTRA.search(marker)
        if what.startswith(_DISTRIBUTION) or (extra is not None and extra[1] not in extras):
            continue
        rest = _EXTRA.sub("", marker).strip()
        found[f"{what.strip()}; {rest}" if rest else what.strip()] = None
    return list(found)


def _extras(mesh: Mesh) -> frozenset[str]:
    from agentmesh_ledger.source import is_database

    wanted = {"store", "cli", "mcp"}
    for agent in mesh.agents:
        path = mesh.model_spec(agent).path
        wanted.add("openai" if path.startswith("openai:") else "llama")
    if is_database(mesh.ledger):
        wanted.add("postgres")
    return frozenset(wanted)


def _require_models_inside(mesh: Mesh) -> None:
    for agent in mesh.agents:
        written = mesh.model_spec(agent).path
        path = place(mesh.folder, written)
        if path.is_file() and not path.resolve().is_relative_to(mesh.folder.resolve()):
            hint = "copy it into the folder, or name a model that `agentmesh models pull` fetches"
            raise AgentMeshError(
                "usage", f"{written}: this model lies outside of the mesh's folder", hint=hint
            )


def _mesh_files(mesh: Mesh) -> tuple[dict[str, Path], tuple[str, ...]]:
    """A mesh's files by their path in it. Its record and its secret keys are never among them, wherever they stand."""
    log = mesh.log_place
    own = {(mesh.folder / OWN_FOLDER).resolve(), log.keys.resolve()}
    ledgers = {Path(f"{log.ledger}{suffix}").resolve() for suffix in _COMPANIONS}
    files: dict[str, Path] = {}
    left: list[str] = []
    for inside, path in _tree(mesh.folder):
        real = path.resolve()
        if real in ledgers or any(real.is_relative_to(folder) for folder in own):
            continue
        if not real.is_relative_to(mesh.folder.resolve()):
            left.append(inside)
            continue
        files[inside] = path
    return files, tuple(f"{each}: a link that leads out of the mesh's folder is left out" for each in left)


def _tree(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files under a folder; names that begin with a dot, and what programs keep there for themselves, are left out."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in _SKIPPED_FOLDERS:
            continue
        if path.is_dir() and not path.is_symlink():
            for inside, file in _tree(path):
                yield f"{path.name}/{inside}", file
        elif path.is_file():
            yield path.name, path


def _bundle_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:64] or "mesh"


def _json(document: Mapping[str, object]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
