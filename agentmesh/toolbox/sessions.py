"""One session with one server, from its start to its end.

A task of its own owns the connection: it enters the SDK's client, waits, and leaves it, because the SDK's client must be
left by the task that entered it. Other tasks call tools through it meanwhile. A connection that is lost is opened
again for each loss that a call comes upon, as patiently as the target says. The tools must stay those that were
accepted: where they do not, nothing is called any more.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Final, Literal, cast

import anyio
import anyio.to_thread
from mcp import Client
from mcp.types import RequestParamsMeta

from agentmesh.errors import AgentMeshError, ToolboxError
from agentmesh.toolbox import failures
from agentmesh.toolbox.backoff import Backoff
from agentmesh.toolbox.catalogue import Catalogue, Identity, Tool, catalogue_of, read_catalogue
from agentmesh.toolbox.guard import Guard
from agentmesh.toolbox.handles import outcome
from agentmesh.toolbox.listening import listen_for_changes
from agentmesh.toolbox.pins import PinFile, ToolSet
from agentmesh.toolbox.results import ToolResult, failed, one_line, read_result
from agentmesh.toolbox.targets import Connection, Target
from agentmesh.toolbox.wire import Watch

START_TIMEOUT: Final = 15.0
_LAST_WORDS_WAIT: Final = 0.5

# The SDK logs what servers do wrong; we tell it in results and errors, and a screen in use must not be written over.
logging.getLogger("mcp").addHandler(logging.NullHandler())


class _Attempt:
    """One try at a connection: `settled` once it is up or has failed, `over` once it is to be given up.

    `refused` is why a server that answers is not used. `away` says that nothing answered; where it `may_come_back`, that
    is worth another try.
    """

    def __init__(self) -> None:
        self.settled = anyio.Event()
        self.over = anyio.Event()
        self.client: Client | None = None
        self.watch: Watch | None = None
        self.failure = ""
        self.refused: AgentMeshError | None = None
        self.ended_early = False
        self.away = False
        self.may_come_back = False


class ServerSession:
    """A running server: what it is, what it serves, and calls to it."""

    def __init__(
        self,
        target: Target,
        *,
        notice: Callable[[str], None] = lambda text: None,
        start_timeout: float = START_TIMEOUT,
        pins: PinFile | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._target = target
        self._notice = notice
        self._start_timeout = start_timeout
        self._backoff = backoff or Backoff(tries=target.tries)
        self._guard = Guard(server=target.name, source=target.what, pins=pins if target.is_foreign else None)
        self._listing = anyio.Lock()
        self._just_listed = True
        self._attempt = _Attempt()
        self._starting: anyio.CancelScope | None = None
        self._stopping = False
        self._mode: Literal["auto", "legacy"] = "auto"
        self._catalogue: Catalogue | None = None

    @property
    def name(self) -> str:
        """Its name in the mesh file."""
        return self._target.name

    @property
    def source(self) -> str:
        """How it is started or reached, in words; with its name this is what it is pinned under."""
        return self._target.what

    @property
    def connected(self) -> bool:
        """Whether its connection is up, as far as is known."""
        return self._attempt.client is not None

    @property
    def identity(self) -> Identity:
        """Who it says it is."""
        return self._known.identity

    @property
    def tools(self) -> tuple[Tool, ...]:
        """All its tools that are used, in its own order."""
        return self._known.tools

    @property
    def instructions(self) -> str:
        """How it asks to be used."""
        return self._known.tool_set.instructions

    @property
    def tool_set(self) -> ToolSet:
        """Its tools and instructions in the form that is pinned."""
        return self._known.tool_set

    @property
    def digest(self) -> str:
        """Hex SHA-256 over its tools and instructions."""
        return self._known.tool_set.digest

    @property
    def _known(self) -> Catalogue:
        if self._catalogue is None:
            raise ToolboxError("not_started", f"server {self.name} has not started", server=self.name)
        return self._catalogue

    async def started(self) -> None:
        """Wait until it has started. One that may be away is, where its tools are pinned: calls try again.

        Raises:
            ToolsChanged: its tools are not those that are pinned.
            ToolboxError: `not_started`, with the reason and the end of its standard error; `pins_unreadable`.
        """
        attempt = self._attempt
        await attempt.settled.wait()
        if attempt.refused is not None:
            raise attempt.refused
        if attempt.client is not None:
            return
        if self._target.may_be_away and attempt.away and (known := self._guard.known) is not None:
            self._catalogue = catalogue_of(known)
            self._notice(f"{self._target.kind} {self.name} is away ({attempt.failure}); calls will try again")
            return
        raise ToolboxError(
            "not_started",
            f"{self._target.kind} {self.name} ({self._target.what}) did not start: {attempt.failure}",
            server=self.name,
            hint=f"try it alone, or correct {self._target.key} in the mesh file",
        )

    def stop(self) -> None:
        """Ask the owning task to leave the connection and end."""
        self._stopping = True
        self._attempt.over.set()
        if self._starting is not None and not self._attempt.settled.is_set():
            self._starting.cancel()

    async def own(self) -> None:
        """Keep the connection until `stop`. To be run in a task of its own."""
        while not self._stopping:
            attempt = self._attempt
            await self._keep(attempt)
            await attempt.over.wait()

    async def recheck(self) -> None:
        """List the tools again, unless that was done and nothing has begun since. One that does not answer is told by its next call.

        Raises:
            ToolsChanged: they are not those that were accepted.
        """
        fresh, self._just_listed = self._just_listed, False
        self._guard.require_unchanged()
        attempt = self._attempt
        if fresh or not self._target.is_foreign or attempt.client is None or attempt.watch is None:
            return
        attempt.watch.stale = True
        with anyio.move_on_after(self._start_timeout):
            try:
                await self._list_again(attempt.client, attempt.watch)
            except failures.FAILURES as error:
                if failures.is_ours(error):
                    raise
                # It stays stale: no call goes out before a list came in.

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, object],
        timeout: float | None = None,
        *,
        meta: Mapping[str, object] | None = None,
    ) -> ToolResult:
        """Call a tool and return what came of it; what the server does is a result, and an exception in one case only.

        `timeout` is in seconds and overrides the server's own; nothing that the server sends prolongs it. `meta` goes
        with the request where the connection is signed. Cancelling the caller cancels the call.

        Raises:
            ToolsChanged: its tools are no longer those that were accepted; the call was not made, or its result is not told.
        """
        begin = time.monotonic()
        limit = self._target.timeout if timeout is None else timeout
        known = next((candidate for candidate in self.tools if candidate.name == tool), None)
        if known is None:
            return failed(f"server {self.name} has no tool {one_line(tool)}", seconds=0.0)
        with anyio.move_on_after(limit):
            sent = cast(RequestParamsMeta, dict(meta)) if meta and self._target.is_signed else None
            return await self._call(known, dict(arguments), sent, begin)
        nonsense = _nonsense(self._attempt.watch)
        return failed(
            f"{self.name}.{tool} did not answer within {limit:g} seconds{nonsense}: try again with less to do, "
            "or go on without it",
            seconds=time.monotonic() - begin,
        )

    async def _call(
        self, tool: Tool, arguments: dict[str, object], meta: RequestParamsMeta | None, begin: float
    ) -> ToolResult:
        attempt = self._attempt
        for last in (False, True):
            await attempt.settled.wait()
            if attempt.refused is not None:
                raise attempt.refused
            client, watch = attempt.client, attempt.watch
            try:
                if client is not None and watch is not None:
                    await self._list_again(client, watch)
                    result = await client.call_tool(tool.name, arguments, meta=meta)
                    if self._target.is_peer:
                        result = await outcome(client, result, meta=meta)
                    if unlisted := await self._unlisted_since(client, watch):
                        return failed(
                            f"{self.name}.{tool.name} answered, but its tools have changed and it does not list them "
                            f"({unlisted}): its answer is not used",
                            seconds=time.monotonic() - begin,
                        )
                    return read_result(result, seconds=time.monotonic() - begin)
            except failures.FAILURES as error:
                if failures.is_ours(error):
                    raise
                if not failures.is_loss(error):
                    text = f"{self.name}.{tool.name} failed: {failures.words(error)}"
                    return failed(text, seconds=time.monotonic() - begin)
                attempt.failure = attempt.failure or failures.words(error)
                if not tool.may_repeat:
                    return await self._lost_in_call(tool, attempt, begin)
            if last:
                break
            attempt = self._renew(attempt)
        text = f"{self._target.kind} {self.name} is gone ({attempt.failure}): go on without it"
        return failed(text, seconds=time.monotonic() - begin)

    async def _lost_in_call(self, tool: Tool, attempt: _Attempt, begin: float) -> ToolResult:
        """A call that may have had its effect is not made again without being asked for."""
        fresh = self._renew(attempt)
        await fresh.settled.wait()
        if fresh.refused is not None:
            raise fresh.refused
        state = "it is connected again" if fresh.client is not None else f"it is gone ({fresh.failure})"
        return failed(
            f"{self._target.kind} {self.name} ended in the middle of {tool.name}, which may or may not have been done; "
            f"{state}",
            seconds=time.monotonic() - begin,
        )

    async def _list_again(self, client: Client, watch: Watch) -> None:
        """Read the tools anew where the server has said that they changed; one reading does for all who wait."""
        self._guard.require_unchanged()
        if not watch.stale:
            return
        async with self._listing:
            if not watch.stale:
                self._guard.require_unchanged()
                return
            watch.stale = False
            try:
                self._accept(await read_catalogue(client, used=self._target.used))
            except BaseException:  # also a cancellation: nothing was looked at
                watch.stale = True
                raise

    async def _unlisted_since(self, client: Client, watch: Watch) -> str:
        """Why what was just answered is not used: the tools changed meanwhile, it says, and it does not list them."""
        try:
            await self._list_again(client, watch)
        except failures.FAILURES as error:
            if failures.is_ours(error):
                raise
            return failures.words(error)
        return ""

    def _renew(self, lost: _Attempt) -> _Attempt:
        """The attempt that follows the lost one; many calls may come upon one loss."""
        if self._attempt is lost and not self._stopping:
            self._notice(
                f"{self._target.kind} {self.name}: connection lost ({lost.failure}); connecting again"
            )
            self._attempt = _Attempt()
            lost.over.set()
        return self._attempt

    async def _keep(self, attempt: _Attempt) -> None:
        """Connect, say that it is up, and hold the connection until it is over or lost."""
        await self._hold(attempt)
        if attempt.ended_early and self._mode == "auto" and self._target.is_process and not self._stopping:
            # Some servers end when anything but `initialize` comes first (rmcp, the Rust SDK, does).
            self._mode = "legacy"
            attempt.failure = ""
            await self._hold(attempt)
        for wait in self._backoff.waits():
            if attempt.settled.is_set() or not attempt.may_come_back or self._stopping:
                break
            with anyio.move_on_after(wait):
                await attempt.over.wait()
                break
            attempt.failure = ""
            await self._hold(attempt)
        attempt.settled.set()

    async def _hold(self, attempt: _Attempt) -> None:
        with self._target.client(self._mode) as connection:
            attempt.watch = connection.watch
            try:
                with anyio.move_on_after(self._start_timeout) as self._starting:
                    async with connection.client as client:
                        self._accept(await read_catalogue(client, used=self._target.used))
                        self._starting.deadline = math.inf
                        attempt.client = client
                        attempt.settled.set()
                        await self._until_over(attempt, client, connection.watch)
                        attempt.client = None
            except AgentMeshError as error:
                attempt.refused, attempt.failure = error, one_line(error.message)
            except failures.FAILURES as error:
                attempt.refused = next(failures.refusals(error), None)
                if attempt.refused is None and failures.is_ours(error):
                    raise
                attempt.ended_early = failures.is_loss(error) and not attempt.settled.is_set()
                attempt.away = attempt.may_come_back = failures.may_pass(error)
                attempt.failure = failures.words(error)
            attempt.client = None
            if not attempt.failure:
                up = attempt.settled.is_set()
                attempt.away = True
                attempt.failure = (
                    "it ended" if up else f"it did not answer within {self._start_timeout:g} seconds"
                )
        if not self._stopping:
            attempt.failure += await _aside(connection)

    async def _until_over(self, attempt: _Attempt, client: Client, watch: Watch) -> None:
        """Hold the connection, and hear meanwhile of changes to its tools."""
        async with anyio.create_task_group() as tasks:
            if self._target.is_foreign:
                tasks.start_soon(listen_for_changes, client, watch)
            await _first(attempt.over, watch.ended)
            tasks.cancel_scope.cancel()

    def _accept(self, catalogue: Catalogue) -> None:
        self._guard.admit(catalogue.tool_set)
        self._catalogue = catalogue


async def _first(*events: anyio.Event) -> None:
    """Wait until one of the events is set."""
    async with anyio.create_task_group() as tasks:

        async def watch(event: anyio.Event) -> None:
            await event.wait()
            tasks.cancel_scope.cancel()

        for event in events:
            tasks.start_soon(watch, event)


async def _aside(connection: Connection) -> str:
    """What the server said beside the protocol, as a clause to append."""
    clauses = _nonsense(connection.watch)
    if status := connection.watch.status:
        wants = ", and wants another token (token_env)" if status in (401, 403) else ""
        clauses += f"; it answered HTTP {status}{wants}"
    if connection.last_words is not None:
        await anyio.to_thread.run_sync(connection.last_words.wait, _LAST_WORDS_WAIT)
        lines = connection.last_words.text().strip().splitlines()
        if lines:
            clauses += f"; its last words: {one_line(lines[-1])}"
    return clauses


def _nonsense(watch: Watch | None) -> str:
    return f"; it wrote what is no MCP message: {watch.nonsense!r}" if watch and watch.nonsense else ""
