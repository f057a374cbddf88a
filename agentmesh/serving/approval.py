"""A person is asked before a tool does anything; what they say is in the ledger before it does.

The SDK binds an answer to what it was asked for: in the 2026-07-28 revision the state that a host carries between the
rounds is sealed to the tool and its arguments, and answers only the very question that was shown. That it is used once is
seen to here.
"""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Annotated, Any, Final, get_type_hints

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from agentmesh.toolbox.results import escaped
from agentmesh_ledger import JsonValue, LedgerError

MAX_SHOWN: Final = 2_000

Tool = Callable[..., Awaitable[CallToolResult]]
Record = Callable[[str, bool, Mapping[str, JsonValue]], Awaitable[int]]
"""Puts a decision into the ledger: the tool, whether it is allowed, its arguments. Returns its place."""

_MOST_USED: Final = 4_096
_answer: ContextVar[str | None] = ContextVar("answer", default=None)
_approved: ContextVar[int | None] = ContextVar("approved", default=None)


class Decision(BaseModel):
    """What a person decides."""

    approve: bool = Field(title="Allow", description="Whether the call may be made as it is shown")


def approved_by() -> Mapping[str, JsonValue]:
    """The facts of the approval under which the call at hand runs; none where none was asked for."""
    place = _approved.get()
    return {} if place is None else {"approved": place}


async def note_answer(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """A middleware, to stand outside the SDK's own: remembers the sealed state under which a person's answer comes."""
    state = (ctx.params or {}).get("requestState")
    token = _answer.set(state if isinstance(state, str) else None)
    try:
        return await call_next(ctx)
    finally:
        _answer.reset(token)


def with_approval(name: str, tool: Tool, record: Record) -> Tool:
    """The tool, run only once a person has said yes to this call of it.

    Where the host cannot ask anyone the tool refuses, in words that a model can read.
    """
    hints = get_type_hints(tool, include_extras=True)
    signature = inspect.signature(tool)
    used: OrderedDict[str, None] = OrderedDict()
    own = {each for each in signature.parameters if hints.get(each) is Context}

    async def ask_person(ctx: Context) -> Elicit[Decision]:
        capabilities = ctx.client_capabilities
        if capabilities is None or capabilities.elicitation is None:
            raise ToolError(
                f"{name} needs a person's approval, and this host cannot ask one: use a host that supports elicitation, "
                "or take the tool out of serve.approve in the mesh file"
            )
        params = ctx.request_context.params or {}
        return Elicit(_question(name, params.get("arguments") or {}), Decision)

    @functools.wraps(tool)
    async def approved(**given: object) -> CallToolResult:
        _use_once(name, used)
        decision = given.pop("approval")
        arguments = {key: _json(value) for key, value in given.items() if key not in own}
        allowed = isinstance(decision, AcceptedElicitation) and bool(decision.data.approve)
        try:
            place = await record(name, allowed, arguments)
        except LedgerError as error:
            raise ToolError(
                f"the decision could not be recorded, so nothing was done: {error.message}"
            ) from error
        if not allowed:
            raise ToolError(
                f"a person did not allow this call of {name}; entry {place} of the record says so"
            )
        token = _approved.set(place)
        try:
            return await tool(**given)
        finally:
            _approved.reset(token)

    # The SDK reads what a tool takes from its signature; names in it must mean the same as where the tool was written.
    asked = Annotated[ElicitationResult[Decision], Resolve(ask_person)]
    takes = [each.replace(annotation=hints[each.name]) for each in signature.parameters.values()]
    takes.append(inspect.Parameter("approval", inspect.Parameter.KEYWORD_ONLY, annotation=asked))
    given_back = hints["return"]
    approved.__signature__ = inspect.Signature(takes, return_annotation=given_back)  # type: ignore[attr-defined]
    approved.__annotations__ = {**hints, "approval": asked}
    return approved


def _use_once(name: str, used: OrderedDict[str, None]) -> None:
    """Hosts send a call again whose result they did not get; the SDK's state would let that pass until it expires."""
    answer = _answer.get()
    if answer is None:
        return  # the older era asks in the midst of the call
    if answer in used:
        raise ToolError(
            f"a person's answer is for one call of {name}, and it was made: call anew to ask again"
        )
    used[answer] = None
    if len(used) > _MOST_USED:
        used.popitem(last=False)


def _question(name: str, arguments: Mapping[str, object]) -> str:
    """What the person reads: every argument, each on lines of its own, none able to pass for another.

    Nothing is left out or invisible: a model reads tag characters that no screen shows.
    """
    lines = [f"Allow this call of {name}?"]
    for key, value in arguments.items():
        text = f"{key}: {value}"
        if len(text) > MAX_SHOWN:
            text = f"{text[:MAX_SHOWN]} [and {len(text) - MAX_SHOWN:,} more characters]"
        lines.append("\n    ".join(escaped(line) for line in text.split("\n")))
    return "\n".join(lines)


def _json(value: object) -> JsonValue:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
