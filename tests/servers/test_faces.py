"""Each server through a real MCP client: in memory and as a process over stdio, in both protocol eras."""

from __future__ import annotations

import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.types import CallToolResult, TextContent

import agentmesh_servers
from agentmesh_servers import ServersError
from agentmesh_servers.clock.server import build as build_clock

pytestmark = pytest.mark.anyio

TOOLS = {
    "calculator": ["evaluate"],
    "clock": ["now", "convert_time"],
    "files": ["list_folder", "read_file", "file_info", "search_files"],
    "notes": ["search_notes", "read_note"],
    "sql": ["list_tables", "describe_table", "query"],
    "units": ["convert"],
}
# With the option write; the hints are (read only, destructive, idempotent).
CHANGING = {
    "files": {
        "write_file": (False, True, True),
        "edit_file": (False, True, False),
        "make_folder": (False, False, True),
        "move": (False, True, False),
        "delete": (False, True, True),
    },
    "sql": {"execute": (False, True, False)},
}
# The embedded model was trained on the tools of these.
TRAINED = ("calculator", "clock", "notes", "units")
INITIALIZE = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "host", "version": "1"},
        },
    }
)
# name, tool, arguments, text, structured content
CALLS: list[tuple[str, str, dict[str, object], str, dict[str, object]]] = [
    (
        "calculator",
        "evaluate",
        {"expression": "1/3"},
        "1/3 (about 0.333333)",
        {"expression": "1/3", "result": "1/3", "decimal": "0.333333", "exact": True},
    ),
    (
        "notes",
        "search_notes",
        {"query": "bread"},
        "1 note: Shopping List",
        {"count": 1, "titles": ["Shopping List"]},
    ),
    (
        "notes",
        "read_note",
        {"title": "shopping list"},
        "milk\nbread",
        {"title": "Shopping List", "text": "milk\nbread"},
    ),
    (
        "files",
        "read_file",
        {"path": "shopping.md", "offset": 3, "limit": 1},
        "milk\n\n[lines 3 to 3; the file goes on: read with offset 4]",
        {
            "path": "shopping.md",
            "text": "milk\n",
            "first_line": 3,
            "last_line": 3,
            "size": 28,
            "cut": True,
        },
    ),
    (
        "files",
        "search_files",
        {"name": "*.md", "text": "BREAD"},
        "shopping.md:4: bread",
        {"matches": [{"path": "shopping.md", "line": 4, "text": "bread"}], "cut": "", "skipped": 0},
    ),
    (
        "sql",
        "query",
        {"sql": "SELECT name FROM things WHERE id = ?", "parameters": [2]},
        '1 row: name\n["bread"]',
        {"columns": ["name"], "rows": [["bread"]], "cut": "", "notes": [], "changed": 0},
    ),
    (
        "units",
        "convert",
        {"value": 10, "from_unit": "miles", "to_unit": "km"},
        "16.09344 kilometers",
        {"result": "16.09344", "unit": "kilometers", "value": "10", "from_unit": "miles", "exact": True},
    ),
]
REFUSALS: list[tuple[str, str, dict[str, object], str]] = [
    ("calculator", "evaluate", {"expression": "1/0"}, "division by zero"),
    ("clock", "now", {"timezone": "Pariss"}, "did you mean"),
    ("notes", "read_note", {"title": "../secret"}, "no note is called"),
    ("units", "convert", {"value": 1, "from_unit": "kg", "to_unit": "m"}, "mass"),
    ("units", "convert", {"value": "many", "from_unit": "kg", "to_unit": "g"}, "value"),
    ("calculator", "evaluate", {}, "expression"),
    ("files", "read_file", {"path": "../secret"}, "leads out of the folder"),
    ("files", "read_file", {"path": "shopping.md", "offset": 0}, "wrong arguments for read_file: offset"),
    ("files", "write_file", {"path": "x", "text": ""}, "write_file"),
    ("sql", "query", {"sql": "DELETE FROM things"}, "not allowed here"),
    ("sql", "execute", {"sql": "DELETE FROM things"}, "execute"),
]

Target = Callable[[str], object]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "shopping.md").write_text("# Shopping List\n\nmilk\nbread\n")
    return tmp_path


@pytest.fixture
def given(notes: Path) -> dict[str, dict[str, str]]:
    """The options that the servers need."""
    (notes / ".sql").mkdir()
    database = notes / ".sql" / "things.db"
    connection = sqlite3.connect(database)
    connection.executescript(
        "CREATE TABLE things (id, name); INSERT INTO things VALUES (1, 'milk'), (2, 'bread')"
    )
    connection.close()
    folder = {"folder": str(notes)}
    return {"files": folder, "notes": folder, "sql": {"database": str(database)}}


@pytest.fixture(params=["memory", "stdio"])
def client(request: pytest.FixtureRequest, given: dict[str, dict[str, str]]) -> Callable[..., Client]:
    """Makes a client of a server: mounted in this process, or started as its own."""

    def make(name: str, mode: str, **more: str) -> Client:
        options = given.get(name, {}) | more
        if request.param == "memory":
            return Client(agentmesh_servers.build(name, **options), mode=mode)
        flags = [
            part
            for option, value in options.items()
            for part in ([f"--{option}"] if value == "true" else [f"--{option}", value])
        ]
        command = StdioServerParameters(
            command=sys.executable,
            args=["-m", "agentmesh_servers", name, *flags],
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        return Client(command, mode=mode)

    return make


def _text(result: CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("name", sorted(TOOLS))
async def test_a_server_serves_its_tools_in_both_eras(
    client: Callable[..., Client], name: str, mode: str
) -> None:
    with anyio.fail_after(30):
        async with client(name, mode) as session:
            assert session.protocol_version == ("2026-07-28" if mode == "auto" else "2025-11-25")
            assert session.server_info is not None
            assert (session.server_info.name, bool(session.server_info.title)) == (name, True)
            assert session.instructions and len(session.instructions) <= 2_048
            tools = (await session.list_tools()).tools
            assert [tool.name for tool in tools] == TOOLS[name]
            for tool in tools:
                hints = tool.annotations
                assert hints is not None and tool.title and tool.description and tool.output_schema
                assert (hints.read_only_hint, hints.destructive_hint) == (True, False)
                assert (hints.idempotent_hint, hints.open_world_hint) == (True, False)
                fields = tool.output_schema["properties"].values()
                assert all(field["title"] and field["description"] for field in fields)
                if name in TRAINED:
                    assert tool.input_schema["required"] == list(tool.input_schema["properties"])
                described = tool.input_schema["properties"].values()
                assert all(field["description"] for field in described)
            for server, call, arguments, text, structured in CALLS:
                if server == name:
                    result = await session.call_tool(call, arguments)
                    assert (_text(result), result.structured_content) == (text, structured)
            for server, call, arguments, words in REFUSALS:
                if server == name:
                    result = await session.call_tool(call, arguments)
                    assert result.is_error and words in _text(result)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("name", sorted(CHANGING))
async def test_what_changes_something_is_there_only_when_told_and_says_so(
    client: Callable[..., Client], name: str, mode: str
) -> None:
    with anyio.fail_after(30):
        async with client(name, mode, write="true") as session:
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            assert list(tools) == [*TOOLS[name], *CHANGING[name]]
            for call, expected in CHANGING[name].items():
                hints = tools[call].annotations
                assert hints is not None and hints.open_world_hint is False
                assert (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint) == expected
            if name == "sql":
                arguments: dict[str, object] = {"sql": "UPDATE things SET name = ?", "parameters": ["x"]}
                result = await session.call_tool("execute", arguments)
                assert _text(result) == "Done; 2 rows changed."
            else:
                result = await session.call_tool("write_file", {"path": "new.txt", "text": "x"})
                assert _text(result) == "new.txt: written (1 bytes)"
                result = await session.call_tool("delete", {"path": "new.txt"})
                assert result.structured_content == {"done": "deleted", "path": "new.txt", "size": 1}
            assert not result.is_error


async def test_the_schemas_are_those_that_the_embedded_model_was_trained_on(notes: Path) -> None:
    seen: dict[str, tuple[str | None, dict[str, tuple[str, str]]]] = {}
    for name in TRAINED:
        options = {"folder": str(notes)} if name == "notes" else {}
        async with Client(agentmesh_servers.build(name, **options)) as session:
            for tool in (await session.list_tools()).tools:
                parameters = tool.input_schema["properties"]
                seen[tool.name] = (
                    tool.description,
                    {key: (schema["type"], schema["description"]) for key, schema in parameters.items()},
                )
    assert seen == {
        "evaluate": (
            "Evaluate an arithmetic expression exactly.",
            {"expression": ("string", "The expression, for example 17 * 23 or 15% of 240")},
        ),
        "now": (
            "The current date and time in a time zone or city.",
            {"timezone": ("string", "Time zone or city, for example Europe/Paris or Tokyo")},
        ),
        "convert_time": (
            "Convert a time of day from one time zone or city to another.",
            {
                "time": ("string", "The time, for example 14:30"),
                "from_timezone": ("string", "Time zone or city of that time"),
                "to_timezone": ("string", "Time zone or city to convert to"),
            },
        ),
        "search_notes": (
            "Search the notes and list the titles that match.",
            {"query": ("string", "Words to look for")},
        ),
        "read_note": ("Read the text of a note.", {"title": ("string", "Title of the note")}),
        "convert": (
            "Convert a value from one unit to another.",
            {
                "value": ("number", "The value to convert"),
                "from_unit": ("string", "Unit to convert from"),
                "to_unit": ("string", "Unit to convert to"),
            },
        ),
    }


async def test_the_clock_tells_the_time_of_the_clock_it_is_given() -> None:
    server = build_clock(clock=lambda: datetime(2026, 11, 23, 23, 17, tzinfo=UTC))
    async with Client(server) as session:
        result = await session.call_tool("now", {"timezone": "Tokyo"})
        assert _text(result) == "2026-11-24 08:17, Tuesday (Asia/Tokyo)"
        assert result.structured_content["timezone"] == "Asia/Tokyo"
        result = await session.call_tool(
            "convert_time", {"time": "14:30", "from_timezone": "Paris", "to_timezone": "Tokyo"}
        )
        assert _text(result) == "22:30 (Asia/Tokyo)"


def test_building_a_server_leaves_the_logging_of_the_program_alone() -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    agentmesh_servers.build("calculator")
    assert (list(root.handlers), root.level) == before


def test_an_unknown_server_or_option_is_refused_with_advice() -> None:
    with pytest.raises(ServersError, match="did you mean calculator") as caught:
        agentmesh_servers.build("calculater")
    assert caught.value.reason == "unknown_server"
    with pytest.raises(ServersError, match="no option 'folder'") as caught:
        agentmesh_servers.build("clock", folder="x")
    assert caught.value.reason == "bad_option"


def test_notes_take_their_folder_from_the_environment(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTMESH_NOTES", raising=False)
    with pytest.raises(ServersError, match="AGENTMESH_NOTES"):
        agentmesh_servers.build("notes")
    monkeypatch.setenv("AGENTMESH_NOTES", str(notes))
    assert agentmesh_servers.build("notes").name == "notes"


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agentmesh_servers", *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_command_lists_the_servers_and_ends_with_its_input() -> None:
    assert _run("--list").stdout.split() == list(TOOLS)
    ended = _run("calculator")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("calculater",), "did you mean calculator"),
        ((), "name a server"),
        (("clock", "--folder", "x"), "no option"),
        (("notes", "--folder", "/nowhere/at/all"), "is not there"),
        (("notes", "--folder", "/", "--write"), "no option 'write'"),
        (("files", "--folder", "/nowhere/at/all"), "is not there"),
        (("files",), "--folder DIR or --roots"),
        (("files", "--roots", "x"), "docs=PATH"),
        (("sql",), "--database FILE or --url-env NAME"),
        (("sql", "--database", "/nowhere.db"), "is not there"),
        (("sql", "--url-env", "NO_SUCH_VARIABLE"), "is not set"),
        (("sql", "--database", "/nowhere.db", "--rows", "many"), "is not there"),
    ],
)
def test_a_wrong_command_line_is_usage(arguments: tuple[str, ...], words: str) -> None:
    ended = _run(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert words in ended.stderr and "Traceback" not in ended.stderr


def test_without_the_mcp_sdk_it_says_which_extra_it_wants() -> None:
    block = (
        "import sys\n"
        "sys.modules['mcp'] = None\n"
        "from agentmesh_servers.__main__ import main\n"
        "sys.exit(main(['calculator']))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", block], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "agentmesh-runtime[mcp]" in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("name", "tool", "arguments", "says"),
    [
        ("calculator", "evaluate", {}, "wrong arguments for evaluate: expression: field required"),
        ("units", "convert", {"value": "x", "from_unit": "m"}, "to_unit: field required"),
        (
            "units",
            "convert",
            {"value": True, "from_unit": "m", "to_unit": "km"},
            "value: value error, a number is wanted, not true or false",
        ),
    ],
)
async def test_wrong_arguments_are_told_in_words_to_act_on(
    name: str, tool: str, arguments: dict[str, object], says: str
) -> None:
    async with Client(agentmesh_servers.build(name)) as client:
        result = await client.call_tool(tool, arguments)
    (block,) = result.content
    assert isinstance(block, TextContent)
    assert result.is_error and says in block.text
    assert "pydantic" not in block.text


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send on Windows")
def test_ctrl_c_ends_a_server_whose_host_says_nothing() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agentmesh_servers", "calculator"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(INITIALIZE + "\n")
        process.stdin.flush()
        assert "calculator" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
    finally:
        process.kill()
        process.communicate()
