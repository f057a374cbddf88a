"""What the files server changes: whole or not at all, never through a link, and only where it was allowed."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmesh_servers import ServersError, build
from agentmesh_servers.files import folder as folders
from agentmesh_servers.files import writing
from agentmesh_servers.files.tree import Tree
from agentmesh_servers.files.writing import delete, edit_file, make_folder, move, write_file

OUTSIDE = "not to be touched"


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept.txt").write_text(OUTSIDE)
    made = tmp_path / "served"
    (made / "letters").mkdir(parents=True)
    (made / "letters" / "may.txt").write_text("Dear Ada,\nit rains.\n")
    (made / "file link").symlink_to("../outside/kept.txt")
    (made / "folder link").symlink_to("../outside")
    return made


@pytest.fixture(params=["held open", "by path"])
def tree(request: pytest.FixtureRequest, top: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    if request.param == "by path":
        monkeypatch.setattr(folders, "HELD_OPEN", False)
    return Tree.of({"": str(top)})


def refused(work: Callable[[], object]) -> ServersError:
    with pytest.raises(ServersError) as caught:
        work()
    assert "\n" not in caught.value.message
    return caught.value


def everything(top: Path) -> dict[str, str]:
    """All names below, with the text of files and the targets of links."""
    found = {}
    for path in sorted(top.rglob("*")):
        what = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else "folder"
        found[path.relative_to(top).as_posix()] = what
    return found


def test_a_file_is_written_and_replaced_only_when_told(tree: Tree, top: Path) -> None:
    assert write_file(tree, "letters/june.txt", "zonnig é\n", overwrite=False).size == 10
    assert (top / "letters" / "june.txt").read_bytes() == "zonnig é\n".encode()
    error = refused(lambda: write_file(tree, "letters/june.txt", "x", overwrite=False))
    assert error.reason == "exists" and (top / "letters" / "june.txt").read_text() == "zonnig é\n"
    os.chmod(top / "letters" / "june.txt", 0o640)
    assert write_file(tree, "letters/june.txt", "x", overwrite=True).done == "replaced"
    assert (top / "letters" / "june.txt").read_text() == "x"
    assert stat.S_IMODE((top / "letters" / "june.txt").stat().st_mode) == 0o640
    assert refused(lambda: write_file(tree, "gone/june.txt", "x", overwrite=True)).reason == "not_found"
    assert refused(lambda: write_file(tree, "letters", "x", overwrite=True)).reason == "refused"


def test_a_new_file_has_the_permissions_that_new_files_have(tree: Tree, top: Path) -> None:
    (top / "usual.txt").write_text("")
    write_file(tree, "new.txt", "", overwrite=False)
    assert (top / "new.txt").stat().st_mode == (top / "usual.txt").stat().st_mode


def test_nothing_is_changed_through_a_link(tree: Tree, top: Path) -> None:
    before = everything(top.parent)
    for work in (
        lambda: write_file(tree, "file link", "x", overwrite=True),
        lambda: write_file(tree, "folder link/new.txt", "x", overwrite=True),
        lambda: write_file(tree, "folder link/kept.txt", "x", overwrite=True),
        lambda: edit_file(tree, "file link", "not", "now"),
        lambda: edit_file(tree, "folder link/kept.txt", "not", "now"),
        lambda: make_folder(tree, "folder link/new"),
        lambda: move(tree, "file link", "moved"),
        lambda: move(tree, "folder link/kept.txt", "moved"),
        lambda: move(tree, "letters/may.txt", "folder link/may.txt"),
        lambda: move(tree, "letters/may.txt", "../outside/may.txt"),
        lambda: delete(tree, "file link"),
        lambda: delete(tree, "folder link"),
        lambda: delete(tree, "folder link/kept.txt"),
        lambda: delete(tree, ""),
        lambda: move(tree, "", "letters/all"),
        lambda: write_file(tree, "", "x", overwrite=True),
    ):
        refused(work)
    assert everything(top.parent) == before


def test_a_hard_link_elsewhere_keeps_what_it_had(tree: Tree, top: Path) -> None:
    os.link(top.parent / "outside" / "kept.txt", top / "same.txt")
    write_file(tree, "same.txt", "new", overwrite=True)
    assert (top / "same.txt").read_text() == "new"
    assert (top.parent / "outside" / "kept.txt").read_text() == OUTSIDE


def test_an_edit_replaces_a_text_that_is_there_once(tree: Tree, top: Path) -> None:
    may = top / "letters" / "may.txt"
    edit_file(tree, "letters/may.txt", "it rains", "it pours")
    assert may.read_text() == "Dear Ada,\nit pours.\n"
    assert "2 times" in refused(lambda: edit_file(tree, "letters/may.txt", "a", "x")).message
    assert refused(lambda: edit_file(tree, "letters/may.txt", "snows", "x")).reason == "not_found"
    assert refused(lambda: edit_file(tree, "letters/may.txt", "", "x")).reason == "bad_input"
    assert may.read_text() == "Dear Ada,\nit pours.\n"
    may.write_text("1001001")
    assert "2 times" in refused(lambda: edit_file(tree, "letters/may.txt", "1001", "x")).message
    may.write_bytes(b"one\r\ntwo\r\n")
    edit_file(tree, "letters/may.txt", "two\r\n", "")
    assert may.read_bytes() == b"one\r\n"
    may.write_bytes(b"\0\1")
    assert refused(lambda: edit_file(tree, "letters/may.txt", "a", "b")).reason == "unreadable"


def test_an_edit_of_a_file_that_changed_meanwhile_is_refused(
    tree: Tree, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may = top / "letters" / "may.txt"
    require = writing.require_text

    def change(*given: object) -> None:
        require(*given)  # type: ignore[arg-type]
        may.write_text("Dear Grace, it rains very much")

    monkeypatch.setattr(writing, "require_text", change)
    error = refused(lambda: edit_file(tree, "letters/may.txt", "rains", "pours"))
    assert error.reason == "failed" and may.read_text() == "Dear Grace, it rains very much"


def test_what_is_too_large_or_no_text_is_not_written(tree: Tree, top: Path) -> None:
    before = everything(top)
    most = writing.MAX_WRITE_BYTES
    assert refused(lambda: write_file(tree, "a", "x" * (most + 1), overwrite=True)).reason == "too_large"
    assert refused(lambda: write_file(tree, "a", "é" * (most // 2 + 1), overwrite=True)).reason == "too_large"
    assert refused(lambda: edit_file(tree, "letters/may.txt", "rains", "x" * most)).reason == "too_large"
    assert refused(lambda: write_file(tree, "a", "\ud800", overwrite=True)).reason == "bad_input"
    assert everything(top) == before
    assert write_file(tree, "a", "x" * most, overwrite=False).size == most


@pytest.mark.parametrize(
    "name",
    [
        "CON",
        "nul.txt",
        "Com1.md",
        "lpt9",
        "COM¹",
        "a:b",
        "a\\b",
        "a*",
        "a?",
        'a"',
        "a<b",
        "a|b",
        "ends with dot.",
        " begins with a space",
        "ends with a space ",
        "line\nbreak",
        "bell\x07",
        "turned \u202e txt",
        "zero\u200bwidth",
        unicodedata.normalize("NFD", "café"),
        "x" * 256,
        "é" * 128,
        ".hidden",
    ],
)
def test_a_name_that_some_system_takes_for_something_else_is_not_made(
    tree: Tree, top: Path, name: str
) -> None:
    before = everything(top)
    for work in (
        lambda: write_file(tree, name, "x", overwrite=True),
        lambda: make_folder(tree, name),
        lambda: make_folder(tree, f"new/{name}/x"),
        lambda: move(tree, "letters/may.txt", name),
    ):
        refused(work)
        before.setdefault("new", "folder")
    (top / "new").mkdir(exist_ok=True)
    assert everything(top) == before


def test_a_name_that_differs_in_case_or_accents_only_is_not_made(tree: Tree, top: Path) -> None:
    (top / unicodedata.normalize("NFD", "café")).touch()
    for name in ("LETTERS", "Letters", "café", "CAFÉ"):
        if (top / name).exists():
            continue  # this file system takes the two for one
        assert refused(lambda name=name: write_file(tree, name, "x", overwrite=True)).reason == "exists"
        assert refused(lambda name=name: make_folder(tree, name)).reason == "exists"


def test_a_name_may_change_its_case(tree: Tree, top: Path) -> None:
    move(tree, "letters", "Letters")
    move(tree, "Letters/may.txt", "Letters/May.txt")
    assert os.listdir(top / "Letters") == ["May.txt"]


def test_folders_are_made_with_those_above_them(tree: Tree, top: Path) -> None:
    assert make_folder(tree, "a/b/c").done == "made"
    assert make_folder(tree, "a/b/c").done == "there already"
    assert (top / "a" / "b" / "c").is_dir()
    assert refused(lambda: make_folder(tree, "letters/may.txt/x")).reason in ("exists", "bad_input")


def test_a_move_replaces_nothing(tree: Tree, top: Path) -> None:
    write_file(tree, "june.txt", "june", overwrite=False)
    assert refused(lambda: move(tree, "june.txt", "letters/may.txt")).reason == "exists"
    assert refused(lambda: move(tree, "june.txt", "letters")).reason == "exists"
    assert refused(lambda: move(tree, "gone.txt", "x.txt")).reason == "not_found"
    make_folder(tree, "empty")
    assert refused(lambda: move(tree, "letters", "empty")).reason == "exists"
    assert refused(lambda: move(tree, "letters", "letters/inner")).reason == "unreadable"
    move(tree, "june.txt", "letters/june.txt")
    move(tree, "letters", "empty/post")
    assert {name: text for name, text in everything(top).items() if "link" not in name} == {
        "empty": "folder",
        "empty/post": "folder",
        "empty/post/june.txt": "june",
        "empty/post/may.txt": "Dear Ada,\nit rains.\n",
    }


def test_a_file_and_an_empty_folder_can_be_deleted_and_a_full_one_cannot(tree: Tree, top: Path) -> None:
    assert "not empty" in refused(lambda: delete(tree, "letters")).message
    assert delete(tree, "letters/may.txt").done == "deleted"
    delete(tree, "letters")
    assert refused(lambda: delete(tree, "letters")).reason == "not_found"
    assert not (top / "letters").exists()


def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(
    tree: Tree, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = everything(top)
    monkeypatch.setattr(os, "fsync", full)
    error = refused(lambda: write_file(tree, "letters/may.txt", "new", overwrite=True))
    assert error.message == "letters/may.txt: the disk is full"
    refused(lambda: write_file(tree, "new.txt", "new", overwrite=False))
    assert everything(top) == before


def test_without_hard_links_a_new_file_is_still_written(
    tree: Tree, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_given: object, **_more: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    write_file(tree, "new.txt", "new", overwrite=False)
    assert (top / "new.txt").read_text() == "new" and len(os.listdir(top)) == 4


def test_of_many_that_make_one_file_one_succeeds_and_readers_see_it_whole(tree: Tree, top: Path) -> None:
    texts = [str(number) * 200_000 for number in range(8)]
    done: list[str] = []

    def make(text: str) -> None:
        try:
            write_file(tree, "one.txt", text, overwrite=False)
        except ServersError as error:
            assert error.reason == "exists"
        else:
            done.append(text)
        write_file(tree, "two.txt", text, overwrite=True)

    (top / "two.txt").write_text("9" * 200_000)
    threads = [threading.Thread(target=make, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen = (top / "two.txt").read_text()
        assert len(seen) == 200_000 and len(set(seen)) == 1
    assert len(done) == 1 and (top / "one.txt").read_text() == done[0]
    assert [name for name in os.listdir(top) if name.startswith(".")] == []


@pytest.mark.skipif(not folders.HELD_OPEN, reason="only a folder that is held open resists a swap")
def test_a_folder_swapped_for_a_link_while_it_is_written_never_leads_out(top: Path) -> None:
    tree = Tree.of({"": str(top)})
    (top / "other").symlink_to("../outside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (top / "letters").rename(top / "away")
            (top / "other").rename(top / "letters")
            (top / "letters").rename(top / "other")
            (top / "away").rename(top / "letters")

    thread = threading.Thread(target=swap)
    thread.start()
    written = number = 0
    end = time.monotonic() + 60  # a busy machine may leave the link there for long
    try:
        while number < 400 or (written == 0 and time.monotonic() < end):
            number += 1
            try:
                write_file(tree, f"letters/n{number}.txt", "x", overwrite=False)
                written += 1
                write_file(tree, "letters/kept.txt", "x", overwrite=True)
                delete(tree, "letters/kept.txt")
            except ServersError:
                pass  # it met the link
    finally:
        stop.set()
        thread.join()
    assert written > 0 and everything(top.parent / "outside") == {"kept.txt": OUTSIDE}


def test_without_write_there_are_no_tools_that_change(top: Path) -> None:
    for wrong in ("yes", "1", "TRUE", ""):
        with pytest.raises(ServersError, match='"true" or "false"'):
            build("files", folder=str(top), write=wrong)
