"""One reply of a model within a turn: asked for, shown as a draft, paid for and recorded."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass

from agentmesh.errors import RunError
from agentmesh.events import Draft, Prompted
from agentmesh.floor import Turn
from agentmesh_models import Message, ReasoningDelta, Reply, Request, TextDelta, ToolSpec
from agentmesh_models.chat import ToolChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """A reply, the ledger place of how it was made, and how many tokens it might have had."""

    reply: Reply
    index: int
    granted: int

    @property
    def lacked_room(self) -> bool:
        """Whether the reply was cut because the model's context was full, and not at its own limit."""
        usage, profile = self.reply.usage, self.reply.profile
        full = usage.prompt_tokens + usage.output_tokens >= profile.n_ctx > 0
        return self.reply.finish == "length" and usage.output_tokens < self.granted and full


async def infer(
    turn: Turn,
    messages: tuple[Message, ...],
    *,
    tools: tuple[ToolSpec, ...] = (),
    choice: ToolChoice = "none",
    max_tokens: int,
    drafts: bool = True,
) -> Inferred:
    """Let the agent's model reply to `messages` and record how it did.

    Raises:
        LimitReached: no tokens are left. ModelError: the model failed; `context_full` if the messages are too long.
    """
    agent, budget = turn.agent, turn.floor.budget
    seed = turn.seed
    with budget.grant(max_tokens) as granted:
        request = Request(
            messages=messages,
            tools=tools,
            shown=agent.shown,
            tool_choice=choice,
            parallel_calls=agent.spec.parallel_calls,
            max_tokens=granted,
            sampling=agent.spec.sampling(seed.value),
        )
        reply = await _generate(turn, request, drafts=drafts)
        budget.spend(reply.usage)
        turn.tokens += reply.usage.output_tokens
    receipt = await turn.floor.recorder.inference(agent.name, reply, seed=seed)
    return Inferred(reply=reply, index=receipt.index, granted=granted)


async def _generate(turn: Turn, request: Request, *, drafts: bool) -> Reply:
    agent, listen = turn.agent, turn.floor.listen
    read = tuple((message.role, message.content) for message in request.messages)
    listen(Prompted(agent=agent.name, messages=read, turn=turn.number))
    reply: Reply | None = None
    # Closed at once, so that the model stands still before anyone else uses it, whoever raises here.
    async with aclosing(agent.engine.generate(request)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Reply):
                reply = piece
            elif drafts and isinstance(piece, TextDelta | ReasoningDelta):
                thought = isinstance(piece, ReasoningDelta)
                listen(Draft(agent=agent.name, text=piece.text, reasoning=thought, turn=turn.number))
    if reply is None:
        raise RunError("no_reply", f"the model of {agent.name} ended without a reply")
    return reply
