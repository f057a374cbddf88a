"""The hosts: where each keeps its servers, in which format, and what it wants to read of one.

`docs/connect.md` says where each fact was seen. Nothing is read or written here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Final, Literal, TypeAlias

from agentmesh.errors import AgentMeshError
from agentmesh.hosts import entries
from agentmesh.hosts.formats import JSON, TOML, YAML, Format
from agentmesh.hosts.quoting import Entry
from agentmesh.hosts.server import Server

System: TypeAlias = Literal["linux", "macos", "windows"]
Scope: TypeAlias = Literal["user", "project"]
_AS_IT_IS: Final = re.compile(r".+", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Whose files are meant: the system, the person's home folder and environment, and the folder they stand in."""

    system: System
    home: str
    env: Mapping[str, str]
    folder: str

    def path(self, *parts: str) -> PurePath:
        return PureWindowsPath(*parts) if self.system == "windows" else PurePosixPath(*parts)

    def settings(self) -> PurePath:
        """The folder for programs' settings: ~/.config, ~/Library/Application Support or %APPDATA%."""
        if self.system == "macos":
            return self.path(self.home, "Library", "Application Support")
        if self.system == "windows":
            return self._named("APPDATA") or self.path(self.home, "AppData", "Roaming")
        return self._named("XDG_CONFIG_HOME") or self.path(self.home, ".config")

    def own(self, variable: str, *usual: str) -> PurePath:
        """The folder that an environment variable names, else the usual one in the home folder."""
        named = self.env.get(variable)
        return self.path(self.folder, named) if named else self.path(self.home, *usual)

    def _named(self, variable: str) -> PurePath | None:
        named = self.env.get(variable)
        # The convention asks for an absolute path, and so do those who follow it.
        return self.path(named) if named and self.path(named).is_absolute() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host. `places` are its files in the order in which they count; a `*` stands for any folder's name.

    `fills_in` is what it replaces in the texts of an entry; `unreadable_names` what a name must not have; `key` the name
    under which it looks an entry up. `plain` hosts read JSON without comments.
    """

    id: str
    title: str
    kind: Format
    section: str
    places: Callable[[Machine], tuple[PurePath, ...]]
    project: tuple[str, ...] | None
    entry: Callable[[str, Server], Entry]
    fills_in: re.Pattern[str] | None = None
    names: re.Pattern[str] = _AS_IT_IS
    key: Callable[[str], str] = str
    plain: bool = False
    then: str = ""


def _claude_desktop(machine: Machine) -> tuple[PurePath, ...]:
    usual = machine.settings() / "Claude" / "claude_desktop_config.json"
    if machine.system != "windows":
        return (usual,)
    # Installed from a package, the program sees its own copy of %APPDATA% (anthropics/claude-code#26073).
    local = machine.own("LOCALAPPDATA", "AppData", "Local")
    packaged = local / "Packages" / "Claude_*" / "LocalCache" / "Roaming" / "Claude" / usual.name
    return packaged, usual


def _goose(machine: Machine) -> tuple[PurePath, ...]:
    if machine.system == "windows":
        return (machine.settings() / "Block" / "goose" / "config" / "config.yaml",)
    config = machine.env.get("XDG_CONFIG_HOME")
    folder = (
        machine.path(config)
        if config and machine.system == "linux"
        else machine.path(machine.home, ".config")
    )
    return (folder / "goose" / "config.yaml",)


def _lm_studio(machine: Machine) -> tuple[PurePath, ...]:
    # Older installations keep their files under ~/.cache (lmstudio-ai/lmstudio-bug-tracker#1371).
    return (
        machine.path(machine.home, ".lmstudio", "mcp.json"),
        machine.path(machine.home, ".cache", "lm-studio", "mcp.json"),
    )


def _goose_key(name: str) -> str:
    """Goose looks an extension up by its name without spaces, in small letters, with _ for what is no letter or digit."""
    kept = (letter for letter in name if not letter.isspace())
    return "".join(each if re.fullmatch(r"[A-Za-z0-9_-]", each) else "_" for each in kept).lower()


HOSTS: Final = (
    Host(
        id="claude-desktop",
        title="Claude Desktop",
        kind=JSON,
        section="mcpServers",
        places=_claude_desktop,
        project=None,
        entry=entries.claude_desktop,
        plain=True,
        then="quit Claude Desktop and open it again",
    ),
    Host(
        id="claude-code",
        title="Claude Code",
        kind=JSON,
        section="mcpServers",
        places=lambda machine: (machine.own("CLAUDE_CONFIG_DIR") / ".claude.json",),
        project=(".mcp.json",),
        entry=entries.claude_code,
        fills_in=re.compile(r"\$\{"),
        then="start a new session of Claude Code; /mcp shows the server",
    ),
    Host(
        id="cursor",
        title="Cursor",
        kind=JSON,
        section="mcpServers",
        places=lambda machine: (machine.path(machine.home, ".cursor", "mcp.json"),),
        project=(".cursor", "mcp.json"),
        entry=entries.cursor,
        fills_in=re.compile(r"\$\{"),
        then="open Cursor's settings, Tools & MCP, and switch the server on",
    ),
    Host(
        id="vscode",
        title="VS Code",
        kind=JSON,
        section="servers",
        places=lambda machine: (machine.settings() / "Code" / "User" / "mcp.json",),
        project=(".vscode", "mcp.json"),
        entry=entries.vscode,
        fills_in=re.compile(r"\$\{"),
        then="run MCP: List Servers in VS Code and start it",
    ),
    Host(
        id="lm-studio",
        title="LM Studio",
        kind=JSON,
        section="mcpServers",
        places=_lm_studio,
        project=None,
        entry=entries.lm_studio,
        then="open the Program tab in LM Studio and switch the server on",
    ),
    Host(
        id="goose",
        title="Goose",
        kind=YAML,
        section="extensions",
        places=_goose,
        project=None,
        entry=entries.goose,
        key=_goose_key,
        then="start a new session of Goose",
    ),
    Host(
        id="codex",
        title="Codex",
        kind=TOML,
        section="mcp_servers",
        places=lambda machine: (machine.own("CODEX_HOME", ".codex") / "config.toml",),
        project=(".codex", "config.toml"),
        entry=entries.codex,
        names=re.compile(r"[A-Za-z0-9_.:@/-]+"),
        then="start a new session of Codex; /mcp shows the server",
    ),
    Host(
        id="gemini",
        title="Gemini CLI",
        kind=JSON,
        section="mcpServers",
        places=lambda machine: (machine.own("GEMINI_CLI_HOME") / ".gemini" / "settings.json",),
        project=(".gemini", "settings.json"),
        entry=entries.gemini,
        fills_in=re.compile(r"\$[A-Za-z_{]"),
        then="start Gemini CLI again; /mcp shows the server",
    ),
)


def find_host(name: str) -> Host:
    """The host of that name. Raises: AgentMeshError with the nearest one."""
    for host in HOSTS:
        if host.id == name:
            return host
    known = [host.id for host in HOSTS]
    near = get_close_matches(name, known, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    raise AgentMeshError("usage", f"no host is called {name!r}", hint=f"{guess}there are {', '.join(known)}")


def places(host: Host, scope: Scope, machine: Machine) -> tuple[PurePath, ...]:
    """The files in which a host looks. Raises: AgentMeshError, where it has none for one project."""
    if scope == "user":
        return host.places(machine)
    if host.project is None:
        hint = "leave --scope project out"
        raise AgentMeshError("usage", f"{host.title} has no file of its own for a project", hint=hint)
    return (machine.path(machine.folder, *host.project),)


def entry_for(host: Host, name: str, server: Server) -> Entry:
    """What the host reads of a server called `name`. Raises: AgentMeshError, where it would not understand it."""
    if not host.names.fullmatch(name):
        hint = "give another with --name: letters, digits and . _ - : @ /"
        raise AgentMeshError("usage", f"{host.title} takes no server called {name!r}", hint=hint)
    entries.require_as_written(server, host.fills_in, host.title)
    return host.entry(name, server)
