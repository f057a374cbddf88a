"""From a server's description to an MCP client that is not connected yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from mcp.types import Implementation

import agentmesh_servers
from agentmesh.errors import ToolboxError
from agentmesh.locations import is_address, is_program, place
from agentmesh.toolbox.stderr import LastWords, captured_stderr
from agentmesh.toolbox.wire import Watch, watched
from agentmesh_servers import ServersError
from agentmesh_servers.options import placed


class ServerSource(Protocol):
    """How a mesh describes a server. Exactly one of `builtin`, `command` and `url` is set."""

    @property
    def builtin(self) -> str | None: ...
    @property
    def command(self) -> Sequence[str] | None: ...
    @property
    def url(self) -> str | None: ...
    @property
    def env(self) -> Mapping[str, str]: ...
    @property
    def cwd(self) -> str: ...
    @property
    def options(self) -> Mapping[str, str]: ...
    @property
    def timeout(self) -> float: ...


Source: TypeAlias = ServerSource | MCPServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a server is: `client()` makes a fresh client of it for each connection.

    `what` names it in messages; `timeout` is the seconds a call may take, or None for as long as it takes.
    """

    name: str
    what: str
    timeout: float | None
    address: MCPServer | StdioServerParameters | str

    @property
    def is_process(self) -> bool:
        """Whether the server is a process that we start."""
        return isinstance(self.address, StdioServerParameters)

    @contextmanager
    def client(self, mode: Literal["auto", "legacy"]) -> Iterator[Connection]:
        """A client to enter once, with what can be learned of its server from outside.

        In mode `auto` it asks which era of the protocol the server speaks, in `legacy` it opens with `initialize`.
        """
        watch = Watch()
        make = partial(Client, mode=mode, client_info=Implementation(name="agentmesh", version=_version()))
        if isinstance(self.address, MCPServer):
            yield Connection(client=make(self.address), watch=watch)
        elif isinstance(self.address, str):
            yield Connection(client=make(watched(streamable_http_client(self.address), watch)), watch=watch)
        else:
            with captured_stderr() as (errors, last_words):
                client = make(watched(stdio_client(self.address, errors), watch))
                yield Connection(client=client, watch=watch, last_words=last_words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A client that was not entered yet, and what its server does beside answering."""

    client: Client
    watch: Watch
    last_words: LastWords | None = None


def find_target(name: str, source: Source, *, base: Path) -> Target:
    """The target of a description, with relative paths taken from `base`.

    Raises:
        ToolboxError: what can be known to fail before anything is started: a built-in server that is not there or
            does not like its options, a program or folder that is not found, an address that is none.
    """
    if isinstance(source, MCPServer):
        return Target(name=name, what="mounted in memory", timeout=None, address=source)
    if source.builtin is not None:
        return _builtin(name, source.builtin, source, base)
    if source.command is not None:
        return _command(name, source.command, source, base)
    url = source.url or ""
    if not is_address(url):
        raise ToolboxError(
            "bad_url",
            f"server {name}: {url!r} is not an address",
            server=name,
            hint="write http://host:port/mcp",
        )
    return Target(name=name, what=url, timeout=source.timeout, address=url)


def _builtin(name: str, builtin: str, source: ServerSource, base: Path) -> Target:
    options = placed(builtin, source.options, partial(place, base))
    try:
        server = agentmesh_servers.build(builtin, **options)
    except ServersError as error:
        raise ToolboxError(error.reason, f"server {name}: {error.message}", server=name) from error
    return Target(name=name, what=f"built-in {builtin}", timeout=source.timeout, address=server)


def _command(name: str, command: Sequence[str], source: ServerSource, base: Path) -> Target:
    folder = place(base, source.cwd)
    if not command:
        raise ToolboxError("no_command", f"server {name}: its command is empty", server=name)
    if not folder.is_dir():
        raise ToolboxError(
            "no_folder",
            f"server {name}: its folder {folder} is not there",
            server=name,
            hint="correct its cwd",
        )
    program = command[0]
    if not is_program(program, folder, source.env):
        raise ToolboxError(
            "no_command",
            f"server {name}: the command {program!r} is not found",
            server=name,
            hint=f"install it, or correct servers.{name}.command",
        )
    process = StdioServerParameters(
        command=program,
        args=list(command[1:]),
        env=dict(source.env),
        cwd=folder,
        # A server that writes other bytes than UTF-8 should be told from its messages, not end the reader.
        encoding_error_handler="replace",
    )
    return Target(name=name, what=f"command {program}", timeout=source.timeout, address=process)


def _version() -> str:
    try:
        return version("agentmesh-runtime")
    except PackageNotFoundError:
        return "0"
