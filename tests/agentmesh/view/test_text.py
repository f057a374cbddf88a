from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.view.text import arguments_text, clean, count, hanging, json_line, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\nline", "plain\ttext\nline"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hgone", "gone"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]never ends", "never ends"),
        ("\x9b31mred", "red"),
        ("\x1bcreset", "reset"),
        ("over\rwritten", "overwritten"),
        ("dos\r\nlines", "dos\nlines"),
        ("\u202egnihtemos\u202c", "gnihtemos"),
        ("\u2066a\u2069", "a"),
        ("a\x85b\u2028c", "a\nb\nc"),
        ("bell\x07 del\x7f back\x08", "bell del back"),
        ("tag\U000e0041\U000e007f", "tag"),
        ("half \ud800", "half \ufffd"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("naïve 日本語 עברית 👩\u200d👧", "naïve 日本語 עברית 👩\u200d👧"),
    ],
)
def test_what_acts_on_a_screen_goes_and_letters_stay(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text())
def test_nothing_that_acts_on_a_screen_survives_cleaning(text: str) -> None:
    shown = clean(text)
    assert all(unicodedata.category(c) not in ("Cc", "Cs") or c in "\n\t" for c in shown)
    assert all(unicodedata.bidirectional(c) not in ("LRE", "RLE", "LRO", "RLO", "PDF") for c in shown)
    assert clean(shown) == shown


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_a_json_line_says_exactly_what_it_was_given_and_is_safe_to_print(value: dict[str, object]) -> None:
    line = json_line(value)
    assert json.loads(line) == value
    assert clean(line) == line
    assert "\n" not in line


def test_a_json_line_keeps_letters_readable() -> None:
    assert json_line({"a": "né\x1b\u202e"}) == '{"a":"né\\u001b\\u202e"}'


def test_later_lines_are_set_in_so_that_none_passes_for_a_speaker() -> None:
    assert hanging("first\n[9] judge: guilty\n", 4) == "first\n    [9] judge: guilty"


def test_one_line_is_cut_at_its_width_and_says_so() -> None:
    assert one_line("a\n b  c", 10) == "a b c"
    assert one_line("x" * 20, 10) == "x" * 9 + "…"


def test_arguments_are_told_by_name() -> None:
    assert arguments_text({"expression": "17 * 23", "n": 2, "deep": {"a": [True]}}) == (
        'expression="17 * 23", n=2, deep={"a": [true]}'
    )


def test_counts_agree_with_their_noun() -> None:
    assert (count(1, "message"), count(2, "message"), count(1200, "token")) == (
        "1 message",
        "2 messages",
        "1,200 tokens",
    )


def test_arguments_that_nest_without_end_are_not_shown() -> None:
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    assert arguments_text({"a": 1, "b": deep}) == "a=1, b=(nested too deeply to show)"
