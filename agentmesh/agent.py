"""One agent's turn: what it is asked goes in, what it says comes out; it knows no pattern and no screen.

In between the model may call tools. Every step is in the ledger before anyone else learns of it: the inference, then
the call, then (once the server has answered) the result, then the reply.
"""

from __future__ import annotations

from collections.abc import Mapping

from agentmesh.calls import make_calls
from agentmesh.errors import RunError
from agentmesh.events import MessageAdded, Notice, TurnStarted
from agentmesh.floor import Agent, Asked, Floor, Turn
from agentmesh.inference import Inferred, infer
from agentmesh.overflow import Lack, make_room
from agentmesh.prompt import Said
from agentmesh.toolbox import ToolResult
from agentmesh.verdict import Verdict, judge, verdict_text
from agentmesh_ledger import JsonValue
from agentmesh_models import ModelError, Reply, Usage
from agentmesh_models.chat import ToolChoice


async def take_turn(agent: Agent, asked: Asked, floor: Floor) -> Said:
    """Let `agent` think, call tools and answer; returns what it said.

    Raises:
        LimitReached: a budget of the dialogue is spent, or the prompt does not fit the model's context and nothing of
            it may be left out.
        ModelError: the model failed. RunError: a checking agent's model called no tool.
    """
    number = floor.budget.start_turn(agent.name)
    floor.listen(TurnStarted(agent=agent.name, turn=number))
    turn = Turn(agent=agent, asked=asked, floor=floor, number=number)
    found: tuple[str, ToolResult] | None = None
    while True:
        must_call = bool(agent.spec.checks) and found is None
        inferred = await _reply(turn, must_call=must_call)
        reply = inferred.reply
        if not reply.calls:
            if must_call:
                raise _no_call(agent.name, reply)
            if reply.finish == "length":
                floor.listen(Notice(text=_cut(turn, inferred)))
            return await _say(turn, reply.text.strip(), reply.usage, {"finish": reply.finish})
        found = await make_calls(turn, reply)
        if agent.spec.checks and not found[1].is_error:
            return await _judge(turn, *found)


async def _reply(turn: Turn, *, must_call: bool) -> Inferred:
    """The model's next reply, with the oldest of the transcript left out where it does not fit."""
    specs = turn.agent.toolbox.specs
    choice: ToolChoice = "none"
    if specs:
        choice = "required" if must_call else "auto"
    while True:
        try:
            inferred = await infer(
                turn, turn.messages, tools=specs, choice=choice, max_tokens=turn.agent.spec.max_tokens
            )
        except ModelError as error:
            if error.reason != "context_full":
                raise
            if await make_room(turn, Lack.told_by(error)):
                continue
            raise turn.floor.budget.context_full(turn.agent.name, error) from error
        if not (inferred.lacked_room and await make_room(turn, _lack_of(inferred))):
            return inferred


def _lack_of(inferred: Inferred) -> Lack:
    reply = inferred.reply
    return Lack(needed=reply.usage.prompt_tokens + inferred.granted, available=reply.profile.n_ctx)


def _no_call(name: str, reply: Reply) -> RunError:
    if reply.finish == "length":
        what, hint = "its call was cut", f"raise agents.{name}.max_tokens in the mesh file"
    else:
        what, hint = "it called no tool", f"give agents.{name} a tool that fits in the mesh file"
    return RunError("no_tool_call", f"{name} checks others, but {what}", hint=hint)


async def _judge(turn: Turn, tool: str, result: ToolResult) -> Said:
    claims = {said.agent: said.text for said in turn.asked.claims if said.agent in turn.agent.spec.checks}
    verdicts: dict[str, Verdict] = {
        name: judge(task=turn.asked.task, claim=text, found=result.text) for name, text in claims.items()
    }
    facts: dict[str, JsonValue] = {"verdicts": {name: v.judgement for name, v in verdicts.items()}}
    text = verdict_text(tool=tool, found=result.text, verdicts=verdicts)
    return await _say(turn, text, None, facts)


async def _say(turn: Turn, text: str, usage: Usage | None, facts: Mapping[str, JsonValue]) -> Said:
    """Record what was said and tell it; `usage` is what it cost, None where no model made it."""
    agent, asked, floor = turn.agent, turn.asked, turn.floor
    tokens = usage.output_tokens if usage else 0
    seconds = usage.decode_seconds if usage else 0.0
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
            tokens_per_second=tokens / seconds if seconds > 0 else 0.0,
            facts=facts,
            turn=turn.number,
        )
    )
    return Said(
        index=receipt.index, leaf_hash=receipt.leaf_hash, agent=agent.name, text=text, tokens=turn.tokens
    )


def _cut(turn: Turn, inferred: Inferred) -> str:
    name, reply = turn.agent.name, inferred.reply
    what = "reply" if reply.text.strip() else "tool call"
    why = f"agents.{name}.max_tokens in the mesh file allows more"
    if inferred.lacked_room:
        why = "the model's context is full, and nothing more may be left out"
    return f"{name}'s {what} was cut after {reply.usage.output_tokens} tokens; {why}"
