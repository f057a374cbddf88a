"""TOML: one table comes or goes, comments between tables included in what stays."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.hosts import formats
from agentmesh.hosts.fault import ConfigFault
from agentmesh.hosts.quoting import Entry

SECTION = "mcp_servers"
ENTRY: Entry = {
    "command": "/opt/a b/bin/python",
    "args": ["-P", 'quote " and \\', "é\x7f\u2028"],
    "env": {"A B": "c"},
    "startup_timeout_sec": 60,
    "enabled": True,
}
NAMES = st.sampled_from(["desk", "a.b", "with space", "é", 'q"', "x"])
LINES = st.sampled_from(
    [
        "",
        "# a comment",
        "   # [mcp_servers.no]",
        "key_{n} = 1",
        'text_{n} = "# no [comment]"  # one',
        "long_{n} = '''\n[mcp_servers.desk]\n# no\n'''",
        'basic_{n} = """\n\\"\\"\\"\n[x]\n"""',
        "many_{n} = [\n  1, # ]\n  [2],\n]",
        'inline_{n} = { a = "}", b = [1] }',
        "odd_{n} = nan",
        "at_{n} = 1979-05-27T07:32:00Z",
        '"quoted.{n}".x = 1',
    ]
)


@st.composite
def configs(draw: st.DrawFn) -> str:
    """A Codex configuration as people write it."""
    lines = [draw(LINES).replace("{n}", str(number)) for number in range(draw(st.integers(0, 4)))]
    others = draw(st.lists(st.sampled_from(["a", "b-c", '"d.e"', "f.env"]), unique=True, max_size=3))
    headers = [f"[mcp_servers.{name}]" for name in others] + ["[profiles.x]", "[[list]]"][
        : draw(st.integers(0, 2))
    ]
    for header in draw(st.permutations(headers)):
        lines.append(header + draw(st.sampled_from(["", "  # about it"])))
        lines += [draw(LINES).replace("{n}", str(number)) for number in range(draw(st.integers(0, 3)))]
    text = "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n\n"]))
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


@given(text=configs(), name=NAMES)
def test_a_table_that_came_and_went_leaves_every_byte_as_it_was(text: str, name: str) -> None:
    before = tomllib.loads(text)
    after = formats.put(formats.TOML, text, SECTION, name, ENTRY)
    assert tomllib.loads(after)[SECTION][name] == ENTRY
    assert after.startswith(text) and "\n" in after
    assert formats.put(formats.TOML, after, SECTION, name, ENTRY) == after
    assert formats.drop(formats.TOML, after, SECTION, name) == text
    more = formats.put(formats.TOML, after, SECTION, "second", {"command": "y"})
    first_gone = formats.drop(formats.TOML, more, SECTION, name)
    if text.endswith("\n") or not text:
        assert formats.drop(formats.TOML, first_gone, SECTION, "second") == text
    assert repr(tomllib.loads(first_gone)[SECTION]) == repr(
        before.get(SECTION, {}) | {"second": {"command": "y"}}
    )


@given(text=configs(), name=NAMES)
def test_a_table_is_replaced_where_it_stands(text: str, name: str) -> None:
    once = formats.put(formats.TOML, text, SECTION, name, {"command": "old", "args": ["a"]})
    other = formats.put(formats.TOML, once, SECTION, "zz", {"command": "y"})
    assert formats.put(formats.TOML, other, SECTION, name, ENTRY) == formats.put(
        formats.TOML, formats.put(formats.TOML, text, SECTION, name, ENTRY), SECTION, "zz", {"command": "y"}
    )


@given(text=st.text(alphabet="[]{}.=\"'#\n \\mcp_serv1x,"))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        after = formats.put(formats.TOML, text, SECTION, "desk", {"command": "x"})
    except ConfigFault:
        return
    assert tomllib.loads(after)[SECTION]["desk"] == {"command": "x"}


def test_a_comment_between_two_tables_is_the_second_ones() -> None:
    text = '[mcp_servers.desk]\ncommand = "x"\n\n# About the next one.\n[mcp_servers.next]\ncommand = "n"\n'
    assert formats.drop(formats.TOML, "a = 1\n\n" + text, SECTION, "desk") == (
        'a = 1\n\n# About the next one.\n[mcp_servers.next]\ncommand = "n"\n'
    )


def test_tables_inside_a_table_go_with_it() -> None:
    text = 'a = 1\n\n[mcp_servers.desk]\ncommand = "x"\n[mcp_servers.desk.env]\nA = "b"\n\n[z]\n[mcp_servers.desk.tools.t]\n'
    assert formats.drop(formats.TOML, text, SECTION, "desk") == "a = 1\n\n[z]\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = \n", 1),
        ("mcp_servers = 3\n", None),
        ("mcp_servers = { a = { command = 'x' } }\n", None),
        ("x = 1\nx = 2\n", 2),
        ("a = " + "[" * 3000 + "]" * 3000, None),
        ("a = " + "9" * 9000, None),
    ],
)
def test_what_cannot_be_changed_safely_is_refused(text: str, line: int | None) -> None:
    with pytest.raises(ConfigFault) as caught:
        formats.put(formats.TOML, text, SECTION, "desk", ENTRY)
    assert caught.value.line == line
