"""Pins, and what differs from them, for people and for programs."""

from __future__ import annotations

from agentmesh.toolbox import Pin
from agentmesh.toolbox.looking import Looked
from agentmesh.view.text import count, hanging, one_line

_WIDTH = 200


def pin_text(pin: Pin, *, used: bool, key: str | None) -> str:
    """One pin on a line, with the `key` that its server signs with. One that is not `used` is of a server that the mesh file has no more, or starts otherwise."""
    left = "" if used else "  (not used: the mesh file says otherwise)"
    signs = f"  signs with {key}" if key and used else ""
    tools = count(len(pin.tools.tools), "tool")
    return f"{pin.server}  {tools}  {pin.tools.digest[:16]}  since {pin.time}  {one_line(pin.source, _WIDTH)}{signs}{left}"


def pin_json(pin: Pin, *, used: bool, key: str | None) -> dict[str, object]:
    """The same for programs."""
    return {
        "server": pin.server,
        "source": pin.source,
        "digest": pin.tools.digest,
        "time": pin.time,
        "tools": [tool["name"] for tool in pin.tools.tools],
        "used": used,
        "key": key if used else None,
    }


def looked_text(each: Looked) -> str:
    """What a server shows now, beside its pin."""
    if each.tools is None:
        return f"{each.server}: {hanging(each.failure, 2)}"
    tools = count(len(each.tools.tools), "tool")
    if each.pinned is None:
        return f"{each.server}: not pinned yet; {tools}, {each.tools.digest[:16]}"
    if each.change is None:
        return f"{each.server}: as pinned; {tools}, {each.tools.digest[:16]}"
    lines = [f"{each.server}: not as pinned ({each.pinned.digest[:16]} -> {each.tools.digest[:16]})"]
    return "\n".join([*lines, *(f"  {line}" for line in each.change.lines())])


def looked_json(each: Looked) -> dict[str, object]:
    """The same for programs, with every difference whole."""
    differences = each.change.differences() if each.change else ()
    return {
        "server": each.server,
        "source": each.source,
        "state": _state(each),
        "pinned": each.pinned and each.pinned.digest,
        "digest": each.tools and each.tools.digest,
        "failure": each.failure,
        "differences": [
            {"tool": one.tool, "field": one.field, "before": one.before, "after": one.after}
            for one in differences
        ],
    }


def _state(each: Looked) -> str:
    if each.tools is None:
        return "failed"
    if each.pinned is None:
        return "new"
    return "same" if each.change is None else "changed"
