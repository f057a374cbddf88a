"""Starting the servers of a mesh, all at once, and ending them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

import anyio
import anyio.abc

from agentmesh.toolbox.sessions import START_TIMEOUT, ServerSession
from agentmesh.toolbox.targets import Source, find_target

Servers: TypeAlias = Mapping[str, ServerSession]
"""Running servers by their names in the mesh file."""


def open_servers(
    sources: Mapping[str, Source],
    *,
    base: Path,
    notice: Callable[[str], None] = lambda text: None,
    start_timeout: float = START_TIMEOUT,
) -> AbstractAsyncContextManager[Servers]:
    """Start all servers and keep a session with each until the context is left.

    `notice` is told what a person should know, such as a reconnect. What the body raises comes out as it is, not in
    an exception group. Must be entered and left by one task.

    Raises:
        ToolboxError: on entry, for the first server (in their order) that does not start within `start_timeout`
            seconds; those that did are ended again.
    """
    return _Opened(sources, base=base, notice=notice, start_timeout=start_timeout)


class _Opened(AbstractAsyncContextManager[Servers]):
    def __init__(
        self,
        sources: Mapping[str, Source],
        *,
        base: Path,
        notice: Callable[[str], None],
        start_timeout: float,
    ) -> None:
        self._sources = sources
        self._base = base
        self._notice = notice
        self._start_timeout = start_timeout
        self._sessions: dict[str, ServerSession] = {}
        self._owners: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Servers:
        for name, source in self._sources.items():
            target = find_target(name, source, base=self._base)
            self._sessions[name] = ServerSession(
                target, notice=self._notice, start_timeout=self._start_timeout
            )
        self._owners = await anyio.create_task_group().__aenter__()
        try:
            for session in self._sessions.values():
                self._owners.start_soon(session.own, name=f"server {session.name}")
            for session in self._sessions.values():
                await session.started()
        except BaseException as error:
            if not await self.__aexit__(type(error), error, error.__traceback__):
                raise
        return self._sessions

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
