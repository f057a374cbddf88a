"""`agentmesh verify` and `agentmesh replay`: whether a record is what was signed, and what it says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentmesh.cli.options import JsonOption
from agentmesh.cli.where import is_ledger, ledger_file, pick_dialogue
from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh_ledger import Verified


def verify(
    record: Annotated[
        Path,
        typer.Argument(metavar="RECORD", help="A transcript, a ledger file, a mesh file or its folder."),
    ] = Path(),
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key", metavar="VKEY", help="The log's key, as `agentmesh keys` prints it. May be repeated."
        ),
    ] = None,
    expect: Annotated[
        Path | None,
        typer.Option(
            "--expect", metavar="FILE", help="A checkpoint you hold: the log must still contain it."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Verify every signature, link and part of a ledger or transcript."""
    from agentmesh.view.evidence import evidence_json, evidence_text, failure_json
    from agentmesh.view.text import json_line
    from agentmesh_ledger import LedgerError

    for pin in key or []:
        _require_vkey(pin)
    note = None if expect is None else expect.read_text(encoding="utf-8")
    try:
        found = _verified(record, key or [], note)
    except LedgerError as error:
        if json:
            print(json_line(failure_json(error, record)))
        raise
    print(json_line(evidence_json(found, record)) if json else evidence_text(found))


def replay(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="A transcript, a ledger file, a mesh file or its folder."),
    ] = Path(),
    dialogue: Annotated[
        str | None,
        typer.Argument(
            metavar="DIALOGUE", help="Its id, the beginning of it, or latest. Default: all there is."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Replay a recorded dialogue, each message with its verification mark."""
    from agentmesh.audit import replay as replayed
    from agentmesh.view.dialogue import Entry, entry_json, entry_text
    from agentmesh.view.text import count, json_line

    path = ledger_file(source) if is_ledger(source) else source
    again = replayed(path, _chosen(path, dialogue))
    for message in again.messages:
        entry = Entry(
            index=message.index,
            kind=message.kind,
            author=message.author_name,
            to=message.to,
            time=message.time,
            text=None if message.check == "withheld" else message.text,
            facts=message.facts,
            check=message.check,
        )
        print(json_line(entry_json(entry)) if json else entry_text(entry))
    if again.problem is not None:
        raise again.problem
    if not json:
        print(f"{count(len(again.messages), 'message')}, all verified", file=sys.stderr)


def _require_vkey(text: str) -> None:
    from agentmesh_ledger import LedgerError
    from agentmesh_ledger.note import parse_vkey

    try:
        parse_vkey(text)
    except LedgerError as error:
        hint = "`agentmesh keys` prints it; quote it for your shell"
        raise AgentMeshError("usage", f"--key: {error.message}", hint=hint) from error


def _verified(record: Path, keys: list[str], expect: str | None) -> Verified:
    if is_ledger(record):
        from agentmesh_ledger.store import verify_ledger

        return verify_ledger(ledger_file(record), keys=keys, expect=expect)
    from agentmesh_ledger import verify_transcript

    return verify_transcript(record, keys=keys, expect=expect)


def _chosen(path: Path, dialogue: str | None) -> str | None:
    """The dialogue's whole id, where the source is a ledger that can tell it."""
    if dialogue is None or not is_ledger(path):
        return dialogue
    from agentmesh_ledger.log import Ledger

    with Ledger.open(path, read_only=True) as log:
        return pick_dialogue(dialogue, [each.id for each in log.dialogues()])
