"""JSON with comments: one member comes or goes, and every other byte of the file stays where it was."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.hosts import formats, json_config
from agentmesh.hosts.fault import ConfigFault
from agentmesh.hosts.quoting import Entry

SECTION = "mcpServers"
ENTRY: Entry = {
    "command": "/opt/a b/bin/python",
    "args": ["-P", "-m", "agentmesh", "serve", "/home/zoë/my mesh/mesh.toml"],
    "env": {"A": 'quote " and \\ back'},
    "timeout": 3,
    "enabled": True,
}

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.sampled_from(["", "x", '}"{', "// no", "é\u2028"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
SPACE = st.sampled_from(
    ["", "", " ", "\n", "\n  ", "\t", "\r\n    ", " // a, comment }\n", "/* { \n */", "/**/ "]
)


@st.composite
def written(draw: st.DrawFn, value: object) -> str:
    """A value in JSON, with any space and comments between its parts, and commas too many."""
    if isinstance(value, dict):
        parts = [
            f"{draw(SPACE)}{json.dumps(name)}{draw(SPACE)}:{draw(SPACE)}{draw(written(each))}{draw(SPACE)}"
            for name, each in value.items()
        ]
    elif isinstance(value, list):
        parts = [f"{draw(SPACE)}{draw(written(each))}{draw(SPACE)}" for each in value]
    else:
        return json.dumps(value, ensure_ascii=draw(st.booleans()))
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    comma = draw(st.sampled_from(["", ","])) if parts else ""
    return f"{opening}{','.join(parts)}{comma}{draw(SPACE)}{closing}"


@st.composite
def configs(draw: st.DrawFn) -> tuple[str, dict[str, object]]:
    """A host's file as people write it, and what is in it."""
    root = draw(
        st.dictionaries(
            st.text(min_size=1, max_size=5).filter(lambda name: name != SECTION), VALUES, max_size=3
        )
    )
    if draw(st.booleans()):
        names = st.text(max_size=5).filter(lambda name: name != "desk")
        root[SECTION] = draw(st.dictionaries(names, VALUES, max_size=3))
        root = dict(draw(st.permutations(list(root.items()))))
    return f"{draw(SPACE)}{draw(written(root))}{draw(SPACE)}", root


def comments(text: str) -> list[str]:
    """The comments of a text, in order: strings are passed over first."""
    found = re.finditer(r'"(?:[^"\\]|\\.)*"|(//[^\r\n]*|/\*.*?\*/)', text, re.DOTALL)
    return [each[1] for each in found if each[1]]


@given(config=configs())
def test_an_entry_that_came_and_went_leaves_every_byte_as_it_was(
    config: tuple[str, dict[str, object]],
) -> None:
    text, root = config
    after = formats.put(formats.JSON, text, SECTION, "desk", ENTRY)
    assert formats.entries(formats.JSON, after, SECTION)["desk"] == ENTRY
    assert comments(after) == comments(text)
    again = formats.drop(formats.JSON, after, SECTION, "desk")
    if root.get(SECTION):
        assert again == text
    assert comments(again) == comments(text)
    assert json_config.read(again) == json_config.read(text) | {
        SECTION: json_config.read(text).get(SECTION, {})
    }
    assert formats.drop(formats.JSON, after, SECTION, "desk", ['{"x": 1}', "no JSON", text]) == text


@given(config=configs(), data=st.data())
def test_any_entry_can_be_taken_out_and_all_others_stay(
    config: tuple[str, dict[str, object]], data: st.DataObject
) -> None:
    text, root = config
    servers = root.get(SECTION)
    if not isinstance(servers, dict) or not servers:
        return
    name = data.draw(st.sampled_from(list(servers)))
    after = formats.drop(formats.JSON, text, SECTION, name)
    whole = json_config.read(text)
    kept = {key: value for key, value in formats.entries(formats.JSON, text, SECTION).items() if key != name}
    assert json_config.read(after) == whole | {SECTION: kept}
    replaced = formats.put(formats.JSON, text, SECTION, name, ENTRY)
    assert list(formats.entries(formats.JSON, replaced, SECTION)) == list(servers)


@given(config=configs())
def test_putting_an_entry_that_is_there_changes_nothing(config: tuple[str, dict[str, object]]) -> None:
    once = formats.put(formats.JSON, config[0], SECTION, "desk", ENTRY)
    assert formats.put(formats.JSON, once, SECTION, "desk", ENTRY) == once


@given(value=VALUES)
def test_plain_json_is_read_as_the_standard_library_reads_it(value: object) -> None:
    text = json.dumps({"value": value}, indent=1)
    assert json.dumps(json_config.read(text), default=str) == json.dumps(
        json.loads(text, parse_int=small), default=str
    )


def small(digits: str) -> object:
    return int(digits) if len(digits.lstrip("-")) < 16 else json_config.Number(digits)


@given(text=st.text(alphabet='{}[]",: \n\\/*utrfalsen019eE+-."mcpServd\x00\x1f'))
def test_what_is_read_leniently_is_all_that_plain_json_is_and_nothing_breaks(text: str) -> None:
    try:
        found: object = json_config.read(text)
    except ConfigFault:
        found = None
    try:
        plain = json.loads(text, parse_constant=lambda _: None)
    except ValueError:
        return
    if isinstance(plain, dict):
        assert found is not None
    else:
        assert found is None


def put(text: str) -> str:
    return formats.put(formats.JSON, text, SECTION, "desk", {"command": "x"})


def test_the_files_own_way_of_setting_in_is_kept() -> None:
    assert put('{\n\t"mcpServers": {\n\t\t"a": {}\n\t}\n}\n') == (
        '{\n\t"mcpServers": {\n\t\t"a": {},\n\t\t"desk": {\n\t\t\t"command": "x"\n\t\t}\n\t}\n}\n'
    )
    assert put('{"mcpServers":{"a":{}}}') == '{"mcpServers":{"a":{}, "desk": {"command": "x"}}}'
    assert "\n" not in put('{\r\n  "a": 1\r\n}\r\n').replace("\r\n", "")


def test_a_comment_stays_on_the_line_of_what_it_is_about() -> None:
    text = '{\n  "mcpServers": {\n    "a": {} // mine\n    // end\n  },\n}\n'
    assert put(text) == (
        '{\n  "mcpServers": {\n    "a": {}, // mine\n    "desk": {\n      "command": "x"\n    }\n    // end\n  },\n}\n'
    )


def test_a_file_with_nothing_in_it_is_begun() -> None:
    assert (
        json.loads(put(""))
        == json.loads(put(" \n"))
        == json.loads(put("{}"))
        == {SECTION: {"desk": {"command": "x"}}}
    )


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('{\n  "mcpServers": {\n', 3, "ends too early"),
        ('{\n  "a": 1\n  "b": 2\n}', 3, "a comma or }"),
        ("[1, 2]", 1, "no JSON object"),
        ('{"mcpServers": []}', None, "something else than entries"),
        ('{"mcpServers": null}', None, "something else than entries"),
        ('{"mcpServers": {}, "mcpServers": {}}', 1, "given twice"),
        ('{"a": 1} {', 1, "after the end"),
        ('{"a": "\x01"}', 1, "does not end"),
        ('{"a": /* }', 1, "a value was expected"),
        ('{"a": 01}', 1, "a value was expected"),
        ('{"a": ' + "[" * 5000 + "]" * 5000 + "}", 1, "too deeply"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text: str, line: int | None, said: str) -> None:
    with pytest.raises(ConfigFault, match=re.escape(said)) as caught:
        put(text)
    assert caught.value.line == line
    assert caught.value.reason == "unreadable"


def test_a_host_of_plain_json_is_told_where_a_comment_is() -> None:
    assert json_config.plain_fault('{"a": 1}') is None
    fault = json_config.plain_fault('{\n  "a": 1, // why\n}')
    assert fault is not None and fault.line == 2
