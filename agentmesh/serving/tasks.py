"""The Tasks extension of MCP (SEP-2663, `io.modelcontextprotocol/tasks`) for any `MCPServer`.

A host that declares it is given a task where a tool takes long, and polls: `tasks/get`, `tasks/update` with a person's
answers, `tasks/cancel`. Spoken from revision 2026-07-28 on; every other host gets the call as it always was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

import anyio
import anyio.abc
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver.server import require_client_extension
from mcp.server.request_state import authenticated_principal
from mcp.server.session import ServerSession
from mcp.shared.exceptions import MCPError
from mcp.types import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    InputRequiredResult,
    RequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from agentmesh.serving.job import Job

IDENTIFIER: Final = "io.modelcontextprotocol/tasks"
TTL: Final = 3_600.0
MOST: Final = 1_024
POLL: Final = 0.5

_current: ContextVar[Job | None] = ContextVar("task", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTool:
    """How a tool becomes a task.

    It is given `grace` seconds first: what it answers within them is the call's result, and what it asks a person is asked
    in the call itself. A `required` tool always ends in a task, and hosts without the extension are refused it.
    """

    grace: float = 0.0
    required: bool = False


class TaskParams(RequestParams):
    """Names a task."""

    task_id: str


class UpdateParams(TaskParams):
    """A person's answers to what a task asked."""

    input_responses: dict[str, Any]


def current_task() -> Job | None:
    """The task that the tool call at hand runs as, if any."""
    return _current.get()


@asynccontextmanager
async def open_tasks(
    tools: Mapping[str, TaskTool], *, ttl: float = TTL, most: int = MOST
) -> AsyncIterator[Tasks]:
    """The extension, for a server that is served while the context is open; its tasks are cancelled on the way out."""
    async with anyio.create_task_group() as group:
        try:
            yield Tasks(tools, group, ttl=ttl, most=most)
        finally:
            group.cancel_scope.cancel()


class Tasks(Extension):
    """Runs the calls of some tools as tasks, in `group`.

    A task can be looked at for `ttl` seconds from its beginning, and for as long as it runs; one that still waits for
    answers then is cancelled. Of more than `most` at a time
    the further calls are answered without a task.
    """

    identifier = IDENTIFIER

    def __init__(
        self,
        tools: Mapping[str, TaskTool],
        group: anyio.abc.TaskGroup,
        *,
        ttl: float = TTL,
        most: int = MOST,
    ) -> None:
        self._tools = dict(tools)
        self._group = group
        self._ttl = ttl
        self._most = most
        self._jobs: dict[str, Job] = {}

    def methods(self) -> Sequence[MethodBinding]:
        """The three methods of the extension."""
        modern = frozenset(MODERN_PROTOCOL_VERSIONS)
        return (
            MethodBinding("tasks/get", TaskParams, self._get, modern),
            MethodBinding("tasks/update", UpdateParams, self._update, modern),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, modern),
        )

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Make the call a task, where the tool and the host allow."""
        tool = self._tools.get(params.name)
        if tool is None:
            return await call_next(ctx)
        if not _declared(ctx):
            if tool.required:
                require_client_extension(ctx, IDENTIFIER)
            return await call_next(ctx)
        self._forget()
        if len(self._jobs) >= self._most:
            if tool.required:
                raise MCPError(INTERNAL_ERROR, "too many tasks are kept; try again later")
            return await call_next(ctx)
        job = Job(ttl=self._ttl, poll=POLL, principal=authenticated_principal(ctx))
        self._jobs[job.id] = job
        self._group.start_soon(self._run, job, params, ctx, call_next, name=f"task {job.id}")
        return await self._within(job, tool) if tool.grace else job.created()

    async def _within(self, job: Job, tool: TaskTool) -> HandlerResult:
        """What comes of a call within the tool's grace: its result, what it asks, or the task."""
        try:
            with anyio.move_on_after(tool.grace):
                await job.settled.wait()
        except anyio.get_cancelled_exc_class():
            self._abandon(job)  # nobody knows its id
            raise
        if job.asked is not None and not job.over:
            self._abandon(job)
            return job.asked
        if job.over and not tool.required:
            self._jobs.pop(job.id, None)
            return job.outcome()
        return job.created()

    def _abandon(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
        job.scope.cancel()

    async def _run(
        self,
        job: Job,
        params: CallToolRequestParams,
        ctx: ServerRequestContext[Any, Any],
        call_next: CallNext,
    ) -> None:
        _current.set(job)  # this is the task's own context
        inner = replace(ctx, session=_TaskSession(ctx.session, job))
        try:
            with job.scope:
                while True:
                    outcome = await call_next(inner)
                    if not isinstance(outcome, InputRequiredResult):
                        break
                    # The handler reads the answers off these very params, as it would off a call that is sent again.
                    params.input_responses = await job.ask(outcome)
                    params.request_state = outcome.request_state
                job.complete(outcome)
        except MCPError as error:
            job.fail(error.error.code, error.error.message, error.error.data)
        except Exception:  # noqa: BLE001  # whoever polls is told; other tasks go on
            job.fail(INTERNAL_ERROR, "the tool failed", None)
        finally:
            job.end()

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        return self._find(ctx, params).detailed()

    async def _update(self, ctx: ServerRequestContext[Any, Any], params: UpdateParams) -> HandlerResult:
        try:
            self._find(ctx, params).answer(params.input_responses)
        except ValueError as error:
            raise MCPError(INVALID_PARAMS, "a response is not of the shape that was asked for") from error
        return {}

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        self._find(ctx, params).stop()
        return {}

    def _find(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> Job:
        require_client_extension(ctx, IDENTIFIER)
        headers = getattr(ctx.request, "headers", None)
        if headers is not None and headers.get("mcp-name") != params.task_id:
            # Gateways route by the header: it must not say another task than the body (SEP-2243).
            raise MCPError(HEADER_MISMATCH, "the header Mcp-Name is not the task's id")
        self._forget()
        job = self._jobs.get(params.task_id)
        if job is None or job.principal != authenticated_principal(ctx):
            raise MCPError(INVALID_PARAMS, "there is no such task")
        return job

    def _forget(self) -> None:
        for job in tuple(self._jobs.values()):
            if job.expired and (job.over or job.asks):
                job.stop()  # the host that it asks may be long gone
                del self._jobs[job.id]


class _TaskSession(ServerSession):
    """The session of a call that was answered by a task: its progress is the task's, there is no request any more."""

    def __init__(self, session: ServerSession, job: Job) -> None:
        self.__dict__.update(session.__dict__)
        self._job = job

    async def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Keep what is told for `tasks/get`."""
        self._job.say(message or "")


def _declared(ctx: ServerRequestContext[Any, Any]) -> bool:
    capabilities = ctx.session.client_capabilities
    declared = capabilities.extensions if capabilities else None
    return (
        ctx.protocol_version in MODERN_PROTOCOL_VERSIONS and bool(declared) and IDENTIFIER in (declared or {})
    )
