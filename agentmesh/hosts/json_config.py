"""JSON, with or without comments and trailing commas, changed in its text: one member comes or goes, all else stays.

No library was found that does it: those that read comments write the file anew in their own form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from agentmesh.hosts.fault import ConfigFault, fault_at
from agentmesh.hosts.quoting import Entry, Value, quoted, written

_GAP: Final = re.compile(r"(?:[ \t\r\n]++|//[^\r\n]*+|/\*.*?\*/)*+", re.DOTALL)
_STRING: Final = re.compile(r'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"')
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?(?![\w.])")
_WORD: Final = re.compile(r"(?:true|false|null)(?!\w)")
_COMMENT: Final = re.compile(r"//[^\r\n]*+|/\*.*?\*/", re.DOTALL)
_REST_OF_LINE: Final = re.compile(r"(?:[ \t]++|/\*[^\r\n]*?\*/)*+(?://[^\r\n]*+)?(?=\r?\n|\Z)")
_ENDS_LINE: Final = re.compile(r"[ \t]*+(?:\r?\n|\Z)")
_DEEPEST: Final = 200
_WORDS: Final = {"true": True, "false": False, "null": None}


class Number(str):
    """A number as it is written: read as one it might come back as another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """One member: where its name begins, where its value lies, and where the comma after it is."""

    name: str
    start: int
    value: int
    end: int
    comma: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Object:
    """An object from its brace to the one that ends it."""

    start: int
    end: int
    members: tuple[_Member, ...]


def read(text: str) -> dict[object, object]:
    """The object in a text; nothing but space is taken for an object with nothing in it.

    Raises: ConfigFault.
    """
    if not text.strip(" \t\r\n"):
        return {}
    scan = _Scan(text)
    scan.gap()
    value = scan.value(0)
    scan.gap()
    if scan.at < len(text):
        raise fault_at(text, scan.at, "there is more after the end of the JSON value")
    if not isinstance(value, dict):
        raise ConfigFault("holds no JSON object", line=1)
    return value


def plain_fault(text: str) -> ConfigFault | None:
    """What a reader of plain JSON trips over in a text that `read` takes; None where there is nothing."""
    try:
        json.loads(text or "{}")
    except ValueError as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else None
        return ConfigFault(f"is not plain JSON: {str(error).partition(':')[0]}", line=line)
    except RecursionError:
        return ConfigFault("is nested too deeply")
    return None


def put(text: str, section: str, name: str, entry: Entry) -> str:
    """The text with `entry` as member `name` of the root's member `section`, in the place of one that is there."""
    newline = "\r\n" if "\r\n" in text else "\n"
    if not text.strip(" \t\r\n"):
        lines = [
            "{",
            f"  {quoted(section)}: {{",
            f"    {quoted(name)}: {_shown(entry, '    ', '  ')}",
            "  }",
            "}",
            "",
        ]
        return "\n".join(lines)
    root = _root(text)
    unit = _unit(text, root)
    holder = _member(text, root, section)
    if holder is None:
        inner = unit
        if _is_flat(text, root):
            return _inserted(
                text, root, f"{quoted(section)}: {{{quoted(name)}: {_flat(entry)}}}", unit, newline
            )
        shown = _shown(entry, inner * 2, unit)
        block = f"{quoted(section)}: {{\n{inner * 2}{quoted(name)}: {shown}\n{inner}}}"
        return _inserted(text, root, block, unit, newline)
    servers = _object(text, holder)
    old = _member(text, servers, name)
    flat = _is_flat(text, servers) or (not servers.members and _is_flat(text, root))
    base = (
        _indent(text, servers.members[0].start)
        if servers.members
        else _line_indent(text, holder.start) + unit
    )
    shown = _flat(entry) if flat else _shown(entry, base or "", unit)
    if old is not None:
        return text[: old.value] + shown.replace("\n", newline) + text[old.end :]
    return _inserted(text, servers, f"{quoted(name)}: {shown}", unit, newline, flat=flat)


def drop(text: str, section: str, name: str) -> str:
    """The text without member `name` of the root's member `section`. Raises: ConfigFault, where it is not there."""
    holder = _member(text, _root(text), section)
    servers = None if holder is None else _object(text, holder)
    member = None if servers is None else _member(text, servers, name)
    if servers is None or member is None:
        raise ConfigFault(f"has no entry {name!r}")
    number = servers.members.index(member)
    start, end = _span(text, servers, number)
    cuts = [(start, end)]
    if member.comma is not None and member.comma >= end:
        cuts.append((member.comma, member.comma + 1))
    elif member.comma is None and number > 0:
        before = servers.members[number - 1].comma
        assert before is not None  # a member follows it
        cuts.append((before, before + 1))
    for first, last in sorted(cuts, reverse=True):
        text = text[:first] + text[last:]
    if len(servers.members) == 1:
        again = _object(text, _member(text, _root(text), section))
        if not text[again.start + 1 : again.end - 1].strip(" \t\r\n"):
            return text[: again.start] + "{}" + text[again.end :]
    return text


def _span(text: str, servers: _Object, number: int) -> tuple[int, int]:
    """What goes with a member: its line as far as nothing else is on it, else what parts it from its neighbour."""
    member = servers.members[number]
    end = member.end
    if member.comma is not None and not text[end : member.comma].strip(" \t\r\n"):
        end = member.comma + 1
    space = len(text[: member.start].rstrip(" \t"))
    if text[space - 1] == "\n":
        before = servers.members[number - 1].end if number else servers.start + 1
        if _ends_in_comment(text[before:space]) and not _ENDS_LINE.match(text, end):
            return member.start, end  # the line break ends a comment that would swallow what follows
        return space - (2 if text[space - 2] == "\r" else 1), end
    if number == 0 and len(servers.members) > 1:
        following = servers.members[1].start
        return member.start, following if not text[end:following].strip(" \t") else end
    return space, end


def _ends_in_comment(gap: str) -> bool:
    """Whether the last line of what stands between two members, a line end, ends a comment of its own."""
    last = ""
    for found in _COMMENT.finditer(gap):
        last = found[0] if not gap[found.end() :].strip() else ""
    return last.startswith("//")


def _inserted(text: str, into: _Object, member: str, unit: str, newline: str, *, flat: bool = False) -> str:
    member = member.replace("\n", newline)
    if not into.members:
        if flat and into.end - into.start == 2:
            return f"{text[: into.start + 1]}{member}{text[into.end - 1 :]}"
        return _first(text, into, member, unit, newline)
    last = into.members[-1]
    comma = last.comma
    if _is_flat(text, into):
        if comma is None:
            return f"{text[: last.end]}, {member}{text[last.end :]}"
        return f"{text[: comma + 1]} {member},{text[comma + 1 :]}"
    indent = _indent(text, into.members[0].start) or ""
    after = last.end if comma is None else comma + 1
    # A comment on the last member's line is about that member, and stays with it.
    rest = _REST_OF_LINE.match(text, after)
    place = rest.end() if rest else after
    if comma is None:
        return f"{text[:after]},{text[after:place]}{newline}{indent}{member}{text[place:]}"
    return f"{text[:place]}{newline}{indent}{member},{text[place:]}"


def _first(text: str, into: _Object, member: str, unit: str, newline: str) -> str:
    inside = text[into.start + 1 : into.end - 1]
    outer = _line_indent(text, into.start)
    head = f"{newline}{outer}{unit}{member}"
    if not inside.strip(" \t\r\n"):
        tail = inside if "\n" in inside else f"{newline}{outer}"
        return text[: into.start + 1] + head + tail + text[into.end - 1 :]
    # Comments only: they come first, whatever they say.
    kept = inside.rstrip(" \t\r\n")
    tail = inside[len(kept) :] if "\n" in inside[len(kept) :] else f"{newline}{outer}"
    return text[: into.start + 1] + kept + head + tail + text[into.end - 1 :]


def _is_flat(text: str, where: _Object) -> bool:
    """Whether an object is written along one line."""
    return bool(where.members) and _indent(text, where.members[0].start) is None


def _indent(text: str, at: int) -> str | None:
    """The space before `at`, where there is nothing else on its line before it."""
    line = text.rfind("\n", 0, at) + 1
    before = text[line:at]
    return before if line and not before.strip(" \t") else None


def _line_indent(text: str, at: int) -> str:
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _unit(text: str, root: _Object) -> str:
    """What one level is set in by, as far as the file shows it."""
    if root.members:
        return _indent(text, root.members[0].start) or "  "
    return "  "


def _shown(entry: Entry, base: str, unit: str) -> str:
    inner = base + unit
    fields = [f"{inner}{quoted(key)}: {_value(value, inner, unit)}" for key, value in entry.items()]
    return "{\n" + ",\n".join(fields) + f"\n{base}}}" if fields else "{}"


def _value(value: Value, base: str, unit: str) -> str:
    if isinstance(value, dict) and value:
        inner = base + unit
        return (
            "{\n" + ",\n".join(f"{inner}{quoted(k)}: {quoted(v)}" for k, v in value.items()) + f"\n{base}}}"
        )
    return written(value, _flat)


def _flat(entry: Mapping[str, Value]) -> str:
    return "{" + ", ".join(f"{quoted(key)}: {written(each, _flat)}" for key, each in entry.items()) + "}"


def _root(text: str) -> _Object:
    scan = _Scan(text)
    scan.gap()
    return scan.object_here()


def _object(text: str, member: _Member | None) -> _Object:
    assert member is not None
    if text[member.value] != "{":
        raise fault_at(text, member.value, f"{member.name!r} holds something else than an object")
    scan = _Scan(text)
    scan.at = member.value
    return scan.object_here()


def _member(text: str, where: _Object, name: str) -> _Member | None:
    found = [member for member in where.members if member.name == name]
    if len(found) > 1:
        raise fault_at(text, found[1].start, f"{name!r} is given twice")
    return found[0] if found else None


class _Scan:
    """A reader that knows where it is."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def object_here(self) -> _Object:
        start = self.at
        members = tuple(self._members(0))
        return _Object(start=start, end=self.at, members=members)

    def value(self, depth: int) -> object:
        if depth > _DEEPEST:
            raise fault_at(self.text, self.at, "is nested too deeply")
        start = self.text[self.at : self.at + 1]
        if start == "{":
            return {name: value for name, value in self._pairs(depth)}
        if start == "[":
            return self._array(depth)
        if start == '"':
            return self._string()
        if found := _NUMBER.match(self.text, self.at):
            self.at = found.end()
            whole = found[0].lstrip("-")
            return int(found[0]) if whole.isdigit() and len(whole) < 16 else Number(found[0])
        if found := _WORD.match(self.text, self.at):
            self.at = found.end()
            return _WORDS[found[0]]
        raise self._wrong("a value was expected here")

    def gap(self) -> None:
        found = _GAP.match(self.text, self.at)
        assert found is not None  # it matches nothing, too
        self.at = found.end()

    def _pairs(self, depth: int) -> Iterator[tuple[str, object]]:
        self.at += 1
        while True:
            self.gap()
            if self._takes("}"):
                return
            name = self._name()
            yield name, self.value(depth + 1)
            self._comma("}")

    def _members(self, depth: int) -> Iterator[_Member]:
        if self.text[self.at : self.at + 1] != "{":
            raise self._wrong("an object was expected here")
        self.at += 1
        while True:
            self.gap()
            if self._takes("}"):
                return
            start = self.at
            name = self._name()
            value = self.at
            self.value(depth + 1)
            end = self.at
            comma = self._comma("}")
            yield _Member(name=name, start=start, value=value, end=end, comma=comma)

    def _array(self, depth: int) -> list[object]:
        self.at += 1
        items: list[object] = []
        while True:
            self.gap()
            if self._takes("]"):
                return items
            items.append(self.value(depth + 1))
            self._comma("]")

    def _name(self) -> str:
        if self.text[self.at : self.at + 1] != '"':
            raise self._wrong("a name in double quotes was expected here")
        name = self._string()
        self.gap()
        if not self._takes(":"):
            raise self._wrong("a colon was expected here")
        self.gap()
        return name

    def _comma(self, closing: str) -> int | None:
        """Past the comma after an item, whose place is returned; None where the collection ends without one."""
        self.gap()
        if self._takes(","):
            return self.at - 1
        if self.text[self.at : self.at + 1] != closing:
            raise self._wrong(f"a comma or {closing} was expected here")
        return None

    def _string(self) -> str:
        found = _STRING.match(self.text, self.at)
        if found is None:
            raise self._wrong("this string does not end, or holds what a string cannot hold")
        self.at = found.end()
        return str(json.loads(found[0]))

    def _takes(self, mark: str) -> bool:
        if not self.text.startswith(mark, self.at):
            return False
        self.at += 1
        return True

    def _wrong(self, message: str) -> ConfigFault:
        if self.at >= len(self.text):
            return fault_at(self.text, len(self.text), "the JSON ends too early")
        return fault_at(self.text, self.at, f"is not JSON: {message}")
