"""`agentmesh export`: a dialogue, or the whole log, as one file that an auditor can verify alone."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from agentmesh.cli.options import LedgerOption
from agentmesh.cli.where import ledger_file, pick_dialogue


def export(
    dialogue: Annotated[
        str,
        typer.Argument(
            metavar="DIALOGUE", help="Its id, the beginning of it, latest, or all for the whole log."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="The transcript to write; - is standard output."),
    ],
    ledger: LedgerOption = None,
) -> None:
    """Export a dialogue as one file that `agentmesh-verify` checks alone."""
    from agentmesh.view.text import count
    from agentmesh_ledger.log import Ledger

    with Ledger.open(ledger_file(ledger), read_only=True) as log:
        chosen = None if dialogue == "all" else pick_dialogue(dialogue, [each.id for each in log.dialogues()])
        with _file(output) as out:
            summary = log.export(out, dialogue=chosen)
    if str(output) != "-":
        what = "the whole log" if chosen is None else f"dialogue {chosen}"
        typer.echo(
            f"{output}: {what}, {count(summary.entries, 'entry').replace('entrys', 'entries')}", err=True
        )
        typer.echo(f"  agentmesh-verify {shlex.quote(str(output))}", err=True)


@contextmanager
def _file(path: Path) -> Iterator[BinaryIO]:
    """The file to write, which appears whole or not at all."""
    if str(path) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with draft.open("xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
