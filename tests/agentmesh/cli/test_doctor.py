from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentmesh.cli.doctor import name_problems

HERE = Path("/env/bin")


def test_another_distribution_of_the_same_name_is_noticed() -> None:
    assert name_problems(["agentmesh-runtime"], HERE / "agentmesh", HERE) == []
    (problem,) = name_problems(["agentmesh-platform", "agentmesh-runtime"], None, HERE)
    assert "Microsoft's agentmesh-platform" in problem
    (problem,) = name_problems(["agentmesh"], None, HERE)
    assert "the distribution agentmesh" in problem


def test_a_command_from_elsewhere_is_noticed() -> None:
    (problem,) = name_problems([], Path("/other/agentmesh"), HERE)
    assert "/other/agentmesh" in problem


def test_doctor_says_what_is_there(agentmesh: Callable[..., Any]) -> None:
    done = agentmesh("doctor")
    for extra in ("store", "witness", "chain", "ots"):
        assert f"extra     {extra:<8} present" in done.out
    assert "threads   a model takes" in done.out
