"""A ledger file has the tables of the format and nothing else: whatever else SQLite would run or show is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from agentmesh_ledger import KeyStore, Ledger, LedgerError, verify_ledger
from agentmesh_ledger.store.schema import DEFINITIONS, metadata

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c)"
FOREIGN = [
    "CREATE TRIGGER t AFTER INSERT ON parts BEGIN UPDATE parts SET data = x'', salt = x''; END",
    "CREATE TRIGGER sqlite_t AFTER INSERT ON parts BEGIN DELETE FROM parts; END",
    "ALTER TABLE parts RENAME TO p2;"
    f"CREATE VIEW parts AS {ENDLESS} SELECT 1 AS log, 5000 + x AS idx, x'00' AS hash, x'00' AS salt, x'00' AS data"
    " FROM c WHERE x < 0",
    "ALTER TABLE head RENAME TO h2;"
    f"CREATE VIEW head AS {ENDLESS} SELECT x AS log, '' AS origin, '' AS vkey, 0 AS size, '' AS checkpoint, x'' AS edge"
    " FROM c WHERE x < 0",
    "CREATE VIEW v AS SELECT 1",
    "CREATE TABLE more (x)",
    f"DROP TABLE parts; {DEFINITIONS[2][2]}{' ' * 20_000}WITHOUT ROWID",
    "CREATE INDEX more ON parts (data)",
    "CREATE UNIQUE INDEX entries_by_dialogue ON entries (log, dialogue, seq)",
    "DROP TABLE places",
    f"DROP TABLE places; {DEFINITIONS[4][2].removesuffix(' WITHOUT ROWID')}",
    "ALTER TABLE parts ADD COLUMN more",
    "ALTER TABLE entries DROP COLUMN author",
    "CREATE TABLE p2 AS SELECT * FROM parts; DROP TABLE parts; ALTER TABLE p2 RENAME TO parts",
]  # fmt: skip


def run(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        if "sqlite_t" in script:
            # SQLite gives nobody such a name, but reads it in a file made by hand.
            connection.executescript(script.replace("sqlite_t", "trigger_t"))
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute(
                "UPDATE sqlite_master SET name = 'sqlite_t', sql = replace(sql, 'trigger_t', 'sqlite_t')"
                " WHERE name = 'trigger_t'"
            )
            return
        connection.executescript(script)


@pytest.fixture
def uses(keys: KeyStore) -> list[Callable[[Path], object]]:
    """A verifier, a reader and a writer."""
    return [
        verify_ledger,
        lambda path: Ledger.open(path, read_only=True),
        lambda path: Ledger.open(path, keys=keys),
        lambda path: Ledger.open(path, keys=keys, origin="agentmesh.local/desk", create=True),
    ]


@pytest.mark.spec("L-92")
@pytest.mark.parametrize("script", FOREIGN)
def test_a_file_with_other_tables_triggers_or_views_is_refused_by_whoever_opens_it(
    file: Path, uses: list[Callable[[Path], object]], script: str
) -> None:
    run(file, script)
    for use in uses:
        with pytest.raises(LedgerError) as caught:
            use(file)
        assert caught.value.reason == "corrupt" and "not those of a ledger" in str(caught.value)


@pytest.mark.spec("L-92")
def test_what_is_described_twice_is_refused(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "INSERT INTO sqlite_master SELECT * FROM sqlite_master WHERE name LIKE 'sqlite_auto%head%'"
        )
    with pytest.raises(LedgerError) as caught:
        verify_ledger(file)
    assert caught.value.reason == "corrupt"


def test_a_strangers_database_is_not_changed_by_the_attempt_to_write_to_it(
    file: Path, keys: KeyStore
) -> None:
    run(file, "PRAGMA journal_mode = DELETE; CREATE TABLE more (x)")
    before = file.read_bytes()
    for create in (False, True):
        with pytest.raises(LedgerError):
            Ledger.open(file, keys=keys, origin="agentmesh.local/desk", create=create)
        assert file.read_bytes() == before


def test_the_tables_that_analyze_makes_are_no_strangers(file: Path) -> None:
    run(file, "ANALYZE")
    assert verify_ledger(file).entries == 7


def test_the_same_sql_with_other_white_space_is_the_same(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, ', ', ', ' || char(10, 9))")
    assert verify_ledger(file).entries == 7


def test_the_frozen_sql_is_that_of_the_tables_the_code_asks(tmp_path: Path) -> None:
    """Where a release of SQLAlchemy writes tables otherwise, this fails and the frozen SQL stays."""
    engine = create_engine(f"sqlite:///{tmp_path / 'made.db'}")
    metadata.create_all(engine)
    with engine.connect() as connection:
        made = connection.execute(text("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
        found = {(kind, name, " ".join(sql.split())) for kind, name, sql in made}
    engine.dispose()
    assert found == set(DEFINITIONS)


def test_the_page_of_the_format_has_the_frozen_sql() -> None:
    page = (Path(__file__).parents[2] / "ledger" / "SPEC.md").read_text()
    block = page.partition("```sql\n")[2].partition("```")[0]
    assert block.splitlines() == [sql for _, _, sql in DEFINITIONS]
