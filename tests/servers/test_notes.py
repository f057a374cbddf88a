from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh_servers import ServersError
from agentmesh_servers.notes.folder import MAX_NOTE_BYTES, NotesFolder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "notes"
    root.mkdir()
    (root / "shopping.md").write_text("# Shopping List\n\nmilk\nbread\n")
    (root / "holiday.md").write_text("# Holiday Plans\n\nTrain to Málaga on Friday. Buy bread.\n")
    (root / "no-heading.md").write_text("Only text here.\n")
    return root


def test_a_search_lists_titles_that_hold_every_word(folder: Path) -> None:
    notes = NotesFolder.open(folder)
    assert notes.search("bread").text == "2 notes: Holiday Plans; Shopping List"
    assert notes.search("milk").text == "1 note: Shopping List"
    assert notes.search("bread milk").text == "1 note: Shopping List"
    assert notes.search("submarine").text == "No note matches."


def test_case_accents_and_filler_words_do_not_count(folder: Path) -> None:
    notes = NotesFolder.open(folder)
    assert notes.search("MALAGA").titles == ("Holiday Plans",)
    assert notes.search("málaga").titles == ("Holiday Plans",)
    assert notes.search("my notes about the holiday").titles == ("Holiday Plans",)
    assert notes.search("on").titles == ("Holiday Plans", "no-heading")


def test_a_hit_in_the_title_comes_first(folder: Path) -> None:
    (folder / "a.md").write_text("# Aardvark\n\nholiday holiday\n")
    assert NotesFolder.open(folder).search("holiday").titles == ("Holiday Plans", "Aardvark")


def test_a_long_list_says_how_many_it_leaves_out(folder: Path) -> None:
    for number in range(25):
        (folder / f"n{number:02}.md").write_text(f"# Bird {number:02}\n")
    found = NotesFolder.open(folder).search("bird")
    assert (found.count, len(found.titles)) == (25, 20)
    assert found.text.startswith("25 notes: Bird 00; ") and found.text.endswith("; and 5 more")


def test_an_empty_query_is_refused(folder: Path) -> None:
    with pytest.raises(ServersError, match="words to look for"):
        NotesFolder.open(folder).search(" ?! ")


@pytest.mark.parametrize(
    "title",
    [
        "Shopping List",
        "shopping list",
        "SHOPPING LIST.md",
        '"Shopping List"',
        "`shopping`",
        "shopping.md",
        "Shopping-List",
        "shopp",
    ],
)
def test_a_title_is_read_however_it_is_written(folder: Path, title: str) -> None:
    note = NotesFolder.open(folder).read(title)
    assert (note.title, note.text) == ("Shopping List", "milk\nbread")


def test_a_note_without_heading_is_called_after_its_file(folder: Path) -> None:
    note = NotesFolder.open(folder).read("no heading")
    assert (note.title, note.text) == ("no-heading", "Only text here.")


def test_a_heading_in_a_code_block_is_no_title(folder: Path) -> None:
    (folder / "code.md").write_text("```\n# comment\n```\n# Real ##\nbody\n")
    assert NotesFolder.open(folder).read("Real").text == "```\n# comment\n```\nbody"


def test_two_notes_of_one_title_are_told_apart(folder: Path) -> None:
    (folder / "other.md").write_text("# Shopping list\n\npaint\n")
    notes = NotesFolder.open(folder)
    assert notes.search("shopping").titles == ("Shopping list (other)", "Shopping List (shopping)")
    assert notes.read("Shopping list (other)").text == "paint"


def test_an_unknown_title_gets_the_nearest_ones(folder: Path) -> None:
    notes = NotesFolder.open(folder)
    with pytest.raises(ServersError, match="did you mean Shopping List"):
        notes.read("Shoping Lists")
    with pytest.raises(ServersError, match="call search_notes"):
        notes.read("quantum chromodynamics")
    with pytest.raises(ServersError, match="holds no notes"):
        (folder / "empty").mkdir()
        NotesFolder.open(folder / "empty").read("x")


def test_an_empty_note_says_that_it_is_empty(folder: Path) -> None:
    (folder / "blank.md").write_text("# Blank\n")
    assert NotesFolder.open(folder).read("Blank").text == "(This note is empty.)"


def test_notes_in_subfolders_are_found(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "deep.md").write_text("# Deep\n\ntreasure\n")
    assert NotesFolder.open(folder).search("treasure").titles == ("Deep",)


def _secrets(tmp_path: Path) -> Path:
    secret = tmp_path / "secret.md"
    secret.write_text("# Secret\n\nhush\n")
    return secret


def test_links_that_leave_the_folder_lead_nowhere(folder: Path, tmp_path: Path) -> None:
    secret = _secrets(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "more.md").write_text("# More\n\nhush\n")
    (folder / "link.md").symlink_to(secret)
    (folder / "linked").symlink_to(outside, target_is_directory=True)
    (folder / "loop.md").symlink_to(folder / "loop.md")
    (folder / "dangling.md").symlink_to(tmp_path / "gone.md")
    notes = NotesFolder.open(folder)
    assert notes.search("hush").count == 0
    assert len(notes.notes()) == 3


def test_a_link_inside_the_folder_is_followed(folder: Path) -> None:
    (folder / "alias.md").symlink_to(folder / "shopping.md")
    assert NotesFolder.open(folder).search("milk").count == 2


@pytest.mark.parametrize(
    "title", ["../secret", "../secret.md", "/etc/passwd", "..", ".", "", "sub/../../secret.md", "\x00"]
)
def test_a_title_is_never_a_path(folder: Path, tmp_path: Path, title: str) -> None:
    _secrets(tmp_path)
    with pytest.raises(ServersError) as caught:
        NotesFolder.open(folder).read(title)
    assert caught.value.reason == "not_found"


def test_hidden_huge_and_strange_files_are_left_out(folder: Path) -> None:
    (folder / ".hidden.md").write_text("# Hidden\n\nhush\n")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.md").write_text("hush")
    (folder / "huge.md").write_text("hush " * (MAX_NOTE_BYTES // 5 + 1))
    (folder / "picture.png").write_text("hush")
    os.mkfifo(folder / "pipe.md")
    assert NotesFolder.open(folder).search("hush").count == 0


def test_bytes_that_are_no_text_are_read_with_replacement(folder: Path) -> None:
    (folder / "binary.md").write_bytes(b"\xef\xbb\xbf# T\x1b[31mitle\n\xff\xfe text")
    note = NotesFolder.open(folder).read("binary")
    assert note.title == "T [31mitle"
    assert "text" in note.text


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for wrong in (tmp_path / "gone", _secrets(tmp_path), Path("\x00")):
        with pytest.raises(ServersError) as caught:
            NotesFolder.open(wrong)
        assert caught.value.reason == "bad_option"


@settings(max_examples=50, deadline=None)
@given(raw=st.binary(max_size=300), asked=st.text(max_size=30))
def test_any_file_and_any_question_give_an_answer_or_this_packages_error(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, asked: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "n.md").write_bytes(raw)
    notes = NotesFolder.open(folder)
    for question in (notes.search, notes.read):
        try:
            assert question(asked).text  # type: ignore[operator]  # both take one text
        except ServersError as error:
            assert "\n" not in error.message


def test_notes_alike_in_title_and_file_name_are_told_apart_by_their_paths(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "a.md").write_text("# Alpha\n\nfirst\n")
    (folder / "sub" / "a.md").write_text("# Alpha\n\nsecond\n")
    (folder / "other.md").write_text("# Alpha\n\nthird\n")
    notes = NotesFolder.open(folder)
    titles = notes.search("alpha").titles
    assert titles == ("Alpha (a)", "Alpha (other)", "Alpha (sub/a)")
    assert [notes.read(title).text for title in titles] == ["first", "third", "second"]
