"""From a server's description to an MCP client that is not connected yet."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from mcp import Client
from mcp.client import Transport
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.server import MCPServer
from mcp.types import Implementation

import agentmesh_servers
from agentmesh.errors import ToolboxError
from agentmesh.locations import is_address, is_program, place
from agentmesh.toolbox.catalogue import any_tool
from agentmesh.toolbox.stderr import LastWords, captured_stderr
from agentmesh.toolbox.web import over_http
from agentmesh.toolbox.wire import Watch, watched
from agentmesh_servers import ServersError
from agentmesh_servers.options import placed

ASK: Final = "ask_"
"""How the tools begin that ask an agent."""

_PEER_TRIES: Final = 5


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
    @property
    def token_env(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A mesh elsewhere, of whose tools only those that ask its agents are used; all of them where `agents` is empty."""

    url: str
    agents: tuple[str, ...] = ()
    token_env: str | None = None
    timeout: float = 120.0

    def uses(self, tool: str) -> bool:
        """Whether a tool of its asks an agent that is wanted."""
        return tool.startswith(ASK) and (not self.agents or tool.removeprefix(ASK) in self.agents)


Source: TypeAlias = ServerSource | Remote | MCPServer

Wrap: TypeAlias = Callable[[Transport], Transport]
"""What is put round a connection, such as signing what passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a server is: `client()` makes a fresh client of it for each connection.

    `what` names it in messages, and with `name` is what its tools are pinned under; `timeout` is the seconds a call may
    take, or None for as long as it takes. `used` tells by their names which of its tools are. `token` goes with every
    request over HTTP.
    """

    name: str
    what: str
    timeout: float | None
    address: MCPServer | StdioServerParameters | str
    used: Callable[[str], bool] = any_tool
    is_peer: bool = False
    token: str | None = None
    wrap: Wrap | None = None

    @property
    def is_process(self) -> bool:
        """Whether the server is a process that we start."""
        return isinstance(self.address, StdioServerParameters)

    @property
    def is_foreign(self) -> bool:
        """Whether its tools are described by somebody else: those of a server in memory are our own code."""
        return not isinstance(self.address, MCPServer)

    @property
    def is_signed(self) -> bool:
        """Whether what goes to it is signed."""
        return self.wrap is not None

    @property
    def may_be_away(self) -> bool:
        """Whether the mesh starts without it: a peer is somebody else's to keep up."""
        return self.is_peer

    @property
    def tries(self) -> int:
        """How often a connection is tried."""
        return _PEER_TRIES if self.is_peer else 1

    @property
    def kind(self) -> str:
        """What it is called in messages."""
        return "peer" if self.is_peer else "server"

    @property
    def key(self) -> str:
        """Its table in the mesh file."""
        return f"{self.kind}s.{self.name}"

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
            transport = over_http(self.address, token=self.token, watch=watch)
            yield Connection(client=make(watched(self._wrapped(transport), watch)), watch=watch)
        else:
            with captured_stderr() as (errors, last_words):
                transport = stdio_client(self.address, errors)
                client = make(watched(self._wrapped(transport), watch))
                yield Connection(client=client, watch=watch, last_words=last_words)

    def _wrapped(self, transport: Transport) -> Transport:
        return transport if self.wrap is None else self.wrap(transport)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A client that was not entered yet, and what its server does beside answering."""

    client: Client
    watch: Watch
    last_words: LastWords | None = None


def source_words(source: Source) -> str:
    """How a server is started or reached, in words; the same as its target's `what`. Nothing is looked up."""
    if isinstance(source, MCPServer):
        return "mounted in memory"
    if isinstance(source, Remote):
        return _public(source.url)
    if source.builtin is not None:
        return f"built-in {source.builtin}"
    return _public(source.url or "") if source.command is None else shlex.join(source.command)


def is_foreign(source: Source) -> bool:
    """Whether a server's tools are described by somebody else: those of a server in memory are our own code."""
    return not isinstance(source, MCPServer) and (isinstance(source, Remote) or source.builtin is None)


def find_target(name: str, source: Source, *, base: Path, wrap: Wrap | None = None) -> Target:
    """The target of a description, with relative paths taken from `base`.

    Raises:
        ToolboxError: what can be known to fail before anything is started: a built-in server that is not there or
            does not like its options, a program or folder that is not found, an address that is none, a token that is
            in no environment variable.
    """
    if isinstance(source, MCPServer):
        return Target(name=name, what=source_words(source), timeout=None, address=source)
    if isinstance(source, Remote):
        target = _address(name, source.url, "peer", source.token_env, source.timeout)
        return replace(target, used=source.uses, is_peer=True, wrap=wrap)
    if source.builtin is not None:
        return _builtin(name, source.builtin, source, base)
    if source.command is not None:
        return replace(_command(name, source.command, source, base), wrap=wrap)
    target = _address(name, source.url or "", "server", source.token_env, source.timeout)
    return replace(target, wrap=wrap)


def _address(name: str, url: str, kind: str, token_env: str | None, timeout: float) -> Target:
    if not is_address(url):
        raise ToolboxError(
            "bad_url",
            f"{kind} {name}: {url!r} is not an address",
            server=name,
            hint="write http://host:port/mcp",
        )
    token = None
    if token_env is not None:
        token = os.environ.get(token_env, "").strip()
        if not token.isascii() or not token.isprintable() or not token:
            raise ToolboxError(
                "no_token",
                f"{kind} {name}: the environment variable {token_env} holds no token",
                server=name,
                hint=f"set {token_env}, or take token_env out of {kind}s.{name}",
            )
    return Target(name=name, what=_public(url), timeout=timeout, address=url, token=token)


def _public(url: str) -> str:
    """The address without a user's name and password, which are nobody's to read."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _builtin(name: str, builtin: str, source: ServerSource, base: Path) -> Target:
    options = placed(builtin, source.options, partial(place, base))
    try:
        server = agentmesh_servers.build(builtin, **options)
    except ServersError as error:
        raise ToolboxError(error.reason, f"server {name}: {error.message}", server=name) from error
    return Target(name=name, what=source_words(source), timeout=source.timeout, address=server)


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
    return Target(name=name, what=source_words(source), timeout=source.timeout, address=process)


def _version() -> str:
    try:
        return version("agentmesh-runtime")
    except PackageNotFoundError:
        return "0"
