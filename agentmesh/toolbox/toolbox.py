"""One agent's tools: those of the mesh's servers that it may call, under the names its model knows."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Final

from agentmesh.errors import ToolboxError
from agentmesh.toolbox.catalogue import Tool
from agentmesh.toolbox.results import ToolResult, clean, failed, one_line
from agentmesh.toolbox.sessions import ServerSession
from agentmesh_models import ToolSpec
from agentmesh_models.toolformat import normalise_schema

MAX_DESCRIPTION: Final = 1_000
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_-]")


class Toolbox:
    """The tools of one agent.

    `allow` names them as the mesh file does: `server` for all its tools, `server.tool` for one; `ask` names those of
    `peers` in the same way. All tools of the `extra` servers are in it besides. A tool whose name two servers share is
    called `server_tool`, and so is one whose name is in `apart`: other agents of the same model know another tool by it.
    `meta` goes with every call over a signed connection.
    """

    def __init__(
        self,
        servers: Mapping[str, ServerSession],
        *,
        allow: Sequence[str] = (),
        peers: Mapping[str, ServerSession] | None = None,
        ask: Sequence[str] = (),
        extra: Mapping[str, ServerSession] | None = None,
        key: str = "agent",
        apart: Collection[str] = (),
        meta: Mapping[str, object] | None = None,
    ) -> None:
        """Raises `ToolboxError` `no_such_server` or `no_such_tool`; its message names the mesh file's key under `key`."""
        self._meta = meta
        chosen: dict[tuple[str, str], tuple[ServerSession, Tool]] = {}
        for entries, there, below in ((allow, servers, "tools"), (ask, peers or {}, "peers")):
            for entry in entries:
                for session, tool in _allowed(there, entry, f"{key}.{below}"):
                    chosen[session.name, tool.name] = (session, tool)
        for session in (extra or {}).values():
            chosen.update({(session.name, tool.name): (session, tool) for tool in session.tools})
        self._tools = _named(list(chosen.values()), apart)
        self._specs = tuple(_spec(name, tool) for name, (_, tool) in self._tools.items())

    @property
    def places(self) -> frozenset[tuple[str, str]]:
        """The tools by their servers' names and their own."""
        return frozenset((session.name, tool.name) for session, tool in self._tools.values())

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools as a model is shown them."""
        return self._specs

    def locate(self, name: str) -> tuple[ServerSession, Tool]:
        """The server and the tool behind a name that the model used. Raises `ToolboxError` `no_such_tool`."""
        if name not in self._tools:
            raise ToolboxError("no_such_tool", self._unknown(name))
        return self._tools[name]

    async def call(
        self, name: str, arguments: Mapping[str, object], timeout: float | None = None
    ) -> ToolResult:
        """Call the tool of that name; a name that is not in the box is an error for the model to read."""
        if name not in self._tools:
            return failed(self._unknown(name), seconds=0.0)
        session, tool = self._tools[name]
        return await session.call(tool.name, arguments, timeout, meta=self._meta)

    def _unknown(self, name: str) -> str:
        return f"there is no tool {one_line(name)}: there are {', '.join(self._tools) or 'none'}"


def _allowed(servers: Mapping[str, ServerSession], entry: str, key: str) -> list[tuple[ServerSession, Tool]]:
    server, _, wanted = entry.partition(".")
    session = servers.get(server)
    if session is None:
        near = get_close_matches(server, servers, n=1)
        guess = f"did you mean {near[0]}? " if near else ""
        raise ToolboxError(
            "no_such_server",
            f"{key}: no server is called {server!r}: {guess}there are {', '.join(servers) or 'none'}",
            server=server,
        )
    if not wanted:
        return [(session, tool) for tool in session.tools]
    for tool in session.tools:
        if tool.name == wanted:
            return [(session, tool)]
    names = [tool.name for tool in session.tools]
    near = get_close_matches(wanted, names, n=1)
    guess = f"did you mean {server}.{near[0]}? " if near else ""
    raise ToolboxError(
        "no_such_tool",
        f"{key}: {server} serves no tool {wanted!r}: {guess}it serves {', '.join(names) or 'none'}",
        server=server,
    )


def plain_name(tool: str) -> str:
    """A tool's name as models can write it."""
    return _UNFIT.sub("_", tool)


def _named(
    chosen: Sequence[tuple[ServerSession, Tool]], apart: Collection[str]
) -> dict[str, tuple[ServerSession, Tool]]:
    plain = [plain_name(tool.name) for _, tool in chosen]
    named: dict[str, tuple[ServerSession, Tool]] = {}
    for name, (session, tool) in zip(plain, chosen, strict=True):
        alone = plain.count(name) == 1 and name not in apart
        full = name if alone else f"{plain_name(session.name)}_{name}"
        while full in named:
            full += "_"
        named[full] = (session, tool)
    return named


def _spec(name: str, tool: Tool) -> ToolSpec:
    description = clean(tool.description).strip()
    return ToolSpec(
        name=name,
        description=description[:MAX_DESCRIPTION],
        parameters=normalise_schema(tool.input_schema),
    )
