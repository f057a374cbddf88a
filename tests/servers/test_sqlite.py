"""The sql server on SQLite: what it tells, what nobody gets it to change, and that every statement ends."""

from __future__ import annotations

import base64
import json
import os
import random
import select
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.types import TextContent

from agentmesh_servers import ServersError, build
from agentmesh_servers.sql import statement as statements
from agentmesh_servers.sql.server import AT_ONCE

pytestmark = pytest.mark.anyio

SCHEMA = """
CREATE TABLE authors (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE books (
    id INTEGER PRIMARY KEY, author INTEGER REFERENCES authors (id), title TEXT DEFAULT 'untitled', price REAL
);
CREATE UNIQUE INDEX by_title ON books (title);
CREATE VIEW cheap AS SELECT title FROM books WHERE price < 10;
INSERT INTO authors VALUES (1, 'Ada'), (2, 'Grace');
INSERT INTO books VALUES (1, 1, 'Engines', 12.5), (2, 2, 'Compilers', 8.0);
"""
FOREVER = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
Ask = Callable[..., Awaitable[tuple[bool, str, Any]]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a library.db"  # a path that a URI has to quote
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA)
    connection.close()
    return path


def asking(file: Path, **options: str) -> Callable[..., Awaitable[tuple[bool, str, Any]]]:
    """Calls a tool of a fresh server: whether it failed, the text, and the structured answer."""
    server = build("sql", database=str(file), **options)

    async def ask(tool: str, **arguments: object) -> tuple[bool, str, Any]:
        with anyio.fail_after(60):
            async with Client(server) as client:
                result = await client.call_tool(tool, arguments)
        (block,) = result.content
        assert isinstance(block, TextContent)
        return result.is_error, block.text, result.structured_content

    return ask


async def refused(ask: Ask, sql: str, *parameters: object, tool: str = "query") -> str:
    failed, text, _ = await ask(tool, sql=sql, parameters=list(parameters))
    assert failed and "\n" not in text and "Traceback" not in text, text
    return text


async def rows(ask: Ask, sql: str, *parameters: object) -> list[list[object]]:
    failed, text, told = await ask("query", sql=sql, parameters=list(parameters))
    assert not failed, text
    found: list[list[object]] = told["rows"]
    return found


async def test_it_tells_the_tables_and_what_they_are_made_of(file: Path) -> None:
    ask = asking(file)
    failed, text, told = await ask("list_tables")
    assert not failed and text == "authors\nbooks\ncheap (view)"
    assert told["tables"][2] == {"name": "cheap", "kind": "view"}
    _, text, told = await ask("describe_table", table="BOOKS")
    assert text == (
        "table books\nid INTEGER, key\nauthor INTEGER\ntitle TEXT, default 'untitled'\nprice REAL\n"
        "foreign key: author -> authors(id)\nindex: by_title on title (unique)"
    )
    assert told["columns"][2] == {
        "name": "title",
        "type": "TEXT",
        "nullable": True,
        "default": "'untitled'",
        "key": False,
    }
    failed, text, _ = await ask("describe_table", table="x'; DROP TABLE books; --\x1b")
    assert failed and "list_tables" in text and "\x1b" not in text


async def test_a_query_gives_its_rows_twice(file: Path) -> None:
    failed, text, told = await asking(file)(
        "query", sql="SELECT title, price FROM books WHERE price > ? ORDER BY id", parameters=[1]
    )
    assert not failed
    assert text == '2 rows: title, price\n["Engines", 12.5]\n["Compilers", 8.0]'
    assert told == {
        "columns": ["title", "price"],
        "rows": [["Engines", 12.5], ["Compilers", 8.0]],
        "cut": "",
        "notes": [],
        "changed": 0,
    }
    assert await rows(asking(file), "SELECT count(*) FROM books WHERE title = ?", "x' OR 1=1 --") == [[0]]
    _, text, told = await asking(file)("query", sql="SELECT * FROM books WHERE 0")
    assert text == "0 rows: id, author, title, price" and told["columns"] == [
        "id",
        "author",
        "title",
        "price",
    ]


CHANGES = [
    "DELETE FROM books",
    "UPDATE books SET price = 0",
    "INSERT INTO authors (name) VALUES ('x') RETURNING id",
    "WITH x AS (SELECT 1) INSERT INTO authors (name) SELECT 'x' FROM x",
    "REPLACE INTO authors VALUES (1, 'x')",
    "CREATE TABLE x (y)",
    "CREATE TEMP TABLE x (y)",
    "CREATE VIRTUAL TABLE x USING fts5 (y)",
    "DROP TABLE books",
    "ALTER TABLE books RENAME TO x",
    "ATTACH ':memory:' AS x",
    "DETACH main",
    "VACUUM",
    "VACUUM INTO 'copy.db'",
    "REINDEX",
    "ANALYZE",
    "BEGIN IMMEDIATE",
    "SAVEPOINT x",
    "PRAGMA query_only = OFF",
    "PRAGMA user_version = 7",
    "PRAGMA journal_mode = WAL",
    "PRAGMA writable_schema = ON",
    "PRAGMA temp_store_directory = '/tmp'",
    "PRAGMA database_list",
    "PRAGMA wal_checkpoint",
    "SELECT load_extension('x')",
    "SELECT fts3_tokenizer('simple', x'00')",
    "EXPLAIN DELETE FROM books",
    "SELECT 1; DELETE FROM books",
    "",
    "-- nothing",
    "SELEC 1",
]


@pytest.mark.parametrize("sql", CHANGES)
async def test_nothing_is_changed_by_a_query_whatever_the_option(file: Path, sql: str) -> None:
    before = (sorted(os.listdir(file.parent)), file.read_bytes())
    await refused(asking(file, write="true"), sql)
    assert (sorted(os.listdir(file.parent)), file.read_bytes()) == before


async def test_there_is_nothing_to_change_it_with_unless_told(file: Path) -> None:
    async with Client(build("sql", database=str(file))) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == [
            "list_tables",
            "describe_table",
            "query",
        ]
    async with Client(build("sql", database=str(file), write="true")) as client:
        (tool,) = [tool for tool in (await client.list_tools()).tools if tool.name == "execute"]
    hints = tool.annotations
    assert hints is not None and (hints.read_only_hint, hints.destructive_hint) == (False, True)


async def test_what_only_tells_is_allowed(file: Path) -> None:
    ask = asking(file)
    assert await rows(ask, "PRAGMA user_version") == [[0]]
    assert await rows(ask, "PRAGMA integrity_check") == [["ok"]]
    assert len(await rows(ask, "PRAGMA table_info(books)")) == 4
    assert await rows(ask, "EXPLAIN QUERY PLAN SELECT * FROM books")
    assert await rows(ask, "VALUES (1), (2)") == [[1], [2]]
    assert await rows(ask, "SELECT value FROM json_each('[3]')") == [[3]]


async def test_a_full_text_index_is_searched(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("CREATE VIRTUAL TABLE texts USING fts5 (body)")
    connection.execute("INSERT INTO texts VALUES ('it rains in May')")
    connection.commit()
    connection.close()
    ask = asking(file, write="true")
    assert await rows(ask, "SELECT body FROM texts WHERE texts MATCH ?", "rains") == [["it rains in May"]]
    await refused(ask, "UPDATE texts SET body = 'x'")
    assert not (await ask("execute", sql="INSERT INTO texts VALUES ('snow')"))[0]
    assert await rows(ask, "SELECT count(*) FROM texts") == [[2]]


async def test_a_change_is_committed_and_counted(file: Path) -> None:
    ask = asking(file, write="true")
    failed, text, told = await ask(
        "execute", sql="INSERT INTO authors (name) VALUES (?) RETURNING id", parameters=["x"]
    )
    assert (failed, text) == (False, "Done; 1 row changed.\n1 row: id\n[3]")
    assert (await ask("execute", sql="UPDATE authors SET name = 'y'"))[2]["changed"] == 3
    assert (await ask("execute", sql="CREATE TABLE more (x)"))[1] == "Done; 0 rows changed."
    assert await rows(ask, "SELECT name, (SELECT count(*) FROM more) FROM authors") == [["y", 0]] * 3
    assert "FOREIGN KEY" in await refused(ask, "INSERT INTO books (author) VALUES (99)", tool="execute")


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH ':memory:' AS x",
        "VACUUM INTO 'copy.db'",
        "PRAGMA writable_schema = ON",
        "PRAGMA foreign_keys = OFF",
        "UPDATE sqlite_master SET sql = ''",
        "CREATE VIRTUAL TABLE x USING fts5 (y)",
        "COMMIT",
        "ROLLBACK",
        "SELECT load_extension('x')",
        "DELETE FROM books; DELETE FROM authors",
        "INSERT INTO books (author) SELECT 99 FROM books",
    ],
)
async def test_a_change_that_is_refused_leaves_all_as_it_was(file: Path, sql: str) -> None:
    before = (sorted(os.listdir(file.parent)), file.read_bytes())
    await refused(asking(file, write="true"), sql, tool="execute")
    assert (sorted(os.listdir(file.parent)), file.read_bytes()) == before


DOUBLING = (
    "WITH a0 AS (SELECT 1 AS x)"
    + "".join(f", a{n + 1} AS (SELECT * FROM a{n} UNION ALL SELECT * FROM a{n})" for n in range(40))
    + " SELECT count(*) FROM a40"
)


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        pytest.param(FOREVER, "longer than 1 seconds", id="recursion without end"),
        pytest.param(
            FOREVER.replace("count(*)", "group_concat(x, hex(zeroblob(999)))"), "", id="a growing text"
        ),
        pytest.param(FOREVER.replace("count(*)", "max(x) OVER ()"), "", id="a window of everything"),
        pytest.param(
            "SELECT count(*) FROM json_each(?) a, json_each(?) b, json_each(?) c, json_each(?) d, json_each(?) e",
            "longer than",
            id="a product",
        ),
        # These spend their time within one step, where nothing inside the database looks at the clock.
        pytest.param(
            "SELECT instr(zeroblob(16000000), zeroblob(8000000) || x'01')", "longer", id="one long step"
        ),
        pytest.param(
            "SELECT trim(hex(zeroblob(4000000)), hex(randomblob(4000000)) || 'Z')", "", id="a long trim"
        ),
        pytest.param(DOUBLING, "", id="a plan that doubles"),
        pytest.param("SELECT zeroblob(1000000000)", "16 MiB", id="a huge blob"),
        pytest.param("SELECT hex(randomblob(10000000))", "16 MiB", id="random bytes"),
        pytest.param("SELECT printf('%*d', 1000000000, 1)", "", id="a wide number"),
        pytest.param("SELECT " + "(" * 5_000 + "1" + ")" * 5_000, "", id="nesting"),
        pytest.param("SELECT " + "1+" * 5_000 + "1", "depth", id="a deep expression"),
        pytest.param("SELECT 'x' LIKE '" + "%a" * 2_000 + "'", "too complex", id="a LIKE pattern"),
        pytest.param(
            "SELECT hex(zeroblob(8000000)) LIKE '" + "%0_0" * 200 + "1'", "", id="a LIKE that nearly fits"
        ),
        pytest.param(" UNION ".join(["SELECT 1"] * 300), "", id="many SELECTs"),
        pytest.param("SELECT " + ", ".join("1" for _ in range(2_500)), "columns", id="many columns"),
        pytest.param("SELECT '" + "x" * 200_000 + "'", "", id="a long statement"),
    ],
)
async def test_a_statement_ends_within_limits(file: Path, sql: str, says: str) -> None:
    ask = asking(file, timeout="1")
    many = json.dumps(list(range(3_000)))
    failed, text, _ = await ask("query", sql=sql, parameters=[many] * sql.count("?"))
    assert (failed or "LIKE" in sql or "printf" in sql) and says in text and len(text) < 600
    assert await rows(ask, "SELECT 1") == [[1]]


async def test_a_change_that_takes_too_long_changes_nothing(file: Path) -> None:
    ask = asking(file, timeout="1", write="true")
    endless = f"INSERT INTO authors (name) {FOREVER.replace('count(*)', 'x')}"
    assert "longer than" in await refused(ask, endless, tool="execute")
    assert await rows(ask, "SELECT count(*) FROM authors") == [[2]]


async def test_rows_beyond_the_limit_are_cut_and_it_is_said(file: Path) -> None:
    numbers = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < ?) SELECT x FROM n"
    ask = asking(file, rows="5")
    for count, given, cut in (
        (4, 4, ""),
        (5, 5, ""),
        (6, 5, "the first 5 rows"),
        (10**15, 5, "the first 5 rows"),
    ):
        _, text, told = await ask("query", sql=numbers, parameters=[count])
        assert len(told["rows"]) == given and (cut in told["cut"]) and bool(cut) == ("[cut: " in text)
    _, text, told = await asking(file)(
        "query", sql="SELECT hex(zeroblob(1500)) FROM books, books b, books c, books d, books e"
    )
    assert len(told["rows"]) == 21 and "21 rows are given" in told["cut"] and len(text) < 70_000
    wide = ", ".join("hex(zeroblob(5000))" for _ in range(400))
    _, text, told = await asking(file)("query", sql=f"SELECT {wide}")
    assert len(told["rows"]) == 1 and len(text) < 100_000 and len(told["notes"]) == 20


async def test_values_that_json_has_no_form_for_are_given_as_text_with_a_note(file: Path) -> None:
    _, text, told = await asking(file)(
        "query",
        sql="SELECT 9007199254740992 AS a, 9007199254740993 AS b, 9e999 AS c, -9e999 AS d, x'00ff' AS e, NULL AS f, "
        "CAST(x'ff41' AS TEXT) AS g, 'a' || char(10, 0, 27) AS h, zeroblob(99999) AS i, hex(zeroblob(9999)) AS j, ? AS k",
        parameters=[True],
    )
    a, b, c, d, e, f, g, h, i, j, k = told["rows"][0]
    assert (a, b, c, d, e, f) == (2**53, "9007199254740993", "Infinity", "-Infinity", "AP8=", None)
    assert (g, h, k) == ("\ufffdA", "a\n\0\x1b", 1)
    assert len(base64.b64decode(i)) < 10_000 and len(j) < 10_000
    assert [note.partition(":")[0] for note in told["notes"]] == ["b", "c", "d", "e", "i", "j"]
    assert all(f"[{note}]" in text for note in told["notes"]) and "\x1b" not in text


async def test_parameters_are_checked(file: Path) -> None:
    ask = asking(file)
    assert "64 bits" in await refused(ask, "SELECT ?", 2**70)
    assert "binding" in (await refused(ask, "SELECT ?, ?", 1)).casefold()
    assert await rows(ask, "SELECT typeof(?), typeof(?), typeof(?), typeof(?)", 1, 1.5, "1", None) == [
        ["integer", "real", "text", "null"]
    ]
    failed, text, _ = await ask("query", sql="SELECT ?", parameters=[{"a": 1}])
    assert failed and "wrong arguments for query" in text


async def test_a_database_that_cannot_be_read_is_told_in_words(file: Path) -> None:
    with pytest.raises(ServersError, match="is not there"):
        build("sql", database=str(file.parent / "gone.db"))
    with pytest.raises(ServersError, match="is not there"):
        build("sql", database=str(file.parent))
    ask = asking(file, write="true", timeout="1")
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert "locked" in await refused(ask, "SELECT * FROM books")
    assert "locked" in await refused(ask, "DELETE FROM books", tool="execute")
    holder.execute("ROLLBACK")
    holder.close()
    assert len(await rows(ask, "SELECT * FROM books")) == 2
    file.write_text("This is no database, but long enough to be taken for one." * 50)
    assert "is not an SQLite database" in await refused(ask, "SELECT 1")
    file.unlink()
    assert "is not there any more" in await refused(ask, "SELECT 1")
    assert os.listdir(file.parent) == []  # it was not made anew


async def test_a_change_left_half_done_is_taken_back_by_who_may_write(file: Path, tmp_path: Path) -> None:
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute("PRAGMA cache_size = 1")
    writer.execute("BEGIN")
    for _ in range(400):  # until the file itself is written to
        writer.execute("INSERT INTO authors (name) VALUES (hex(randomblob(2000)))")
    left = tmp_path / "left"
    left.mkdir()
    for name in (file.name, f"{file.name}-journal"):
        shutil.copy(file.parent / name, left / name)
    writer.close()
    assert "half changed" in await refused(asking(left / file.name), "SELECT count(*) FROM authors")
    assert await rows(asking(left / file.name, write="true"), "SELECT count(*) FROM authors") == [[2]]
    assert await rows(asking(left / file.name), "SELECT count(*) FROM authors") == [[2]]


async def test_a_wide_table_and_odd_names_are_told_clean(file: Path) -> None:
    connection = sqlite3.connect(file)
    columns = ", ".join(f"c{number}" for number in range(1_500))
    connection.execute(f"CREATE TABLE wide ({columns})")
    connection.execute('CREATE TABLE "a\x1b[2J\nb" ("c\x07" DEFAULT \'x\ny\')')
    connection.commit()
    connection.close()
    ask = asking(file)
    _, text, told = await ask("list_tables")
    assert "a\ufffd[2J\ufffdb" in text.split("\n") and "\x1b" not in json.dumps(told, ensure_ascii=False)
    _, text, told = await ask("describe_table", table="a\x1b[2J\nb")
    assert told["columns"][0]["name"] == "c\ufffd" and text.count("\n") == 1
    assert len((await ask("describe_table", table="wide"))[2]["columns"]) == 1_500
    _, text, told = await ask("query", sql='SELECT 1 AS "x\x1b"')
    assert told["columns"] == ["x\ufffd"]


async def test_half_characters_and_nul_are_refused_in_words(file: Path) -> None:
    ask = asking(file)
    for sql in ("SELECT 1\0", "SELECT '\ud800'"):
        await refused(ask, sql)
    assert await rows(ask, "SELECT length(?)", "a\0b") == [[1]]


async def test_a_database_in_use_by_a_writer_with_a_log_is_read(file: Path) -> None:
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("INSERT INTO authors VALUES (3, 'Alan')")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO authors VALUES (4, 'nobody yet')")
    assert await rows(asking(file), "SELECT max(id) FROM authors") == [[3]]
    writer.close()


async def test_a_damaged_file_is_an_error_and_never_the_end_of_the_server(file: Path) -> None:
    whole, chance = file.read_bytes(), random.Random(7)
    ask = asking(file, timeout="2")
    for _ in range(25):
        damaged = bytearray(whole)
        for _ in range(40):
            damaged[chance.randrange(16, len(damaged))] = chance.randrange(256)
        file.write_bytes(damaged)
        for sql in ("SELECT * FROM books JOIN authors", "PRAGMA integrity_check"):
            _, text, _ = await ask("query", sql=sql)
            assert "Traceback" not in text


async def test_a_process_that_dies_or_hangs_is_an_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = asking(file, timeout="1")
    monkeypatch.setattr(statements, "_START", "import os; os._exit(3)")
    assert "ended without an answer (status 3)" in await refused(ask, "SELECT 1")
    monkeypatch.setattr(statements, "_START", "import time; time.sleep(600)")
    assert "longer than 1 seconds" in await refused(ask, "SELECT 1")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert "no process can be started" in await refused(ask, "SELECT 1")


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("over", ["memory", "stdio"])
async def test_a_cancelled_call_ends_its_statement(
    file: Path, over: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as may run are cancelled; were one still running, the next would wait its minute and more."""
    options = {"timeout": "60"}
    address: Any = build("sql", database=str(file), **options)
    if over == "stdio":
        address = StdioServerParameters(
            command=sys.executable,
            args=["-m", "agentmesh_servers", "sql", "--database", str(file), "--timeout", "60"],
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
        )
    with anyio.fail_after(30):
        async with Client(address, mode=mode) as client:
            assert not (await client.call_tool("query", {"sql": "SELECT 1"})).is_error
            async with anyio.create_task_group() as group:
                for _ in range(AT_ONCE):
                    group.start_soon(client.call_tool, "query", {"sql": FOREVER})
                with anyio.move_on_after(1):
                    await client.call_tool("query", {"sql": FOREVER})
                group.cancel_scope.cancel()
            for _ in range(AT_ONCE):
                assert not (await client.call_tool("query", {"sql": "SELECT 1"})).is_error


async def test_a_cancelled_call_waits_for_its_process(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def recorded(*given: Any, **more: Any) -> subprocess.Popen[bytes]:
        started.append(start(*given, **more))
        return started[-1]

    monkeypatch.setattr(statements.subprocess, "Popen", recorded)
    with anyio.fail_after(30):
        async with Client(build("sql", database=str(file), timeout="60")) as client:
            # Ends politely, and within one step that only the end of the process can end.
            for sql in (FOREVER, "SELECT instr(zeroblob(16000000), zeroblob(8000000) || x'01')"):
                with anyio.move_on_after(1) as scope:
                    await client.call_tool("query", {"sql": sql})
                assert scope.cancelled_caught
            assert not (await client.call_tool("query", {"sql": "SELECT 1"})).is_error
    assert len(started) == 3 and all(process.poll() is not None for process in started)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux lets wait for a process of others")
async def test_no_process_outlives_a_server_that_is_killed(file: Path) -> None:
    command = [sys.executable, "-m", "agentmesh_servers", "sql", "--database", str(file), "--timeout", "300"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None and server.stdout is not None
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "host", "version": "1"},
    }
    call = {"name": "query", "arguments": {"sql": FOREVER}}
    try:
        for message in (
            {"id": 1, "method": "initialize", "params": hello},
            {"method": "notifications/initialized"},
            {"id": 2, "method": "tools/call", "params": call},
        ):
            server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        server.stdin.flush()
        child = 0
        with anyio.fail_after(30):
            while not child:
                await anyio.sleep(0.05)  # until it started one
                for thread in Path(f"/proc/{server.pid}/task").iterdir():
                    child = child or int(((thread / "children").read_text().split() or ["0"])[0])
        handle = os.pidfd_open(child)
    finally:
        server.kill()
        server.communicate()
    ended, _, _ = select.select([handle], [], [], 20)
    os.close(handle)
    assert ended
