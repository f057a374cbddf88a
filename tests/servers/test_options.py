"""The options of the servers: one table for the registry, the command line and the mesh file."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentmesh_servers import ServersError, build, names, options
from agentmesh_servers.options import OPTIONS, flag, mistakes, named_folders, number, placed


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for server in OPTIONS.values():
        for option in server:
            if option.variable:
                monkeypatch.delenv(option.variable, raising=False)


def wrong(name: str, given: dict[str, str], folder: Path) -> list[tuple[str | None, str]]:
    return [(each.option, each.reason) for each in mistakes(name, given, folder.joinpath)]


def test_the_registry_knows_the_options_of_each_server() -> None:
    assert {name: sorted(options(name)) for name in names()} == {
        "calculator": [],
        "clock": [],
        "files": ["folder", "hidden", "roots", "write"],
        "notes": ["folder"],
        "sql": ["database", "rows", "superuser", "timeout", "url_env", "write"],
        "units": [],
    }


def test_a_flag_is_true_or_false_and_nothing_else() -> None:
    assert (flag("write", None), flag("write", "false"), flag("write", "true")) == (False, False, True)
    for written in ("True", "yes", "1", "", "on"):
        with pytest.raises(ServersError, match="write is"):
            flag("write", written)


def test_a_number_is_whole_and_within_bounds() -> None:
    assert (number("rows", None, default=7, most=9), number("rows", "9", default=7, most=9)) == (7, 9)
    for written in ("0", "10", "-1", "1.5", "", "x", "9" * 5_000, "²", "٣"):
        with pytest.raises(ServersError, match="rows is a whole number from 1 to 9"):
            number("rows", written, default=7, most=9)


def test_roots_are_names_with_paths_which_may_hold_commas() -> None:
    assert named_folders("a=x, b-2 = y/z,w") == {"a": "x", "b-2": "y/z,w"}
    assert named_folders("a=C:\\x=y") == {"a": "C:\\x=y"}
    for written in ("", "x", "a=", "=x", "1a=x", "a=x,A=y", "a b=x", ",".join(f"r{n}=x" for n in range(17))):
        with pytest.raises(ServersError, match="roots"):
            named_folders(written)


def test_paths_are_placed_and_nothing_else(tmp_path: Path) -> None:
    given = {"folder": "docs", "roots": "a=x,b=/y", "write": "true", "unknown": "z"}
    assert placed("files", given, tmp_path.joinpath) == {
        "folder": str(tmp_path / "docs"),
        "roots": f"a={tmp_path / 'x'},b=/y",
        "write": "true",
        "unknown": "z",
    }
    assert placed("files", {"roots": "not so"}, tmp_path.joinpath) == {"roots": "not so"}
    assert placed("sql", {"database": "a.db", "url_env": "X"}, tmp_path.joinpath) == {
        "database": str(tmp_path / "a.db"),
        "url_env": "X",
    }
    assert placed("clock", {"x": "y"}, tmp_path.joinpath) == {"x": "y"}


def test_what_is_wrong_is_known_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "a.db").touch()
    assert wrong("files", {}, tmp_path) == [(None, "missing")] == wrong("sql", {"rows": "5"}, tmp_path)
    assert wrong("files", {"folder": "docs", "write": "true"}, tmp_path) == []
    assert wrong("files", {"folder": "docs", "roots": "a=docs"}, tmp_path) == [("roots", "bad_value")]
    assert wrong("files", {"folder": "gone"}, tmp_path) == [("folder", "folder_not_found")]
    assert wrong("files", {"folder": "a.db"}, tmp_path) == [("folder", "folder_not_found")]
    assert wrong("files", {"roots": "a=docs,b=gone"}, tmp_path) == [("roots", "folder_not_found")]
    assert wrong("files", {"roots": "docs", "write": "yes"}, tmp_path) == [
        ("roots", "bad_value"),
        ("write", "bad_value"),
    ]
    assert wrong("sql", {"database": "a.db"}, tmp_path) == [] == wrong("sql", {"url_env": "X"}, tmp_path)
    assert wrong("sql", {"database": "docs"}, tmp_path) == [("database", "file_not_found")]
    assert wrong("sql", {"database": "a.db", "url_env": "X"}, tmp_path) == [("url_env", "bad_value")]
    assert wrong("sql", {"database": "a.db", "rows": "0", "timeout": "301"}, tmp_path) == [
        ("timeout", "bad_value"),
        ("rows", "bad_value"),
    ]
    monkeypatch.setenv("AGENTMESH_SQL_URL", "postgresql://x")
    assert wrong("sql", {}, tmp_path) == []


@pytest.mark.parametrize("variable", ["AGENTMESH_FILES", "AGENTMESH_NOTES"])
def test_a_folder_may_come_from_the_environment(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = variable.removeprefix("AGENTMESH_").lower()
    with pytest.raises(ServersError, match=variable):
        build(name)
    monkeypatch.setenv(variable, str(tmp_path))
    assert build(name).name == name


def test_a_database_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServersError, match="AGENTMESH_SQL_DATABASE or AGENTMESH_SQL_URL"):
        build("sql")
    (tmp_path / "a.db").touch()
    monkeypatch.setenv("AGENTMESH_SQL_DATABASE", str(tmp_path / "a.db"))
    assert "SQLite" in (build("sql").instructions or "")
    for option, value in (("rows", "5001"), ("timeout", "0"), ("write", "1")):
        with pytest.raises(ServersError, match=option):
            build("sql", **{option: value})


def test_a_databases_url_in_the_place_of_a_file_is_not_told_again(tmp_path: Path) -> None:
    given = {"database": "postgresql://me:hunter2@host/library"}
    (found,) = mistakes("sql", given, tmp_path.joinpath)
    assert (found.option, found.reason) == ("database", "bad_value")
    with pytest.raises(ServersError) as caught:
        build("sql", **given)
    assert caught.value.reason == "bad_option"
    for text in (found.text, caught.value.message):
        assert "hunter2" not in text and "url_env" in text
