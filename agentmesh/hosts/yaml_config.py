"""YAML changed in its text: one entry comes or goes, every other line stays as it is.

ruamel.yaml keeps comments, but writes a file anew in its own form (indentation, quotes, folded lines). Here it only
reads, and says where each node is; lines are put in and taken out between them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agentmesh.errors import AgentMeshError
from agentmesh.hosts.fault import ConfigFault, fault_at
from agentmesh.hosts.quoting import Entry, Value, quoted, written

if TYPE_CHECKING:
    from ruamel.yaml.nodes import MappingNode, Node

_TAG: Final = "tag:yaml.org,2002:"
_PLAIN_KEY: Final = re.compile(r"(?!(?:true|false|null|yes|no|on|off|y|n)$)[a-z_][a-z0-9_-]*", re.IGNORECASE)
_DEEPEST: Final = 100


def read(text: str) -> dict[object, object]:
    """The mapping in a text; a text with nothing in it has an empty one. Raises: ConfigFault."""
    root = _root(text)
    return {} if root is None else _pairs(root, 0)


def put(text: str, section: str, name: str, entry: Entry) -> str:
    """The text with `entry` under `section`, `name`: at the end of it, or in the place of one that is there."""
    newline = "\r\n" if "\r\n" in text else "\n"
    root = _root(text)
    if root is None:
        return _appended(text, len(text), _section(section, name, entry, 0, 2), newline)
    if root.flow_style or not root.value:
        raise ConfigFault("is written along one line in braces, where nothing can be put in safely", line=1)
    column = root.start_mark.column
    pair = _pair(text, root, section)
    if pair is None:
        return _appended(
            text, _after(text, root.value[-1]), _section(section, name, entry, column, _unit(root)), newline
        )
    key, holder = pair
    if _is_empty(holder):
        block = _lines(name, entry, column + _unit(root), _unit(root))
        return _filled(text, key, holder, block, newline)
    servers = _servers(text, holder, section)
    if servers.flow_style:
        raise fault_at(
            text, servers.start_mark.index, f"{section} is written in braces: nothing is put in there"
        )
    at = servers.value[0][0].start_mark.column
    block = _lines(name, entry, at, max(1, at - column))
    old = _pair(text, servers, name)
    if old is None:
        return _appended(text, _after(text, servers.value[-1]), block, newline)
    start, end = _line(text, old[0].start_mark.index), _after(text, old)
    ending = newline if text[:end].endswith("\n") else ""
    return text[:start] + block.replace("\n", newline) + ending + text[end:]


def drop(text: str, section: str, name: str) -> str:
    """The text without the entry `name` of `section`. Raises: ConfigFault, where it is not there."""
    root = _root(text)
    pair = None if root is None else _pair(text, root, section)
    if pair is None or _is_empty(pair[1]):
        raise ConfigFault(f"has no entry {name!r}")
    servers = _servers(text, pair[1], section)
    old = _pair(text, servers, name)
    if old is None:
        raise ConfigFault(f"has no entry {name!r}")
    if servers.flow_style:
        raise fault_at(
            text, servers.start_mark.index, f"{section} is written in braces: nothing is taken out there"
        )
    start, end = _line(text, old[0].start_mark.index), _after(text, old)
    rest = text[:start] + text[end:]
    if end == len(text) and not text.endswith("\n"):
        rest = rest.removesuffix("\n").removesuffix("\r")
    if len(servers.value) > 1:
        return rest
    # A key with nothing under it would be null, which a host that wants a mapping does not read.
    colon = _colon(text, pair[0])
    return rest[:colon] + " {}" + rest[colon:]


def _root(text: str) -> MappingNode | None:
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError
        from ruamel.yaml.nodes import MappingNode
    except ModuleNotFoundError:
        hint = "pip install 'agentmesh-runtime[hosts]'"
        raise AgentMeshError("usage", "YAML needs the extra 'hosts'", hint=hint) from None
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        said = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise ConfigFault(f"is not YAML: {said}", line=None if mark is None else mark.line + 1) from None
    except (RecursionError, ValueError) as error:
        raise ConfigFault(f"is not YAML that can be read: {type(error).__name__}") from None
    if node is None or (node.tag == f"{_TAG}null" and not node.value):
        return None
    if not isinstance(node, MappingNode):
        raise ConfigFault("holds no mapping", line=node.start_mark.line + 1)
    return node


def _pairs(node: MappingNode, depth: int) -> dict[object, object]:
    """A mapping as values that can be compared; what is not plain is kept with its tag, an alias with its anchor."""
    found: dict[object, object] = {}
    for key, value in node.value:
        name = _plain(key, depth + 1)
        name = name if isinstance(name, str | int | bool) else repr(name)
        if name in found:
            raise ConfigFault(f"{name!r} is given twice", line=key.start_mark.line + 1)
        found[name] = _plain(value, depth + 1)
    return found


def _plain(node: Node, depth: int) -> object:
    from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

    if depth > _DEEPEST:
        raise ConfigFault("is nested too deeply", line=node.start_mark.line + 1)
    anchor = getattr(node, "anchor", None)
    if isinstance(node, ScalarNode):
        value = str(node.value)
        if node.tag == f"{_TAG}str":
            return value
        if node.tag == f"{_TAG}bool":
            return value.lower() == "true"
        if node.tag == f"{_TAG}int" and value.isdigit() and len(value) < 16:
            return int(value)
        return (node.tag, value)
    # An alias is the node it stands for: counted out each time, ten lines could stand for a billion.
    if depth > 1 and anchor is not None:
        return ("anchor", anchor, len(node.value))
    if isinstance(node, SequenceNode):
        return [_plain(each, depth + 1) for each in node.value]
    assert isinstance(node, MappingNode)
    return _pairs(node, depth)


def _pair(text: str, node: MappingNode, name: str) -> tuple[Node, Node] | None:
    for key, value in node.value:
        if key.tag == f"{_TAG}str" and key.value == name:
            return key, value
    return None


def _servers(text: str, holder: Node, section: str) -> MappingNode:
    from ruamel.yaml.nodes import MappingNode

    if not isinstance(holder, MappingNode):
        raise fault_at(text, holder.start_mark.index, f"{section!r} holds something else than a mapping")
    return holder


def _is_empty(holder: Node) -> bool:
    from ruamel.yaml.nodes import MappingNode

    return (isinstance(holder, MappingNode) and not holder.value) or holder.tag == f"{_TAG}null"


def _filled(text: str, key: Node, holder: Node, block: str, newline: str) -> str:
    """The text with a block under a key that had nothing, `{}` or null."""
    colon = _colon(text, key)
    start, end = holder.start_mark.index, holder.end_mark.index
    if start < end:
        if "\n" in text[colon:end]:
            raise fault_at(text, start, "stands in a form that is not understood here")
        text = text[:colon] + text[end:]
    stop = text.find("\n", colon)
    return _appended(text, len(text) if stop < 0 else stop + 1, block, newline)


def _colon(text: str, key: Node) -> int:
    """Past the colon after a key."""
    at = text.find(":", key.end_mark.index)
    if at < 0 or text[key.end_mark.index : at].strip(" "):
        raise fault_at(text, key.start_mark.index, "stands in a form that is not understood here")
    return at + 1


def _appended(text: str, at: int, block: str, newline: str) -> str:
    """The text with whole lines put in before the line at `at`; a last line without an end gets one."""
    block = block.replace("\n", newline)
    head, rest = text[:at], text[at:]
    if head and not head.endswith("\n"):
        return head + newline + block + rest
    return head + block + newline + rest


def _after(text: str, pair: tuple[Node, Node]) -> int:
    """Where the line after the last one of a key and its value begins."""
    from ruamel.yaml.nodes import CollectionNode, ScalarNode

    key, node = pair
    while (
        isinstance(node, CollectionNode)
        and node.value
        and not node.flow_style
        and not _is_elsewhere(key, node)
    ):
        last = node.value[-1]
        if not isinstance(last, tuple) and _is_elsewhere(node, last):
            raise fault_at(text, node.start_mark.index, "stands in a form that is not understood here")
        key, node = last if isinstance(last, tuple) else (node, last)
    if _is_elsewhere(key, node):
        node = key
    at = int(node.end_mark.index)
    if isinstance(node, ScalarNode) and node.style in ("|", ">"):
        # The mark is where the next token begins; the scalar ends with a line.
        return text.rfind("\n", 0, at) + 1 if text[:at].rstrip(" ").endswith("\n") else at
    stop = text.find("\n", at)
    return len(text) if stop < 0 else stop + 1


def _is_elsewhere(key: Node, node: Node) -> bool:
    """Whether a value has no place of its own: an alias is the node it stands for, and nothing is where the next token is."""
    return bool(node.start_mark.index <= key.start_mark.index or node.start_mark.index == node.end_mark.index)


def _line(text: str, at: int) -> int:
    start = text.rfind("\n", 0, at) + 1
    if text[start:at].strip(" "):
        raise fault_at(text, at, "stands in a form that is not understood here")
    return start


def _unit(root: MappingNode) -> int:
    """What one level is set in by, as far as the file shows it."""
    from ruamel.yaml.nodes import MappingNode

    for _, value in root.value:
        if isinstance(value, MappingNode) and value.value and not value.flow_style:
            return max(1, int(value.value[0][0].start_mark.column) - int(root.start_mark.column))
    return 2


def _section(section: str, name: str, entry: Entry, column: int, unit: int) -> str:
    return f"{' ' * column}{_key(section)}:\n{_lines(name, entry, column + unit, unit)}"


def _lines(name: str, entry: Entry, column: int, unit: int) -> str:
    inner = " " * (column + unit)
    fields = [f"{inner}{_key(key)}: {_value(value)}" for key, value in entry.items()]
    return "\n".join([f"{' ' * column}{_key(name)}:", *fields])


def _key(name: str) -> str:
    return name if _PLAIN_KEY.fullmatch(name) else quoted(name)


def _value(value: Value) -> str:
    return written(value, _inline)


def _inline(table: dict[str, str]) -> str:
    return "{" + ", ".join(f"{quoted(key)}: {quoted(each)}" for key, each in table.items()) + "}"
