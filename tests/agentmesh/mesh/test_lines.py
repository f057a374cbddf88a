from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from agentmesh.mesh.lines import KeyPath, find_places

TEXT = '''\
# a comment with [brackets] and key = 1
top = 1
[a.b]            # header
x = """
fake = 1
[not.a.table]
"""
"quoted.key" = 'lit # no comment'
inline = { p = 1, q = { r = [1, 2] } }
many = [
  "one",  # ] in a comment
  { k = "]" },
  \'\'\'
  three\'\'\',
]
dotted.key.here = "\\"#"
[[list]]
n = 1
[[list]]
n = 2
[list.below]
m = 3
'''


def test_every_key_has_the_line_it_stands_on() -> None:
    tomllib.loads(TEXT)
    places = find_places(TEXT)
    expected: dict[KeyPath, int] = {
        ("top",): 2,
        ("a", "b"): 3,
        ("a", "b", "x"): 4,
        ("a", "b", "quoted.key"): 8,
        ("a", "b", "inline", "p"): 9,
        ("a", "b", "inline", "q", "r"): 9,
        ("a", "b", "inline", "q", "r", 1): 9,
        ("a", "b", "many"): 10,
        ("a", "b", "many", 0): 11,
        ("a", "b", "many", 1, "k"): 12,
        ("a", "b", "many", 2): 13,
        ("a", "b", "dotted", "key", "here"): 16,
        ("list", 0, "n"): 18,
        ("list", 1, "n"): 20,
        ("list", 1, "below", "m"): 22,
    }
    assert {path: places.lines.get(path) for path in expected} == expected
    assert places.repeated == []


def test_a_key_that_is_not_there_has_the_line_of_what_would_hold_it() -> None:
    places = find_places(TEXT)
    assert places.line(("a", "b", "gone")) == 3
    assert places.line(("gone",)) is None


@given(st.text(alphabet="ab.=\"'[]{},#\n\\ 1", max_size=60))
def test_no_text_breaks_the_scan(text: str) -> None:
    find_places(text)


@given(st.text(alphabet="ab.=\"'[]{},#\n 1", max_size=40))
def test_whatever_tomllib_accepts_has_a_line_for_each_key(text: str) -> None:
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    places = find_places(text)

    def check(table: dict[str, object], path: KeyPath) -> None:
        for key, below in table.items():
            assert (*path, key) in places.lines
            if isinstance(below, dict):
                check(below, (*path, key))

    check(value, ())
    assert places.repeated == []
