"""Which ledger, and which dialogue in it, a person means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh.locations import LogPlace

_DATABASES = frozenset({".db", ".sqlite", ".sqlite3"})


def find_place(where: str | None, origin: str | None = None, keys: Path | None = None) -> LogPlace:
    """The log meant by a ledger file, a mesh file, a folder with one, or a database's URL; None: the current folder.

    `origin` names the log where a ledger holds several, before the mesh file does; `keys` is the folder of its keys,
    where it is not the usual one.

    Raises:
        MeshFileError: no mesh there, or one that cannot be read. AgentMeshError: nothing was recorded yet.
    """
    found = _place(where or ".", origin)
    return found if keys is None else replace(found, keys=keys)


def is_place(where: str) -> bool:
    """Whether a text stands for a ledger by what it says: a folder, a mesh file, a database. Opens nothing."""
    from agentmesh_ledger.source import is_database

    path = Path(where)
    return is_database(where) or path.is_dir() or path.suffix == ".toml" or path.suffix in _DATABASES


def _place(where: str, origin: str | None) -> LogPlace:
    from agentmesh.locations import log_place
    from agentmesh.mesh import FILE_NAME, find_log
    from agentmesh_ledger.source import is_database

    if is_database(where):
        return log_place(where, origin=origin, folder=Path())
    place = Path(where)
    if place.is_dir():
        for inside in (place / "ledger.db", place / ".agentmesh" / "ledger.db"):
            if inside.is_file() and not (place / FILE_NAME).exists():
                return log_place(inside, origin=origin, folder=place)
    if not (place.is_dir() or place.suffix == ".toml"):
        if not place.exists():
            raise AgentMeshError("no_ledger", f"{place}: there is no such ledger")
        return log_place(place, origin=origin, folder=place.parent)
    found = find_log(place)
    if isinstance(found.ledger, Path) and not found.ledger.exists():
        raise AgentMeshError(
            "no_ledger",
            f"{found.ledger}: nothing is recorded there yet",
            hint=f"`agentmesh run {place}` makes the record",
        )
    return found if origin is None else replace(found, origin=origin)


def pick_dialogue(wanted: str, ids: Sequence[str]) -> str:
    """The dialogue that `wanted` names: `latest`, an id, or a beginning that only one id has. `ids` is oldest first.

    Raises:
        AgentMeshError: no dialogue, or more than one.
    """
    if not wanted:
        raise AgentMeshError(
            "usage", "the dialogue has no name", hint="`latest` is one that every ledger has"
        )
    if not ids:
        raise AgentMeshError("no_such_dialogue", "no dialogue is recorded there yet")
    if wanted == "latest":
        return ids[-1]
    if wanted in ids:
        return wanted
    found = [each for each in ids if each.startswith(wanted)]
    if not found:
        raise AgentMeshError(
            "no_such_dialogue",
            f"no dialogue is called {wanted!r}",
            hint="`agentmesh log` lists them; `latest` is one",
        )
    if len(found) > 1:
        shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise AgentMeshError("ambiguous_dialogue", f"{wanted!r} may be any of {len(found)}: {shown}")
    return found[0]
