from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentmesh.mesh import load_mesh

Agentmesh = Callable[..., Any]


def test_init_makes_a_mesh_that_loads(agentmesh: Agentmesh, tmp_path: Path) -> None:
    folder = tmp_path / "my desk!"
    done = agentmesh("init", folder)
    assert done.code == 0
    assert done.out.startswith("agentmesh run ")
    mesh = load_mesh(folder)
    assert mesh.name == "my-desk"
    assert mesh.dialogue.pattern == "orchestrator"
    assert sorted(path.name for path in (folder / "notes").iterdir()) == [
        "garden-party.md",
        "shopping-list.md",
    ]
    assert ".agentmesh/" in (folder / ".gitignore").read_text().splitlines()


def test_init_takes_a_name_and_refuses_one_that_cannot_be(agentmesh: Agentmesh, tmp_path: Path) -> None:
    assert agentmesh("init", tmp_path / "a", "--name", "ours").code == 0
    assert load_mesh(tmp_path / "a").name == "ours"
    assert agentmesh("init", tmp_path / "b", "--name", "not ours").code == 2
    assert not (tmp_path / "b").exists()


def test_init_prints_a_command_that_works_whatever_the_folder_is_called(
    agentmesh: Agentmesh, tmp_path: Path
) -> None:
    folder = tmp_path / "my desk\nnew"
    done = agentmesh("init", folder)
    assert shlex.split(done.out) == ["agentmesh", "run", str(folder)]
    assert load_mesh(folder).name == "my-desk-new"


def test_init_overwrites_nothing(agentmesh: Agentmesh, tmp_path: Path) -> None:
    (tmp_path / "mesh.toml").write_text("mine")
    done = agentmesh("init", tmp_path)
    assert done.code == 2
    assert "already there" in done.err
    assert (tmp_path / "mesh.toml").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["mesh.toml"]


def test_init_leaves_a_gitignore_alone_and_says_what_to_add(agentmesh: Agentmesh, tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("build\n")
    done = agentmesh("init", tmp_path)
    assert done.code == 0
    assert ".agentmesh/" in done.err
    assert (tmp_path / ".gitignore").read_text() == "build\n"


def test_init_without_a_folder_takes_the_current_one(
    agentmesh: Agentmesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert agentmesh("init").code == 0
    assert (tmp_path / "mesh.toml").is_file()
