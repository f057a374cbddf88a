"""`agentmesh verify` and `agentmesh replay`: whether a record is what was signed, and what it says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from agentmesh.cli.anchored import (
    BlockOption,
    ChainEnvOption,
    ChainOption,
    ContractOption,
    SenderOption,
    asked_node,
    named_blocks,
)
from agentmesh.cli.options import JsonOption, KeysOption, OriginOption
from agentmesh.cli.where import find_place, is_place, pick_dialogue
from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh.audit import Replay, ReplayedMessage
    from agentmesh.locations import LogPlace
    from agentmesh_ledger import Policy, Verified
    from agentmesh_ledger.findings import Progress

_RECORD = "A transcript (- is standard input), a ledger file, a mesh file or its folder, or a PostgreSQL URL."


_Key: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--key", metavar="VKEY", help="The log's key, as `agentmesh keys` prints it. May be repeated."
    ),
]
_Expect: TypeAlias = Annotated[
    Path | None,
    typer.Option("--expect", metavar="FILE", help="A checkpoint you hold: the log must still contain it."),
]
_Policy: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--policy", metavar="FILE", help="A C2SP tlog-policy: the logs you trust, the witnesses you want."
    ),
]
_With: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--with",
        metavar="OTHER",
        help="The other side's record of what passed between you, compared too: as RECORD, or the URL of a served mesh.",
    ),
]


def verify(
    record: Annotated[str, typer.Argument(metavar="RECORD", help=_RECORD)] = ".",
    key: _Key = None,
    expect: _Expect = None,
    policy: _Policy = None,
    origin: OriginOption = None,
    keys: KeysOption = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, metavar="N", help="List at most so many failures.")
    ] = 20,
    block: BlockOption = None,
    chain: ChainOption = None,
    chain_env: ChainEnvOption = None,
    contract: ContractOption = None,
    sender: SenderOption = None,
    other: _With = None,
    json: JsonOption = False,
) -> None:
    """Verify every signature, link and part of a ledger or transcript."""
    from agentmesh.view.evidence import evidence_text
    from agentmesh.view.text import json_line
    from agentmesh_ledger import LedgerError
    from agentmesh_ledger.bar import Bar
    from agentmesh_ledger.kept import kept_note
    from agentmesh_ledger.report import evidence_json, failure_json
    from agentmesh_ledger.source import without_password

    for pin in key or []:
        _require_vkey(pin)
    trusted = None if policy is None else _policy(policy)
    blocks, node = named_blocks(block or []), asked_node(chain, chain_env, contract, sender)
    if other is not None and (blocks or node is not None):
        raise AgentMeshError("usage", "--with takes neither --block nor --chain: verify each side by itself")
    shown = without_password(record)
    try:
        note = None if expect is None else kept_note(str(expect))
        if other is not None:
            return _verify_with(record, other, origin, key or [], note, trusted, limit, json)
        with Bar(sys.stderr) as bar:
            found, place = _verified(record, origin, keys, key or [], note, trusted, blocks, limit, bar.draw)
        if node is not None:
            found = node.ask(found, place)
    except LedgerError as error:
        if json:
            print(json_line(failure_json(error, (other and error.path) or shown)))
        raise
    print(json_line(evidence_json(found, shown)) if json else evidence_text(found))


def _verify_with(
    record: str,
    other: str,
    origin: str | None,
    keys: list[str],
    expect: str | None,
    policy: Policy | None,
    limit: int,
    json: bool,
) -> None:
    from agentmesh.audit.otherside import Terms
    from agentmesh.cli.against import verify_with

    terms = Terms(keys=keys, expect=expect, policy=policy)
    verify_with(record, other, origin=origin, terms=terms, limit=limit, json=json)


def replay(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=_RECORD)] = ".",
    dialogue: Annotated[
        str | None,
        typer.Argument(
            metavar="DIALOGUE", help="Its id, the beginning of it, or latest. Default: all there is."
        ),
    ] = None,
    origin: OriginOption = None,
    json: JsonOption = False,
) -> None:
    """Replay a recorded dialogue, each message with its verification mark."""
    from agentmesh.audit import replay as replayed
    from agentmesh.view.dialogue import Entry, entry_json, entry_text
    from agentmesh.view.text import count, json_line

    if is_place(source):
        place = find_place(source, origin)
        again = replayed(place.ledger, origin=place.origin)
    else:
        again = replayed(source, origin=origin)
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


def _policy(path: Path) -> Policy:
    from agentmesh_ledger import LedgerError
    from agentmesh_ledger.source import read_policy

    try:
        return read_policy(path)
    except LedgerError as error:
        if not error.is_check:
            raise
        raise AgentMeshError("usage", f"--policy {path}: {error}") from error


def _verified(
    record: str,
    origin: str | None,
    folder: Path | None,
    keys: list[str],
    expect: str | None,
    policy: Policy | None,
    blocks: list[str],
    limit: int,
    progress: Progress,
) -> tuple[Verified, LogPlace | None]:
    """The evidence, and where the ledger is of which it is; None: of a transcript. `folder` is that of the log's keys."""
    from agentmesh_ledger import verify_transcript
    from agentmesh_ledger.source import is_ledger, opened
    from agentmesh_ledger.verify import require_origin

    if not is_place(record):
        with opened(record) as stream:
            if not is_ledger(stream, record):
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
                return found, None
    from agentmesh_ledger import KeyStore
    from agentmesh_ledger.store import verify_ledger

    place = find_place(record, origin, folder)
    found = verify_ledger(
        place.ledger,
        origin=place.origin,
        keys=keys,
        expect=expect,
        policy=policy,
        cosigned=None if policy is None else KeyStore(place.keys).cosigned_notes(),
        blocks=blocks,
        limit=limit,
        progress=progress,
    )
    return found, place


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
