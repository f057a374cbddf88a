"""`agentmesh anchor stamp` and `upgrade`: a log's checkpoint in Bitcoin, through OpenTimestamps."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentmesh.cli.anchor_options import WhereArgument, answering, as_usage
from agentmesh.cli.exits import FAILED, LIMIT
from agentmesh.cli.options import JsonOption, KeysOption, OriginOption
from agentmesh.cli.passphrase import keys_in
from agentmesh.cli.signing import ByOption, open_writer, signer
from agentmesh.cli.where import find_place
from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh_ledger.anchor.blocks import HeaderSource
    from agentmesh_ledger.anchor.stamping import Stamped, Upgraded

CalendarOption = Annotated[
    list[str], typer.Option("--calendar", metavar="URL", help="A calendar to ask. May be repeated.")
]
WithinOption = Annotated[
    float,
    typer.Option("--within", metavar="SECONDS", min=0.1, max=3600, help="How long all of it may take."),
]


def stamp(
    calendar: CalendarOption,
    where: WhereArgument = None,
    within: WithinOption = 20.0,
    by: ByOption = "host",
    origin: OriginOption = None,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """Give the log's checkpoint to OpenTimestamps calendars, and record their promise."""
    from agentmesh.view.text import clean, count, json_line
    from agentmesh_ledger.anchor import stamping

    urls = _urls(calendar)
    place = find_place(where, origin, keys)
    store = keys_in(place.keys)
    with open_writer(place, store) as log, answering():
        done = stamping.stamp(log, signer(store, by), urls, within=within)
    if json:
        print(json_line(_stamped(done)))
    elif done.new:
        print(f"{count(done.size, 'entry', 'entries')} stamped; entry {done.index} says so")
    else:
        print(f"nothing is new since entry {done.index} stamped {count(done.size, 'entry', 'entries')}")
    for problem in done.problems:
        print(f"  {clean(problem)}", file=sys.stderr)
    if done.calendars:
        print(f"  in some hours: {_next(where, keys, done.calendars)}", file=sys.stderr)


def upgrade(
    where: WhereArgument = None,
    calendar: CalendarOption = [],  # noqa: B006  # typer reads it and never changes it
    header_file: Annotated[
        Path | None,
        typer.Option(
            "--header-file", metavar="FILE", help="Block headers: 160 hex digits a line, or 80 bytes each."
        ),
    ] = None,
    node: Annotated[
        str | None,
        typer.Option("--node", metavar="URL", help="A Bitcoin Core node (-rest=1) that has the headers."),
    ] = None,
    within: WithinOption = 60.0,
    by: ByOption = "host",
    origin: OriginOption = None,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """Ask calendars for the Bitcoin blocks of pending stamps, and record what then holds."""
    from agentmesh.view.text import json_line
    from agentmesh_ledger.anchor import stamping

    if header_file is not None and node is not None:
        raise AgentMeshError("usage", "give --header-file or --node, not both")
    urls, headers = _urls(calendar), _headers(header_file, node)
    place = find_place(where, origin, keys)
    store = keys_in(place.keys)
    with open_writer(place, store) as log:
        done = stamping.upgrade(log, signer(store, by), urls, headers=headers, within=within)
    for each in done:
        if json:
            print(json_line(_upgraded(each)))
        else:
            _say(each)
    if not done and not json:
        print("no stamp is pending")
    if any(each.state == "broken" for each in done):
        raise typer.Exit(FAILED)
    if any(each.state != "complete" for each in done):
        raise typer.Exit(LIMIT)


def _headers(file: Path | None, node: str | None) -> HeaderSource | None:
    from agentmesh_ledger.anchor.blocks import headers_in, headers_of

    if file is not None:
        return headers_in(file)
    return None if node is None else headers_of(_urls([node])[0])


def _urls(given: Sequence[str]) -> list[str]:
    from agentmesh_ledger.anchor.calendar import plain_url

    with as_usage():
        return [plain_url(each) for each in given]


def _next(where: str | None, keys: Path | None, calendars: Sequence[str]) -> str:
    """The command that comes next, for the same log."""
    from agentmesh.view.text import clean

    words = ["agentmesh", "anchor", "upgrade"]
    if where is not None and "://" not in where:  # a database's URL may have a password in it
        words.append(where)
    if keys is not None:
        words += ["--keys", str(keys)]
    for each in calendars:
        words += ["--calendar", each]
    return clean(shlex.join(words))


def _say(done: Upgraded) -> None:
    from agentmesh.view.text import clean, count

    what = count(done.size, "entry", "entries")
    if done.state == "complete" and done.anchored is not None:
        found = done.anchored
        print(f"{what}: in Bitcoin block {done.block} ({found.block_hash}); entry {done.index} says so")
        print(f"  {clean(found.note)}", file=sys.stderr)
    elif done.state == "header":
        print(
            f"{what}: said to be in Bitcoin block {done.block}, whose merkle root must be {done.merkle_root}"
        )
        print("  its header shows it: give it with --header-file or --node", file=sys.stderr)
    else:
        print(f"{what}: {done.state}")
    for problem in done.problems:
        print(f"  {clean(problem)}", file=sys.stderr)


def _stamped(done: Stamped) -> dict[str, object]:
    return {
        "size": done.size,
        "root": done.root.hex(),
        "index": done.index,
        "new": done.new,
        "calendars": list(done.calendars),
        "problems": list(done.problems),
    }


def _upgraded(done: Upgraded) -> dict[str, object]:
    found = done.anchored
    return {
        "size": done.size,
        "state": done.state,
        "block": done.block,
        "merkle_root": done.merkle_root,
        "block_hash": None if found is None else found.block_hash,
        "time": None if found is None else found.time,
        "note": None if found is None else found.note,
        "index": done.index,
        "problems": list(done.problems),
    }
