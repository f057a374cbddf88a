"""What `show` and `log` tell of a record that was altered, or made to break its readers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentmesh_ledger import Draft, DraftPart, KeyStore
from agentmesh_ledger.log import Ledger

Agentmesh = Callable[..., Any]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entries WHERE idx = 4",
        "DELETE FROM entries WHERE dialogue = 'log'",
        "UPDATE entries SET dialogue = 'hidden', seq = idx WHERE idx >= 4",
        "UPDATE entries SET dialogue = 'log', seq = 9 WHERE idx = 10",
    ],
)
def test_a_ledger_with_messages_missing_is_neither_shown_nor_listed(
    agentmesh: Agentmesh, recorded: Path, statement: str
) -> None:
    with closing(sqlite3.connect(recorded / ".agentmesh" / "ledger.db", isolation_level=None)) as connection:
        connection.execute(statement)
    for arguments in (("show", "20261124-aa"), ("show",), ("log",)):
        done = agentmesh(*arguments, "--ledger", recorded)
        assert done.code == 1, arguments
        assert "NOT VERIFIED" in done.err


def test_content_that_was_altered_is_not_shown(agentmesh: Agentmesh, recorded: Path) -> None:
    with closing(sqlite3.connect(recorded / ".agentmesh" / "ledger.db", isolation_level=None)) as connection:
        connection.execute("UPDATE parts SET data = CAST('FAKE' AS BLOB) WHERE idx = 2")
    done = agentmesh("show", "20261124-aa", "--ledger", recorded)
    assert done.code == 1 and "FAKE" not in done.out


@pytest.mark.parametrize("verb", ["show", "export"])
def test_an_empty_name_means_no_dialogue(
    agentmesh: Agentmesh, recorded: Path, tmp_path: Path, verb: str
) -> None:
    output = ("-o", tmp_path / "t") if verb == "export" else ()
    done = agentmesh(verb, "", "--ledger", recorded, *output)
    assert done.code == 2 and "no name" in done.err
    assert not (tmp_path / "t").exists()


def test_what_was_left_out_is_shown_and_what_a_model_thought_only_with_the_rest_behind_the_scenes(
    agentmesh: Agentmesh, tmp_path: Path
) -> None:
    keys = KeyStore(tmp_path / "keys")
    path = tmp_path / "ledger.db"
    thought = (
        DraftPart(name="profile", type="application/json", data=b"{}"),
        DraftPart(name="reasoning", type="text/plain; charset=utf-8", data=b"\x1b[31mI doubt it."),
    )
    summary = DraftPart(name="summary", type="text/plain; charset=utf-8", data=b"So far so good.")
    facts: dict[str, Any] = {"rule": "summarise", "dropped": [2, 4, 6]}
    with Ledger.open(path, origin="agentmesh.local/desk", keys=keys, create=True) as log:
        log.append(
            [
                Draft(
                    author=keys.agent("host"), kind="compaction", dialogue="d", parts=(summary,), facts=facts
                ),
                Draft(author=keys.agent("ada"), kind="inference", dialogue="d", parts=thought),
            ]
        )
    done = agentmesh("show", "--ledger", path)
    assert "host leaves 3 earlier turns out of the prompt (summarise): So far so good.\n" in done.out
    assert "doubt" not in done.out
    everything = agentmesh("show", "--all", "--ledger", path)
    assert ": I doubt it.\n" in everything.out and "\x1b" not in everything.out
    assert "So far so good." in agentmesh("replay", path).out


BOMBS = [
    b"[" * 200_000,
    b'{"a":' + b"[" * 200_000,
    b'{"a":' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    b'{"a":' + b"9" * 5000 + b"}",
]


@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_arguments_made_to_exhaust_a_parser_are_shown_as_they_are(
    agentmesh: Agentmesh, tmp_path: Path, bomb: bytes
) -> None:
    keys = KeyStore(tmp_path / "keys")
    path = tmp_path / "ledger.db"
    with Ledger.open(path, origin="agentmesh.local/desk", keys=keys, create=True) as log:
        part = DraftPart(name="arguments", type="application/json", data=bomb)
        log.append([Draft(author=keys.agent("ada"), kind="call", dialogue="d", parts=(part,))])
    for arguments in (("show", "--ledger", path), ("replay", path)):
        for options in ((), ("--json",)):
            done = agentmesh(*arguments, *options)
            assert done.code == 0, done.err
            assert bomb[20:40].decode() in done.out
