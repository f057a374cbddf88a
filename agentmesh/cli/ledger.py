"""`agentmesh ledger`: what an operator does with a log beyond reading it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from agentmesh.cli import ledger_keys
from agentmesh.cli.agreement import require_agreement
from agentmesh.cli.options import (
    DESCRIBED,
    JsonOption,
    KeysOption,
    LedgerOption,
    OriginOption,
    YesOption,
    example,
)
from agentmesh.cli.output import output_file, require_target
from agentmesh.cli.passphrase import keys_in
from agentmesh.cli.signing import ByOption, ReasonOption, open_writer, signer
from agentmesh.cli.where import find_place
from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh.locations import LogPlace
    from agentmesh_ledger import KeyStore, LedgerError, Message
    from agentmesh_ledger.log import Ledger

RESTORED: Final = "log.restored"

IndexArgument = Annotated[int, typer.Argument(metavar="INDEX", min=0, help="The entry's place in the log.")]
OutputOption = Annotated[
    str, typer.Option("-o", "--output", metavar="FILE", help="Where to write it; - is standard output.")
]

app = typer.Typer(
    help="Look after a log: erase, prove, publish, rotate and revoke keys.",
    epilog=example("agentmesh ledger checkpoint -o desk.checkpoint"),
    no_args_is_help=True,
    rich_markup_mode=DESCRIBED,
)


@app.command("erase", epilog=example("agentmesh ledger erase 5 --part text --reason 'asked to'"))
def erase(
    index: IndexArgument,
    part: Annotated[
        list[str] | None,
        typer.Option("--part", metavar="NAME", help="Only this part of it. May be repeated. Default: all."),
    ] = None,
    by: ByOption = "host",
    reason: ReasonOption = None,
    ledger: LedgerOption = None,
    origin: OriginOption = None,
    keys: KeysOption = None,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Delete content of an entry for ever, and record that; every proof stays."""
    from agentmesh.view.text import clean, json_line

    place = find_place(ledger, origin, keys)
    store = keys_in(place.keys)
    with open_writer(place, store) as log:
        _require_entry(log, index)
        message = next(log.read(index, index + 1)).message
        names = _parts(message, part)
        what = ", ".join(clean(name) for name in names)
        where = f"{clean(message.kind)} in dialogue {clean(message.dialogue)}"
        author = signer(store, by)
        require_agreement(f"Delete {what} of entry {index} ({where}) for ever?", yes=yes)
        receipt = log.erase(index, by=author, parts=part, reason=reason)
    if json:
        print(json_line({"entry": index, "parts": names, "tombstone": receipt.index, "size": receipt.size}))
    else:
        print(f"entry {index}: {what} erased; entry {receipt.index} says so")
        print("  copies that were exported before still have it", file=sys.stderr)


@app.command("prove", epilog=example("agentmesh ledger prove 5 -o 5.tlog-proof"))
def prove(
    index: IndexArgument, output: OutputOption = "-", ledger: LedgerOption = None, origin: OriginOption = None
) -> None:
    """Prove that an entry stands in the log, as one file for others."""
    from agentmesh_ledger.keys import KeyStore
    from agentmesh_ledger.log import Ledger
    from agentmesh_ledger.usage.proving import cosigned_over

    place = find_place(ledger, origin)
    require_target(output, place.ledger)
    with Ledger.open(place.ledger, origin=place.origin, keys=KeyStore(place.keys), read_only=True) as log:
        _require_entry(log, index)
        # As with a transcript: what witnesses signed is worth more than what the log alone did.
        note = cosigned_over(log, index)
        text, vkey = log.prove(index, under=note), log.vkey()
    with output_file(output) as out:
        out.write(text.encode())
    if output != "-":
        command = f"agentmesh-verify proof {shlex.quote(output)} --key {shlex.quote(vkey)}"
        more = "" if note is None else ", under the cosigned checkpoint"
        typer.echo(f"{output}: the proof of entry {index}{more}\n  {command}", err=True)


@app.command("export-tiles", epilog=example("agentmesh ledger export-tiles public/desk"))
def export_tiles(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder to bring up to the log; made if need be.")
    ],
    ledger: LedgerOption = None,
    origin: OriginOption = None,
    json: JsonOption = False,
) -> None:
    """Publish the log as static files (C2SP tlog-tiles); content stays home."""
    from agentmesh.view.text import count, json_line
    from agentmesh_ledger.bar import Bar
    from agentmesh_ledger.log import Ledger

    place = find_place(ledger, origin)
    with (
        Ledger.open(place.ledger, origin=place.origin, read_only=True) as log,
        Bar(sys.stderr, "files") as bar,
    ):
        done, vkey = log.publish(directory, progress=bar.draw), log.vkey()
    if json:
        told: dict[str, object] = {
            "directory": str(directory),
            "origin": done.origin,
            "before": done.before,
            "size": done.size,
            "written": done.written,
            "bytes": done.bytes,
            "removed": done.removed,
        }
        print(json_line(told))
        return
    print(f"{directory}: {done.size:,} entries, {done.size - done.before:,} of them new")
    print(f"  {count(done.written, 'file')} written", file=sys.stderr)
    command = f"agentmesh-verify tiles {shlex.quote(str(directory))} --key {shlex.quote(vkey)}"
    print(f"  {command}", file=sys.stderr)


@app.command("checkpoint", epilog=example("agentmesh ledger checkpoint -o desk.checkpoint"))
def checkpoint(output: OutputOption = "-", ledger: LedgerOption = None, origin: OriginOption = None) -> None:
    """Print the signed checkpoint: what an auditor keeps for `--expect`."""
    from agentmesh_ledger.log import Ledger

    place = find_place(ledger, origin)
    require_target(output, place.ledger)
    with Ledger.open(place.ledger, origin=place.origin, read_only=True) as log:
        note, size = log.checkpoint(), log.size
    with output_file(output) as out:
        out.write(note.encode())
    if output != "-":
        typer.echo(f"{output}: the checkpoint of {size:,} entries", err=True)


@app.command("accept-rollback", epilog=example("agentmesh ledger accept-rollback --ledger examples/desk"))
def accept_rollback(
    ledger: LedgerOption = None,
    origin: OriginOption = None,
    keys: KeysOption = None,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Go on with an older copy of the database; the log itself will say so."""
    from agentmesh.view.text import clean, json_line
    from agentmesh_ledger import LedgerError

    place = find_place(ledger, origin, keys)
    store = keys_in(place.keys)
    try:
        open_writer(place, store).close()
    except LedgerError as error:
        if error.reason != "rollback":
            raise
        print(clean(_lost(error)), file=sys.stderr)
    else:
        raise AgentMeshError(
            "usage", f"{place}: nothing was rolled back: it has all that the log's key has signed"
        )
    require_agreement("Give those entries up, and go on from here?", yes=yes)
    size, index = _restore(place, store)
    if json:
        print(json_line({"size": size, "restored": index}))
    else:
        print(f"{place}: goes on with {size:,} entries; entry {index} says what was lost")


def _restore(place: LogPlace, keys: KeyStore) -> tuple[int, int]:
    """Appends what was lost to the log, which accepts it: the number of entries kept, and where that stands."""
    from agentmesh.recorder import HOST
    from agentmesh_ledger import Draft
    from agentmesh_ledger.log import Ledger

    with Ledger.open(place.ledger, origin=place.origin, keys=keys, accept_rollback=True) as log:
        size = log.size
        lost = keys.last_checkpoint(log.origin).read()
        facts = {"size": size, "lost": lost}
        draft = Draft(author=keys.agent(HOST), kind=RESTORED, dialogue="log", facts=facts)
        (receipt,) = log.append([draft])
    return size, receipt.index


def _lost(error: LedgerError) -> str:
    return f"{error.where + ': ' if error.where else ''}{error.message}"


def _require_entry(log: Ledger, index: int) -> None:
    size = log.size
    if index >= size:
        hint = f"it has the entries 0 to {size - 1}" if size else "it is empty"
        raise AgentMeshError("usage", f"the log has no entry {index}", hint=hint)


def _parts(message: Message, wanted: list[str] | None) -> list[str]:
    known = [part.name for part in message.parts]
    if not known:
        raise AgentMeshError("usage", f"entry {message.index} has no content to erase")
    for name in wanted or []:
        if name not in known:
            raise AgentMeshError(
                "usage", f"entry {message.index} has no part {name!r}", hint=f"it has: {', '.join(known)}"
            )
    return known if wanted is None else list(dict.fromkeys(wanted))


app.command("rotate-key", epilog=example("agentmesh ledger rotate-key front"))(ledger_keys.rotate_key)
app.command("revoke-key", epilog=example("agentmesh ledger revoke-key front --after 41"))(
    ledger_keys.revoke_key
)
app.command("seal-keys", epilog=example("agentmesh ledger seal-keys --ledger examples/desk"))(
    ledger_keys.seal_keys
)
app.command("unseal-keys", epilog=example("agentmesh ledger unseal-keys --ledger examples/desk"))(
    ledger_keys.unseal_keys
)
