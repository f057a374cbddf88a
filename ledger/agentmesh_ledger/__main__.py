"""`agentmesh-verify`: says of a transcript or a ledger file what holds, or which check fails where."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Protocol, cast

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.note import MAX_NOTE, parse_vkey
from agentmesh_ledger.text import shown
from agentmesh_ledger.verify import Verified, verify_transcript

_MAGIC: Final = b"SQLite format 3\x00"
VERIFIED, NOT_VERIFIED, USAGE, UNREADABLE = 0, 1, 2, 3

_EPILOG = """\
exit status: 0 verified, 1 not verified, 2 wrong usage, 3 the file cannot be read

example: agentmesh-verify desk.transcript.jsonl --key 'agentmesh.local/desk+1a2b3c4d+AQ...'
"""


class _Verifier(Protocol):
    def __call__(self, source: str, /, *, keys: Sequence[str], expect: str | None) -> Verified: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit status."""
    arguments = _parser().parse_args(argv)
    file: str = arguments.file
    keys: list[str] = arguments.key
    as_json: bool = arguments.json
    try:
        for key in keys:
            parse_vkey(key)
    except LedgerError as error:
        _complain(f"--key: {error}")
        return USAGE
    try:
        expect = None if arguments.expect is None else _read_note(Path(arguments.expect))
        verified = _verifier(Path(file))(file, keys=keys, expect=expect)
    except LedgerError as error:
        status = NOT_VERIFIED if error.is_check else UNREADABLE
        _print_failure(error, file, status, as_json)
        return status
    if as_json:
        _print_json(_as_json(verified, file))
    else:
        _print_verified(verified, file)
    return VERIFIED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agentmesh-verify",
        description="Verify what agents said: a transcript file, or a ledger, offline.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="a transcript (*.transcript.jsonl) or a ledger (*.db)")
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


def _verifier(path: Path) -> _Verifier:
    """What can verify this file: the ledger's verifier for a SQLite file, else that of transcripts."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except FileNotFoundError as error:
        raise LedgerError("not_found", "there is no such file", path=str(path)) from error
    except OSError as error:
        raise LedgerError(
            "unreadable", f"the file cannot be read: {error.strerror}", path=str(path)
        ) from error
    if start != _MAGIC:
        return verify_transcript
    # By name, so that no import of this module ever leads to a database: see the contract in pyproject.toml.
    try:
        store = importlib.import_module("agentmesh_ledger.store")
    except ModuleNotFoundError as error:
        raise LedgerError(
            "no_store",
            "this is a ledger, and to read it SQLAlchemy is needed",
            path=str(path),
            hint="Install the extra (pip install 'agentmesh-runtime[store]'), or verify an exported transcript",
        ) from error
    return cast(_Verifier, store.verify_ledger)


def _read_note(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_NOTE + 1)
    except OSError as error:
        raise LedgerError(
            "unreadable", f"the checkpoint cannot be read: {error.strerror}", path=str(path)
        ) from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LedgerError("consistency", "the checkpoint you brought is not UTF-8", path=str(path)) from error


def _as_json(verified: Verified, file: str) -> dict[str, object]:
    return {
        "verified": True,
        "file": file,
        "selection": verified.selection,
        "origin": verified.origin,
        "entries": verified.entries,
        "tree_size": verified.tree_size,
        "root": verified.root,
        "log_keys": list(verified.log_keys),
        "pinned": verified.pinned,
        "signers": [{"id": each, "name": name, "entries": count} for each, name, count in verified.signers],
        "withheld": verified.withheld,
        "intact": True,
        "complete": verified.complete,
        "expected_size": verified.expected_size,
    }


def _print_verified(verified: Verified, file: str) -> None:
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
    print("\n".join(lines))


def _print_failure(error: LedgerError, file: str, status: int, as_json: bool) -> None:
    if as_json:
        found = {"verified": False, "file": file, "check": error.reason, "message": error.message}
        found |= {"index": error.index, "line": error.line, "expected": error.expected, "found": error.found}
        _print_json(found)
        return
    what = f"NOT VERIFIED  {shown(file)}\n" if status == NOT_VERIFIED else ""
    check = f"check {error.reason}: " if status == NOT_VERIFIED else ""
    _complain(f"{what}{check}{error}")


def _print_json(value: dict[str, object]) -> None:
    print(json.dumps(value, ensure_ascii=True))


def _complain(text: str) -> None:
    print("\n".join(shown(line, 2000) for line in text.split("\n")), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
