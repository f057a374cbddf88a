"""`agentmesh show` and `agentmesh log`: what a ledger holds, read without changing it."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from agentmesh.cli.options import JsonOption, LedgerOption, OriginOption
from agentmesh.cli.where import find_place, pick_dialogue

if TYPE_CHECKING:
    from agentmesh.view.dialogue import Entry
    from agentmesh_ledger import AgentId, Record
    from agentmesh_ledger.log import Ledger

# Not part of the conversation: how a reply was made, and which keys sign. `--all` and `--json` have them.
_BEHIND_THE_SCENES = frozenset({"inference", "key.register"})


def show(
    dialogue: Annotated[
        str, typer.Argument(metavar="DIALOGUE", help="Its id, the beginning of it, or latest.")
    ] = "latest",
    ledger: LedgerOption = None,
    origin: OriginOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also how replies were inferred, and keys.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show a dialogue from the ledger, as it was recorded."""
    from agentmesh.view.dialogue import entry_json, entry_text
    from agentmesh.view.text import json_line
    from agentmesh_ledger.log import Ledger

    place = find_place(ledger, origin)
    with Ledger.open(place.ledger, origin=place.origin, read_only=True) as log:
        chosen = pick_dialogue(dialogue, [each.id for each in log.dialogues()])
        for entry in _entries(log, chosen):
            if json:
                print(json_line(entry_json(entry)))
            elif everything or entry.kind not in _BEHIND_THE_SCENES:
                print(entry_text(entry))


def log(
    ledger: LedgerOption = None,
    origin: OriginOption = None,
    number: Annotated[
        int, typer.Option("-n", "--number", min=1, help="Show the latest N.", metavar="N")
    ] = 20,
    json: JsonOption = False,
) -> None:
    """List the dialogues in a ledger, the latest last."""
    from agentmesh.view.dialogue import Listed, list_json, list_text
    from agentmesh.view.text import json_line
    from agentmesh_ledger.log import Ledger

    place = find_place(ledger, origin)
    with Ledger.open(place.ledger, origin=place.origin, read_only=True) as opened:
        names = opened.names()
        listed = [
            Listed(
                id=each.id,
                opened=each.opened,
                messages=each.messages,
                participants=tuple(_name(names, agent) for agent in each.participants),
                closed=each.closed,
            )
            for each in opened.dialogues()[-number:]
        ]
    if json:
        for each in list_json(listed):
            print(json_line(each))
    else:
        print(list_text(listed))


def _entries(log: Ledger, dialogue: str) -> Iterator[Entry]:
    from agentmesh.view.dialogue import Entry

    names = log.names()
    for record in log.read(dialogue=dialogue):
        message = record.message
        yield Entry(
            index=record.index,
            kind=message.kind,
            author=_name(names, message.author),
            to=tuple(_name(names, agent) for agent in message.to),
            time=message.time,
            text=_text(record),
            facts=message.facts,
        )


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
    from agentmesh.view.text import arguments_text

    try:
        value: object = json_format.loads(text)
        return arguments_text(value) if isinstance(value, dict) else text
    except (ValueError, RecursionError):  # a signed part may nest as deep as it likes
        return text


def _name(names: Mapping[AgentId, str], agent: AgentId) -> str:
    """The name an agent registered with; without one, the end of its id tells it from others."""
    return names.get(agent) or f"...{agent[-8:]}"
