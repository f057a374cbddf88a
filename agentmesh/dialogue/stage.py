"""Where a dialogue takes place: the cast, the floor they speak on, and what was said so far.

A pattern asks agents to speak through the stage; the stage lays out what each reads and keeps the transcript.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agentmesh.agent import Agent, Asked, Floor, take_turn
from agentmesh.errors import RunError
from agentmesh.mesh import Mesh
from agentmesh.prompt import Said, fill, messages_for
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
        answered = previous or self.task_said
        template = self._template(agent, first=previous is None)
        asked = fill(template, task=task, previous=answered.text)
        # What the prompt template already quotes is not repeated as something heard.
        quoted = answered.index if "{previous}" in template else None
        heard = [] if alone or agent.spec.context == "task" else [s for s in self.said if s.index != quoted]
        said = await take_turn(
            agent,
            Asked(
                messages=messages_for(name=name, role=agent.spec.role, asked=asked, heard=heard),
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
        call = self.floor.open_calls[caller]
        said = await take_turn(
            agent,
            Asked(
                messages=messages_for(
                    name=name,
                    role=agent.spec.role,
                    asked=fill(agent.spec.prompt, task=question, previous=question),
                ),
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
        return said.text

    def _template(self, agent: Agent, *, first: bool) -> str:
        """The agent's own prompt; by default the task, and in a chain what the one before it said."""
        if "prompt" in agent.spec.model_fields_set or self.mesh.dialogue.pattern != "chain":
            return agent.spec.prompt
        return "{task}" if first else "{previous}"

    @property
    def everyone(self) -> tuple[str, ...]:
        """Whom a final answer is addressed to: the host, on behalf of who asked."""
        return (HOST,)
