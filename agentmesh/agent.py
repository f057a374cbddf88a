"""One agent's turn: what it is asked goes in, what it says comes out; it knows no pattern and no screen.

In between the model may call tools. Every step is in the ledger before anyone else learns of it: the inference, then
the call, then (once the server has answered) the result, then the reply.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass

from agentmesh.errors import RunError
from agentmesh.events import (
    Draft,
    Listener,
    MessageAdded,
    Notice,
    ToolCallAdded,
    ToolResultAdded,
    TurnStarted,
)
from agentmesh.limits import Budget, LimitReached
from agentmesh.mesh import AgentSpec
from agentmesh.prompt import Said
from agentmesh.recorder import Origin, Recorder
from agentmesh.toolbox import Toolbox, ToolResult
from agentmesh.verdict import Verdict, judge, verdict_text
from agentmesh_ledger import JsonValue, Receipt
from agentmesh_models import Engine, Message, ModelError, Reply, Request, Sampling, TextDelta, ToolCall

PEERS = "peers"
"""The name under which an agent's peers are mounted in its toolbox, as one MCP server in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent ready to take turns: its part of the mesh file, its model, its tools."""

    name: str
    spec: AgentSpec
    engine: Engine
    toolbox: Toolbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an agent is asked: the conversation so far, whom it answers, and which message it replies to."""

    messages: tuple[Message, ...]
    to: tuple[str, ...]
    reply_to: int
    reply_hash: bytes
    task: str
    claims: tuple[Said, ...] = ()


@dataclass(slots=True)
class Floor:
    """What a turn needs of its dialogue: the record, the budget, whoever watches, and the calls now open.

    `open_calls` maps the agent that is waiting for a peer to the ledger place of its call, so that the peer's
    answer can say which message it replies to.
    """

    recorder: Recorder
    budget: Budget
    listen: Listener
    open_calls: dict[str, Receipt]


@dataclass(slots=True)
class _Turn:
    agent: Agent
    asked: Asked
    floor: Floor
    messages: list[Message]
    found: tuple[str, ToolResult] | None = None


def _no_call(name: str, reply: Reply) -> RunError:
    if reply.finish == "length":
        what, hint = "its call was cut", f"raise agents.{name}.max_tokens in the mesh file"
    else:
        what, hint = "it called no tool", f"give agents.{name} a tool that fits in the mesh file"
    return RunError("no_tool_call", f"{name} checks others, but {what}", hint=hint)


async def take_turn(agent: Agent, asked: Asked, floor: Floor) -> Said:
    """Let `agent` think, call tools and answer; returns what it said.

    Raises:
        LimitReached: a budget of the dialogue is spent, or the prompt no longer fits the model's context.
        ModelError: the model failed. RunError: a checking agent's model called no tool.
    """
    floor.budget.start_turn(agent.name)
    floor.listen(TurnStarted(agent=agent.name))
    turn = _Turn(agent=agent, asked=asked, floor=floor, messages=list(asked.messages))
    while True:
        must_call = bool(agent.spec.checks) and turn.found is None
        reply = await _generate(turn, must_call=must_call)
        await floor.recorder.inference(agent.name, reply.profile, reply_to=asked.reply_to)
        if not reply.calls:
            if must_call:
                raise _no_call(agent.name, reply)
            if reply.finish == "length":
                floor.listen(Notice(text=_cut(turn, reply)))
            return await _say(turn, reply.text.strip(), _speed(reply), {"finish": reply.finish})
        turn.messages.append(Message(role="assistant", content=reply.text, calls=reply.calls))
        for number, call in enumerate(reply.calls):
            # Several calls of one reply share its tokens; the first carries them.
            result = await _call(turn, call, tokens=0 if number else reply.usage.output_tokens)
            turn.messages.append(Message(role="tool", content=result.text, name=call.name))
            turn.found = (call.name, result)
        if agent.spec.checks and turn.found and not turn.found[1].is_error:
            return await _judge(turn, *turn.found)


async def _generate(turn: _Turn, *, must_call: bool) -> Reply:
    agent, budget = turn.agent, turn.floor.budget
    request = Request(
        messages=tuple(turn.messages),
        tools=agent.toolbox.specs,
        tool_choice="required" if must_call and agent.toolbox.specs else "auto",
        max_tokens=budget.tokens_for(agent.spec.max_tokens),
        sampling=Sampling(temperature=agent.spec.temperature, seed=_seed(turn)),
    )
    reply: Reply | None = None
    try:
        # Closed at once, so that the model stands still before anyone else uses it, whoever raises here.
        async with aclosing(agent.engine.generate(request)) as pieces:
            async for piece in pieces:
                if isinstance(piece, TextDelta):
                    turn.floor.listen(Draft(agent=agent.name, text=piece.text))
                else:
                    reply = piece
    except ModelError as error:
        if error.reason == "context_full":
            budget.reached = LimitReached("limit_context", f"{agent.name}: {error}")
            raise budget.reached from error
        raise
    if reply is None:
        raise RunError("no_reply", f"the model of {agent.name} ended without a reply")
    budget.spend_tokens(reply.usage.output_tokens)
    return reply


async def _call(turn: _Turn, call: ToolCall, *, tokens: int) -> ToolResult:
    agent, floor, box = turn.agent, turn.floor, turn.agent.toolbox
    floor.budget.start_call(agent.name, call.name, call.arguments)
    server, tool = box.locate(call.name)
    origin = Origin(
        server=server.name, version=server.identity.version, tools_digest=server.digest, tool=tool.name
    )
    peer = tool.name.removeprefix("ask_") if server.name == PEERS else None
    receipt = await floor.recorder.call(
        agent.name, origin, call.arguments, to=(peer,) if peer else (), reply_to=turn.asked.reply_to
    )
    floor.listen(
        ToolCallAdded(
            index=receipt.index,
            agent=agent.name,
            server=server.name,
            tool=tool.name,
            arguments=call.arguments,
            tokens=tokens,
        )
    )
    floor.open_calls[agent.name] = receipt
    result = await box.call(call.name, call.arguments)
    # A limit reached inside a peer's turn comes back as a tool error: the dialogue ends all the same.
    floor.budget.check()
    done = await floor.recorder.result(agent.name, origin, result, reply_to=receipt.index)
    floor.listen(
        ToolResultAdded(
            index=done.index,
            agent=agent.name,
            server=server.name,
            tool=tool.name,
            text=result.text,
            is_error=result.is_error,
            seconds=result.seconds,
        )
    )
    return result


async def _judge(turn: _Turn, tool: str, result: ToolResult) -> Said:
    claims = {said.agent: said.text for said in turn.asked.claims if said.agent in turn.agent.spec.checks}
    verdicts: dict[str, Verdict] = {
        name: judge(task=turn.asked.task, claim=text, found=result.text) for name, text in claims.items()
    }
    facts: dict[str, JsonValue] = {"verdicts": {name: v.judgement for name, v in verdicts.items()}}
    text = verdict_text(tool=tool, found=result.text, verdicts=verdicts)
    return await _say(turn, text, (0, 0.0), facts)


async def _say(turn: _Turn, text: str, speed: tuple[int, float], facts: Mapping[str, JsonValue]) -> Said:
    agent, asked, floor = turn.agent, turn.asked, turn.floor
    tokens, rate = speed
    facts = {"model": agent.engine.info.digest, "tokens": tokens, **facts}
    receipt = await floor.recorder.say(agent.name, text, to=asked.to, reply_to=asked.reply_to, facts=facts)
    floor.listen(
        MessageAdded(
            index=receipt.index,
            kind="say",
            agent=agent.name,
            to=asked.to,
            text=text,
            tokens=tokens,
            tokens_per_second=rate,
            facts=facts,
        )
    )
    return Said(index=receipt.index, leaf_hash=receipt.leaf_hash, agent=agent.name, text=text)


def _cut(turn: _Turn, reply: Reply) -> str:
    name, made = turn.agent.name, reply.usage.output_tokens
    what = "reply" if reply.text.strip() else "tool call"
    return (
        f"{name}'s {what} was cut after {made} tokens; agents.{name}.max_tokens in the mesh file allows more"
    )


def _seed(turn: _Turn) -> int:
    """The seed follows from the message answered and who answers, so that no agent can choose a lucky one."""
    author = turn.floor.recorder.agent_id(turn.agent.name)
    data = b"agentmesh/seed/v1" + turn.asked.reply_hash + author.encode()
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def _speed(reply: Reply) -> tuple[int, float]:
    usage = reply.usage
    return (
        usage.output_tokens,
        usage.output_tokens / usage.decode_seconds if usage.decode_seconds > 0 else 0.0,
    )
