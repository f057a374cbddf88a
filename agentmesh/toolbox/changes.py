"""What differs between the tools that are pinned and those that a server shows now."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from agentmesh.errors import ToolboxError
from agentmesh.toolbox.pins import ToolSet, WireTool
from agentmesh.toolbox.results import escaped

_MOST_LINES: Final = 40
_WIDTH: Final = 160
_BEFORE: Final = 30
_DEEPEST: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that differs. `tool` is empty for the instructions; `before` or `after` is None where it is not there.

    `field` is the path within the tool, empty for the tool as a whole: then `before` and `after` are its names. Both
    are JSON, as text: so `null` is told from what is not there.
    """

    tool: str
    field: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A server whose tools are not those that are pinned."""

    server: str
    source: str
    pinned: ToolSet
    found: ToolSet

    def differences(self) -> Iterator[Difference]:
        """All that differs: tools that are gone, new or renamed, then field by field, then the instructions."""
        before = {str(tool["name"]): tool for tool in self.pinned.tools}
        after = {str(tool["name"]): tool for tool in self.found.tools}
        gone = [name for name in before if name not in after]
        new = [name for name in after if name not in before]
        for name in gone:
            other = next((each for each in new if _same_but_name(before[name], after[each])), None)
            if other is not None:
                new.remove(other)
            yield Difference(tool=name, field="", before=_json(name), after=other and _json(other))
        for name in new:
            yield Difference(tool=name, field="", before=None, after=_json(name))
            if "description" in after[name]:
                yield Difference(
                    tool=name, field="description", before=None, after=_json(after[name]["description"])
                )
        for name, tool in before.items():
            if name in after:
                yield from _fields(name, "", tool, after[name])
        before_all, after_all = self.pinned.instructions, self.found.instructions
        if before_all != after_all:
            yield Difference(tool="", field="", before=_json(before_all), after=_json(after_all))

    def lines(self) -> list[str]:
        """The differences for people: at most 40 lines of bounded width, free of whatever acts on a screen."""
        lines: list[str] = []
        more = 0
        for difference in self.differences():
            if len(lines) < _MOST_LINES:
                lines.append(_line(difference))
            else:
                more += 1
        return [*lines, f"... and {more:,} more"] if more else lines


class ToolsChanged(ToolboxError):
    """A server's tools are not those that are pinned; nothing is asked of it any more. `changes` holds every such server."""

    def __init__(self, changes: Sequence[Change]) -> None:
        told = [
            "\n".join([f"server {each.server}: its tools are not those that were accepted", *_set_in(each)])
            for each in changes
        ]
        super().__init__(
            "tools_changed",
            "\n".join(told),
            server=changes[0].server,
            hint="`agentmesh pins diff MESH` shows this again; `agentmesh pins accept MESH` goes on with the new ones",
        )
        self.changes = tuple(changes)


def _set_in(change: Change) -> list[str]:
    return [f"  {line}" for line in change.lines()]


def _same_but_name(one: WireTool, other: WireTool) -> bool:
    return {**one, "name": ""} == {**other, "name": ""}


def _fields(
    tool: str, path: str, before: JsonValue, after: JsonValue, depth: int = 0
) -> Iterator[Difference]:
    """The leaves that differ: each key of an object, anything else whole."""
    if isinstance(before, dict) and isinstance(after, dict) and depth < _DEEPEST:
        for key in dict.fromkeys((*before, *after)):
            inner = f"{path}.{key}" if path else key
            if key in before and key in after:
                yield from _fields(tool, inner, before[key], after[key], depth + 1)
            elif key in before:
                yield Difference(tool=tool, field=inner, before=_json(before[key]), after=None)
            else:
                yield Difference(tool=tool, field=inner, before=None, after=_json(after[key]))
    elif _json(before) != _json(after):  # 1 and true are equal in Python, and not on the wire
        yield Difference(tool=tool, field=path, before=_json(before), after=_json(after))


def _line(each: Difference) -> str:
    if not each.tool:
        return f"~ instructions: {_change(each.before, each.after)}"
    name = _shown(each.tool)
    if each.field:
        return f"~ tool {name}, {_shown(each.field)}: {_change(each.before, each.after)}"
    if each.before is None:
        return f"+ tool {name} is new{_beyond_ascii(each.tool)}"
    if each.after is None:
        return f"- tool {name} is gone"
    return f"~ tool {name} is now called {_shown(each.after)}{_beyond_ascii(each.after)}"


def _beyond_ascii(name: str) -> str:
    """The codes of a name's letters beyond ASCII, which may look like those of another name."""
    codes = [f"U+{ord(letter):04X}" for letter in escaped(name)[:_WIDTH] if not letter.isascii()]
    return f" (with {', '.join(dict.fromkeys(codes))})" if codes else ""


def _change(before: str | None, after: str | None) -> str:
    """Both values from a little before where they part, so that what was put at the end of a long text is seen.

    How much more was changed than is shown is said, and of letters that may look alike, which they are.
    """
    if before is None or after is None:
        return f"removed {_shown(before or '')}" if after is None else f"added {_shown(after)}"
    old, new = escaped(before), escaped(after)
    parting = next(
        (at for at, (one, other) in enumerate(zip(old, new, strict=False)) if one != other),
        min(len(old), len(new)),
    )
    start = max(0, parting - _BEFORE) if max(len(old), len(new)) > _WIDTH else 0
    hidden = max(len(old), len(new)) - _same_ending(old, new, parting) - start - _WIDTH
    more = (
        f" [{hidden:,} more characters up to the last that differs: --json shows all]" if hidden > 0 else ""
    )
    return f"{_window(old, start)} -> {_window(new, start)}{_codes(old[parting:], new[parting:])}{more}"


def _same_ending(old: str, new: str, parting: int) -> int:
    """How many letters both end with alike, after where they part."""
    most = min(len(old), len(new)) - parting
    ends = zip(reversed(old), reversed(new), strict=False)
    return next((at for at, (one, other) in enumerate(ends) if one != other or at == most), most)


def _codes(old: str, new: str) -> str:
    """The first two letters that differ, by their codes, where one of them is beyond ASCII: they may look the same."""
    one, other = old[:1], new[:1]
    if (one + other).isascii() or not one or not other:
        return ""
    return f" (U+{ord(one):04X} -> U+{ord(other):04X})"


def _window(text: str, start: int) -> str:
    shown = text[start : start + _WIDTH]
    return f"{'...' if start else ''}{shown}{'...' if start + _WIDTH < len(text) else ''}"


def _shown(text: str) -> str:
    return _window(escaped(text), 0)


def _json(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
