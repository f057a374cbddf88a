"""Which tools agents of one model are shown, where servers give theirs names that clash."""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

from agentmesh.cast import Member, cast_of
from agentmesh.toolbox import Toolbox
from agentmesh.toolbox.catalogue import Tool


def server(name: str, *tools: str) -> Any:
    made = tuple(
        Tool(
            name=tool,
            title=tool,
            description=f"{tool} of {name}",
            input_schema={"type": "object"},
            output_schema=None,
            annotations={},
        )
        for tool in tools
    )
    return SimpleNamespace(name=name, tools=made)


def member(engine: object, *servers: Any, layout: str = "shared") -> Member:
    sessions = {each.name: each for each in servers}

    def toolbox(apart: Collection[str]) -> Toolbox:
        return Toolbox(sessions, allow=tuple(sessions), apart=apart)

    made: Any = dict(spec=None, layout=layout, engine=engine, toolbox=toolbox)
    return Member(**made)


def names(specs: Any) -> list[str]:
    return [spec.name for spec in specs]


def test_agents_of_a_model_are_shown_the_tools_of_all_in_the_order_of_the_file() -> None:
    engine, clock, sums = object(), server("clock", "now"), server("sums", "add", "mean")
    cast = cast_of({"ada": member(engine, sums), "ben": member(engine, clock), "eve": member(engine)})
    assert [names(agent.shown) for agent in cast.values()] == [["add", "mean", "now"]] * 3
    assert [names(agent.toolbox.specs) for agent in cast.values()] == [["add", "mean"], ["now"], []]
    assert list(cast) == ["ada", "ben", "eve"]


def test_a_tool_that_several_agents_may_use_is_shown_once() -> None:
    engine, clock = object(), server("clock", "now")
    cast = cast_of({"ada": member(engine, clock), "ben": member(engine, clock)})
    assert [names(agent.shown) for agent in cast.values()] == [["now"], ["now"]]


def test_agents_without_tools_are_shown_none() -> None:
    engine = object()
    assert cast_of({"ada": member(engine), "ben": member(engine)})["ada"].shown == ()


def test_one_name_for_two_tools_is_told_apart_by_the_servers() -> None:
    engine = object()
    cast = cast_of(
        {"ada": member(engine, server("one", "get", "put")), "ben": member(engine, server("two", "get"))}
    )
    assert names(cast["ada"].toolbox.specs) == ["one_get", "put"]
    assert names(cast["ben"].toolbox.specs) == ["two_get"]
    assert names(cast["ben"].shown) == ["one_get", "put", "two_get"]
    assert cast["ada"].toolbox.locate("one_get")[1].description == "get of one"


def test_agents_of_different_models_need_not_agree_on_names() -> None:
    cast = cast_of(
        {"ada": member(object(), server("one", "get")), "ben": member(object(), server("two", "get"))}
    )
    assert [names(agent.shown) for agent in cast.values()] == [["get"], ["get"]]


def test_where_a_name_still_means_two_tools_each_agent_is_shown_its_own() -> None:
    engine = object()
    ada = member(engine, server("a", "get", "b_get"))
    cast = cast_of({"ada": ada, "ben": member(engine, server("a_b", "get"))})
    assert names(cast["ben"].toolbox.specs) == ["a_b_get"]
    assert names(cast["ada"].toolbox.specs) == ["a_get", "b_get"]
    # "a" has "b_get", and "a_b" has "get": called by their servers they would be one.
    cast = cast_of({"ada": ada, "ben": member(engine, server("a_b", "get"), server("c", "b_get"))})
    assert names(cast["ada"].toolbox.specs) == ["a_get", "a_b_get"]
    assert cast["ada"].shown is None and names(cast["ada"].tools_shown) == ["a_get", "a_b_get"]


def test_an_agent_with_a_layout_of_its_own_takes_no_part_in_the_sharing() -> None:
    engine = object()
    cast = cast_of(
        {
            "ada": member(engine, server("one", "get")),
            "ben": member(engine, server("two", "get"), layout="agent"),
        }
    )
    assert names(cast["ada"].shown) == ["get"]
    assert cast["ben"].shown is None and names(cast["ben"].toolbox.specs) == ["get"]
