"""The sql server on a real PostgreSQL server: what it tells, what nobody gets it to change, and that every statement ends."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from uuid import uuid4

import anyio
import pytest
from mcp import Client
from mcp.types import TextContent

from agentmesh_servers import ServersError, build

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
pytestmark = pytest.mark.anyio

SCHEMA = """
CREATE TABLE authors (id serial PRIMARY KEY, name text NOT NULL);
CREATE TABLE books (id bigint PRIMARY KEY, author integer REFERENCES authors (id), title text DEFAULT 'untitled');
CREATE INDEX by_title ON books (title);
CREATE VIEW titles AS SELECT title FROM books;
CREATE SCHEMA other;
CREATE TABLE other.things (x integer);
CREATE TABLE hidden (x integer);
INSERT INTO authors (name) VALUES ('Ada'), ('Grace');
INSERT INTO books VALUES (1, 1, 'Engines'), (9007199254740993, 2, 'Compilers');
"""
VARIABLE = "LIBRARY_URL"
Ask = Callable[..., Awaitable[tuple[bool, str, Any]]]


@pytest.fixture
def admin(database: str) -> str:
    return database.replace("+psycopg", "")


@pytest.fixture
def url(admin: str, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database with a library in it, named in the environment as a role that has few rights."""
    role = f"reader{uuid4().hex[:8]}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute(
            f"CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT, UPDATE ON authors, books, titles TO {role};"
            f"GRANT USAGE ON SCHEMA other TO {role}; GRANT SELECT ON other.things TO {role};"
            f"GRANT USAGE, UPDATE ON SEQUENCE authors_id_seq TO {role}"
        )
    given = database.replace("tester@", f"{role}@")
    monkeypatch.setenv(VARIABLE, given)
    yield given
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def asking(**options: str) -> Ask:
    server = build("sql", url_env=VARIABLE, **options)

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


def contents(admin: str) -> list[tuple[object, ...]]:
    with psycopg.connect(admin, autocommit=True) as connection:
        found: list[tuple[object, ...]] = connection.execute(
            "SELECT (SELECT array_agg(a ORDER BY id) FROM authors a)::text, (SELECT last_value FROM authors_id_seq), "
            "(SELECT count(*) FROM books), (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_largeobject_metadata)"
        ).fetchall()
        return found


@pytest.mark.usefixtures("url")
async def test_it_tells_the_tables_that_the_role_may_read() -> None:
    ask = asking()
    failed, text, _ = await ask("list_tables")
    assert (failed, text) == (False, "authors\nbooks\nother.things\ntitles (view)")
    _, text, told = await ask("describe_table", table="books")
    assert text == (
        "table books\nid bigint, key\nauthor integer\ntitle text, default 'untitled'::text\n"
        "foreign key: FOREIGN KEY (author) REFERENCES authors(id)\n"
        "index: CREATE UNIQUE INDEX books_pkey ON public.books USING btree (id)\n"
        "index: CREATE INDEX by_title ON public.books USING btree (title)"
    )
    for name in ("public.books", "other.things", "titles"):
        assert not (await ask("describe_table", table=name))[0]
    for name in ("hidden", "things", "pg_authid", "x'; DROP TABLE books; --"):
        assert (await ask("describe_table", table=name))[0]


@pytest.mark.usefixtures("url")
async def test_a_query_gives_its_rows_with_types_that_json_knows() -> None:
    ask = asking()
    _, text, told = await ask(
        "query", sql="SELECT * FROM books WHERE title LIKE 'C%' AND author = $1", parameters=[2]
    )
    assert told["rows"] == [["9007199254740993", 2, "Compilers"]]
    assert text.endswith("[id: whole numbers beyond 2^53 are given as text]")
    assert (await ask("query", sql="SELECT * FROM books WHERE false"))[1] == "0 rows: id, author, title"
    assert await rows(
        ask,
        "SELECT 1.50, 'infinity'::timestamptz, date '0044-03-15 BC', interval '1 mon', '{\"a\": [1e400]}'::jsonb, "
        "'NaN'::float8, '\\x00ff'::bytea, ARRAY[1.5, NULL], true, NULL, E'a\\nb', $1::text, $2::int",
        "x",
        7,
    ) == [
        [
            "1.50",
            "infinity",
            "0044-03-15 BC",
            "1 mon",
            '{"a": [1' + "0" * 400 + "]}",
            "NaN",
            "AP8=",
            ["1.5", None],
            True,
            None,
            "a\nb",
            "x",
            7,
        ]
    ]
    assert await rows(ask, "VALUES (1), (2)") == [[1], [2]]
    assert await rows(ask, "SHOW transaction_read_only") == [["on"]]
    assert await rows(ask, "EXPLAIN SELECT 1")


CHANGES = [
    "DELETE FROM books",
    "INSERT INTO authors (name) VALUES ('x')",
    "WITH x AS (INSERT INTO authors (name) VALUES ('x') RETURNING 1) SELECT * FROM x",
    "UPDATE authors SET name = 'x'",
    "CREATE TABLE x (y int)",
    "SELECT * INTO x FROM books",
    "SELECT nextval('authors_id_seq')",
    "SELECT setval('authors_id_seq', 99)",
    "SET TRANSACTION READ WRITE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "DO $$ BEGIN SET TRANSACTION READ WRITE; INSERT INTO authors (name) VALUES ('x'); END $$",
    "DO $$ BEGIN COMMIT; INSERT INTO authors (name) VALUES ('x'); END $$",
    "DO $$ BEGIN ROLLBACK; SET TRANSACTION READ WRITE; INSERT INTO authors (name) VALUES ('x'); COMMIT; END $$",
    "COMMIT",
    "ROLLBACK",
    "BEGIN READ WRITE",
    "SELECT 1; DELETE FROM books",
    "COMMIT; DELETE FROM books; COMMIT",
    "COPY authors FROM STDIN",
    "COPY authors TO STDOUT",
    "COPY authors TO PROGRAM 'id'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT lo_import('/etc/passwd')",
    "LOCK TABLE books IN ACCESS EXCLUSIVE MODE",
    "VACUUM",
    "EXPLAIN ANALYZE DELETE FROM books",
    "PREPARE x AS DELETE FROM books",
    "",
    "SELEC 1",
]


@pytest.mark.usefixtures("url")
async def test_nothing_is_changed_by_a_query_whatever_the_option(admin: str) -> None:
    before, ask = contents(admin), asking(write="true")
    for sql in CHANGES:
        await refused(ask, sql)
    # Servers before 16 allow it in a transaction that only reads; to roll back undoes it.
    await ask("query", sql="SELECT lo_create(0)")
    assert contents(admin) == before


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT $1::int", "the database does not take that: bind message supplies 0 parameters"),
        ("SELECT 'a' || chr(0)", "the database does not take that: null character"),
        ("", "give one statement that does, such as SELECT"),
        ("-- nothing", "give one statement that does, such as SELECT"),
        ("SELECT pg_cancel_backend(pg_backend_pid())", "the statement was ended by somebody else: try again"),
        ("SELECT pg_terminate_backend(pg_backend_pid())", "the database was lost"),
    ],
)
async def test_a_refusal_says_what_is_wrong_and_not_that_the_database_is(sql: str, said: str) -> None:
    failed, text, _ = await asking()("query", sql=sql)
    assert failed and said in text


@pytest.mark.usefixtures("url")
async def test_a_change_is_committed_and_counted_one_statement_at_a_time(admin: str) -> None:
    ask = asking(write="true", rows="5")
    failed, text, _ = await ask(
        "execute", sql="INSERT INTO authors (name) VALUES ($1) RETURNING id", parameters=["x"]
    )
    assert (failed, text) == (False, "Done; 1 row changed.\n1 row: id\n[3]")
    assert (await ask("execute", sql="UPDATE authors SET name = 'y'"))[2]["changed"] == 3
    assert (await ask("execute", sql="SELECT 1"))[2]["changed"] == 0
    _, text, told = await ask(
        "execute", sql="INSERT INTO authors (name) SELECT 'z' FROM generate_series(1, 9) RETURNING id"
    )
    assert (told["changed"], len(told["rows"]), bool(told["cut"])) == (9, 5, True)
    before = contents(admin)
    for sql in (
        "INSERT INTO authors (name) VALUES ('a'); COMMIT",
        "INSERT INTO books VALUES (1)",
        "DROP TABLE books",
    ):
        await refused(ask, sql, tool="execute")
    assert contents(admin) == before
    assert await rows(ask, "SELECT count(*) FROM authors") == [[12]]


@pytest.mark.usefixtures("url")
async def test_a_statement_ends_within_its_time_and_the_server_is_free_of_it(admin: str) -> None:
    ask = asking(timeout="1", write="true")
    for sql in (
        "SELECT pg_sleep(600)",
        "SELECT set_config('statement_timeout', '0', false), pg_sleep(600)",
        "SELECT count(*) FROM generate_series(1, 100000000000) x",
        "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x % 9 FROM n) SELECT count(*) FROM n",
    ):
        assert "longer than 1 seconds" in await refused(ask, sql)
    assert "longer than" in await refused(
        ask, "INSERT INTO authors (name) SELECT pg_sleep(600)::text", tool="execute"
    )
    assert await running(admin) == 0


async def running(admin: str) -> int:
    """How many of the sql server's connections there still are, after a second in which they may end."""
    count = -1
    with anyio.move_on_after(10), psycopg.connect(admin, autocommit=True) as connection:
        while count:
            await anyio.lowlevel.checkpoint()
            (count,) = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'agentmesh-server sql'"
            ).fetchone()
    return count


@pytest.mark.usefixtures("url")
async def test_a_cancelled_call_ends_its_statement_on_the_server(admin: str) -> None:
    with anyio.fail_after(30):
        async with Client(build("sql", url_env=VARIABLE, timeout="60")) as client:
            with anyio.move_on_after(2) as scope:
                await client.call_tool("query", {"sql": "SELECT pg_sleep(600)"})
            assert scope.cancelled_caught
            assert await running(admin) == 0


@pytest.mark.usefixtures("url")
async def test_rows_beyond_the_limit_are_cut_and_not_fetched() -> None:
    ask = asking(rows="5", timeout="20")
    endless = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"
    _, text, told = await ask("query", sql=endless)
    assert told["rows"] == [[1], [2], [3], [4], [5]] and "[cut: the first 5 rows" in text
    _, _, told = await ask("query", sql=f"{endless} LIMIT 5")
    assert len(told["rows"]) == 5 and not told["cut"]
    _, text, told = await asking()("query", sql="SELECT repeat('ä', 30000) FROM generate_series(1, 50)")
    assert 1 < len(told["rows"]) < 10 and "rows are given" in told["cut"] and "30,000" in told["notes"][0]


@pytest.mark.usefixtures("url")
async def test_a_row_beyond_all_bounds_is_an_error_and_not_our_memory() -> None:
    text = await refused(asking(timeout="45"), "SELECT repeat('x', 300000000)")
    assert "more memory" in text or "longer than" in text


@pytest.mark.usefixtures("url")
async def test_a_lock_of_others_is_told(admin: str) -> None:
    with psycopg.connect(admin) as holder:
        holder.execute("LOCK TABLE books IN ACCESS EXCLUSIVE MODE")
        text = await refused(asking(timeout="1"), "SELECT * FROM books")
        assert "longer than" in text or "holds what the statement needs" in text


@pytest.mark.usefixtures("url")
async def test_a_role_that_may_too_much_is_refused_unless_told(
    admin: str, database: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = url.partition("://")[2].partition("@")[0]
    for much in ("pg_read_server_files", "pg_execute_server_program", "tester"):
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"GRANT {much} TO {role}")
        assert "a role without such rights" in await refused(asking(), "SELECT 1")
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"REVOKE {much} FROM {role}")
    assert await rows(asking(), "SELECT 1") == [[1]]
    monkeypatch.setenv(VARIABLE, database)
    assert "a role without such rights" in await refused(asking(), "SELECT 1")
    assert await rows(asking(superuser="true"), "SELECT 1") == [[1]]


async def test_a_server_that_is_not_there_is_told_without_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "postgresql://me:hunter2@127.0.0.1:1/library")
    text = await refused(asking(), "SELECT 1")
    assert "cannot be reached" in text and "hunter2" not in text
    monkeypatch.setenv(VARIABLE, "postgresql://me:hunter2@localhost:port%/library?hunter2")
    assert "hunter2" not in await refused(asking(), "SELECT 1")


def test_the_url_comes_from_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for value, says in (
        (None, "is not set"),
        ("mysql://x", "must hold a URL"),
        ("host=x password=secret", "URL"),
    ):
        if value is not None:
            monkeypatch.setenv(VARIABLE, value)
        with pytest.raises(ServersError, match=says) as caught:
            build("sql", url_env=VARIABLE)
        assert "secret" not in caught.value.message
    monkeypatch.setenv(VARIABLE, "postgresql://me@localhost/x")
    with pytest.raises(ServersError, match="one of the two"):
        build("sql", url_env=VARIABLE, database="x.db")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ServersError, match=r"agentmesh-runtime\[postgres\]") as caught:
        build("sql", url_env=VARIABLE)
    assert caught.value.reason == "missing_extra"
