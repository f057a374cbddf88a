"""How a server is started: absolute paths, switches that are on or off, and no secret in the words."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentmesh.errors import AgentMeshError
from agentmesh.hosts import launch
from agentmesh_servers import registry


@pytest.fixture(autouse=True)
def servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Servers with every kind of option, whatever this installation has; and a person's folder to stand in."""
    known = {
        "files": frozenset({"folder", "roots", "write", "hidden"}),
        "notes": frozenset({"folder"}),
        "sql": frozenset({"database", "url_env", "write", "rows"}),
    }
    monkeypatch.setattr(registry, "names", lambda: tuple(known))
    monkeypatch.setattr(registry, "options", lambda name: known[name])
    for variable in ("AGENTMESH_NOTES", "AGENTMESH_FILES", "AGENTMESH_SQL_DATABASE", "PYTHONPATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", "/home/zoë")
    monkeypatch.chdir(tmp_path)


def test_paths_are_made_absolute_and_switches_take_no_word(tmp_path: Path) -> None:
    options = {"folder": "my notes", "write": "true", "hidden": "false"}
    assert launch.option_words("files", options) == ("--folder", str(tmp_path / "my notes"), "--write")
    assert launch.option_words("files", {"roots": "a=~/x,b=y"}) == (
        "--roots",
        f"a=/home/zoë/x,b={tmp_path / 'y'}",
    )
    # A path may hold commas.
    assert launch.option_words("files", {"roots": "a=/x, y,b=z"}) == (
        "--roots",
        f"a=/x, y,b={tmp_path / 'z'}",
    )
    assert launch.option_words("sql", {"url_env": "DB", "rows": "10"}) == ("--url-env", "DB", "--rows", "10")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("file", {}, "no server is called 'file'"),
        ("notes", {"write": "true"}, "has no option 'write'"),
        ("files", {"write": "yes"}, "true or false was expected"),
        ("files", {}, "needs folder or roots"),
        ("files", {"write": "true"}, "needs folder or roots"),
        ("notes", {}, "needs folder"),
        ("sql", {}, "needs database or url_env"),
        ("notes", {"folder": ""}, "--option folder= is empty"),
        ("notes", {"folder": "nowhere"}, "--option folder: no such folder: .*/nowhere"),
        ("files", {"roots": "documents"}, "--option roots: roots is written docs=PATH"),
        ("files", {"roots": "a=nowhere"}, "--option roots: no such folder: .*/nowhere"),
        ("sql", {"database": "nowhere.db"}, "--option database: no such file"),
        ("sql", {"url_env": "DB", "rows": "many"}, "--option rows: rows is a whole number"),
    ],
)
def test_what_a_server_would_refuse_is_refused_before_it_is_written(
    name: str, options: dict[str, str], said: str
) -> None:
    with pytest.raises(AgentMeshError, match=said) as caught:
        launch.server_launch(name, options, {})
    assert caught.value.reason == "usage"


def test_a_path_in_the_environment_here_goes_along_where_none_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AGENTMESH_NOTES", "mine")
    (tmp_path / "x").mkdir()
    assert launch.server_launch("notes", {}, {}).env == {"AGENTMESH_NOTES": str(tmp_path / "mine")}
    assert launch.server_launch("notes", {"folder": "x"}, {}).env == {}


def test_a_path_may_be_given_as_a_variable_of_the_entry() -> None:
    env = {"AGENTMESH_NOTES": "/notes"}
    assert launch.server_launch("notes", {}, env).env == env


def test_a_databases_address_is_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "l.db").touch()
    assert launch.server_launch("sql", {}, {"AGENTMESH_SQL_URL": "x"}).secrets == ()
    monkeypatch.setenv("AGENTMESH_SQL_URL", "postgresql://localhost/l")
    assert launch.server_launch("sql", {}, {}).secrets == ("AGENTMESH_SQL_URL",)
    assert launch.server_launch("sql", {"url_env": "DB"}, {}).secrets == ("DB",)
    assert launch.server_launch("sql", {"url_env": "DB"}, {"DB": "x"}).secrets == ()
    assert launch.server_launch("sql", {"database": "l.db"}, {}).secrets == ()


def test_a_program_that_runs_from_its_source_hands_on_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(launch.__file__).resolve().parents[2])
    monkeypatch.setenv("PYTHONPATH", root)
    here = {"folder": "."}
    assert launch.server_launch("notes", here, {}).env == {"PYTHONPATH": root}
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert launch.server_launch("notes", here, {}).env == {}
