"""What docs/servers.md claims is so: its mesh loads, its hosts' commands work, its figures and names are the code's."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
from pathlib import Path
from uuid import uuid4

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from agentmesh.errors import MeshFileError
from agentmesh.mesh import load_mesh
from agentmesh.toolbox.targets import find_target
from agentmesh_servers import build, names
from agentmesh_servers.calculator import expression
from agentmesh_servers.files import folder, reading, search, writing
from agentmesh_servers.files import names as file_names
from agentmesh_servers.notes import folder as notes
from agentmesh_servers.options import DEFAULT_ROWS, DEFAULT_SECONDS, MAX_ROOTS, MAX_ROWS, MAX_SECONDS, OPTIONS
from agentmesh_servers.sql import child, server, sqlite, values


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "servers.md").read_text()


def block(page: str, language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    return str(found)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The files that the examples speak of."""
    for name in ("letters", "drafts", "code", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "letters" / "may.txt").write_text("Dear Ada")
    connection = sqlite3.connect(tmp_path / "library.db")
    connection.execute("CREATE TABLE books (title TEXT)")
    connection.close()
    return tmp_path


def tools_of(address: object) -> list[str]:
    async def ask() -> list[str]:
        with anyio.fail_after(60):
            async with Client(address) as client:  # type: ignore[arg-type]
                return [tool.name for tool in (await client.list_tools()).tools]

    return anyio.run(ask)


def test_every_server_has_its_tools_in_the_table_and_a_section(page: str, home: Path) -> None:
    rows = dict(re.findall(r"^\| \[`(\w+)`\]\(#\w+\) \| (.*?) \| .* \|$", page, re.MULTILINE))
    assert tuple(rows) == names()
    given = {
        "files": {"folder": str(home), "write": "true"},
        "notes": {"folder": str(home)},
        "sql": {"database": str(home / "library.db"), "write": "true"},
    }
    for name, told in rows.items():
        tools = tools_of(build(name, **given.get(name, {})))
        assert re.findall(r"`(\w+)`", told) == tools
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert [tool for tool in tools if f"`{tool}(" not in section] == []
        assert [each.name for each in OPTIONS.get(name, ()) if f"`{each.name}`" not in section] == []
        variables = [each.variable for each in OPTIONS.get(name, ()) if each.variable]
        assert [each for each in variables if f"`{each}`" not in section] == []


def test_the_mesh_shown_loads_and_its_servers_are_found_beside_it(page: str, home: Path) -> None:
    (home / "mesh.toml").write_text(block(page, "toml"))
    mesh = load_mesh(home)
    assert sorted(mesh.servers) == ["books", "calculator", "letters"]
    tools = {
        name: tools_of(find_target(name, spec, base=home).address) for name, spec in mesh.servers.items()
    }
    assert tools["books"] == ["list_tables", "describe_table", "query"]
    named = [each.split(".") for each in mesh.agents["librarian"].tools if "." in each]
    assert named and all(tool in tools[name] for name, tool in named)


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ('"library.db"', '"gone.db"', "servers.books.options.database", "no such file"),
        ('folder = "letters"', 'folder = "gone"', "servers.letters.options.folder", "no such folder"),
        (
            'folder = "letters"',
            'roots = "a=letters,b=gone"',
            "servers.letters.options.roots",
            "no such folder",
        ),
        ('folder = "letters"', 'roots = "letters"', "servers.letters.options.roots", "docs=PATH"),
        (
            'folder = "letters"',
            'folder = "letters", write = "yes"',
            "servers.letters.options.write",
            '"true" or',
        ),
        ('rows = "50"', 'rows = "0"', "servers.books.options.rows", "from 1 to 5000"),
        ('rows = "50"', 'url_env = "X"', "servers.books.options.url_env", "one of the two"),
        ('rows = "50"', 'row = "50"', "servers.books.options.row", "did you mean 'rows'"),
        ('database = "library.db", ', "", "servers.books.options", "needs a database"),
    ],
)
def test_a_mistake_in_its_options_is_told_with_its_place(
    page: str, home: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, key: str, says: str
) -> None:
    for variable in ("AGENTMESH_FILES", "AGENTMESH_SQL_DATABASE", "AGENTMESH_SQL_URL"):
        monkeypatch.delenv(variable, raising=False)
    text = block(page, "toml")
    assert old in text
    (home / "mesh.toml").write_text(text.replace(old, new))
    with pytest.raises(MeshFileError) as caught:
        load_mesh(home)
    (mistake,) = caught.value.mistakes
    assert mistake.key == key and says in mistake.text and mistake.line


def test_the_commands_for_hosts_start_servers(page: str, home: Path) -> None:
    hosts = json.loads(block(page, "json").replace("/home/me", str(home)))["mcpServers"]
    assert {entry["args"][0] for entry in hosts.values()} == set(names())
    for name, entry in hosts.items():
        assert entry["command"] == "agentmesh-server" and "PASSWORD" not in " ".join(entry["args"])
        started = StdioServerParameters(
            command=sys.executable,
            args=["-m", "agentmesh_servers", *entry["args"]],
            env={"PYTHONPATH": os.pathsep.join(sys.path), **entry.get("env", {})},
        )
        assert ("write_file" in tools_of(started)) == (name == "work")


def test_the_figures_are_the_codes_own(page: str) -> None:
    flat = " ".join(page.split())
    figures = {
        f"{expression.MAX_LENGTH:,} characters at most",
        f"nested {expression.MAX_DEPTH} deep",
        f"{notes.MAX_NOTES:,} notes at most",
        f"files over {notes.MAX_NOTE_BYTES >> 10} KiB and links",
        f"at most {reading.MAX_LISTED:,} entries and {reading.MAX_ANSWER_BYTES >> 10} KiB of names",
        f"A statement has {server.MAX_SQL:,} letters",
        f"at most {reading.MAX_LINES:,} lines and {reading.MAX_ANSWER_BYTES >> 10} KiB",
        f"several, up to {MAX_ROOTS};",
        f"Files over {reading.MAX_FILE_BYTES >> 20} MiB are not read",
        f"files over {search.MAX_SEARCHED_BYTES >> 20} MiB are not searched",
        f"{search.MAX_MATCHES} places at most, {search.MAX_IN_A_FILE} of one file",
        f"looks at {search.MAX_VISITED:,} files in {search.SECONDS:g} seconds",
        f"entered {file_names.MAX_DEPTH} deep",
        f"A write has {writing.MAX_WRITE_BYTES >> 20} MiB at most",
        f"tables and views, at most {sqlite.MAX_TABLES}",
        f"1 to {MAX_SECONDS}; {DEFAULT_SECONDS} where",
        f"1 to {MAX_ROWS}; {DEFAULT_ROWS} where",
        f"at most {server.AT_ONCE} at a time",
        f"{child.MEMORY_BYTES >> 20} MiB of memory",
        f"a value of SQLite {sqlite.LIMITS[sqlite3.SQLITE_LIMIT_LENGTH] >> 20} MiB",
        f"temporary file of a reading statement {child.SCRATCH_BYTES >> 30} GiB",
        f"{values.MAX_ANSWER_BYTES >> 10} KiB of rows; a text or bytes {values.MAX_CELL:,} letters",
        f"{server._CONNECT_SECONDS['postgres']:g} seconds are added",
    }
    assert [each for each in sorted(figures) if each not in flat] == []
    assert child.GRACE_SECONDS == 1 and "a second later the process ends" in flat
    assert folder.HELD_OPEN == (sys.platform != "win32")


def test_the_role_shown_may_read_and_no_more(
    page: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    role, admin = f"reader{uuid4().hex[:8]}", database.replace("+psycopg", "")
    monkeypatch.setenv("LIBRARY_URL", database.replace("tester@", f"{role}@"))

    async def ask(tool: str, sql: str) -> bool:
        with anyio.fail_after(60):
            async with Client(build("sql", url_env="LIBRARY_URL", write="true")) as client:
                return not (await client.call_tool(tool, {"sql": sql})).is_error

    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("CREATE TABLE books (title text)")
        try:
            connection.execute(block(page, "sql").replace("reader", role))
            assert anyio.run(ask, "query", "SELECT * FROM books")
            for sql in (
                "INSERT INTO books VALUES ('x')",
                "CREATE TABLE x (y int)",
                "SELECT pg_read_file('/etc/hosts')",
            ):
                assert not anyio.run(ask, "execute", sql)
        finally:
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
