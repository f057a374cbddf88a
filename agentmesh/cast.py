"""The agents of a dialogue with their tools; those that share a model and the shared layout are shown the same ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from agentmesh.floor import Agent
from agentmesh.mesh import AgentSpec, Layout
from agentmesh.toolbox import Toolbox
from agentmesh.toolbox.toolbox import plain_name
from agentmesh_models import Engine, ToolSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What makes an agent. `toolbox` makes its toolbox, with the names that are to be told apart by their servers."""

    spec: AgentSpec
    layout: Layout
    engine: Engine
    toolbox: Callable[[Collection[str]], Toolbox]


def cast_of(members: Mapping[str, Member]) -> dict[str, Agent]:
    """The agents, in the order of the mesh file, which is also the order of the tools that they are shown."""
    cast: dict[str, Agent] = {}
    shown: dict[int, tuple[ToolSpec, ...] | None] = {}
    boxes: dict[str, Toolbox] = {}
    for group in _groups(members).values():
        made = _boxes({name: members[name] for name in group})
        boxes |= made
        shown[id(members[group[0]].engine)] = _union(made.values())
    for name, member in members.items():
        shared = member.layout == "shared"
        cast[name] = Agent(
            name=name,
            spec=member.spec,
            engine=member.engine,
            toolbox=boxes[name] if shared else member.toolbox(()),
            layout=member.layout,
            shown=shown[id(member.engine)] if shared else None,
        )
    return cast


def _groups(members: Mapping[str, Member]) -> dict[int, list[str]]:
    """The agents of the shared layout by their engine."""
    groups: dict[int, list[str]] = {}
    for name, member in members.items():
        if member.layout == "shared":
            groups.setdefault(id(member.engine), []).append(name)
    return groups


def _boxes(members: Mapping[str, Member]) -> dict[str, Toolbox]:
    """Toolboxes in which one name means one tool, whichever agent uses it."""
    plain = {name: member.toolbox(()) for name, member in members.items()}
    known: dict[str, set[tuple[str, str]]] = {}
    for box in plain.values():
        for server, tool in box.places:
            known.setdefault(plain_name(tool), set()).add((server, tool))
    apart = frozenset(name for name, places in known.items() if len(places) > 1)
    return {name: member.toolbox(apart) for name, member in members.items()} if apart else plain


def _union(boxes: Collection[Toolbox]) -> tuple[ToolSpec, ...] | None:
    """All their tools, each once; None if one name still means two tools: then each agent is shown its own."""
    union: dict[str, ToolSpec] = {}
    for spec in (spec for box in boxes for spec in box.specs):
        if union.setdefault(spec.name, spec) != spec:
            return None
    return tuple(union.values())
