"""One entry in one host's file: put there, taken out, or only looked at."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal, TypeAlias

from agentmesh.errors import AgentMeshError
from agentmesh.hosts import formats
from agentmesh.hosts.config_file import Edit, change_config, read_config
from agentmesh.hosts.entries import with_additions
from agentmesh.hosts.fault import ConfigFault
from agentmesh.hosts.json_config import plain_fault
from agentmesh.hosts.quoting import Entry
from agentmesh.hosts.server import Server, is_ours
from agentmesh.hosts.table import HOSTS, Host, Machine, Scope, System, entry_for, places

Done: TypeAlias = Literal["added", "replaced", "unchanged", "removed", "absent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of an entry called `name` in `path`; `backup` is a copy of the file as it was."""

    host: Host
    path: Path
    name: str
    done: Done
    backup: Path | None = None
    entry: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A host's file: whether it is there, whether the host seems to be, the entries that start AgentMesh, a fault."""

    host: Host
    path: Path
    present: bool
    installed: bool
    ours: tuple[str, ...] = ()
    fault: str | None = None


def this_machine() -> Machine:
    """The machine, the person and the folder that this runs in."""
    systems: dict[str, System] = {"darwin": "macos", "win32": "windows"}
    system = systems.get(sys.platform, "linux")
    return Machine(system=system, home=os.path.expanduser("~"), env=os.environ, folder=os.getcwd())


def config_path(host: Host, scope: Scope, machine: Machine, given: Path | None = None) -> Path:
    """The file that a host reads here: `given`, else the first of its places that is there, else the one it would be."""
    if given is not None:
        return Path(os.path.abspath(given))
    known = places(host, scope, machine)
    candidates = [each for place in known for each in _matching(place)]
    for is_there in (Path.is_file, lambda path: path.parent.is_dir()):
        for path in candidates:
            if is_there(path):
                return path
    return next(Path(place.as_posix()) for place in known if "*" not in str(place))


def connect(
    host: Host, path: Path, name: str, server: Server, *, force: bool = False, mode: int = 0o600
) -> Result:
    """Put the entry of `server` into a host's file, in the place of an older one of ours.

    Raises: AgentMeshError (`exists`, where `name` is somebody else's and `force` is not given), ConfigFault, OSError.
    """
    fresh = entry_for(host, name, server)
    key = host.key(name)
    done: list[Done] = []
    written: list[Entry] = []

    def edit(text: str, earlier: Sequence[str]) -> str:
        servers = _entries(host, text)
        old = servers.get(key)
        ours = is_ours(old) or is_ours(old, server)
        if key in servers and not ours and not force:
            raise _anothers(host, path, name, "replaces")
        entry = _merged(path, name, fresh, old) if ours and not force else fresh
        after = formats.put(host.kind, text, host.section, key, entry)
        done[:] = ["added" if key not in servers else "unchanged" if old == entry else "replaced"]
        written[:] = [entry]
        return after

    change = _changed(host, path, key, edit, mode)
    return Result(host=host, path=path, name=key, done=done[0], backup=change, entry=written[0])


def disconnect(
    host: Host, path: Path, name: str, server: Server | None = None, *, force: bool = False
) -> Result:
    """Take the entry `name` out of a host's file: `absent`, where it is not there.

    Raises: AgentMeshError (`exists`, where it is somebody else's and `force` is not given), ConfigFault, OSError.
    """
    key = host.key(name)
    if key not in look(host, path):
        return Result(host=host, path=path, name=key, done="absent")  # not even a folder is made for it
    done: list[Done] = []
    gone: list[object] = []

    def edit(text: str, earlier: Sequence[str]) -> str:
        servers = _entries(host, text)
        if key not in servers:
            done[:] = ["absent"]
            return text
        gone[:] = [servers[key]]
        if not force and not is_ours(servers[key]) and not is_ours(servers[key], server):
            raise _anothers(host, path, name, "removes")
        done[:] = ["removed"]
        return formats.drop(host.kind, text, host.section, key, earlier)

    change = _changed(host, path, key, edit, 0o600)
    return Result(host=host, path=path, name=key, done=done[0], backup=change, entry=next(iter(gone), None))


def look(host: Host, path: Path) -> dict[object, object]:
    """The entries of a host's file; none, where there is no file. Raises: ConfigFault, OSError."""
    text = read_config(path)
    try:
        return {} if text is None else _entries(host, text)
    except ConfigFault as fault:
        raise fault.at(str(path)) from None


def shown(host: Host, name: str, entry: Entry) -> str:
    """A file of the host with this entry and nothing else, to copy from."""
    return formats.put(host.kind, "", host.section, host.key(name), entry)


def find_all(scope: Scope, machine: Machine) -> tuple[Found, ...]:
    """Every host's file here, and which of its entries start AgentMesh."""
    return tuple(
        _found(host, config_path(host, scope, machine), machine)
        for host in HOSTS
        if scope == "user" or host.project is not None
    )


def _found(host: Host, path: Path, machine: Machine) -> Found:
    ours: tuple[str, ...] = ()
    fault: str | None = None
    present = False
    try:
        present = os.path.lexists(path)
        ours = tuple(str(name) for name, entry in look(host, path).items() if is_ours(entry))
    except OSError as error:
        fault = error.strerror or str(error)
    except AgentMeshError as error:
        fault = str(error)
    # A file in the home folder itself says nothing of its host; a folder of its own does.
    installed = present or (path.parent.is_dir() and str(path.parent) != machine.home)
    return Found(host=host, path=path, present=present, installed=installed, ours=ours, fault=fault)


def _entries(host: Host, text: str) -> dict[object, object]:
    found = formats.entries(host.kind, text, host.section)
    if host.plain:
        fault = plain_fault(text)
        if fault is not None:
            hint = f"{host.title} reads none of a file with comments or commas too many: mend it; nothing was written"
            raise ConfigFault(fault.message, line=fault.line, hint=hint)
    return found


def _merged(path: Path, name: str, fresh: Entry, old: object) -> Entry:
    merged = with_additions(fresh, old) if isinstance(old, dict) else fresh
    if formats.is_entry(merged):
        return merged
    lost = ", ".join(key for key, value in merged.items() if not formats.is_entry({key: value}))
    message = f"{path}: {name!r} has something of yours that would be lost: {lost}"
    raise AgentMeshError(
        "exists", message, hint="change the entry by hand (--print shows ours), or use --force"
    )


def _changed(host: Host, path: Path, key: str, edit: Edit, mode: int) -> Path | None:
    def is_kept(text: str, earlier: Sequence[str]) -> bool:
        found = formats.entries(host.kind, text, host.section)
        ours = [str(name) for name, entry in found.items() if name == key or is_ours(entry)]
        return formats.is_kept(host.kind, text, host.section, ours, [*earlier, ""])

    return change_config(path, edit, is_kept, mode=mode).backup


def _anothers(host: Host, path: Path, name: str, does: str) -> AgentMeshError:
    message = f"{path}: {name!r} is there already, and it is not AgentMesh's"
    return AgentMeshError(
        "exists", message, hint=f"--name gives ours another name; --force {does} it all the same"
    )


def _matching(place: PurePath) -> list[Path]:
    """The paths a place stands for: a `*` in it is the name of any folder that is there."""
    path = Path(place.as_posix())
    parts = path.parts
    first = next((number for number, part in enumerate(parts) if "*" in part), None)
    if first is None:
        return [path]
    folders = Path(*parts[:first]).glob("/".join(parts[first:-1]))
    return [folder / path.name for folder in sorted(folders)]
