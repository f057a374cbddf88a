"""The commands of `agentmesh-verify` beside a plain file: `tiles`, a published log, `proof`, one entry, `fork`, two branches, and `balance`, one sum.

They give back what is to be said; `__main__` says it. Only the bar writes, to the stream it is given.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO, TypeAlias

from agentmesh_ledger.accounts import fork_json, fork_text, proof_json, proof_text, tiles_lines
from agentmesh_ledger.anchor.shown import block_hash
from agentmesh_ledger.bar import Bar
from agentmesh_ledger.branches import prove_fork
from agentmesh_ledger.envelope import MAX_ENTRY
from agentmesh_ledger.errors import Check, LedgerError
from agentmesh_ledger.kept import kept_note
from agentmesh_ledger.mirror import verify_tiles
from agentmesh_ledger.note import parse_vkey
from agentmesh_ledger.policy import Policy
from agentmesh_ledger.proof import MAX_PROOF_FILE, verify_proof
from agentmesh_ledger.report import evidence_json
from agentmesh_ledger.source import STANDARD_INPUT, opened, read_policy
from agentmesh_ledger.usage.balance_proof import MAX_BALANCE_PROOF, verify_balance
from agentmesh_ledger.usage.report import balance_json, balance_text
from agentmesh_ledger.verify import Verified

ShowLog: TypeAlias = Callable[[Verified, str], str]

_STATUS: Final = """\
exit status: 0 verified, 1 not verified, 2 wrong usage, 3 something cannot be read, 130 interrupted
"""


class UsageError(Exception):
    """What was asked for cannot be meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a command has shown, for people and for programs."""

    text: str
    json: Mapping[str, object]


def tiles_parser() -> argparse.ArgumentParser:
    """The arguments of `agentmesh-verify tiles`."""
    parser = argparse.ArgumentParser(
        prog="agentmesh-verify tiles",
        description="Verify a published log, a C2SP tlog-tiles directory or the URL of one: every entry, or what is new.",
        epilog=_STATUS
        + "\nexample: agentmesh-verify tiles https://log.example/desk --key 'log.example/desk+...' --state desk.audit",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "subject", metavar="DIR|URL", help="the directory that holds `checkpoint`, or its URL"
    )
    add_trust(parser)
    parser.add_argument(
        "--expect",
        metavar="CHECKPOINT",
        help="a checkpoint file you kept, or a state file: the log must continue it",
    )
    parser.add_argument(
        "--state",
        metavar="FILE",
        type=Path,
        help="keep here what was verified, and begin there the next time; made where it is not there",
    )
    add_limit(parser)
    return parser


def proof_parser() -> argparse.ArgumentParser:
    """The arguments of `agentmesh-verify proof`."""
    parser = argparse.ArgumentParser(
        prog="agentmesh-verify proof",
        description="Verify a .tlog-proof file: that one entry stands in a log.",
        epilog=_STATUS + "\nexample: agentmesh-verify proof 7.tlog-proof --key 'log.example/desk+...'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("subject", metavar="FILE", help="the proof (*.tlog-proof); - is standard input")
    parser.add_argument(
        "--entry", metavar="FILE", help="the entry's bytes; without it the proof must carry them"
    )
    add_trust(parser)
    return parser


def balance_parser() -> argparse.ArgumentParser:
    """The arguments of `agentmesh-verify balance`."""
    parser = argparse.ArgumentParser(
        prog="agentmesh-verify balance",
        description="Verify a file that proves what an agent earned and spent in a log.",
        epilog=_STATUS + "\nexample: agentmesh-verify balance front.balance --key 'log.example/desk+...'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("subject", metavar="FILE", help="the proof (*.balance); - is standard input")
    parser.add_argument(
        "--block",
        metavar="HASH",
        action="append",
        default=[],
        help="a block that you looked up: the anchor must stand in it, or in another one named; repeatable",
    )
    add_trust(parser)
    return parser


def fork_parser() -> argparse.ArgumentParser:
    """The arguments of `agentmesh-verify fork`."""
    parser = argparse.ArgumentParser(
        prog="agentmesh-verify fork",
        description="Verify that a log was forked: that its key signed two checkpoints of which neither continues the other.",
        epilog="exit status: 0 forked, and proven, 1 not proven, 2 wrong usage, 3 something cannot be read, 130 interrupted\n"
        "\nexample: agentmesh-verify fork mine.checkpoint theirs.transcript.jsonl --key 'log.example/desk+...'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = "a proof of a fork (*.fork), a checkpoint, or a transcript of the whole log; - is standard input"
    parser.add_argument("subject", metavar="A", help=what)
    parser.add_argument("other", metavar="B", nargs="?", help="the other record, unless A is a proof already")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="write the proof here, for others; a new file"
    )
    add_trust(parser)
    return parser


def add_trust(parser: argparse.ArgumentParser) -> None:
    """The arguments with which an auditor says whom they trust, and `--json`, which each command has."""
    parser.add_argument(
        "--key",
        metavar="VKEY",
        action="append",
        default=[],
        help="the log's key, known from elsewhere; repeatable",
    )
    parser.add_argument(
        "--policy", metavar="FILE", help="a C2SP tlog-policy: the logs trusted, and the witnesses wanted"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def add_blocks(parser: argparse.ArgumentParser) -> None:
    """The argument with which an auditor names blocks that they looked up themselves."""
    parser.add_argument(
        "--block",
        metavar="HASH",
        action="append",
        default=[],
        help="a block you know to be on the chain: an anchor must stand in it; repeatable",
    )


def add_limit(parser: argparse.ArgumentParser) -> None:
    """The argument that says how many failures are listed."""
    parser.add_argument(
        "--limit",
        metavar="N",
        type=_failure_limit,
        default=20,
        help="list at most so many failures (default: 20)",
    )


def _failure_limit(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else 0
    if number < 1:
        raise argparse.ArgumentTypeError("not a number from 1 to 999999")
    return number


def run_tiles(arguments: argparse.Namespace, show: ShowLog, terminal: TextIO | None) -> Evidence:
    """Verifies a published log; draws a bar on the terminal, if there is one.

    Raises: LedgerError, UsageError.
    """
    subject: str = arguments.subject
    keys, policy = _required_trust(arguments)
    expect = None if arguments.expect is None else kept_note(arguments.expect)
    with Bar(terminal) as bar:
        found = verify_tiles(
            subject,
            keys=keys,
            expect=expect,
            state=arguments.state,
            policy=policy,
            limit=arguments.limit,
            progress=bar.draw,
        )
    return Evidence(
        text="\n".join([show(found.log, subject), *tiles_lines(found)]),
        json={
            **evidence_json(found.log, subject),
            "since": found.since,
            "files": found.files,
            "bytes": found.bytes,
        },
    )


def run_proof(arguments: argparse.Namespace, _show: ShowLog, _terminal: TextIO | None) -> Evidence:
    """Verifies a proof file.

    Raises: LedgerError, UsageError.
    """
    subject: str = arguments.subject
    keys, policy = _required_trust(arguments)
    try:
        text = _read(subject, MAX_PROOF_FILE, "proof").decode("utf-8")
    except UnicodeDecodeError as error:
        raise LedgerError("proof", "the file is not UTF-8") from error
    entry = None if arguments.entry is None else _read(arguments.entry, MAX_ENTRY, "envelope")
    found = verify_proof(text, entry=entry, keys=keys, policy=policy)
    return Evidence(text=proof_text(found, subject), json=proof_json(found, subject))


def run_balance(arguments: argparse.Namespace, _show: ShowLog, _terminal: TextIO | None) -> Evidence:
    """Verifies a file that proves one balance.

    Raises: LedgerError, UsageError.
    """
    subject: str = arguments.subject
    keys, policy = _required_trust(arguments)
    blocks = frozenset(named_blocks(arguments))
    data = _read(subject, MAX_BALANCE_PROOF, "usage")
    found = verify_balance(data, keys=keys, policy=policy, blocks=blocks)
    return Evidence(text=balance_text(found, subject), json=balance_json(found, subject))


def run_fork(arguments: argparse.Namespace, _show: ShowLog, _terminal: TextIO | None) -> Evidence:
    """Verifies that a log was forked.

    Raises: LedgerError, UsageError.
    """
    subject: str = arguments.subject
    other: str | None = arguments.other
    output: Path | None = arguments.output
    named, policy = named_trust(arguments)
    keys = [*named, *map(str, () if named or policy is None else policy.logs)]
    if subject == STANDARD_INPUT == other:
        raise UsageError("standard input can be one of the two records only")
    found = prove_fork(subject, other, keys)
    if output is not None:
        _write_new(output, found.fork.encode())
    return Evidence(text=fork_text(found), json={**fork_json(found), "file": subject, "other": other})


def _write_new(path: Path, data: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise LedgerError(
            "failed", f"the proof cannot be written: {error.strerror}", path=str(path)
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A word of the command line: its arguments, and what it does."""

    parser: Callable[[], argparse.ArgumentParser]
    run: Callable[[argparse.Namespace, ShowLog, TextIO | None], Evidence]


COMMANDS: Final[Mapping[str, Command]] = {
    "tiles": Command(parser=tiles_parser, run=run_tiles),
    "proof": Command(parser=proof_parser, run=run_proof),
    "fork": Command(parser=fork_parser, run=run_fork),
    "balance": Command(parser=balance_parser, run=run_balance),
}


def named_trust(arguments: argparse.Namespace) -> tuple[Sequence[str], Policy | None]:
    """The keys and the policy that were given, if any.

    Raises: UsageError where one is none; LedgerError where the policy cannot be read.
    """
    keys: Sequence[str] = arguments.key
    for key in keys:
        try:
            parse_vkey(key)
        except LedgerError as error:
            raise UsageError(f"--key: {error}") from error
    if arguments.policy is None:
        return keys, None
    try:
        return keys, read_policy(arguments.policy)
    except LedgerError as error:
        if error.is_check:
            raise UsageError(f"--policy: {error}") from error
        raise


def named_blocks(arguments: argparse.Namespace) -> Sequence[str]:
    """The blocks that were given, if any.

    Raises: UsageError where one is none.
    """
    blocks: Sequence[str] = arguments.block
    for block in blocks:
        try:
            block_hash(block)
        except LedgerError as error:
            raise UsageError(f"--block: {error}") from error
    return blocks


def _required_trust(arguments: argparse.Namespace) -> tuple[Sequence[str], Policy | None]:
    keys, policy = named_trust(arguments)
    if not keys and (policy is None or not policy.logs):
        raise UsageError(
            "a checkpoint does not carry the log's key: name it with --key, or a --policy with it"
        )
    return keys, policy


def _read(path: str, limit: int, check: Check) -> bytes:
    try:
        with opened(path) as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise LedgerError("unreadable", f"the file cannot be read: {error.strerror}", path=path) from error
    if len(data) > limit:
        raise LedgerError(check, f"the file is longer than {limit} bytes", path=path)
    return data
