"""Whom an agent may ask: agents of its own mesh, and agents of meshes elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from agentmesh.mesh.spec import Mesh, PeerSpec

_UNFIT: Final = re.compile(r"[^A-Za-z0-9]+")
_LONGEST: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class RemotePeer:
    """A mesh elsewhere, under its name here. `pin` is the name under which its key is pinned."""

    name: str
    pin: str
    spec: PeerSpec


def is_url(entry: str) -> bool:
    """Whether an entry of an agent's `peers` is meant as an address."""
    return "://" in entry


def local_peers(mesh: Mesh, agent: str) -> tuple[str, ...]:
    """The agents of its own mesh that an agent may ask."""
    return tuple(entry for entry in mesh.agents[agent].peers if entry in mesh.agents)


def remote_peers(mesh: Mesh) -> dict[str, RemotePeer]:
    """The meshes elsewhere that any agent may ask, by their names here.

    One that has no table [peers.NAME] is named after its host, and its key pinned for its address: a name that was made
    up here could be another's after the next change of the file.
    """
    found: dict[str, RemotePeer] = {}
    for entry in _entries(mesh):
        if is_url(entry):
            if _of_url(found, entry) is None:
                name = _free_name(entry, {*found, *mesh.peers, *mesh.servers, *mesh.agents})
                found[name] = RemotePeer(name=name, pin=entry, spec=PeerSpec(url=entry))
            continue
        name = entry.partition(".")[0]
        if name in mesh.peers:
            found.setdefault(name, RemotePeer(name=name, pin=name, spec=mesh.peers[name]))
    return found


def remote_agents(mesh: Mesh, agent: str, remote: Mapping[str, RemotePeer]) -> dict[str, frozenset[str]]:
    """Which of the meshes in `remote` an agent may ask, and which agents there: all where the set is empty."""
    found: dict[str, frozenset[str]] = {}
    for entry in mesh.agents[agent].peers:
        if entry in mesh.agents:
            continue
        name, _, there = entry.partition(".")
        if is_url(entry):
            name, there = _of_url(remote, entry) or "", ""
        if not there or found.get(name) == frozenset():
            found[name] = frozenset()
        else:
            found[name] = found.get(name, frozenset()) | {there}
    return found


def _entries(mesh: Mesh) -> Iterator[str]:
    """The entries of all agents that name no agent of the mesh; tables first, for an address may be one's of them."""
    entries = [entry for spec in mesh.agents.values() for entry in spec.peers if entry not in mesh.agents]
    yield from (entry for entry in entries if not is_url(entry))
    for entry in filter(is_url, entries):
        table = next((name for name, spec in mesh.peers.items() if spec.url == entry), None)
        yield table or entry


def _of_url(found: Mapping[str, RemotePeer], url: str) -> str | None:
    return next((name for name, peer in found.items() if peer.spec.url == url), None)


def _free_name(url: str, taken: set[str]) -> str:
    host = urlsplit(url).hostname or ""
    name = _UNFIT.sub("-", host).strip("-")[:_LONGEST] or "peer"
    if not name[0].isalpha():
        name = f"peer-{name}"
    number, free = 2, name
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free
