"""A text with an entry more or less, in three formats; what is not that entry is the same before and after, or nothing is done.

Texts in, texts out: no file is touched here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeGuard

from agentmesh.hosts import json_config, toml_config, yaml_config
from agentmesh.hosts.fault import ConfigFault
from agentmesh.hosts.quoting import Entry

_Put = Callable[[str, str, str, Entry], str]
_Drop = Callable[[str, str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How a kind of file is read and changed. `put` and `drop` may be wrong about a text: see `put` and `drop` below."""

    name: str
    read: Callable[[str], dict[object, object]]
    put: _Put
    drop: _Drop


JSON: Final = Format(name="JSON", read=json_config.read, put=json_config.put, drop=json_config.drop)
TOML: Final = Format(name="TOML", read=toml_config.read, put=toml_config.put, drop=toml_config.drop)
YAML: Final = Format(name="YAML", read=yaml_config.read, put=yaml_config.put, drop=yaml_config.drop)


def entries(kind: Format, text: str, section: str) -> dict[object, object]:
    """The entries of a text by name; none, where there is no such section.

    Raises: ConfigFault, where the text cannot be read or the section is something else than a collection of entries.
    """
    return _servers(kind, kind.read(text), section)


def put(kind: Format, text: str, section: str, name: str, entry: Entry) -> str:
    """The text with `entry` under `name`, in the place of one of that name. The text itself, where it is there already.

    Raises: ConfigFault, where the text cannot be read, or not be changed so that all else stays.
    """
    before = kind.read(text)
    servers = _servers(kind, before, section)
    if name in servers and servers[name] == entry:
        return text
    after = kind.put(text, section, name, entry)
    wanted = before | {section: servers | {name: entry}}
    _require_same(kind, after, wanted, section)
    return after


def drop(kind: Format, text: str, section: str, name: str, earlier: Iterable[str] = ()) -> str:
    """The text without the entry `name`.

    Where one of `earlier` (texts kept from before) is what the text was until this entry came, that one is returned:
    an empty section, or none, cannot be told from the text alone.

    Raises: ConfigFault, where it is not there, the text cannot be read, or not be changed so that all else stays.
    """
    before = kind.read(text)
    servers = _servers(kind, before, section)
    if name not in servers:
        raise ConfigFault(f"has no entry {name!r}")
    for old in earlier:
        if _is_without(kind, old, section, name) and _leads(kind, old, section, {name: servers[name]}, text):
            return old
    after = kind.drop(text, section, name)
    rest = {key: value for key, value in servers.items() if key != name}
    wanted = before | {section: rest}
    if not rest and kind is TOML:
        # TOML has no empty section: the last table takes it along, unless it has a header of its own.
        wanted = {
            key: value for key, value in wanted.items() if key != section or section in kind.read(after)
        }
    _require_same(kind, after, wanted, section)
    return after


def is_kept(kind: Format, text: str, section: str, names: Iterable[object], earlier: Iterable[str]) -> bool:
    """Whether a text differs from one of `earlier` in nothing but the entries `names`: then nothing of it is lost."""
    servers = entries(kind, text, section)
    wanted = set(names)
    ours = {name: entry for name, entry in servers.items() if name in wanted}
    return any(old == text or _leads(kind, old, section, ours, text) for old in earlier)


def _is_without(kind: Format, text: str, section: str, name: str) -> bool:
    try:
        return name not in entries(kind, text, section)
    except ConfigFault:
        return False


def _leads(kind: Format, old: str, section: str, added: Mapping[object, object], text: str) -> bool:
    """Whether `old` becomes `text` when these entries are put into it, one after the other."""
    try:
        there = entries(kind, old, section)
        for name, entry in added.items():
            if there.get(name) == entry:
                continue
            if not is_entry(entry):
                return False
            old = kind.put(old, section, str(name), entry)
    except ConfigFault:
        return False
    return old == text


def is_entry(entry: object) -> TypeGuard[Entry]:
    """Whether something is an entry that can be written: texts, whole numbers, switches, and lists and tables of texts."""
    return isinstance(entry, dict) and all(
        isinstance(key, str)
        and (
            (isinstance(value, str | int) and not isinstance(value, json_config.Number))
            or (isinstance(value, list) and all(isinstance(each, str) for each in value))
            or (
                isinstance(value, dict)
                and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items())
            )
        )
        for key, value in entry.items()
    )


def _servers(kind: Format, data: dict[object, object], section: str) -> dict[object, object]:
    found = data.get(section, {})
    if found is None or (kind is YAML and isinstance(found, tuple) and found[0] == "tag:yaml.org,2002:null"):
        found = {} if kind is YAML else None
    if not isinstance(found, dict):
        raise ConfigFault(f"{section!r} holds something else than entries by name")
    return found


def _require_same(kind: Format, after: str, wanted: dict[object, object], section: str) -> None:
    """Nothing is written on the strength of how a text looks: it is read again, and compared, order and all."""
    try:
        found = kind.read(after)
        same = found == wanted and _order(found, section) == _order(wanted, section)
    except ConfigFault:
        same = False
    if not same:
        raise ConfigFault(f"is {kind.name} in a form that cannot be changed safely")


def _order(data: dict[object, object], section: str) -> tuple[list[object], list[object]]:
    servers = data.get(section)
    return list(data), list(servers) if isinstance(servers, dict) else []
