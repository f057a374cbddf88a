from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Agentmesh = Callable[..., Any]


def test_log_lists_the_dialogues(agentmesh: Agentmesh, recorded: Path) -> None:
    done = agentmesh("log", "--ledger", recorded)
    assert done.code == 0
    first, second = done.out.splitlines()
    assert first.startswith("20261124-aa")
    assert "7 messages" in first
    assert "done" in first
    assert second.startswith("20261125-ab")
    assert "open" in second
    assert agentmesh("log", "--ledger", recorded, "-n", "1").out.startswith("20261125-ab")


def test_log_speaks_json(agentmesh: Agentmesh, recorded: Path) -> None:
    first, second = agentmesh("log", "--ledger", recorded / "mesh.toml", "--json").lines
    assert (first["dialogue"], first["messages"], first["closed"]) == ("20261124-aa", 7, "done")
    assert second["closed"] is None


@pytest.mark.parametrize("where", [".", "mesh.toml", ".agentmesh/ledger.db", ".agentmesh"])
def test_where_is_a_folder_a_mesh_file_or_a_ledger(agentmesh: Agentmesh, recorded: Path, where: str) -> None:
    assert agentmesh("log", "--ledger", recorded / where).code == 0


def test_where_is_the_current_folder_by_default(
    agentmesh: Agentmesh, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recorded)
    assert agentmesh("log").code == 0
    assert agentmesh("show").code == 0
    assert agentmesh("verify").code == 0
    assert agentmesh("keys").code == 0


def test_a_mistake_elsewhere_in_the_mesh_file_keeps_nobody_from_the_record(
    agentmesh: Agentmesh, recorded: Path
) -> None:
    text = (recorded / "mesh.toml").read_text()
    (recorded / "mesh.toml").write_text(text + 'colour = "red"\n')
    assert agentmesh("log", "--ledger", recorded).code == 0


def test_show_tells_a_dialogue(agentmesh: Agentmesh, recorded: Path) -> None:
    done = agentmesh("show", "20261124", "--ledger", recorded)
    assert done.code == 0
    lines = [line.split("] ", 1)[1] for line in done.out.splitlines()]
    assert lines == [
        "host opens the dialogue of desk",
        "host (task): What is 17 * 23?",
        'front calls calculator.evaluate: expression="17 * 23"',
        "calculator.evaluate answers: 391",
        "front: The result is 391.",
        "host closes the dialogue, done",
    ]


def test_show_takes_the_latest_and_can_show_everything(agentmesh: Agentmesh, recorded: Path) -> None:
    assert "front: Hello." in agentmesh("show", "--ledger", recorded).out
    assert "with model abababababab" in agentmesh("show", "20261124-aa", "--all", "--ledger", recorded).out
    values = agentmesh("show", "20261124-aa", "--json", "--ledger", recorded).lines
    assert [value["kind"] for value in values] == [
        "open",
        "task",
        "inference",
        "call",
        "result",
        "say",
        "close",
    ]
    assert values[5]["text"] == "The result is \x1b[31m391."


@pytest.mark.parametrize(("wanted", "says"), [("2026", "may be any of 2"), ("1999", "no dialogue is called")])
def test_a_dialogue_that_cannot_be_told_is_usage(
    agentmesh: Agentmesh, recorded: Path, wanted: str, says: str
) -> None:
    done = agentmesh("show", wanted, "--ledger", recorded)
    assert done.code == 2
    assert says in done.err


def test_a_mesh_that_has_not_run_says_so(agentmesh: Agentmesh, mesh: Path) -> None:
    for verb in ("log", "show"):
        done = agentmesh(verb, "--ledger", mesh)
        assert done.code == 3
        assert "nothing is recorded there yet" in done.err
    assert agentmesh("keys", mesh).code == 3


def test_a_ledger_that_is_not_there_is_unreadable(agentmesh: Agentmesh, tmp_path: Path) -> None:
    for arguments in (("log", "--ledger", "gone.db"), ("verify", "gone.db"), ("verify", "gone.jsonl")):
        done = agentmesh(arguments[0], *arguments[1:-1], tmp_path / arguments[-1])
        assert done.code == 3
        assert "there is no such" in done.err


def test_verify_gives_the_evidence(agentmesh: Agentmesh, recorded: Path) -> None:
    done = agentmesh("verify", recorded)
    assert done.code == 0
    assert done.out.startswith("verified   11 messages of agentmesh.local/desk")
    assert "  host  " in done.out
    assert "  front  " in done.out
    (value,) = agentmesh("verify", recorded, "--json").lines
    assert value["verified"] is True
    assert value["entries"] == 11
    assert value["root"] in done.out
    assert value["pinned"] is False


def test_verify_pins_the_key_that_keys_prints(agentmesh: Agentmesh, recorded: Path, tmp_path: Path) -> None:
    listed = agentmesh("keys", recorded, "--json").lines
    (vkey,) = [each["id"] for each in listed if each["role"] == "log"]
    assert agentmesh("verify", recorded, "--key", vkey, "--json").lines[0]["pinned"] is True
    other = tmp_path / "other"
    agentmesh("init", other)
    from agentmesh_ledger import KeyStore

    stranger = KeyStore(tmp_path / "keys").log("agentmesh.local/desk").vkey
    assert agentmesh("verify", recorded, "--key", stranger).code == 1
    assert agentmesh("verify", recorded, "--key", "nonsense").code == 2


def test_keys_prints_no_secret(agentmesh: Agentmesh, recorded: Path) -> None:
    done = agentmesh("keys", recorded)
    assert done.code == 0
    assert "did:key:z6Mk" in done.out
    assert "agentmesh.local/desk+" in done.out
    for path in (recorded / ".agentmesh" / "keys").rglob("*.key"):
        assert json.loads(path.read_text())["seed"] not in done.out
    assert agentmesh("keys", recorded / ".agentmesh" / "keys").out == done.out
    assert agentmesh("keys", recorded / ".agentmesh" / "ledger.db").out == done.out


def test_a_transcript_is_exported_and_verifies_alone(
    agentmesh: Agentmesh, recorded: Path, tmp_path: Path
) -> None:
    file = tmp_path / "a.transcript.jsonl"
    done = agentmesh("export", "20261124", "--ledger", recorded, "-o", file)
    assert done.code == 0
    assert f"agentmesh-verify {file}" in done.err
    verified = agentmesh("verify", file)
    assert verified.code == 0
    assert "dialogue 20261124-aa" in verified.out
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_export_writes_the_whole_log_and_to_standard_output(
    agentmesh: Agentmesh, recorded: Path, tmp_path: Path
) -> None:
    file = tmp_path / "all.jsonl"
    assert agentmesh("export", "all", "--ledger", recorded, "-o", file).code == 0
    assert agentmesh("verify", file, "--json").lines[0]["selection"] == "log"
    done = agentmesh("export", "latest", "--ledger", recorded, "-o", "-")
    assert json.loads(done.out.splitlines()[0])["format"] == "agentmesh-transcript/v1"


def test_a_changed_transcript_is_not_verified_and_the_place_is_told(
    agentmesh: Agentmesh, recorded: Path, tmp_path: Path
) -> None:
    file = tmp_path / "a.jsonl"
    agentmesh("export", "all", "--ledger", recorded, "-o", file)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    done = agentmesh("verify", file)
    assert done.code == 1
    assert "NOT VERIFIED" in done.err
    assert "line " in done.err
    assert done.out == ""
    (value,) = agentmesh("verify", file, "--json").lines
    assert value["verified"] is False
    assert value["line"]


def test_a_changed_ledger_is_not_verified_and_not_shown_as_if(agentmesh: Agentmesh, recorded: Path) -> None:
    ledger = recorded / ".agentmesh" / "ledger.db"
    with sqlite3.connect(ledger) as database:
        (table,) = [
            name
            for (name,) in database.execute("select name from sqlite_master where type = 'table'")
            if name == "parts"
        ]
        changed = database.execute(f"update {table} set data = ? where data = ?", (b"392", b"391")).rowcount
    database.close()
    assert changed == 1
    done = agentmesh("verify", recorded)
    assert done.code == 1
    assert "check part: entry 6" in done.err
    assert agentmesh("show", "20261124", "--ledger", recorded).code == 1


def test_a_checkpoint_of_ones_own_must_be_continued(
    agentmesh: Agentmesh, recorded: Path, tmp_path: Path
) -> None:
    from agentmesh_ledger.log import Ledger

    with Ledger.open(recorded / ".agentmesh" / "ledger.db", read_only=True) as log:
        (tmp_path / "note").write_text(log.checkpoint())
    assert agentmesh("verify", recorded, "--expect", tmp_path / "note").code == 0
    assert agentmesh("verify", recorded, "--expect", tmp_path / "gone").code == 3
    (tmp_path / "note").write_text("nonsense")
    assert agentmesh("verify", recorded, "--expect", tmp_path / "note").code == 1
