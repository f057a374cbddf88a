"""How many threads a model takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentmesh_models import ModelError
from agentmesh_models.threads import available_cores, thread_count


def test_what_is_asked_for_wins_then_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTMESH_THREADS", "3")
    assert thread_count(5) == 5
    assert thread_count() == 3


@pytest.mark.parametrize("load", [0.0, 0.4, 1.2, 500.0])
def test_by_default_idle_cores_are_taken_and_at_least_one(
    monkeypatch: pytest.MonkeyPatch, load: float
) -> None:
    monkeypatch.delenv("AGENTMESH_THREADS", raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    assert thread_count() == max(1, available_cores() - round(load))


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "²", "513", "9" * 30])
def test_a_variable_that_is_no_number_is_told(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("AGENTMESH_THREADS", text)
    with pytest.raises(ModelError, match="AGENTMESH_THREADS"):
        thread_count()


def test_no_threads_at_all_are_refused() -> None:
    with pytest.raises(ModelError, match="1 to 512"):
        thread_count(0)


def test_more_threads_than_llama_cpp_survives_are_refused() -> None:
    assert thread_count(512) == 512
    with pytest.raises(ModelError, match="1 to 512"):
        thread_count(513)


def test_two_threads_of_one_core_count_once_and_a_container_s_share_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4, 5}, raising=False)
    for number in range(6):
        folder = tmp_path / f"devices/system/cpu/cpu{number}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{number % 3},{number % 3 + 3}\n")
    assert available_cores(tmp_path) == 3
    group = tmp_path / "fs/cgroup"
    group.mkdir(parents=True)
    for quota, cores in (
        ("max 100000", 3),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("what", 3),
        ("1 0", 3),
    ):
        (group / "cpu.max").write_text(quota)
        assert available_cores(tmp_path) == cores
    assert available_cores(tmp_path / "nowhere") == 6
