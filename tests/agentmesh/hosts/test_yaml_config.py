"""YAML: one entry comes or goes, and quotes, folds, comments and the width of indentation stay."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.hosts import formats, yaml_config
from agentmesh.hosts.fault import ConfigFault
from agentmesh.hosts.quoting import Entry

SECTION = "extensions"
ENTRY: Entry = {
    "enabled": True,
    "type": "stdio",
    "name": "my desk",
    "cmd": "/opt/a b/bin/python",
    "args": ["-P", 'quote " and \\', "é\x7f\u2028: #"],
    "envs": {"A": "b"},
    "env_keys": [],
    "timeout": 300,
}
TOP = st.sampled_from(
    [
        "GOOSE_MODEL_{n}: gpt   # why",
        "list_{n}:\n  - a\n\n  # in it\n  - b",
        "text_{n}: |\n  # no comment\n  extensions:\n",
        "kept_{n}: |+\n  x\n\n",
        "folded_{n}: >-\n  a\n  b",
        "quoted_{n}: 'it''s: #'",
        'more_{n}: "a\n  b"',
        "flow_{n}: {a: [1, 2], b: }",
        "nothing_{n}:",
        "anchor_{n}: &a{n}\n  k: 1\nalias_{n}: *a{n}",
        "# a comment",
        "",
        "é_{n}: \U0001f9a2",
    ]
)
OTHERS = (
    "developer:\n{i}enabled: true\n{i}args: [ 'a',   b ]\n",
    "memory:\n{i}# what it is\n{i}type: builtin # here\n\n",
    "last:\n{i}text: |\n{i}{i}x\n{i}list:\n{i}- 1\n",
    "'quoted': {{type: x}}\n# at the margin\n",
    "nothing:\n",
    "folded:\n{i}about: >\n{i}  a\n{i}  b\n\n",
)


@st.composite
def configs(draw: st.DrawFn) -> tuple[str, bool]:
    """A Goose configuration as people and programs write it, and whether it has entries."""
    parts = [draw(TOP).replace("{n}", str(number)) for number in range(draw(st.integers(0, 3)))]
    others = draw(st.lists(st.sampled_from(OTHERS), unique=True, max_size=3))
    if draw(st.booleans()):
        unit = " " * draw(st.sampled_from([2, 4]))
        block = "".join(each.format(i=unit) for each in others)
        inside = "".join(
            f"{unit}{line}\n" if line and not line.startswith("#") else f"{line}\n"
            for line in block.splitlines()
        )
        empty = draw(st.sampled_from(["extensions: {}", "extensions:", "extensions: {}  # none"]))
        held = (
            f"extensions:{draw(st.sampled_from(['', '  # mine']))}\n{inside}".rstrip("\n")
            if others
            else empty
        )
        parts.insert(draw(st.integers(0, len(parts))), held)
    else:
        others = []
    text = (
        draw(st.sampled_from(["", "---\n", "# top\n\n"]))
        + "\n".join(parts)
        + draw(st.sampled_from(["", "\n", "\n\n"]))
    )
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text, bool(others)


@given(config=configs())
def test_an_entry_that_came_and_went_leaves_every_byte_as_it_was(config: tuple[str, bool]) -> None:
    text, has_entries = config
    try:
        after = formats.put(formats.YAML, text, SECTION, "desk", ENTRY)
    except ConfigFault as fault:
        # A block scalar without a last line end is another text with one: then nothing is done.
        assert "cannot be changed safely" in str(fault) and not text.endswith("\n")
        return
    assert yaml.safe_load(after)[SECTION]["desk"] == ENTRY
    assert formats.put(formats.YAML, after, SECTION, "desk", ENTRY) == after
    again = formats.drop(formats.YAML, after, SECTION, "desk")
    if has_entries:
        assert again == text
    assert formats.drop(formats.YAML, after, SECTION, "desk", [text]) == text
    lines = iter(after.splitlines())
    assert all(line in lines for line in text.splitlines() if not line.startswith("extensions:"))


@given(config=configs())
def test_an_entry_is_replaced_where_it_stands(config: tuple[str, bool]) -> None:
    try:
        once = formats.put(formats.YAML, config[0], SECTION, "desk", {"cmd": "old", "args": ["a"]})
    except ConfigFault:
        return
    other = formats.put(formats.YAML, once, SECTION, "zz", {"cmd": "y"})
    after = formats.put(formats.YAML, other, SECTION, "desk", ENTRY)
    assert list(formats.entries(formats.YAML, after, SECTION)) == list(
        formats.entries(formats.YAML, other, SECTION)
    )
    assert yaml.safe_load(after)[SECTION]["desk"] == ENTRY


@given(text=st.text(alphabet="extnsio:{}[]-|>&*!%@`'\"#\n ?,ab1~"))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        after = formats.put(formats.YAML, text, SECTION, "desk", {"cmd": "x"})
    except ConfigFault:
        return
    assert formats.entries(formats.YAML, after, SECTION)["desk"] == {"cmd": "x"}


def test_the_entry_comes_after_the_last_one_at_its_width() -> None:
    text = "extensions:\n    developer:\n        enabled: true\n\nGOOSE_MODEL: x\n"
    assert formats.put(formats.YAML, text, SECTION, "desk", {"cmd": "x"}) == (
        'extensions:\n    developer:\n        enabled: true\n    desk:\n        cmd: "x"\n\nGOOSE_MODEL: x\n'
    )


def test_a_section_that_is_left_empty_is_an_empty_mapping_and_not_null() -> None:
    text = "extensions: # mine\n  desk:\n    cmd: x\nz: 1\n"
    assert formats.drop(formats.YAML, text, SECTION, "desk") == "extensions: {} # mine\nz: 1\n"


def test_names_that_yaml_would_read_as_something_else_are_quoted() -> None:
    for name in ("on", "1", "null", "a b", "é", "1e3"):
        after = formats.put(formats.YAML, "", SECTION, name, {"cmd": "x"})
        assert list(yaml.safe_load(after)[SECTION]) == [name]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1\n", 2),
        ("- a\n", 1),
        ("extensions:\n  - a\n", None),
        ("extensions: text\n", None),
        ("extensions: {a: {b: 1}}\n", 1),
        ("{a: 1}\n", 1),
        ("a: 1\n---\nb: 2\n", 2),
        ("\ta: 1\n", 1),
        ("extensions:\n  a: 1\nextensions:\n  b: 1\n", 3),
        ("a: " + "[" * 3000 + "]" * 3000, None),
        ("extensions: &e\n  a: *e\n", None),
    ],
)
def test_what_cannot_be_changed_safely_is_refused(text: str, line: int | None) -> None:
    with pytest.raises(ConfigFault) as caught:
        formats.put(formats.YAML, text, SECTION, "desk", ENTRY)
    assert caught.value.line == line or line is None


def test_ten_lines_that_stand_for_a_billion_values_are_read_at_once() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20)
    )
    after = formats.put(formats.YAML, bomb, SECTION, "desk", {"cmd": "x"})
    assert after.startswith(bomb)
    assert yaml_config.read(after)[SECTION] == {"desk": {"cmd": "x"}}
