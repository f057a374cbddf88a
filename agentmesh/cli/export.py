"""`agentmesh export`: a dialogue, or the whole log, as one file that an auditor can verify alone."""

from __future__ import annotations

import os
import secrets
import shlex
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from agentmesh.cli.options import LedgerOption
from agentmesh.cli.where import ledger_file, pick_dialogue
from agentmesh.errors import AgentMeshError

_COMPANIONS = ("", "-wal", "-shm", "-journal")


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
) -> None:
    """Export a dialogue as one file that `agentmesh-verify` checks alone."""
    from agentmesh.view.text import count
    from agentmesh_ledger.log import Ledger

    source = ledger_file(ledger)
    _require_target(output, source)
    with Ledger.open(source, read_only=True) as log:
        chosen = None if dialogue == "all" else pick_dialogue(dialogue, [each.id for each in log.dialogues()])
        with _file(output) as out:
            summary = log.export(out, dialogue=chosen)
    if output != "-":
        what = "the whole log" if chosen is None else f"dialogue {chosen}"
        typer.echo(
            f"{output}: {what}, {count(summary.entries, 'entry').replace('entrys', 'entries')}", err=True
        )
        typer.echo(f"  agentmesh-verify {shlex.quote(output)}", err=True)


def _require_target(output: str, ledger: Path) -> None:
    """Refuses a target that is no file, or is part of the ledger, which the transcript would replace."""
    if not output:
        raise AgentMeshError("usage", "-o '': give the file to write, or - for standard output")
    if output != "-" and os.path.isdir(output):
        raise AgentMeshError("usage", f"-o {output}: this is a folder; give the file to write")
    real = os.path.realpath(ledger)
    for suffix in _COMPANIONS:
        if _is_same(output, real + suffix):
            raise AgentMeshError(
                "usage", f"-o {output}: this is the ledger itself, which the transcript would replace"
            )


def _is_same(one: str, other: str) -> bool:
    # By name too: a companion that is not there now would be taken for SQLite's at the next opening.
    if os.path.realpath(one) == other:
        return True
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


@contextmanager
def _file(output: str) -> Iterator[BinaryIO]:
    """What to write to: a file that appears whole or not at all, or what stands there and is no file."""
    if output == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        # A pipe or a device is written to; putting a file in its place would take it from whoever reads it.
        with open(output, "wb") if _is_special(output) else _draft(Path(os.path.realpath(output))) as out:
            yield out
    except OSError as error:
        raise OSError(error.errno, error.strerror, output) from error


def _is_special(output: str) -> bool:
    try:
        return not stat.S_ISREG(os.stat(output).st_mode)
    except FileNotFoundError:
        return False


@contextmanager
def _draft(path: Path) -> Iterator[BinaryIO]:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with draft.open("xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
