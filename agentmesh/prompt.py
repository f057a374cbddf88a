"""From what was said to what a model reads.

Other agents' words are the user's side of the conversation, an agent's own words the assistant's. The task comes
first, through the agent's `prompt` template. Nothing is cut here: a prompt too long for the model's context ends the
dialogue with that reason rather than being shortened unseen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agentmesh_models import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One thing said in a dialogue, at its place in the ledger."""

    index: int
    leaf_hash: bytes
    agent: str
    text: str


def system_text(name: str, role: str) -> str:
    """The system message of an agent: who it is, then its role."""
    return f"You are {name}. {role}".strip()


def fill(template: str, *, task: str, previous: str) -> str:
    """The agent's prompt template with `{task}` and `{previous}` filled in.

    Replaced in one pass and literally: a task that holds braces is text, not a template.
    """
    out: list[str] = []
    rest = template
    while rest:
        places = [(rest.find(mark), mark) for mark in ("{task}", "{previous}") if mark in rest]
        if not places:
            out.append(rest)
            break
        at, mark = min(places)
        out += [rest[:at], task if mark == "{task}" else previous]
        rest = rest[at + len(mark) :]
    return "".join(out)


def messages_for(*, name: str, role: str, asked: str, heard: Iterable[Said] = ()) -> tuple[Message, ...]:
    """What `name` reads at the start of its turn: its role, what it is asked, and what was said since.

    Speeches of others that follow one another make one user message, each line led by its speaker's name:
    chat templates want the two sides to take turns.
    """
    messages = [Message(role="system", content=system_text(name, role))]
    pending = [asked]
    for said in heard:
        if said.agent == name:
            if pending:
                messages.append(Message(role="user", content="\n".join(pending)))
                pending = []
            messages.append(Message(role="assistant", content=said.text))
        else:
            pending.append(f"{said.agent}: {said.text}")
    if pending:
        messages.append(Message(role="user", content="\n".join(pending)))
    elif messages[-1].role == "assistant":
        messages.append(Message(role="user", content="Go on."))
    return tuple(messages)
