"""The values of a turn: an agent, what it is asked, and what it shares with the rest of its dialogue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from agentmesh.events import Listener
from agentmesh.limits import Budget
from agentmesh.mesh import AgentSpec, Layout, Overflow
from agentmesh.prompt import NOTHING, Omission, Page, Said, lay_out
from agentmesh.recorder import Recorder, Seed
from agentmesh.toolbox import Toolbox, ToolsChanged
from agentmesh_ledger import Receipt
from agentmesh_models import Engine, Message, ToolSpec

PEERS: Final = "peers"
"""The name under which an agent's peers are mounted in its toolbox, as one MCP server in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent ready to take turns: its part of the mesh file, its model, its tools.

    `shown` are the tools that its model is told of: in the shared layout those of all agents of that model.
    """

    name: str
    spec: AgentSpec
    engine: Engine
    toolbox: Toolbox
    layout: Layout = "agent"
    shown: tuple[ToolSpec, ...] | None = None

    @property
    def tools_shown(self) -> tuple[ToolSpec, ...]:
        """The tools that the prompt tells of."""
        return self.toolbox.specs if self.shown is None else self.shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an agent is asked: what it reads, whom it answers, and which message it replies to."""

    page: Page
    to: tuple[str, ...]
    reply_to: int
    reply_hash: bytes
    task: str
    claims: tuple[Said, ...] = ()


@dataclass(slots=True)
class _Open:
    question: str
    receipt: Receipt
    taken: bool = False


class OpenCalls:
    """The calls to peers that are out now, so that a peer's answer can say which message it replies to.

    An agent may ask several peers at once, and one peer several questions. Two calls that ask the same are alike: which
    of them a peer answers is decided by their order.
    """

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], list[_Open]] = {}

    @contextmanager
    def open(self, caller: str, peer: str, question: str, receipt: Receipt) -> Iterator[None]:
        """Hold a call open while the block runs."""
        calls = self._calls.setdefault((caller, peer), [])
        call = _Open(question=question, receipt=receipt)
        calls.append(call)
        try:
            yield
        finally:
            calls.remove(call)

    def take(self, caller: str, peer: str, question: str) -> Receipt:
        """The call that `peer` answers now. One that is sent a second time, after a lost connection, is taken again."""
        calls = self._calls[caller, peer]
        call = min(calls, key=lambda each: (each.question != question, each.taken))
        call.taken = True
        return call.receipt


@dataclass(slots=True)
class Floor:
    """What the turns of a dialogue share: the record, the budget, whoever watches, the calls now open.

    `stopped` is why nothing more may be asked: what was raised in a peer's turn comes back to its caller as text.
    `omissions` holds for each engine, by its id, what is left out of the transcript that its agents read: the same
    for all of them, so that they go on sharing it.
    """

    recorder: Recorder
    budget: Budget
    listen: Listener
    overflow: Overflow = "drop"
    calls: OpenCalls = field(default_factory=OpenCalls)
    omissions: dict[int, Omission] = field(default_factory=dict)
    stopped: ToolsChanged | None = None

    def check(self) -> None:
        """Raises `LimitReached` where a limit of the dialogue is reached, `ToolsChanged` where a server's tools changed."""
        self.budget.check()
        if self.stopped is not None:
            raise self.stopped


@dataclass(slots=True)
class Turn:
    """A turn under way. `since` are the model's calls in it and what the tools answered, `tokens` those made so far."""

    agent: Agent
    asked: Asked
    floor: Floor
    number: int
    since: list[Message] = field(default_factory=list)
    tokens: int = 0

    @property
    def left_out(self) -> Omission:
        """What this agent's model is no longer shown of the transcript."""
        return self.floor.omissions.get(id(self.agent.engine), NOTHING)

    @left_out.setter
    def left_out(self, omission: Omission) -> None:
        self.floor.omissions[id(self.agent.engine)] = omission

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation as the model reads it now."""
        return (*lay_out(self.asked.page, self.left_out), *self.since)

    @property
    def seed(self) -> Seed:
        """The seed of every inference of this turn."""
        author = self.floor.recorder.agent_id(self.agent.name)
        return Seed(message=self.asked.reply_to, leaf_hash=self.asked.reply_hash, author=author)
