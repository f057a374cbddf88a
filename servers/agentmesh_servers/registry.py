"""The servers of this package by name."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, cast

from agentmesh_servers.errors import ServersError
from agentmesh_servers.options import OPTIONS

if TYPE_CHECKING:
    from mcp.server import MCPServer

_NAMES: Final = ("calculator", "clock", "files", "notes", "sql", "units")


class _ServerModule(Protocol):
    def build(self, **options: str) -> MCPServer: ...


def names() -> tuple[str, ...]:
    """The names that `build` knows, in alphabetical order."""
    return _NAMES


def options(name: str) -> frozenset[str]:
    """The options that `build(name)` takes."""
    return frozenset(option.name for option in OPTIONS.get(name, ()))


def build(name: str, **given: str) -> MCPServer:
    """The server of that name, ready to be mounted in memory or served over a transport.

    Raises:
        ServersError: `unknown_server` with the nearest name, `bad_option`, or `missing_extra` when the
            MCP SDK is not installed.
    """
    if name not in _NAMES:
        near = get_close_matches(name, _NAMES, n=1)
        guess = f"did you mean {near[0]}? " if near else ""
        raise ServersError(
            "unknown_server", f"no server is called {name!r}: {guess}there are {', '.join(_NAMES)}"
        )
    for option in given:
        if option not in options(name):
            known = ", ".join(sorted(options(name))) or "none"
            raise ServersError(
                "bad_option", f"the {name} server has no option {option!r} (its options: {known})"
            )
    try:
        module = cast(_ServerModule, import_module(f"agentmesh_servers.{name}.server"))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in {"mcp", "pydantic", "mcp_types"}:
            raise
        raise ServersError(
            "missing_extra",
            "serving tools needs the mcp extra: pip install 'agentmesh-runtime[mcp]'",
            extra="mcp",
        ) from error
    return module.build(**given)
