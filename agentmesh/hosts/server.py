"""What a host is told of one server: how to start it, or where it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final, TypeAlias

# What our programs read of their environment and a person has set: a host started from a menu has none of it.
CARRIED: Final = ("AGENTMESH_CACHE", "AGENTMESH_MODELS", "AGENTMESH_THREADS")
PATH_VARIABLES: Final[Mapping[str, str]] = {
    "files": "AGENTMESH_FILES",
    "notes": "AGENTMESH_NOTES",
    "sql": "AGENTMESH_SQL_DATABASE",
}
"""By server, the variable that it reads where its path is not among its options."""
OWN_VARIABLES: Final = frozenset({"PYTHONPATH", *CARRIED, *PATH_VARIABLES.values()})
"""The variables that an entry has from the environment in which it was made."""

_MODULES: Final = frozenset({"agentmesh", "agentmesh_servers"})
_PROGRAMS: Final = frozenset({"agentmesh", "agentmesh-server"})
_URLS: Final = ("url", "httpUrl", "uri")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A server that the host starts. `secrets` are environment variables whose values must not stand in a file."""

    command: str
    args: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A server that runs elsewhere. `token_env` is the environment variable of the host that holds the bearer token."""

    url: str
    token_env: str | None = None
    about: str = ""


Server: TypeAlias = Launch | Remote


def is_ours(entry: object, server: Server | None = None) -> bool:
    """Whether an entry of a host starts AgentMesh, or points to where `server` answers."""
    if not isinstance(entry, dict):
        return False
    if isinstance(server, Remote):
        return any(entry.get(key) == server.url for key in _URLS)
    args = entry.get("args")
    given = [each for each in args if isinstance(each, str)] if isinstance(args, list) else []
    if any(first == "-m" and second in _MODULES for first, second in zip(given, given[1:], strict=False)):
        return True
    command = entry.get("command", entry.get("cmd"))
    return isinstance(command, str) and PurePath(command.replace("\\", "/")).stem in _PROGRAMS
