"""`agentmesh accounts`: what agents owe one another, and the proof of one balance."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentmesh.cli.exits import FAILED
from agentmesh.cli.implied import ShowIsMeant
from agentmesh.cli.options import DESCRIBED, JsonOption, KeysOption, LedgerOption, OriginOption, example
from agentmesh.cli.output import output_file, require_target
from agentmesh.cli.passphrase import keys_in
from agentmesh.cli.signing import ByOption, agent_meant, open_writer, signer
from agentmesh.cli.where import find_place, is_place
from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh_ledger import Record, TranscriptAudit
    from agentmesh_ledger.usage.settlement import Audit

app = typer.Typer(
    cls=ShowIsMeant,
    help="Sum up what agents owe one another, and prove one balance.",
    epilog=example("agentmesh accounts examples/desk"),
    rich_markup_mode=DESCRIBED,
)


@app.command("show", epilog=example("agentmesh accounts show examples/desk"))
def show(
    record: Annotated[
        str,
        typer.Argument(
            metavar="RECORD",
            help="A transcript (- is standard input), a ledger file, a mesh file or its folder, or a PostgreSQL URL.",
        ),
    ] = ".",
    at: Annotated[
        int | None, typer.Option("--at", metavar="N", min=0, help="After the first N entries. Default: all.")
    ] = None,
    origin: OriginOption = None,
    json: JsonOption = False,
) -> None:
    """Sum the receipts of a ledger or transcript that both sides signed."""
    from agentmesh.view.accounts import told_json, told_text
    from agentmesh.view.text import json_line

    audit, whole = _audited(record, origin, at)
    found, said = audit.accounting.accounts(), audit.said
    print(json_line(told_json(found, said, whole=whole)) if json else told_text(found, said, whole=whole))
    if whole and any(each.agrees is False for each in said):
        raise typer.Exit(FAILED)


@app.command("prove", epilog=example("agentmesh accounts prove front -o front.balance"))
def prove(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name, or a did:key.")],
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="Where to write it; - is standard output.")
    ] = "-",
    unit: Annotated[
        str | None, typer.Option("--unit", metavar="UNIT", help="Where it has balances in several.")
    ] = None,
    newest: Annotated[
        bool,
        typer.Option("--newest", help="As of now, by the log's own word, even if a chain has an older root."),
    ] = False,
    by: ByOption = "host",
    ledger: LedgerOption = None,
    origin: OriginOption = None,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """Prove one agent's balance to others, as one file; the log records the root."""
    from agentmesh.view.text import json_line
    from agentmesh_ledger import LedgerError
    from agentmesh_ledger.usage.proving import prove_balance

    place = find_place(ledger, origin, keys)
    require_target(output, place.ledger)
    store = keys_in(place.keys)
    author = signer(store, by)
    with open_writer(place, store) as log:
        meant = agent_meant(store, log, agent)
        try:
            made = prove_balance(log, meant, unit, author=author, newest=newest)
        except LedgerError as error:
            if error.reason != "not_found":
                raise
            raise AgentMeshError("no_such_agent", error.message, hint=error.hint) from error
        vkey = log.vkey()
    with output_file(output) as out:
        out.write(made.data)
    if output == "-":
        return
    if json:
        told = {
            "file": output,
            "agent": meant,
            "size": made.settlement.size,
            "root": made.settlement.root().hex(),
            "index": made.index,
            "appended": made.appended,
            "anchored": made.anchored,
        }
        print(json_line(told))
        return
    word = "a chain has its root" if made.anchored else "its root is the log's own word"
    print(f"{output}: the balance of {meant} after {made.settlement.size:,} entries; {word}")
    command = f"agentmesh-verify balance {shlex.quote(output)} --key {shlex.quote(vkey)}"
    typer.echo(f"  {command}", err=True)


def _audited(record: str, origin: str | None, at: int | None) -> tuple[Audit, bool]:
    """The accounts of whatever is meant, and whether they are those of a whole log."""
    from agentmesh_ledger.source import is_ledger, opened

    if is_place(record):
        place = find_place(record, origin)
        return _of_ledger(place.ledger, place.origin, at), True
    with opened(record) as stream:
        if not is_ledger(stream, record):
            from agentmesh_ledger import TranscriptAudit

            transcript = TranscriptAudit(stream)
            header = transcript.header
            if origin is not None and origin != header.origin:
                raise AgentMeshError("usage", f"this is the transcript of {header.origin}")
            audit = _of_transcript(transcript, at)
            # Anybody can write a sound log under any name: whose this one is, only its key tells.
            own = f"the log's key is the file's own word, {', '.join(header.vkeys)}"
            typer.echo(f"{own}: agentmesh-verify --key holds it to the one you know", err=True)
            return audit, header.dialogue is None
    return _of_ledger(record, origin, at), True


def _of_ledger(ledger: Path | str, origin: str | None, at: int | None) -> Audit:
    from agentmesh_ledger.log import Ledger

    with Ledger.open(ledger, origin=origin, read_only=True) as log:
        size = log.size
        return _taken(log.origin, log.read(0, size if at is None else min(at, size)), size, at)


def _of_transcript(transcript: TranscriptAudit, at: int | None) -> Audit:
    """Reads it to its end, and so holds all that a verification does, whatever is asked for."""
    header = transcript.header
    return _taken(header.origin, transcript, header.tree_size, at)


def _taken(origin: str, records: Iterable[Record], size: int, at: int | None) -> Audit:
    from agentmesh_ledger.usage.balances import Accounting
    from agentmesh_ledger.usage.settlement import Audit

    if at is not None and at > size:
        raise AgentMeshError("usage", f"the log has {size} entries, not {at}")
    audit = Audit(Accounting(origin))
    for record in records:
        if at is None or record.index < at:
            audit.take(record)
    return audit
