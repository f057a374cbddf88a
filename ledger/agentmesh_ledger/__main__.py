"""`agentmesh-verify`: says of a transcript or a ledger file what holds, or which check fails where."""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol, TextIO, cast

from agentmesh_ledger.bar import Bar
from agentmesh_ledger.commands import (
    COMMANDS,
    Command,
    Evidence,
    ShowLog,
    UsageError,
    add_blocks,
    add_limit,
    add_trust,
    named_blocks,
    named_trust,
)
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.findings import Progress
from agentmesh_ledger.kept import kept_note
from agentmesh_ledger.keys import KeyStore
from agentmesh_ledger.policy import Policy
from agentmesh_ledger.report import evidence_json, evidence_lines, failure_json
from agentmesh_ledger.source import is_database, is_ledger, opened, without_password
from agentmesh_ledger.text import shown
from agentmesh_ledger.verify import Verified, require_origin, verify_transcript

VERIFIED, NOT_VERIFIED, USAGE, UNREADABLE, INTERRUPTED = 0, 1, 2, 3, 130

_EPILOG = """\
exit status: 0 verified, 1 not verified, 2 wrong usage, 3 the file cannot be read, or the evidence not be written,
130 interrupted

example: agentmesh-verify desk.transcript.jsonl --key 'agentmesh.local/desk+1a2b3c4d+AQ...'

other commands, each with its --help: `agentmesh-verify tiles DIR|URL`, a published log; `agentmesh-verify proof FILE`,
one entry's proof; `agentmesh-verify fork A [B]`, whether a log was forked; `agentmesh-verify balance FILE`, one agent's
balance. `agentmesh-verify verify FILE` is the same as without the word. A file of such a name is ./tiles.
"""


class _Verifier(Protocol):
    def __call__(
        self,
        source: str,
        /,
        *,
        keys: Sequence[str],
        expect: str | None,
        policy: Policy | None,
        cosigned: Mapping[str, str] | None,
        blocks: Sequence[str],
        limit: int,
        origin: str | None,
        progress: Progress | None,
    ) -> Verified: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit status."""
    for stream in (sys.stdout, sys.stderr):
        # Names in a log may have letters that the terminal's encoding has not.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    command = COMMANDS.get(words[0]) if words else None
    try:
        if command is None:
            command = Command(parser=_parser, run=_run_record)
            # `verify FILE` reads well behind `python -m agentmesh_ledger`.
            arguments = command.parser().parse_args(words[1:] if words[:1] == ["verify"] else words)
        else:
            arguments = command.parser().parse_args(words[1:])
    except SystemExit as done:
        done.code = _written("", sys.stdout, done.code if isinstance(done.code, int) else USAGE)
        raise
    return _run(command, arguments)


def _run(command: Command, arguments: argparse.Namespace) -> int:
    as_json: bool = arguments.json
    try:
        found = command.run(arguments, _evidence_text, sys.stderr)
    except UsageError as error:
        return _written(_safe(str(error)), sys.stderr, USAGE)
    except LedgerError as error:
        subject = without_password(arguments.subject)
        # Which log is meant was not said, or wrongly: that is no verdict on any of them.
        status = NOT_VERIFIED if error.is_check else USAGE if error.reason == "origin" else UNREADABLE
        if as_json:
            return _written(_json_line(failure_json(error, subject)), sys.stdout, status)
        return _written(_safe(_failure_text(error, subject, status)), sys.stderr, status)
    except KeyboardInterrupt:
        return _written("interrupted: nothing is said of what was not read", sys.stderr, INTERRUPTED)
    return _written(_json_line(dict(found.json)) if as_json else found.text, sys.stdout, VERIFIED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agentmesh-verify",
        description="Verify what agents said: a transcript file, or a ledger, offline.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "subject",
        metavar="FILE",
        help="a transcript (*.transcript.jsonl; - is standard input), a ledger (*.db), or the URL of a PostgreSQL one",
    )
    add_trust(parser)
    parser.add_argument(
        "--expect", metavar="CHECKPOINT", help="a checkpoint file you kept: the log must continue it"
    )
    add_blocks(parser)
    add_limit(parser)
    parser.add_argument("--origin", metavar="ORIGIN", help="the log's name, where a ledger holds several")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    return parser


def _version() -> str:
    try:
        return version("agentmesh-runtime")
    except PackageNotFoundError:
        return "(not installed)"


def _run_record(arguments: argparse.Namespace, show: ShowLog, terminal: TextIO | None) -> Evidence:
    keys, policy = named_trust(arguments)
    expect = None if arguments.expect is None else kept_note(arguments.expect)
    with Bar(terminal) as bar:
        verified = _verified(arguments, keys, expect, policy, bar.draw)
    subject = without_password(arguments.subject)
    return Evidence(text=show(verified, subject), json=evidence_json(verified, subject))


def _verified(
    arguments: argparse.Namespace,
    keys: Sequence[str],
    expect: str | None,
    policy: Policy | None,
    progress: Progress,
) -> Verified:
    subject: str = arguments.subject
    origin: str | None = arguments.origin
    limit: int = arguments.limit
    blocks = named_blocks(arguments)
    if not is_database(subject):
        with opened(subject) as stream:
            if not is_ledger(stream, subject):
                found = verify_transcript(
                    stream,
                    keys=keys,
                    expect=expect,
                    policy=policy,
                    blocks=blocks,
                    limit=limit,
                    progress=progress,
                )
                require_origin(found, origin)
                return found
    return _store_verifier(without_password(subject))(
        subject,
        keys=keys,
        expect=expect,
        policy=policy,
        cosigned=None
        if policy is None or is_database(subject)
        else KeyStore(Path(subject).parent / "keys").cosigned_notes(),
        blocks=blocks,
        limit=limit,
        origin=origin,
        progress=progress,
    )


def _store_verifier(file: str) -> _Verifier:
    # By name, so that no import of this module ever leads to a database: see the contract in pyproject.toml.
    try:
        store = importlib.import_module("agentmesh_ledger.store")
    except ModuleNotFoundError as error:
        raise LedgerError(
            "no_store",
            "this is a ledger, and to read it SQLAlchemy is needed",
            path=file,
            hint="Install the extra (pip install 'agentmesh-runtime[store]'), or verify an exported transcript",
        ) from error
    return cast(_Verifier, store.verify_ledger)


def _evidence_text(verified: Verified, file: str) -> str:
    pinned = "the key you named" if verified.pinned else "self-asserted: name it with --key to pin it"
    lines = [
        f"verified   {shown(file)}",
        f"log        {verified.origin}",
        *(f"log key    {key} ({pinned})" for key in verified.log_keys),
        f"shown      {verified.selection}: {verified.entries} entries of {verified.tree_size}",
        f"root       {verified.root}",
        *(
            f"signer     {agent}  {shown(name or '?')}  {count} {'entry' if count == 1 else 'entries'}"
            for agent, name, count in verified.signers
        ),
        f"withheld   {verified.withheld} {'part' if verified.withheld == 1 else 'parts'}",
        "intact     yes: every shown entry is signed, in its place, and in the tree of the signed checkpoint",
        f"complete   {verified.complete}",
        *evidence_lines(verified),
    ]
    return "\n".join(lines)


def _failure_text(error: LedgerError, file: str, status: int) -> str:
    if status != NOT_VERIFIED:
        return str(error)
    lines = [
        f"NOT VERIFIED  {shown(file)}",
        *(f"check {each.reason}: {each}" for each in (error, *error.others)),
    ]
    if error.more:
        lines.append(f"there is more: the list ends after {len(error.others) + 1} (see --limit)")
    return "\n".join(lines)


def _json_line(value: dict[str, object]) -> str:
    return json.dumps(value, ensure_ascii=True)


def _safe(text: str) -> str:
    return "\n".join(shown(line, 2000) for line in text.split("\n"))


def _written(text: str, out: TextIO, status: int) -> int:
    """The status, once the text is out; where it cannot be written nobody may take the silence for evidence."""
    try:
        print(text, end="\n" if text else "", file=out, flush=True)
    except OSError as error:
        # At exit Python flushes once more, and would fail again with a traceback and a status of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        if not isinstance(error, BrokenPipeError) and out is not sys.stderr:
            _written(f"the output cannot be written: {error.strerror}", sys.stderr, UNREADABLE)
        return status or UNREADABLE
    return status


if __name__ == "__main__":
    sys.exit(main())
