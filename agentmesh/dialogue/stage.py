"""Where a dialogue takes place: the cast, the floor they speak on, and what was said so far.

A pattern asks agents to speak through the stage; the stage lays out what each reads and keeps the transcript.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from agentmesh.accounts.price import used_at
from agentmesh.agent import take_turn
from agentmesh.errors import RunError
from agentmesh.floor import Agent, Asked, Floor
from agentmesh.mesh import Mesh
from agentmesh.prompt import Page, Said, default_rules, fill, own_part, set_in, system_text
from agentmesh.recorder import HOST


@dataclass(slots=True)
class Stage:
    """One dialogue as it runs. `task_said` is the task's place in the ledger; `said` grows with each speech."""

    mesh: Mesh
    cast: Mapping[str, Agent]
    floor: Floor
    task: str
    task_said: Said
    said: list[Said] = field(default_factory=list)

    def order(self) -> tuple[str, ...]:
        """The order of speaking: the mesh file's `order`, or the agents as they stand in the file."""
        return self.mesh.dialogue.order or tuple(self.mesh.agents)

    async def speak(
        self, name: str, *, task: str, previous: Said | None, to: tuple[str, ...], alone: bool = False
    ) -> Said:
        """Let `name` speak on `task` after `previous`.

        It hears what was said so far, unless its context is the task or it is asked `alone`.
        """
        agent = self.cast[name]
        hears = not alone and agent.spec.context == "dialogue"
        answered = previous or self.task_said
        said = await take_turn(
            agent,
            Asked(
                page=self._page(agent, task=task, previous=previous, hears=hears),
                to=to,
                reply_to=answered.index,
                reply_hash=answered.leaf_hash,
                task=task,
                claims=tuple(self.said),
            ),
            self.floor,
        )
        self.said.append(said)
        return said

    async def answer_peer(self, caller: str, name: str, question: str) -> str:
        """`caller` asks its peer `name`; the peer answers that question alone, as a tool would.

        Raises:
            RunError: the peer's reply was empty; the MCP server makes it an error that the caller's model reads.
        """
        agent = self.cast[name]
        call = self.floor.calls.take(caller, name, question)
        began = time.monotonic()
        said = await take_turn(
            agent,
            Asked(
                page=self._page(agent, task=question, previous=None, hears=False, question=True),
                to=(caller,),
                reply_to=call.index,
                reply_hash=call.leaf_hash,
                task=question,
            ),
            self.floor,
        )
        if not said.text:
            raise RunError(
                "empty_reply", f"{name} gave no answer", hint="ask another way, or go on without it"
            )
        if self.mesh.accounts is not None:
            used = used_at(
                agent.spec.price,
                tokens=said.tokens,
                seconds=time.monotonic() - began,
                unit=self.mesh.accounts.unit,
            )
            await self.floor.recorder.usage(caller, name, used, asked=call)
        return said.text

    def _page(
        self, agent: Agent, *, task: str, previous: Said | None, hears: bool, question: bool = False
    ) -> Page:
        """What `agent` reads. A `question` is another agent's: its later lines are set in, a person's are not."""
        spec = agent.spec
        before = task if previous is None else previous.text
        if agent.layout == "agent":
            template = self._template(agent, first=previous is None)
            # What the prompt template already quotes is not repeated as something heard.
            quoted = previous.index if previous and "{previous}" in template else None
            return Page(
                layout="agent",
                name=agent.name,
                rules="\n\n".join(
                    filter(None, (system_text(agent.name, spec.role), self.mesh.dialogue.rules))
                ),
                task=task,
                own=fill(template, task=set_in(task) if question else task, previous=before),
                heard=tuple(said for said in self.said if said.index != quoted) if hears else (),
            )
        return Page(
            layout="shared",
            name=agent.name,
            rules=self.mesh.dialogue.rules
            or default_rules({n: a.about for n, a in self.mesh.agents.items()}),
            task=task,
            own=own_part(
                name=agent.name,
                role=spec.role,
                asked=self._asked(agent, task=task, previous=previous, hears=hears),
                tools=[tool.name for tool in agent.toolbox.specs],
                shown=[tool.name for tool in agent.tools_shown],
            ),
            heard=tuple(self.said) if hears else (),
        )

    def _asked(self, agent: Agent, *, task: str, previous: Said | None, hears: bool) -> str:
        """What `agent` is asked, in the shared layout, where the task and what was said stand above it already."""
        if "prompt" in agent.spec.model_fields_set:
            before = task if previous is None else previous.text
            return f"You are asked: {fill(agent.spec.prompt, task=set_in(task), previous=before)}"
        if previous is None:
            return "Answer the task."
        if self.mesh.dialogue.pattern != "chain":
            return "Say what you have to say on the task."
        if hears:
            return f"Go on from what {previous.agent} said."
        return f"Go on from what {previous.agent} said: {set_in(previous.text)}"

    def _template(self, agent: Agent, *, first: bool) -> str:
        """The agent's own prompt; by default the task, and in a chain what the one before it said."""
        if "prompt" in agent.spec.model_fields_set or self.mesh.dialogue.pattern != "chain":
            return agent.spec.prompt
        return "{task}" if first else "{previous}"

    @property
    def everyone(self) -> tuple[str, ...]:
        """Whom a final answer is addressed to: the host, on behalf of who asked."""
        return (HOST,)
