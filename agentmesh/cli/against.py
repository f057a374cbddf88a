"""`agentmesh verify RECORD --with OTHER`: two sides' records, each verified, then held against each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from agentmesh.cli.exits import FAILED
from agentmesh.cli.passphrase import keys_in
from agentmesh.cli.where import find_place, is_place
from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh.audit.exchanges import Side
    from agentmesh.audit.otherside import Terms
    from agentmesh.locations import LogPlace
    from agentmesh.mesh import Mesh
    from agentmesh_ledger import Verified


def verify_with(record: str, other: str, *, origin: str | None, terms: Terms, limit: int, json: bool) -> None:
    """Verify both, compare them, and print both. Exits with 1 unless all that passed between them is alike."""
    from agentmesh.audit.crosscheck import cross_check
    from agentmesh.audit.otherside import read_side
    from agentmesh.view.crosscheck import cross_check_json, cross_check_text
    from agentmesh.view.evidence import evidence_text
    from agentmesh.view.text import json_line
    from agentmesh_ledger.report import evidence_json
    from agentmesh_ledger.source import without_password

    if record == other:
        raise AgentMeshError("usage", "a record compared with itself shows nothing: name the other side's")
    source = _source(record, origin)
    ours, found = read_side(source, origin=origin, terms=terms)
    theirs, theirs_found = _other(other, source, record, ours)
    compared = cross_check(ours, theirs)
    if json:
        line = evidence_json(found, without_password(record))
        if theirs_found is not None:
            line["other"] = evidence_json(theirs_found, without_password(other))
        line["crosscheck"] = cross_check_json(compared, limit=limit)
        print(json_line(line))
    else:
        print(evidence_text(found))
        if theirs_found is not None:
            print(f"\n{evidence_text(theirs_found)}")
        print(f"\n{cross_check_text(compared, limit=limit)}")
    if not compared.agrees:
        raise typer.Exit(FAILED)


def _source(record: str, origin: str | None) -> LogPlace | str:
    return find_place(record, origin) if is_place(record) else record


def _other(other: str, source: LogPlace | str, record: str, ours: Side) -> tuple[Side, Verified | None]:
    from agentmesh.audit.otherside import read_side
    from agentmesh.locations import is_address

    if is_address(other):
        return _fetched(other, source, record, ours), None
    return read_side(_source(other, None))


def _fetched(url: str, source: LogPlace | str, record: str, ours: Side) -> Side:
    """What the mesh served at `url` shows; the keys that RECORD's owner holds and knows say who asks and who answers."""
    import anyio

    from agentmesh.audit.otherside import fetch_side, find_served

    if isinstance(source, str):
        hint = "give the mesh or its ledger: what stands beside it says whose key the other's is"
        raise AgentMeshError("usage", f"{record} is a file alone, and knows no key of {url}", hint=hint)
    place = source if source.origin else replace(source, origin=ours.origin)
    served = find_served(url, place, _mesh(record))
    return anyio.run(fetch_side, served, ours, place, keys_in(place.keys))


def _mesh(record: str) -> Mesh | None:
    from agentmesh.mesh import FILE_NAME, load_mesh

    path = Path(record)
    if path.suffix == ".toml" or (path / FILE_NAME).is_file():
        return load_mesh(path)
    return None
