"""Which ledger, and which dialogue in it, a person means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agentmesh.errors import AgentMeshError

_DATABASES = frozenset({".db", ".sqlite", ".sqlite3"})


def ledger_file(where: Path | None) -> Path:
    """The ledger meant by a ledger file, a mesh file or a folder with one; None means the current folder.

    Raises:
        MeshFileError: no mesh there, or one that cannot be read. AgentMeshError: nothing was recorded yet.
    """
    from agentmesh.mesh import FILE_NAME, find_ledger

    place = where or Path()
    if place.is_dir():
        for inside in (place / "ledger.db", place / ".agentmesh" / "ledger.db"):
            if inside.is_file() and not (place / FILE_NAME).exists():
                return inside
    if not (place.is_dir() or place.suffix == ".toml"):
        if not place.exists():
            raise AgentMeshError("no_ledger", f"{place}: there is no such ledger")
        return place
    ledger = find_ledger(place)
    if not ledger.exists():
        raise AgentMeshError(
            "no_ledger",
            f"{ledger}: nothing is recorded there yet",
            hint=f"`agentmesh run {place}` makes the record",
        )
    return ledger


def is_place(path: Path) -> bool:
    """Whether a path stands for a ledger by what it is called: a folder, a mesh file, a database. Opens nothing."""
    return path.is_dir() or path.suffix == ".toml" or path.suffix in _DATABASES


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
