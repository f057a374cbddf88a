"""A ledger's records as readers see them: names for keys, and the one part of each that is worth reading."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from agentmesh.view.dialogue import Entry
from agentmesh.view.text import arguments_text
from agentmesh_ledger import AgentId, Record
from agentmesh_ledger.log import Ledger


def dialogue_entries(log: Ledger, dialogue: str) -> Iterator[Entry]:
    """The entries of a dialogue, in order.

    Raises:
        LedgerError: it is not there, or an entry is not as it was signed.
    """
    names = log.names()
    for record in log.read(dialogue=dialogue):
        yield entry_of(record, names)


def entry_of(record: Record, names: Mapping[AgentId, str]) -> Entry:
    """One entry."""
    message = record.message
    return Entry(
        index=record.index,
        kind=message.kind,
        author=agent_name(names, message.author),
        to=tuple(agent_name(names, agent) for agent in message.to),
        time=message.time,
        text=_text(record),
        facts=message.facts,
    )


def agent_name(names: Mapping[AgentId, str], agent: AgentId) -> str:
    """The name an agent registered with; without one, the end of its id tells it from others."""
    return names.get(agent) or f"...{agent[-8:]}"


def _text(record: Record) -> str | None:
    """What a person reads of an entry: its first part, which is its text or a call's arguments.

    Of an inference it is what the model thought, where it did.
    """
    if not record.parts:
        return ""
    part = record.parts[0]
    if record.message.kind == "inference":
        part = next((each for each in record.parts if each.name == "reasoning"), part)
    if part.data is None:
        return None
    if part.name == "profile":
        return ""
    text = part.data.decode("utf-8", "replace")
    if part.type != "application/json":
        return text
    return _arguments(text)


def _arguments(text: str) -> str:
    try:
        value: object = json.loads(text)
        return arguments_text(value) if isinstance(value, dict) else text
    except (ValueError, RecursionError):  # a signed part may nest as deep as it likes
        return text
