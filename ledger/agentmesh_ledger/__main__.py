"""`agentmesh-verify`: says of a transcript or a ledger file what holds, or which check fails where."""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol, TextIO, cast

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.note import parse_vkey
from agentmesh_ledger.report import evidence_json, failure_json
from agentmesh_ledger.source import is_ledger, opened, read_note
from agentmesh_ledger.text import shown
from agentmesh_ledger.verify import Verified, verify_transcript

VERIFIED, NOT_VERIFIED, USAGE, UNREADABLE = 0, 1, 2, 3

_EPILOG = """\
exit status: 0 verified, 1 not verified, 2 wrong usage, 3 the file cannot be read, or the evidence not be written

example: agentmesh-verify desk.transcript.jsonl --key 'agentmesh.local/desk+1a2b3c4d+AQ...'
"""


class _Verifier(Protocol):
    def __call__(self, source: str, /, *, keys: Sequence[str], expect: str | None) -> Verified: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit status."""
    for stream in (sys.stdout, sys.stderr):
        # Names in a log may have letters that the terminal's encoding has not.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as done:
        done.code = _written("", sys.stdout, done.code if isinstance(done.code, int) else USAGE)
        raise
    file: str = arguments.file
    keys: list[str] = arguments.key
    as_json: bool = arguments.json
    try:
        for key in keys:
            parse_vkey(key)
    except LedgerError as error:
        return _written(_safe(f"--key: {error}"), sys.stderr, USAGE)
    try:
        expect = None if arguments.expect is None else read_note(arguments.expect)
        verified = _verified(file, keys, expect)
    except LedgerError as error:
        status = NOT_VERIFIED if error.is_check else UNREADABLE
        if as_json:
            return _written(_json_line(failure_json(error, file)), sys.stdout, status)
        return _written(_safe(_failure_text(error, file, status)), sys.stderr, status)
    text = _json_line(evidence_json(verified, file)) if as_json else _evidence_text(verified, file)
    return _written(text, sys.stdout, VERIFIED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agentmesh-verify",
        description="Verify what agents said: a transcript file, or a ledger, offline.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a transcript (*.transcript.jsonl) or a ledger (*.db); - is standard input",
    )
    parser.add_argument(
        "--key",
        metavar="VKEY",
        action="append",
        default=[],
        help="the log's key, known from elsewhere; repeatable",
    )
    parser.add_argument(
        "--expect", metavar="CHECKPOINT", help="a checkpoint file you kept: the log must continue it"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    return parser


def _version() -> str:
    try:
        return version("agentmesh-runtime")
    except PackageNotFoundError:
        return "(not installed)"


def _verified(file: str, keys: Sequence[str], expect: str | None) -> Verified:
    with opened(file) as stream:
        if not is_ledger(stream, file):
            return verify_transcript(stream, keys=keys, expect=expect)
    return _store_verifier(file)(file, keys=keys, expect=expect)


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
        "not shown  that a statement is true; the times, which are the authors' claims; who holds the keys",
    ]
    return "\n".join(lines)


def _failure_text(error: LedgerError, file: str, status: int) -> str:
    if status == NOT_VERIFIED:
        return f"NOT VERIFIED  {shown(file)}\ncheck {error.reason}: {error}"
    return str(error)


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
