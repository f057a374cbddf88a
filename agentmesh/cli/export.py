"""`agentmesh export`: a dialogue, or the whole log, as one file that an auditor can verify alone."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from agentmesh.cli.options import KeysOption, LedgerOption, OriginOption
from agentmesh.cli.output import output_file, require_target
from agentmesh.cli.where import find_place, pick_dialogue


def export(
    dialogue: Annotated[
        str,
        typer.Argument(
            metavar="DIALOGUE", help="Its id, the beginning of it, latest, or all for the whole log."
        ),
    ],
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FILE", help="The transcript to write; - is standard output."),
    ],
    ledger: LedgerOption = None,
    origin: OriginOption = None,
    keys: KeysOption = None,
) -> None:
    """Export a dialogue as one file that `agentmesh-verify` checks alone."""
    from agentmesh.view.text import count
    from agentmesh_ledger.keys import KeyStore
    from agentmesh_ledger.log import Ledger

    place = find_place(ledger, origin, keys)
    require_target(output, place.ledger)
    with Ledger.open(place.ledger, origin=place.origin, keys=KeyStore(place.keys), read_only=True) as log:
        chosen = None if dialogue == "all" else pick_dialogue(dialogue, [each.id for each in log.dialogues()])
        note = log.cosigned()
        # What witnesses signed is worth more than what the log alone did, where it shows as much.
        cosigned = note is not None and log.covers(note, dialogue=chosen)
        with output_file(output) as out:
            summary = log.export(out, dialogue=chosen, under=note if cosigned else None)
    if output != "-":
        what = "the whole log" if chosen is None else f"dialogue {chosen}"
        more = f", {count(summary.anchors, 'anchor')}" if summary.anchors else ""
        more += ", under the cosigned checkpoint" if cosigned else ""
        typer.echo(
            f"{output}: {what}, {count(summary.entries, 'entry').replace('entrys', 'entries')}{more}",
            err=True,
        )
        typer.echo(f"  agentmesh-verify {shlex.quote(output)}", err=True)
