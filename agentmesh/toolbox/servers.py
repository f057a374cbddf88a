"""Starting the servers of a mesh, all at once, and ending them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

import anyio
import anyio.abc

from agentmesh.toolbox.backoff import Backoff
from agentmesh.toolbox.changes import Change, ToolsChanged
from agentmesh.toolbox.pins import PinFile
from agentmesh.toolbox.sessions import START_TIMEOUT, ServerSession
from agentmesh.toolbox.targets import Source, Target, Wrap, find_target

Servers: TypeAlias = Mapping[str, ServerSession]
"""Running servers by their names in the mesh file."""


def open_servers(
    sources: Mapping[str, Source],
    *,
    base: Path,
    notice: Callable[[str], None] = lambda text: None,
    start_timeout: float = START_TIMEOUT,
    pins: PinFile | None = None,
    wraps: Mapping[str, Wrap] | None = None,
    backoff: Backoff | None = None,
) -> AbstractAsyncContextManager[Servers]:
    """Start all servers and keep a session with each until the context is left.

    `notice` is told what a person should know, such as a reconnect. `pins` holds every server that is not in memory to
    the tools that it had when it was first used; without it, to those it starts with. `wraps` is what is put round the
    connections of some, by their names; `backoff` overrides how patiently each is tried. What the body raises comes out
    as it is, not in an exception group. Must be entered and left by one task.

    Raises:
        ToolsChanged: on entry, where the tools of servers are not those that are pinned; it tells of all such servers.
        ToolboxError: on entry, for the first server (in their order) that does not start within `start_timeout`
            seconds; those that did are ended again.
    """
    return _Opened(
        sources,
        base=base,
        wraps=wraps or {},
        session=partial(
            ServerSession, notice=notice, start_timeout=start_timeout, pins=pins, backoff=backoff
        ),
    )


async def recheck(servers: Servers) -> None:
    """List the tools of all servers again, side by side, before a dialogue is begun with them.

    Raises:
        ToolsChanged: some are not those that were accepted; it tells of all such servers.
    """
    changes: list[Change] = []

    async def look(session: ServerSession) -> None:
        try:
            await session.recheck()
        except ToolsChanged as error:
            changes.extend(error.changes)

    async with anyio.create_task_group() as tasks:
        for session in servers.values():
            tasks.start_soon(look, session)
    if changes:
        raise ToolsChanged(changes)


class _Opened(AbstractAsyncContextManager[Servers]):
    def __init__(
        self,
        sources: Mapping[str, Source],
        *,
        base: Path,
        wraps: Mapping[str, Wrap],
        session: Callable[[Target], ServerSession],
    ) -> None:
        self._sources = sources
        self._base = base
        self._wraps = wraps
        self._session = session
        self._sessions: dict[str, ServerSession] = {}
        self._owners: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Servers:
        for name, source in self._sources.items():
            target = find_target(name, source, base=self._base, wrap=self._wraps.get(name))
            self._sessions[name] = self._session(target)
        self._owners = await anyio.create_task_group().__aenter__()
        try:
            for session in self._sessions.values():
                self._owners.start_soon(session.own, name=f"server {session.name}")
            await self._started()
        except BaseException as error:
            if not await self.__aexit__(type(error), error, error.__traceback__):
                raise
        return self._sessions

    async def _started(self) -> None:
        """Wait for all; of changed tools a person should see all before deciding, so they are told together."""
        changes: list[Change] = []
        for session in self._sessions.values():
            try:
                await session.started()
            except ToolsChanged as error:
                changes += error.changes
        if changes:
            raise ToolsChanged(changes)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        for session in self._sessions.values():
            session.stop()
        if self._owners is None:
            return None
        if isinstance(error, Exception):
            # Told of it, the task group would wrap it in an exception group.
            await self._owners.__aexit__(None, None, None)
            return None
        return await self._owners.__aexit__(kind, error, trace)
