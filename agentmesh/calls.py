"""The tool calls of one reply: recorded in its order before any goes out, made side by side, answered in its order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import anyio

from agentmesh.errors import ToolboxError
from agentmesh.events import ToolCallAdded, ToolResultAdded
from agentmesh.floor import PEERS, Turn
from agentmesh.recorder import Origin
from agentmesh.toolbox import ToolResult, ToolsChanged
from agentmesh_ledger import Receipt
from agentmesh_models import Message, Reply, ToolCall

_LONGEST_NAME: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Out:
    """A call that is recorded, and to whom it goes."""

    call: ToolCall
    origin: Origin
    receipt: Receipt
    peer: str | None


async def make_calls(turn: Turn, reply: Reply) -> tuple[str, ToolResult]:
    """Make the calls of `reply` and add them and their results to the turn. Returns the last one's tool and result.

    Raises:
        LimitReached, ToolsChanged: before a call, or inside a peer's turn; then the other calls are cancelled.
    """
    turn.since.append(Message(role="assistant", content=reply.text, calls=reply.calls))
    out: list[_Out] = []
    for call in reply.calls:
        # Several calls of one reply share its tokens; the first carries them.
        out.append(await _record(turn, call, tokens=0 if out else reply.usage.output_tokens))
    results = await _make(turn, out)
    for each, result in zip(out, results, strict=True):
        await _answer(turn, each, result)
        turn.since.append(Message(role="tool", content=result.text, name=each.call.name))
    return reply.calls[-1].name, results[-1]


async def _record(turn: Turn, call: ToolCall, *, tokens: int) -> _Out:
    agent, floor = turn.agent, turn.floor
    floor.budget.start_call(agent.name, call.name, call.arguments)
    origin = _origin(turn, call.name)
    peer = origin.tool.removeprefix("ask_") if origin.server == PEERS else None
    receipt = await floor.recorder.call(
        agent.name, origin, call.arguments, to=(peer,) if peer else (), reply_to=turn.asked.reply_to
    )
    floor.listen(
        ToolCallAdded(
            index=receipt.index,
            agent=agent.name,
            server=origin.server,
            tool=origin.tool,
            arguments=call.arguments,
            tokens=tokens,
            turn=turn.number,
        )
    )
    return _Out(call=call, origin=origin, receipt=receipt, peer=peer)


def _origin(turn: Turn, name: str) -> Origin:
    """Where the tool of that name comes from; a name that no grammar held to the toolbox may be anything."""
    try:
        server, tool = turn.agent.toolbox.locate(name)
    except ToolboxError:
        named = name[:_LONGEST_NAME].encode("utf-8", "replace").decode()
        return Origin(server="?", version="", tools_digest="", tool=named)
    return Origin(
        server=server.name, version=server.identity.version, tools_digest=server.digest, tool=tool.name
    )


async def _make(turn: Turn, out: Sequence[_Out]) -> list[ToolResult]:
    """Make the calls, several at the same time."""
    box, floor = turn.agent.toolbox, turn.floor
    results: dict[int, ToolResult] = {}
    errors: list[Exception] = []

    async def make(number: int) -> None:
        each = out[number]
        try:
            with _open(turn, each):
                results[number] = await box.call(each.call.name, each.call.arguments)
        except Exception as error:  # noqa: BLE001  raised again below; a task group would wrap it in a group
            errors.append(error)
            if isinstance(error, ToolsChanged):
                floor.stopped = error
        if errors or floor.budget.reached or floor.stopped:
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for number in range(len(out)):
            tasks.start_soon(make, number)
    # What ended a peer's turn comes back as a tool error: the dialogue ends all the same.
    floor.check()
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(out))]


@contextmanager
def _open(turn: Turn, out: _Out) -> Iterator[None]:
    """While it is out, a peer can see which call it answers."""
    if out.peer is None:
        yield
        return
    question = out.call.arguments.get("question")
    with turn.floor.calls.open(turn.agent.name, out.peer, str(question), out.receipt):
        yield


async def _answer(turn: Turn, out: _Out, result: ToolResult) -> None:
    agent, origin = turn.agent, out.origin
    done = await turn.floor.recorder.result(agent.name, origin, result, reply_to=out.receipt.index)
    turn.floor.listen(
        ToolResultAdded(
            index=done.index,
            agent=agent.name,
            server=origin.server,
            tool=origin.tool,
            text=result.text,
            is_error=result.is_error,
            seconds=result.seconds,
            turn=turn.number,
        )
    )
