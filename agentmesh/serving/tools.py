"""The tools of a mesh: asking an agent, dialogues in the background, verifying the record."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, Final, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field

from agentmesh.accounts.till import with_receipt
from agentmesh.errors import AgentMeshError
from agentmesh.mesh import Mesh
from agentmesh.serving import ledger_record
from agentmesh.serving.answers import DialogueAnswer, listed, result, told
from agentmesh.serving.approval import approved_by, with_approval
from agentmesh.serving.dialogues import Dialogue, Dialogues
from agentmesh.serving.exchange import asked_by
from agentmesh.serving.hints import asking_hints
from agentmesh.serving.icon import ICON
from agentmesh.serving.progress import Tell
from agentmesh.serving.signing import current_exchange
from agentmesh.serving.tasks import TaskTool, current_task
from agentmesh.serving.verification import Evidence
from agentmesh.toolbox.results import clean
from agentmesh_ledger import LedgerError

PATIENCE: Final = 40.0
"""Seconds until `ask_<agent>` answers with a handle: hosts cut calls at 60."""
PATIENCE_KEY: Final = "dev.agentmesh/patience"
"""In a request's `_meta`: how many seconds the caller waits for an answer; for callers that do not cut at 60."""
MOST_PATIENCE: Final = 3_600.0
TASK_GRACE: Final = 1.0
"""Seconds in which a call may be answered at once where the host knows tasks."""
WAIT: Final = 30.0
MOST_WAIT: Final = 50.0
_MOST_LISTED: Final = 20

_WAITS: Final = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_STOPS: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)
Question = Annotated[str, Field(min_length=1, description="The question, in full")]
Task = Annotated[str, Field(min_length=1, description="The task, in full")]
DialogueId = Annotated[str, Field(min_length=1, max_length=200, description="The dialogue's id")]
MaybeId = Annotated[
    str,
    Field(
        max_length=200, description="The dialogue's id; without one, what runs and what ended last is listed"
    ),
]
Wait = Annotated[float, Field(ge=0, le=MOST_WAIT, description="How many seconds to wait at most")]
What = Annotated[str, Field(max_length=200, description="A dialogue's id; without one, the whole ledger")]
Answer = Annotated[CallToolResult, DialogueAnswer]
_T = TypeVar("_T")


def exposed(mesh: Mesh) -> tuple[str, ...]:
    """The agents that hosts may ask."""
    return mesh.serve.agents or tuple(mesh.agents)


def task_tools(mesh: Mesh) -> dict[str, TaskTool]:
    """The tools that become tasks where a host knows tasks, once they take longer than a moment."""
    return {
        name: TaskTool(grace=TASK_GRACE)
        for name in (*(f"ask_{each}" for each in exposed(mesh)), "verify_record")
    }


def add_tools(server: MCPServer, dialogues: Dialogues) -> None:
    """Put the tools on a server; those in `serve.approve` ask a person first."""
    live = dialogues.live
    mesh, servers = live.mesh, live.servers
    for agent in exposed(mesh):
        about = mesh.agents[agent].about
        _add(
            server,
            dialogues,
            f"ask_{agent}",
            _asking(dialogues, agent),
            title=f"Ask {agent}",
            description=clean(f"Ask {agent}. {about}").strip(),
            annotations=asking_hints(mesh, servers, agent),
        )
    acts = asking_hints(mesh, servers, *mesh.agents)
    for name, tool, title, hints in (
        ("start_dialogue", _starting(dialogues), "Start a dialogue", acts),
        ("wait_dialogue", _waiting(dialogues), "Wait for a dialogue", _WAITS),
        ("stop_dialogue", _stopping(dialogues), "Stop a dialogue", _STOPS),
        ("verify_record", _verifying(dialogues), "Verify the record", _WAITS),
    ):
        description = " ".join((tool.__doc__ or "").split())
        _add(server, dialogues, name, tool, title=title, description=description, annotations=hints)


def _add(
    server: MCPServer,
    dialogues: Dialogues,
    name: str,
    tool: Callable[..., Awaitable[CallToolResult]],
    *,
    title: str,
    description: str,
    annotations: ToolAnnotations,
) -> None:
    if name in dialogues.live.mesh.serve.approve:
        tool = with_approval(name, tool, dialogues.live.decide)
    server.add_tool(
        tool, name=name, title=title, description=description, annotations=annotations, icons=[ICON]
    )


def _asking(dialogues: Dialogues, agent: str) -> Callable[..., Awaitable[CallToolResult]]:
    async def ask(question: Question, ctx: Context) -> Answer:
        dialogue = _start(dialogues, question, agent)
        task = current_task()
        try:
            await dialogue.wait(_patience(ctx) if task is None else None, _teller(ctx))
        except anyio.get_cancelled_exc_class():
            if task is not None and task.stopped:  # a call that is only cut leaves its dialogue running
                dialogue.stop()
            raise
        return await _with_bill(dialogues, dialogue)

    return ask


def _starting(dialogues: Dialogues) -> Callable[..., Awaitable[CallToolResult]]:
    async def start_dialogue(task: Task) -> Answer:
        """Give the whole mesh a task. Returns at once, with the id of the dialogue that has begun; call
        wait_dialogue with it for the answer."""
        return told(_start(dialogues, task, None))

    return start_dialogue


def _waiting(dialogues: Dialogues) -> Callable[..., Awaitable[CallToolResult]]:
    async def wait_dialogue(ctx: Context, dialogue: MaybeId = "", seconds: Wait = WAIT) -> Answer:
        """Wait for a dialogue, and return its answer once the state is "ended". Also for dialogues whose call was cut
        off, and for those of earlier days. Without an id, lists what runs and what ended last."""
        if not dialogue:
            return _choice(dialogues)
        found = dialogues.find(dialogue)
        if found is None:
            return result(
                await _from_ledger(partial(ledger_record.past_answer, dialogues.live.ledger, dialogue))
            )
        await found.wait(seconds, _teller(ctx))
        return await _with_bill(dialogues, found)

    return wait_dialogue


def _stopping(dialogues: Dialogues) -> Callable[..., Awaitable[CallToolResult]]:
    async def stop_dialogue(dialogue: DialogueId) -> Answer:
        """Stop a dialogue. What was said until then stays in the record, which says that it was stopped."""
        found = dialogues.find(dialogue)
        if found is None:
            return result(
                await _from_ledger(partial(ledger_record.past_answer, dialogues.live.ledger, dialogue))
            )
        found.stop()
        await found.wait()
        return told(found)

    return stop_dialogue


def _verifying(dialogues: Dialogues) -> Callable[..., Awaitable[CallToolResult]]:
    async def verify_record(ctx: Context, dialogue: What = "") -> Annotated[CallToolResult, Evidence]:
        """Verify the signed record: of one dialogue, or whole. Tells whether it is intact, whether it is complete
        (another matter), and what cannot be concluded from it."""
        tell = _teller(ctx)

        def progress(done: int, of: int) -> None:
            if tell is not None:
                anyio.from_thread.run(tell, f"{done:,} of {of:,} entries")

        found = await _from_ledger(partial(ledger_record.verify, dialogues.live.ledger, dialogue, progress))
        return CallToolResult(
            content=[TextContent(text=found.text)],
            structured_content=found.evidence.model_dump(mode="json"),
            is_error=not found.evidence.intact,
        )

    return verify_record


def _choice(dialogues: Dialogues) -> CallToolResult:
    known = [*reversed(dialogues.running), *reversed(dialogues.ended)][:_MOST_LISTED]
    note = (
        "Call wait_dialogue with one of these ids"
        if known
        else "No dialogue has begun since the server started"
    )
    return result(DialogueAnswer(state="none", note=note, dialogues=[listed(each) for each in known]))


async def _with_bill(dialogues: Dialogues, dialogue: Dialogue) -> CallToolResult:
    """What there is to tell of a dialogue; an agent's answer, once it is whole, with its receipt for who asked."""
    found = told(dialogue)
    till, asked, ended, exchange = dialogues.till, dialogue.asked_in, dialogue.ended, current_exchange()
    if till is None or asked is None or ended is None or dialogue.agent is None or found.is_error:
        return found
    if ended.reason != "done" or exchange is None or exchange.author != asked.author:
        return found
    bill = await till.bill(asked, dialogue.agent, tokens=ended.tokens, seconds=ended.seconds)
    return found if bill is None else with_receipt(found, bill)


def _start(dialogues: Dialogues, task: str, agent: str | None) -> Dialogue:
    try:
        begun = dialogues.start(task, agent=agent, facts={**asked_by(), **approved_by()})
        begun.asked_in = current_exchange()
        return begun
    except AgentMeshError as error:
        raise ToolError(f"{error.message}: {error.hint}" if error.hint else error.message) from error


async def _from_ledger(read: Callable[[], _T]) -> _T:
    try:
        return await anyio.to_thread.run_sync(read)
    except LedgerError as error:
        if error.reason == "not_found":
            text = f"{error.message}: call wait_dialogue without an id to see which there are"
        else:
            text = str(error)
        raise ToolError(clean(text)) from error


def _patience(ctx: Context) -> float:
    meta: Mapping[str, object] = ctx.request_context.meta or {}
    wanted = meta.get(PATIENCE_KEY)
    if isinstance(wanted, int | float) and not isinstance(wanted, bool) and 0 <= wanted <= MOST_PATIENCE:
        return float(wanted)
    return PATIENCE


def _teller(ctx: Context) -> Tell | None:
    """Reports progress of one call, its number rising with each line; None where nobody asked for it."""
    context = ctx.request_context
    over_http = context.request is not None
    if over_http and current_task() is None and "progress_token" not in (context.meta or {}):
        return None  # elsewhere the SDK does not let us see whether it is wanted
    count = 0

    async def tell(line: str) -> None:
        nonlocal count
        count += 1
        await ctx.report_progress(count, None, line)

    return tell
