"""From a mesh file to a checked `Mesh`, or to all that is wrong with it."""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from agentmesh.errors import MeshFileError, Mistake
from agentmesh.locations import LogPlace, place
from agentmesh.mesh.lines import KeyPath, Places, find_places
from agentmesh.mesh.links import link_mistakes
from agentmesh.mesh.published import anchor_mistakes
from agentmesh.mesh.shape import Raw, dotted, shape_mistakes, without
from agentmesh.mesh.spec import AnchorSpec, Mesh, MeshDocument, WitnessSpec, default_origin, section_place

FILE_NAME: Final = "mesh.toml"
_MOST_BYTES: Final = 1_000_000
_PLACE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")
_ITEMS: Final = {"agents": "agents", "servers": "servers", "models": "models", "peers": "peers"}


def load_mesh(path: Path) -> Mesh:
    """The mesh in a file, or in the `mesh.toml` of a folder.

    Raises:
        MeshFileError: the file cannot be read, or something in it is wrong; it lists every mistake found, with file,
            key, line and, where one is near, what was probably meant.
    """
    shown = path / FILE_NAME if path.is_dir() else path
    data = _bytes(shown)
    text = _text(shown, data)
    raw, places = _parse(shown, text)
    try:
        return _checked(shown, raw, places, hashlib.sha256(data).hexdigest())
    except RecursionError:
        raise _too_deep(shown) from None


def _checked(path: Path, raw: Raw, places: Places, digest: str) -> Mesh:
    try:
        document = MeshDocument.model_validate(raw)
    except ValidationError as error:
        mistakes = shape_mistakes(error, places)
        raise MeshFileError(path, _with_links(mistakes, without(raw, error), path, digest, places)) from None
    mesh = _mesh(document, path, digest, places)
    links = link_mistakes(mesh, places)
    if links:
        raise MeshFileError(path, links)
    return mesh


def find_log(path: Path) -> LogPlace:
    """Where a mesh file, or the one in a folder, has its log: for readers who need nothing else of the mesh.

    Raises:
        MeshFileError: the file cannot be read, or its table [mesh] is wrong. Mistakes elsewhere are not looked at.
    """
    return _find(path, ("mesh",))[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideEyes:
    """What a mesh file says of its log and of those outside who hold its checkpoints. `path` is the file, absolute."""

    path: Path
    log: LogPlace
    witness: WitnessSpec | None
    anchor: AnchorSpec | None

    @property
    def policy(self) -> Path | None:
        """The file of the policy that names the witnesses."""
        return None if self.witness is None else place(self.path.parent, self.witness.policy)

    @property
    def keystore(self) -> Path | None:
        """The file of the key that anchors."""
        written = None if self.anchor is None else self.anchor.keystore
        return None if written is None else place(self.path.parent, written)


def find_outside(path: Path) -> OutsideEyes:
    """The tables [mesh], [witness] and [anchor] of a mesh file, or of the one in a folder, for commands about those alone.

    Raises:
        MeshFileError: the file cannot be read, or one of the three is wrong. Mistakes elsewhere are not looked at.
    """
    document, log, shown, places = _find(path, ("mesh", "witness", "anchor"))
    mistakes = () if document.anchor is None else tuple(anchor_mistakes(document.anchor, places))
    if mistakes:
        raise MeshFileError(shown, mistakes)
    return OutsideEyes(path=shown.absolute(), log=log, witness=document.witness, anchor=document.anchor)


def _find(path: Path, tables: tuple[str, ...]) -> tuple[MeshDocument, LogPlace, Path, Places]:
    shown = path / FILE_NAME if path.is_dir() else path
    raw, places = _parse(shown, _text(shown, _bytes(shown)))
    wanted = {"mesh": {}} | {name: raw[name] for name in tables if name in raw}
    try:
        document = MeshDocument.model_validate(wanted)
    except ValidationError as error:
        raise MeshFileError(shown, shape_mistakes(error, places)) from None
    section = document.mesh
    origin = section.origin or default_origin(section.name)
    return (
        document,
        section_place(section.ledger, origin=origin, folder=shown.absolute().parent),
        shown,
        places,
    )


def _mesh(document: MeshDocument, path: Path, digest: str, places: Places) -> Mesh:
    keys: list[KeyPath] = [("servers", name) for name in document.servers]
    keys += [("peers", name) for name in document.peers]
    keys += [("agents", name, key) for name in document.agents for key in ("tools", "peers")]
    keys += [("witness", key) for key in WitnessSpec.model_fields]
    keys += [("anchor", key) for key in AnchorSpec.model_fields]
    return Mesh(
        name=document.mesh.name,
        origin=document.mesh.origin or default_origin(document.mesh.name),
        ledger=document.mesh.ledger,
        memory=document.mesh.memory,
        dialogue=document.dialogue,
        models=document.models,
        agents=document.agents,
        servers=document.servers,
        peers=document.peers,
        serve=document.serve,
        accounts=document.accounts,
        witness=document.witness,
        anchor=document.anchor,
        path=path.absolute(),
        digest=digest,
        lines={dotted(key): line for key in keys if (line := places.line(key)) is not None},
    )


def _with_links(
    mistakes: tuple[Mistake, ...], rest: Raw, path: Path, digest: str, places: Places
) -> tuple[Mistake, ...]:
    """The mistakes of shape, and those of links in what is left without them; each key is told once."""
    try:
        document = MeshDocument.model_validate(rest)
    except ValidationError:
        return mistakes
    told = {mistake.key for mistake in mistakes}
    more = [
        mistake
        for mistake in link_mistakes(_mesh(document, path, digest, places), places)
        # What was taken out must not be told as missing, nor its table as wrong without it.
        if mistake.key not in told
        and mistake.reason != "missing"
        and not any(key.startswith(f"{mistake.key}.") for key in told)
    ]
    return tuple(sorted((*mistakes, *more), key=lambda mistake: mistake.line or 0))


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        mistake = Mistake(reason="not_found", key="", line=None, text="there is no such mesh file")
        raise MeshFileError(path, (mistake,), hint="`agentmesh init` makes one that runs") from None
    except OSError as error:
        mistake = Mistake(reason="unreadable", key="", line=None, text=f"cannot be read: {error.strerror}")
        raise MeshFileError(path, (mistake,)) from None
    if len(data) > _MOST_BYTES:
        mistake = Mistake(
            reason="too_large", key="", line=None, text="is larger than a megabyte: no mesh file"
        )
        raise MeshFileError(path, (mistake,))
    return data


def _text(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        mistake = Mistake(reason="not_utf8", key="", line=line, text="is not UTF-8 text")
        raise MeshFileError(path, (mistake,)) from None


def _parse(path: Path, text: str) -> tuple[Raw, Places]:
    places = find_places(text)
    try:
        return tomllib.loads(text), places
    except tomllib.TOMLDecodeError as error:
        repeated = tuple(_repeated(each.path, each.line, each.first, each.table) for each in places.repeated)
        raise MeshFileError(path, repeated or (_syntax(str(error), text),)) from None
    except RecursionError:
        raise _too_deep(path) from None
    except ValueError as error:
        # A number of thousands of digits: Python reads no such text, and tomllib lets it say so itself.
        mistake = Mistake(reason="syntax", key="", line=_longest_number(text), text=f"not TOML: {error}")
        raise MeshFileError(path, (mistake,)) from None


def _too_deep(path: Path) -> MeshFileError:
    mistake = Mistake(reason="syntax", key="", line=None, text="is nested too deeply")
    return MeshFileError(path, (mistake,))


def _longest_number(text: str) -> int:
    numbers = list(re.finditer(r"[0-9_]+", text))
    longest = max(numbers, key=lambda found: found.end() - found.start())
    return text.count("\n", 0, longest.start()) + 1


def _syntax(message: str, text: str) -> Mistake:
    place = _PLACE.search(message)
    line = int(place[1]) if place and place[1] else len(text.splitlines()) or 1
    column = f" (column {place[2]})" if place and place[2] else " (at the end of the file)"
    said = _PLACE.sub("", message)
    return Mistake(reason="syntax", key="", line=line, text=f"not TOML{column}: {said[:1].lower()}{said[1:]}")


def _repeated(path: KeyPath, line: int, first: int, table: bool) -> Mistake:
    if len(path) == 2 and path[0] in _ITEMS:
        text = f"two {_ITEMS[str(path[0])]} are named {path[1]!r}; the first is at line {first}"
    else:
        text = f"this {'table' if table else 'key'} is given twice; the first is at line {first}"
    return Mistake(reason="repeated", key=dotted(path), line=line, text=text)
