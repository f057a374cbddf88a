"""`agentmesh show` and `agentmesh log`: what a ledger holds, read without changing it."""

from __future__ import annotations

from typing import Annotated

import typer

from agentmesh.cli.options import JsonOption, LedgerOption, OriginOption
from agentmesh.cli.where import find_place, pick_dialogue

# Not part of the conversation: how a reply was made, and which keys sign. `--all` and `--json` have them.
_BEHIND_THE_SCENES = frozenset({"inference", "key.register", "usage"})


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
    from agentmesh.view.record import dialogue_entries
    from agentmesh.view.text import json_line
    from agentmesh_ledger.log import Ledger

    place = find_place(ledger, origin)
    with Ledger.open(place.ledger, origin=place.origin, read_only=True) as log:
        chosen = pick_dialogue(dialogue, [each.id for each in log.dialogues()])
        for entry in dialogue_entries(log, chosen):
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
    from agentmesh.view.record import agent_name
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
                participants=tuple(agent_name(names, agent) for agent in each.participants),
                closed=each.closed,
            )
            for each in opened.dialogues()[-number:]
        ]
    if json:
        for each in list_json(listed):
            print(json_line(each))
    else:
        print(list_text(listed))
