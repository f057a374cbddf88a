"""What the files server reads, and what nobody gets it to read: links, swaps, devices, and names that mean something."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_servers import ServersError
from agentmesh_servers.files import folder as folders
from agentmesh_servers.files import names, reading, search
from agentmesh_servers.files.search import Search
from agentmesh_servers.files.tree import Tree

SECRET = "outside of what is served"


@pytest.fixture(params=["held open", "by path"])
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to enter a folder: relative to an open one, and by path as on Windows."""
    if request.param == "by path":
        monkeypatch.setattr(folders, "HELD_OPEN", False)
    elif not folders.HELD_OPEN:
        pytest.skip("this system cannot open relative to a folder")
    return str(request.param)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A folder to serve, beside one that is not, with links from the one into the other."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text(SECRET)
    made = tmp_path / "served"
    (made / "letters" / "old").mkdir(parents=True)
    (made / "letters" / "may.txt").write_text("Dear Ada,\nit rains.\nYours, Grace\n")
    (made / "letters" / "old" / "june.md").write_text("# June\n\nDear Grace,\n")
    (made / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (made / ".env").write_text(SECRET)
    (made / "file link").symlink_to("../outside/secret.txt")
    (made / "folder link").symlink_to("../outside")
    (made / "inner link").symlink_to("letters")
    return made


@pytest.fixture
def tree(top: Path, held: str) -> Tree:
    return Tree.of({"": str(top)})


def read(tree: Tree, path: str, first: int = 1, limit: int = reading.MAX_LINES) -> reading.Passage:
    return reading.read_file(tree, path, first=first, limit=limit)


def refusal(tree: Tree, path: str) -> ServersError:
    with pytest.raises(ServersError) as caught:
        read(tree, path)
    assert "\n" not in caught.value.message and len(caught.value.message) < 700
    return caught.value


def found(tree: Tree, path: str = "", *, name: str = "", text: str = "") -> list[tuple[str, int, str]]:
    matches = Search(tree=tree, pattern=name, text=text).run(path).matches
    return [(each.path, each.line, each.text) for each in matches]


def test_a_folder_lists_what_is_in_it_and_no_hidden_names(tree: Tree) -> None:
    listing = reading.list_folder(tree, "")
    assert [(entry.name, entry.kind) for entry in listing.entries] == [
        ("file link", "link"),
        ("folder link", "link"),
        ("inner link", "link"),
        ("letters", "folder"),
        ("photo.png", "file"),
    ]
    assert (listing.count, listing.more) == (5, False)
    assert [entry.size for entry in reading.list_folder(tree, "./letters/").entries] == [33, 0]


def test_a_text_is_read_whole_or_by_lines(tree: Tree) -> None:
    whole = read(tree, "letters/may.txt")
    assert (whole.text, whole.first, whole.last) == ("Dear Ada,\nit rains.\nYours, Grace\n", 1, 3)
    assert (whole.more, whole.shortened, whole.size) == (False, False, 33)
    middle = read(tree, "letters/may.txt", 2, 1)
    assert (middle.text, middle.first, middle.last, middle.more) == ("it rains.\n", 2, 2, True)
    assert not read(tree, "letters/may.txt", 3, 1).more
    with pytest.raises(ServersError, match="has 3 lines, so no line 5"):
        read(tree, "letters/may.txt", 5)


def test_a_long_text_is_given_in_parts_that_make_the_whole(top: Path, tree: Tree) -> None:
    lines = [f"line {number} " + "ä" * (number % 300) + "\n" for number in range(3_000)]
    (top / "long.txt").write_text("".join(lines))
    parts, line, more = [], 1, True
    while more:
        passage = read(tree, "long.txt", line)
        assert len(passage.text.encode()) <= reading.MAX_ANSWER_BYTES
        parts.append(passage.text)
        line, more = passage.last + 1, passage.more
    assert "".join(parts) == "".join(lines) and len(parts) > 10


def test_a_line_longer_than_an_answer_is_cut_between_letters(top: Path, tree: Tree) -> None:
    (top / "one.txt").write_text("ä" * 100_000 + "\nmore\n")
    passage = read(tree, "one.txt")
    assert passage.shortened and passage.more and passage.text == "ä" * (reading.MAX_ANSWER_BYTES // 2)
    (top / "odd.txt").write_text("x" + "ä" * 100_000)
    assert set(read(tree, "odd.txt").text) == {"x", "ä"}


@pytest.mark.parametrize(
    "path",
    [
        "file link",
        "folder link",
        "folder link/secret.txt",
        "inner link",
        "inner link/may.txt",
    ],
)
def test_no_link_is_followed_wherever_it_leads(tree: Tree, path: str) -> None:
    error = refusal(tree, path)
    assert (error.reason, "is a link" in error.message) == ("refused", True)
    with pytest.raises(ServersError):
        reading.list_folder(tree, path)


@pytest.mark.parametrize(
    "path",
    [
        "../outside/secret.txt",
        "letters/../../outside/secret.txt",
        "letters/..",
        "..",
        "/etc/passwd",
        "\\\\server\\share",
        "C:\\Windows\\win.ini",
        "c:secret",
        "~/secret",
        "letters/\0/x",
        "x" * 300,
        "/".join("x" * 70),
    ],
)
def test_a_path_that_could_lead_elsewhere_is_refused_before_it_is_tried(tree: Tree, path: str) -> None:
    assert refusal(tree, path).reason == "bad_input"


def test_hidden_names_are_served_only_when_told(top: Path, tree: Tree) -> None:
    assert refusal(tree, ".env").reason == "refused"
    assert found(tree, text=SECRET) == []
    open_tree = Tree.of({"": str(top)}, hidden=True)
    assert read(open_tree, ".env").text == SECRET
    assert found(open_tree, text="outside") == [(".env", 1, SECRET)]


def test_a_hidden_name_behind_what_cannot_be_seen_is_hidden_too(tree: Tree) -> None:
    assert {refusal(tree, f"{mark}.env").reason for mark in ("\u200c", "\ufeff\u200d", "\x01")} == {"refused"}


@pytest.mark.parametrize(
    "path",
    [
        "CON",
        "nul.txt",
        "letters/aux",
        "letters/may.txt:stream",
        "letters/may.txt.",
        "letters/may.txt ",
        "LETTER~1",
    ],
)
def test_on_windows_no_name_that_means_something_else_is_read(
    tree: Tree, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "WINDOWS", True)
    assert refusal(tree, path).reason == "bad_input"
    assert read(tree, "letters/may.txt").size == 33


def test_a_hard_link_is_the_file_that_it_is(top: Path, tree: Tree) -> None:
    os.link(top / "letters" / "may.txt", top / "same.txt")
    assert read(tree, "same.txt").text == read(tree, "letters/may.txt").text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes in folders")
def test_pipes_sockets_and_devices_are_refused_at_once(top: Path, tree: Tree) -> None:
    os.mkfifo(top / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(top)  # a socket's path has little room
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
        for name in ("pipe", "socket"):
            assert refusal(tree, name).reason == "refused"
            assert reading.file_info(tree, name).kind == "other"
    assert found(tree, name="pipe") == []
    if Path("/dev/zero").exists():
        assert refusal(Tree.of({"": "/dev"}), "zero").reason == "refused"


def test_a_binary_file_is_told_as_one_and_not_decoded(tree: Tree, top: Path) -> None:
    error = refusal(tree, "photo.png")
    assert (error.reason, "16 bytes, image/png" in error.message) == ("unreadable", True)
    (top / "latin.txt").write_bytes("Zürich".encode("latin-1"))
    assert "not UTF-8 text" in refusal(tree, "latin.txt").message
    info = reading.file_info(tree, "photo.png")
    assert (info.text, info.lines, info.media_type) == (False, None, "image/png")


def test_a_file_over_the_limit_is_not_read(top: Path, tree: Tree) -> None:
    with (top / "big.txt").open("wb") as file:
        file.truncate(reading.MAX_FILE_BYTES + 1)  # sparse: it takes no room
    assert refusal(tree, "big.txt").reason == "too_large"
    assert reading.file_info(tree, "big.txt").sha256 is None


def test_a_long_list_is_cut_and_counted(top: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_LISTED", 3)
    for number in range(10):
        (top / "letters" / f"{number}.txt").touch()
    listing = reading.list_folder(tree, "letters")
    assert (len(listing.entries), listing.count) == (3, 12)
    monkeypatch.setattr(folders, "MAX_SCANNED", 5)
    assert reading.list_folder(tree, "letters").more


def test_what_is_known_of_a_file(tree: Tree) -> None:
    info = reading.file_info(tree, "letters/may.txt")
    assert (info.kind, info.size, info.text, info.lines, info.media_type) == (
        "file",
        33,
        True,
        3,
        "text/plain",
    )
    assert info.sha256 == hashlib.sha256(read(tree, "letters/may.txt").text.encode()).hexdigest()
    assert reading.file_info(tree, "").kind == "folder"
    assert reading.file_info(tree, "file link").kind == "link"


def test_a_name_that_is_not_there_gets_the_nearest(tree: Tree) -> None:
    assert "did you mean may.txt?" in refusal(tree, "letters/My.txt").message
    assert "did you mean letters?" in refusal(tree, "Leters/may.txt").message
    assert refusal(tree, "letters/may.txt/x").reason == "bad_input"


def test_a_name_in_another_unicode_form_is_told_not_guessed(top: Path, tree: Tree) -> None:
    (top / unicodedata.normalize("NFD", "café.txt")).write_text("au lait")
    if "café.txt" in os.listdir(top):
        pytest.skip("root may, and this file system takes both forms for one")
    error = refusal(tree, "café.txt")
    assert error.reason == "not_found" and "did you mean" in error.message


def test_names_are_shown_without_control_characters(top: Path, tree: Tree) -> None:
    (top / "a\x1b[2Jb\n\u202ec").touch()
    assert names.shown("a\x1b[2Jb\n\u202ec") == "a\ufffd[2Jb\ufffd\ufffdc"
    os.close(os.open(os.fsencode(top) + b"/\xff\xfe", os.O_CREAT | os.O_WRONLY))
    assert all(names.shown(entry.name).isprintable() for entry in reading.list_folder(tree, "").entries)
    assert len(names.shown("x" * 1_000)) < 210


def test_several_folders_go_by_their_names(top: Path, held: str) -> None:
    tree = Tree.of({"mail": str(top / "letters"), "all": str(top)})
    assert [entry.name for entry in reading.list_folder(tree, "").entries] == ["mail", "all"]
    assert read(tree, "mail/may.txt").text == read(tree, "all/letters/may.txt").text
    for path in ("may.txt", "all/../mail/may.txt", "", "mail"):
        refusal(tree, path)
    assert sorted(path for path, _, _ in found(tree, name="*.md")) == [
        "all/letters/old/june.md",
        "mail/old/june.md",
    ]
    assert found(tree, "mail", text="dear")[0] == ("mail/may.txt", 1, "Dear Ada,")


def test_a_search_goes_by_name_text_or_both(tree: Tree) -> None:
    assert found(tree, name="*.TXT") == [("letters/may.txt", 0, "")]
    assert found(tree, name="letters/**/*.md") == [("letters/old/june.md", 0, "")]
    assert found(tree, text="DEAR") == [
        ("letters/may.txt", 1, "Dear Ada,"),
        ("letters/old/june.md", 3, "Dear Grace,"),
    ]
    assert found(tree, name="*.md", text="dear g") == [("letters/old/june.md", 3, "Dear Grace,")]
    assert found(tree, "letters/old", text="Ada") == [] == found(tree, text="PNG")
    for name, text in (("", ""), ("x" * 201, ""), ("", "a\nb")):
        with pytest.raises(ServersError):
            found(tree, name=name, text=text)


def test_a_search_ends_and_says_why(top: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(150):
        (top / f"n{number}.txt").write_text("needle " * 3 + "\n" + "x" * 500 + " needle " + "y" * 500 + "\n")
    result = Search(tree=tree, pattern="", text="needle").run("")
    assert len(result.matches) == search.MAX_MATCHES and "first 100" in result.cut
    assert all(len(each.text) <= search.MAX_LINE + 2 and "needle" in each.text for each in result.matches)
    monkeypatch.setattr(search, "MAX_VISITED", 20)
    assert "20 files" in Search(tree=tree, pattern="", text="absent").run("").cut
    stopped = Search(tree=tree, pattern="", text="absent")
    stopped.stop.set()
    assert "ended" in stopped.run("").cut
    monkeypatch.setattr(search, "MAX_SEARCHED_BYTES", 10)
    assert Search(tree=tree, pattern="n1*", text="needle").run("").skipped > 0


def test_a_place_is_shown_where_letters_get_longer_when_case_is_set_aside(top: Path, tree: Tree) -> None:
    (top / "long.txt").write_text("ß" * 600 + "Needle" + "x" * 600)
    (shown,) = Search(tree=tree, pattern="", text="needle").run("").matches
    assert "ßßNeedlexx" in shown.text and len(shown.text) <= search.MAX_LINE + 2


def test_a_hostile_pattern_costs_little(top: Path, tree: Tree) -> None:
    (top / ("a" * 200)).touch()
    assert found(tree, name="*a" * 90 + "b") == []


def test_long_names_do_not_make_an_answer_without_end(top: Path, tree: Tree) -> None:
    for number in range(400):
        (top / "letters" / f"{number:03}{'x' * 240}.txt").touch()
    listing = reading.list_folder(tree, "letters")
    assert len(listing.entries) == 265 and listing.count == 402
    result = Search(tree=tree, pattern="*.txt", text="").run("")
    assert len(result.matches) == search.MAX_MATCHES
    monster = Search(tree=tree, pattern="*.txt", text="")
    monster._room = 1_000
    assert 3 < len(monster.run("").matches) < 7


def test_deep_folders_end_the_search_with_a_word(top: Path, tree: Tree) -> None:
    deep = top
    for _ in range(names.MAX_DEPTH + 3):
        deep = deep / "d"
        deep.mkdir()
    (deep / "x.txt").write_text("needle")
    assert "deeper" in Search(tree=tree, pattern="", text="needle").run("").cut


@pytest.mark.skipif(not folders.HELD_OPEN, reason="only a folder that is held open resists a swap")
def test_a_folder_swapped_for_a_link_while_it_is_read_never_leads_out(top: Path) -> None:
    tree = Tree.of({"": str(top)})
    (top / "letters" / "secret.txt").write_text("inside")
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
    seen, refused, number = set(), 0, 0
    end = time.monotonic() + 60  # a busy machine may leave either there for long
    try:
        while number < 1_500 or (not (seen and refused) and time.monotonic() < end):
            number += 1
            try:
                seen.add(read(tree, "letters/secret.txt").text)
            except ServersError as error:
                assert SECRET not in error.message
                refused += 1
            for match in Search(tree=tree, pattern="secret.txt", text="side").run("").matches:
                seen.add(match.text)
    finally:
        stop.set()
        thread.join()
    assert seen == {"inside"} and refused > 0


_NAMES = st.sampled_from(
    [
        "..",
        ".",
        "",
        "file link",
        "folder link",
        "secret.txt",
        "outside",
        "letters",
        "may.txt",
        ".env",
        "~",
        "inner link",
    ]
)


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Tree]:
    with TemporaryDirectory() as folder:
        top = Path(folder).resolve() / "served"
        (top / "letters").mkdir(parents=True)
        (top.parent / "secret.txt").write_text(SECRET)
        (top / "letters" / "may.txt").write_text("Dear Ada")
        (top / ".env").write_text(SECRET)
        (top / "file link").symlink_to("../secret.txt")
        (top / "folder link").symlink_to("..")
        (top / "inner link").symlink_to("letters")
        yield Tree.of({"": str(top)})


@given(st.lists(_NAMES, max_size=6).map("/".join) | st.text(max_size=40))
def test_no_path_whatever_reads_what_is_not_served(fuzzed: Tree, path: str) -> None:
    try:
        text = read(fuzzed, path).text
    except ServersError:
        return
    assert text == "Dear Ada"
