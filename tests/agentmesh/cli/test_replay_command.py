"""`agentmesh replay`: the same words mean the same dialogue in a ledger and in a transcript."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentmesh_ledger import KeyStore
from agentmesh_ledger.log import Ledger

Agentmesh = Callable[..., Any]


@pytest.fixture(params=["ledger", "transcript"])
def record(request: pytest.FixtureRequest, agentmesh: Agentmesh, recorded: Path, tmp_path: Path) -> Path:
    """The same record as a ledger and as a transcript."""
    ledger = recorded / ".agentmesh" / "ledger.db"
    if request.param == "ledger":
        return ledger
    assert agentmesh("export", "all", "--ledger", ledger, "-o", tmp_path / "t.jsonl").code == 0
    return tmp_path / "t.jsonl"


def test_latest_an_id_and_its_beginning_name_a_dialogue(agentmesh: Agentmesh, record: Path) -> None:
    for wanted in ("latest", "20261125-ab", "20261125"):
        done = agentmesh("replay", record, wanted)
        assert done.code == 0 and "2 messages, all verified" in done.err
        assert "Hello." in done.out and "391" not in done.out
    assert "registers a key" in agentmesh("replay", record, "log").out
    assert "11 messages, all verified" in agentmesh("replay", record).err


@pytest.mark.parametrize(
    ("wanted", "says"),
    [("1999", "no dialogue is called"), ("2026", "may be any of 2"), ("", "no name"), ("lo", "no dialogue")],
)
def test_a_dialogue_that_cannot_be_told_is_usage_in_either(
    agentmesh: Agentmesh, record: Path, wanted: str, says: str
) -> None:
    done = agentmesh("replay", record, wanted)
    assert done.code == 2 and says in done.err
    assert done.out == ""


def test_an_empty_record_is_replayed_as_such(agentmesh: Agentmesh, tmp_path: Path) -> None:
    keys, path = KeyStore(tmp_path / "keys"), tmp_path / "empty.db"
    with Ledger.open(path, origin="agentmesh.local/desk", keys=keys, create=True) as log:
        with (tmp_path / "t.jsonl").open("wb") as out:
            log.export(out)
    for source in (path, tmp_path / "t.jsonl"):
        done = agentmesh("replay", source)
        assert (done.code, done.out) == (0, "") and "0 messages" in done.err
        done = agentmesh("replay", source, "latest")
        assert done.code == 2 and "no dialogue" in done.err


def test_where_the_record_does_not_hold_that_is_said_before_a_dialogue_is_missed(
    agentmesh: Agentmesh, recorded: Path
) -> None:
    ledger = recorded / ".agentmesh" / "ledger.db"
    with closing(sqlite3.connect(ledger, isolation_level=None)) as connection:
        connection.execute("UPDATE parts SET data = x'00' WHERE idx = 6")
    done = agentmesh("replay", ledger, "20261125-ab")
    assert done.code == 1 and "check part: entry 6" in done.err
    done = agentmesh("replay", ledger, "20261124-aa")
    assert done.code == 1 and "NOT VERIFIED" in done.out
