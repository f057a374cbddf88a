"""`agentmesh verify` and `agentmesh replay`: whether a record is what was signed, and what it says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentmesh.cli.options import JsonOption
from agentmesh.cli.where import is_place, ledger_file, pick_dialogue
from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh.audit import Replay, ReplayedMessage
    from agentmesh_ledger import Verified


def verify(
    record: Annotated[
        Path,
        typer.Argument(
            metavar="RECORD",
            help="A transcript (- is standard input), a ledger file, a mesh file or its folder.",
        ),
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
    from agentmesh.view.evidence import evidence_text
    from agentmesh.view.text import json_line
    from agentmesh_ledger import LedgerError
    from agentmesh_ledger.report import evidence_json, failure_json
    from agentmesh_ledger.source import read_note

    for pin in key or []:
        _require_vkey(pin)
    try:
        note = None if expect is None else read_note(expect)
        found = _verified(record, key or [], note)
    except LedgerError as error:
        if json:
            print(json_line(failure_json(error, str(record))))
        raise
    print(json_line(evidence_json(found, str(record))) if json else evidence_text(found))


def replay(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A transcript (- is standard input), a ledger file, a mesh file or its folder.",
        ),
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

    again = replayed(ledger_file(source) if is_place(source) else source)
    messages = again.messages if dialogue is None else _of_dialogue(again, dialogue)
    for message in messages:
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
        print(f"{count(len(messages), 'message')}, all verified", file=sys.stderr)


def _require_vkey(text: str) -> None:
    from agentmesh_ledger import LedgerError
    from agentmesh_ledger.note import parse_vkey

    try:
        parse_vkey(text)
    except LedgerError as error:
        hint = "`agentmesh keys` prints it; quote it for your shell"
        raise AgentMeshError("usage", f"--key: {error.message}", hint=hint) from error


def _verified(record: Path, keys: list[str], expect: str | None) -> Verified:
    from agentmesh_ledger import verify_transcript
    from agentmesh_ledger.source import is_ledger, opened

    if not is_place(record):
        with opened(record) as stream:
            if not is_ledger(stream, record):
                return verify_transcript(stream, keys=keys, expect=expect)
    from agentmesh_ledger.store import verify_ledger

    return verify_ledger(ledger_file(record), keys=keys, expect=expect)


def _of_dialogue(again: Replay, wanted: str) -> tuple[ReplayedMessage, ...]:
    """The messages of the dialogue meant, told from what the record itself holds."""
    ids = list(dict.fromkeys(message.dialogue for message in again.messages))
    try:
        # The log's own affairs are no dialogue that `latest` or a beginning could mean.
        chosen = wanted if wanted in ids else pick_dialogue(wanted, [each for each in ids if each != "log"])
    except AgentMeshError as error:
        if again.problem is None or not wanted:
            raise
        raise again.problem from error  # what is wanted may stand after what is damaged
    return tuple(message for message in again.messages if message.dialogue == chosen)
