"""A host's file on the disk: kept before it changes, replaced whole, through links, with its permissions, one at a time."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from agentmesh.hosts import config_file
from agentmesh.hosts.config_file import Change, change_config, read_config
from agentmesh.hosts.fault import ConfigFault


def write(path: Path, text: str, *, kept: bool = False) -> Change:
    return change_config(
        path, lambda before, earlier: text, lambda before, earlier: kept or before in earlier
    )


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_a_file_and_its_folder_are_made_where_they_are_not(tmp_path: Path) -> None:
    path = tmp_path / "a b" / "é" / "config.json"
    assert write(path, "one") == Change(path=path, changed=True)
    assert path.read_text() == "one" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(path.parent) == ["config.json"]


def test_what_was_there_is_kept_once_and_never_replaced_by_what_came_later(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("first")
    assert write(path, "second").backup == tmp_path / "config.json.bak"
    later = write(path, "third").backup
    assert later is not None and later.name.startswith("config.json.2")
    assert (tmp_path / "config.json.bak").read_text() == "first" and later.read_text() == "second"
    write(path, "first")
    assert write(path, "fourth").backup is None  # "first" is kept already
    assert sorted(each.read_text() for each in tmp_path.glob("*.bak")) == ["first", "second", "third"]


def test_backups_of_the_same_second_have_names_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_file.time, "strftime", lambda form: "20261129-120000")
    path = tmp_path / "c"
    path.write_text("0")
    for number in range(1, 5):
        write(path, str(number))
    assert sorted(each.read_text() for each in tmp_path.glob("*.bak")) == ["0", "1", "2", "3"]


def test_nothing_is_written_where_nothing_changes(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_text("same")
    before = path.stat()
    assert write(path, "same") == Change(path=path, changed=False)
    assert path.stat() == before and names(tmp_path) == ["c"]


def test_a_link_stays_and_its_target_changes_with_the_permissions_it_had(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "settings.json"
    real.parent.mkdir()
    real.write_text("old")
    real.chmod(0o640)
    link = tmp_path / "home" / "settings.json"
    link.parent.mkdir()
    link.symlink_to("../dotfiles/settings.json")
    assert write(link, "new").backup == real.with_name("settings.json.bak")
    assert link.is_symlink() and real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert stat.S_IMODE(real.with_name("settings.json.bak").stat().st_mode) == 0o640
    assert names(link.parent) == ["settings.json"]


def test_a_link_to_nothing_makes_its_target(tmp_path: Path) -> None:
    link = tmp_path / "c"
    link.symlink_to(tmp_path / "later" / "c")
    write(link, "new")
    assert link.is_symlink() and (tmp_path / "later" / "c").read_text() == "new"


def test_what_the_host_writes_meanwhile_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_text("a")
    turns: list[str] = []

    def edit(before: str, earlier: Sequence[str]) -> str:
        turns.append(before)
        if len(turns) == 1:
            path.write_text("a host's")  # after it was read, before it is replaced
        return before + " + ours"

    change_config(path, edit, lambda before, earlier: True)
    assert path.read_text() == "a host's + ours" and turns == ["a", "a host's"]


def test_a_file_that_never_rests_is_given_up_on(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_text("")

    def edit(before: str, earlier: Sequence[str]) -> str:
        path.write_text(before + "x")
        return "ours"

    with pytest.raises(Exception, match="another program keeps writing it") as caught:
        change_config(path, edit, lambda before, earlier: True)
    assert getattr(caught.value, "reason", None) == "busy"
    assert set(path.read_text()) == {"x"} and names(tmp_path) == ["c"]


def test_an_edit_that_refuses_leaves_all_as_it_was_and_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_text("old")

    def edit(before: str, earlier: Sequence[str]) -> str:
        raise ConfigFault("is odd", line=3)

    with pytest.raises(ConfigFault, match=f"{path}:3: is odd"):
        change_config(path, edit, lambda before, earlier: False)
    assert path.read_text() == "old" and names(tmp_path) == ["c"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xef\xbb\xbf{}", ":1: begins with a byte order mark"),
        (b"\xff\xfe{\x00}\x00", ":1: begins with a byte order mark"),
        (b"{}\n\n\xe9", ":3: is not text in UTF-8"),
    ],
)
def test_what_is_no_plain_utf8_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "c"
    path.write_bytes(data)
    with pytest.raises(ConfigFault) as caught:
        write(path, "new")
    assert str(caught.value).startswith(f"{path}{said}") and caught.value.hint
    assert path.read_bytes() == data and names(tmp_path) == ["c"]


def test_a_folder_or_a_pipe_in_the_files_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises((ConfigFault, OSError)) as caught:
            read_config(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_a_folder_that_takes_no_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    path = tmp_path / "c"
    path.write_text("old")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            write(path, "new")
    finally:
        tmp_path.chmod(0o700)
    assert path.read_text() == "old"


COUNT = """
import sys
from pathlib import Path
from agentmesh.hosts.config_file import change_config
for _ in range(25):
    change_config(Path(sys.argv[1]), lambda text, earlier: str(int(text or 0) + 1), lambda text, earlier: True)
"""


def test_four_programs_at_once_lose_none_of_each_others_changes(tmp_path: Path) -> None:
    path = tmp_path / "c"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    running = [subprocess.Popen([sys.executable, "-c", COUNT, str(path)], env=env) for _ in range(4)]
    assert [each.wait(timeout=120) for each in running] == [0, 0, 0, 0]
    assert path.read_text() == "100" and names(tmp_path) == ["c"]
