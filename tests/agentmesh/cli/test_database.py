"""A mesh whose record is in PostgreSQL: the same file, the same verbs, one line that says where."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentmesh_ledger import KeyStore, verify_ledger
from agentmesh_ledger.__main__ import main as verifier

Agentmesh = Callable[..., Any]


def write(folder: Path, name: str, url: str) -> Path:
    folder.mkdir()
    (folder / "mesh.toml").write_text(
        f'[mesh]\nname = "{name}"\nledger = "{url}"\n[dialogue]\ntask = "Say it."\n'
        '[agents.ada]\nmodel = "scripted:steps.json"\nrole = "You speak."\n'
    )
    (folder / "steps.json").write_text(json.dumps([{"say": f"It, says {name}."}]))
    return folder


@pytest.fixture
def desk(tmp_path: Path, database: str) -> Path:
    return write(tmp_path / "desk", "desk", database)


def test_a_mesh_runs_with_its_record_in_a_database_and_every_verb_finds_it(
    agentmesh: Agentmesh, desk: Path, database: str, tmp_path: Path
) -> None:
    done = agentmesh("run", desk)
    assert (done.code, done.out) == (0, "It, says desk.\n"), done.err
    assert "--origin agentmesh.local/desk" in done.err
    assert KeyStore(desk / ".agentmesh" / "keys").names() == ("ada", "host")
    assert not (desk / ".agentmesh" / "ledger.db").exists()
    for words in (
        ("verify", desk),
        ("verify", database),
        ("replay", database),
        ("show", "--ledger", database),
        ("log", "--ledger", desk),
        ("keys", desk),
        ("ledger", "prove", 2, "--ledger", database),
        ("ledger", "checkpoint", "--ledger", desk),
        ("ledger", "export-tiles", tmp_path / "tiles", "--ledger", database),
        ("export", "latest", "--ledger", database, "-o", tmp_path / "t"),
        ("verify", tmp_path / "t"),
        ("ledger", "erase", 2, "--yes", "--ledger", desk),
        ("ledger", "rotate-key", "ada", "--ledger", desk),
        ("ledger", "revoke-key", "ada", "--after", 6, "--ledger", desk),
    ):
        done = agentmesh(*words)
        assert done.code == 0, (words, done.err)
    assert verify_ledger(database).erased == 1


def test_a_database_named_on_the_command_line_has_its_keys_beside_the_mesh(
    agentmesh: Agentmesh, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "desk", "desk", "elsewhere.db")
    assert agentmesh("run", folder, "--ledger", database).code == 0
    assert not (folder / "elsewhere.db").exists()
    # Of a database alone nobody can tell where its keys are, but those of the current folder's mesh are meant.
    done = agentmesh("ledger", "erase", 2, "--yes", "--ledger", database)
    assert done.code == 1 and "is not in the key store" in done.err
    keys = folder / ".agentmesh" / "keys"
    assert agentmesh("ledger", "erase", 2, "--yes", "--ledger", database, "--keys", keys).code == 0
    monkeypatch.chdir(folder)
    assert agentmesh("ledger", "erase", 2, "--yes", "--ledger", database).code == 0


def test_several_meshes_share_a_database_and_each_finds_its_own(
    agentmesh: Agentmesh, desk: Path, database: str, tmp_path: Path
) -> None:
    garden = write(tmp_path / "garden", "garden", database)
    for folder in (desk, garden):
        assert agentmesh("run", folder).code == 0
        assert f"of agentmesh.local/{folder.name} " in agentmesh("verify", folder).out
        assert f"It, says {folder.name}." in agentmesh("show", "--ledger", folder).out
    done = agentmesh("verify", database)
    assert done.code == 2 and "agentmesh.local/garden" in done.err
    origin = ("--origin", "agentmesh.local/garden")
    assert agentmesh("verify", database, *origin).code == 0
    assert "It, says garden." in agentmesh("show", "--ledger", database, *origin).out
    assert agentmesh("export", "latest", "--ledger", database, *origin, "-o", tmp_path / "t").code == 0
    assert verifier([database]) == 2
    assert verifier([database, *origin]) == 0


def test_a_password_in_the_address_is_told_nobody(agentmesh: Agentmesh, tmp_path: Path) -> None:
    url = "postgresql+psycopg://ada:s3cret@127.0.0.1:1/x?sslpassword=s4cret"
    folder = write(tmp_path / "desk", "desk", url)
    for words in (
        ("run", folder),
        ("verify", url, "--json"),
        ("replay", url),
        ("log", "--ledger", folder),
        ("ledger", "erase", 1, "--yes", "--ledger", url),
    ):
        done = agentmesh(*words)
        assert done.code == 3 and "ada:***@127.0.0.1" in done.err, (words, done.err)
        assert "cret" not in (done.out + done.err).replace("secret", "")


def test_an_address_of_no_ledger_is_a_mistake_with_its_line(agentmesh: Agentmesh, tmp_path: Path) -> None:
    folder = write(tmp_path / "desk", "desk", "mysql://ada@localhost/x")
    done = agentmesh("run", folder)
    assert done.code == 2
    assert f"{folder / 'mesh.toml'}:3: mesh.ledger: no ledger is kept at mysql:// addresses" in done.err


def test_without_the_driver_one_line_says_which_extra_it_wants(
    agentmesh: Agentmesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    done = agentmesh("verify", "postgresql+psycopg://ada@127.0.0.1:1/x")
    assert done.code == 2 and "pip install 'agentmesh-runtime[store,postgres]'" in done.err
    assert len(done.err.splitlines()) == 1
