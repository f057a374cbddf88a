"""How a host starts a mesh or a tool server of ours: in any folder, without a shell's profile, with this Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agentmesh.errors import AgentMeshError
from agentmesh.hosts.server import CARRIED, PATH_VARIABLES, Launch

if TYPE_CHECKING:
    from agentmesh.mesh import Mesh

# -P: a host starts servers in the folder that is open in it, and whatever is called agentmesh.py there would run instead.
_PYTHON: Final = ("-P", "-m")
_PASSPHRASE: Final = "AGENTMESH_PASSPHRASE"
PATHS: Final[Mapping[str, str]] = {"folder": "directory", "database": "file"}
"""The options that are a path, and what it leads to."""
_SWITCHES: Final = frozenset({"write", "hidden", "superuser"})
_URL_VARIABLE: Final = "AGENTMESH_SQL_URL"
_ABOUT: Final = {
    "calculator": "Exact arithmetic.",
    "clock": "The time in the zones and cities of the world.",
    "files": "Reads the files of a folder.",
    "notes": "Searches and reads a folder of notes.",
    "sql": "Asks a database.",
    "units": "Exact conversion between units.",
}


def mesh_launch(mesh: Mesh, env: Mapping[str, str]) -> Launch:
    """How to serve a mesh. `env` is given to it as it stands; keys and tokens that it needs beside are named, not written.

    Raises: AgentMeshError, where no program can be told.
    """
    needed = dict.fromkeys(_secrets_of(mesh))
    if os.environ.get(_PASSPHRASE):
        needed[_PASSPHRASE] = None
    return Launch(
        command=_python(),
        args=(*_PYTHON, "agentmesh", "serve", os.path.abspath(mesh.path)),
        env=_carried(CARRIED) | dict(env),
        secrets=tuple(name for name in needed if name not in env),
        about=f"The agents of the mesh {mesh.name}.",
    )


def server_launch(name: str, options: Mapping[str, str], env: Mapping[str, str]) -> Launch:
    """How to serve one of the stand-alone tool servers; folders among its options are made absolute.

    Raises: AgentMeshError for a server or an option that is not there.
    """
    given = option_words(name, options)
    _require_startable(name, options, env)
    own = {} if set(options) & {*PATHS, "roots"} else _own_path(name)
    held = _carried(()) | own | dict(env)
    secret = options.get("url_env", _URL_VARIABLE)
    needs_secret = name == "sql" and "database" not in options and not own and secret not in env
    return Launch(
        command=_python(),
        args=(*_PYTHON, "agentmesh_servers", name, *given),
        env=held,
        secrets=(secret,) if needs_secret else (),
        about=about_server(name),
    )


def option_words(name: str, options: Mapping[str, str]) -> tuple[str, ...]:
    """The options of a stand-alone server as its command line has them, with absolute paths.

    Raises: AgentMeshError for a server or an option that is not there, and for a switch that is neither on nor off.
    """
    from agentmesh_servers.options import placed
    from agentmesh_servers.registry import options as known

    require_server(name)
    words: list[str] = []
    for option, value in options.items():
        if option not in known(name):
            told = ", ".join(sorted(known(name))) or "none"
            raise AgentMeshError(
                "usage", f"the {name} server has no option {option!r}", hint=f"it has {told}"
            )
        if not value:
            # Of a path that would be the folder one happens to stand in, as with --option folder=$UNSET.
            raise AgentMeshError("usage", f"--option {option}= is empty")
        flag = f"--{option.replace('_', '-')}"
        if option not in _SWITCHES:
            words += [flag, placed(name, {option: value}, _place)[option]]
        elif value == "true":
            words.append(flag)
        elif value != "false":
            raise AgentMeshError("usage", f"--option {option}={value}: true or false was expected")
    return tuple(words)


def require_server(name: str) -> None:
    """Refuses a name that no stand-alone server has. Raises: AgentMeshError."""
    from agentmesh_servers.registry import names

    if name not in names():
        raise AgentMeshError("usage", f"no server is called {name!r}", hint=f"there are {', '.join(names())}")


def about_server(name: str) -> str:
    """One line about a stand-alone server."""
    return _ABOUT.get(name, f"The {name} server of AgentMesh.")


def _secrets_of(mesh: Mesh) -> list[str]:
    named = [model.api_key_env for model in mesh.models.values()]
    named += [server.token_env for server in mesh.servers.values()]
    named += [peer.token_env for peer in mesh.peers.values()]
    return [name for name in named if name]


def _python() -> str:
    if not sys.executable:
        raise AgentMeshError(
            "usage", "this Python does not know where it is", hint="run agentmesh in an environment"
        )
    return os.path.abspath(sys.executable)


def _carried(names: Sequence[str]) -> dict[str, str]:
    found = {name: os.environ[name] for name in names if os.environ.get(name)}
    search = _search_path()
    return found | ({} if search is None else {"PYTHONPATH": search})


def _search_path() -> str | None:
    """PYTHONPATH, where this program is found through nothing else: it runs from its source, and is not installed."""
    import agentmesh

    root = Path(agentmesh.__file__).resolve().parent.parent
    named = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    if root not in (Path(each).resolve() for each in named):
        return None
    return os.pathsep.join(os.path.abspath(each) for each in named)


def _own_path(name: str) -> dict[str, str]:
    """The path that a server would take from its environment here."""
    variable = PATH_VARIABLES.get(name, "")
    path = os.environ.get(variable)
    return {variable: str(_place(path))} if path else {}


def _place(written: str) -> Path:
    # What a host fills in is no path yet.
    return Path(written if written.startswith("${") else os.path.abspath(os.path.expanduser(written)))


def _require_startable(name: str, options: Mapping[str, str], env: Mapping[str, str]) -> None:
    """Refuses what the server would refuse: a host shows no more of it than that it did not start."""
    from agentmesh_servers.options import OPTIONS, mistakes

    variables = {each.name: each.variable for each in OPTIONS.get(name, ()) if each.variable}
    for wrong in mistakes(name, options, _place):
        if wrong.option is not None:
            raise AgentMeshError("usage", f"--option {wrong.option}: {wrong.text}")
        if not any(env.get(variable) for variable in variables.values()):
            needed = [*variables, *(each.name for each in OPTIONS[name] if each.kind == "folders")]
            hint = f"--option {needed[0]}=VALUE"
            raise AgentMeshError("usage", f"the {name} server needs {' or '.join(needed)}", hint=hint)
