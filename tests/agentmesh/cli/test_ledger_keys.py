"""`agentmesh ledger rotate-key`, `revoke-key`, `seal-keys`, `unseal-keys`, and passphrases for every verb that signs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentmesh_ledger import Draft, KeyStore, LedgerError, verify_ledger
from agentmesh_ledger.log import Ledger

Agentmesh = Callable[..., Any]
ORIGIN = "agentmesh.local/desk"
WORD = "correct horse"


@pytest.fixture
def ledger(recorded: Path) -> Path:
    return recorded / ".agentmesh" / "ledger.db"


@pytest.fixture
def keys(ledger: Path) -> KeyStore:
    return KeyStore(ledger.parent / "keys")


def say(ledger: Path, keys: KeyStore, name: str) -> int:
    with Ledger.open(ledger, keys=keys) as log:
        return log.append([Draft(author=keys.agent(name), kind="say", dialogue="20261125-ab")])[0].index


def test_a_key_is_rotated_and_its_name_stays(
    agentmesh: Agentmesh, recorded: Path, ledger: Path, keys: KeyStore
) -> None:
    old = keys.agent("front")
    (told,) = agentmesh("ledger", "rotate-key", "front", "--json", "--ledger", recorded).lines
    assert told == {"agent": "front", "old": old.id, "new": keys.agent_id("front"), "index": 11}
    assert keys.retired("front") == (old.id,)
    assert say(ledger, keys, "front") == 12
    with (
        Ledger.open(ledger, keys=keys) as log,
        pytest.raises(LedgerError) as caught,
    ):
        log.append([Draft(author=old, kind="say", dialogue="d")])
    assert caught.value.reason == "refused"
    evidence = verify_ledger(ledger)
    assert [(each.old, each.new) for each in evidence.rotated] == [(old.id, told["new"])]
    # Whoever reads the record sees one agent.
    assert agentmesh("show", "20261125", "--ledger", recorded).out.splitlines()[-1] == "[12] front"
    assert agentmesh("replay", recorded, "20261125", "--json").lines[-1]["agent"] == "front"
    assert "since entry 13" in agentmesh("ledger", "rotate-key", "front", "--ledger", recorded).out


def test_a_rotation_that_was_cut_off_is_ended_and_not_done_twice(
    agentmesh: Agentmesh, recorded: Path, ledger: Path, keys: KeyStore
) -> None:
    old = keys.agent("front")
    # Cut off once the next key was made: that one is taken.
    waiting = keys.next_agent("front")
    (told,) = agentmesh("ledger", "rotate-key", "front", "--json", "--ledger", recorded).lines
    assert (told["new"], told["index"]) == (waiting.id, 11)
    # Cut off once the log had it: only the files are left to change.
    old, waiting = keys.agent("front"), keys.next_agent("front")
    with Ledger.open(ledger, keys=keys) as log:
        index = log.rotate(old, waiting).index
    (told,) = agentmesh("ledger", "rotate-key", "front", "--json", "--ledger", recorded).lines
    assert (told["old"], told["new"], told["index"]) == (old.id, waiting.id, index)
    assert keys.agent("front") == waiting
    assert verify_ledger(ledger).entries == index + 1


def test_who_has_no_key_cannot_be_rotated(agentmesh: Agentmesh, recorded: Path) -> None:
    done = agentmesh("ledger", "rotate-key", "nobody", "--ledger", recorded)
    assert done.code == 2 and "there are: front, host" in done.err


def test_a_key_is_revoked_by_its_name_or_its_id(
    agentmesh: Agentmesh, recorded: Path, ledger: Path, keys: KeyStore
) -> None:
    front = keys.agent_id("front")
    (told,) = agentmesh(
        "ledger", "revoke-key", "front", "--after", 5, "--reason", "stolen", "--json", "--ledger", recorded
    ).lines
    assert told == {"id": front, "after": 5, "index": 11}
    (revocation,) = verify_ledger(ledger).revoked
    assert (revocation.agent, revocation.after, revocation.disowns) == (front, 5, True)
    done = agentmesh("verify", recorded)
    assert f"revoked    {front} at entry 11, as of entry 5" in done.out and "disowned" in done.out
    with pytest.raises(LedgerError):
        say(ledger, keys, "front")
    done = agentmesh("ledger", "revoke-key", front, "--after", 5, "--ledger", recorded)
    assert done.code == 1 and "revoked" in done.err
    # Its file is gone, and the log still knows whose it was.
    (keys.directory / "agents" / "front.key").unlink()
    done = agentmesh("ledger", "revoke-key", "front", "--after", 5, "--ledger", recorded)
    assert done.code == 1 and "revoked" in done.err
    for agent in ("nobody", "did:key:z6Mk"):
        assert agentmesh("ledger", "revoke-key", agent, "--after", 5, "--ledger", recorded).code in (1, 2)
    assert agentmesh("ledger", "revoke-key", "host", "--after", 99, "--ledger", recorded).code == 1


def test_only_the_agent_and_the_first_author_may_revoke(agentmesh: Agentmesh, recorded: Path) -> None:
    done = agentmesh("ledger", "revoke-key", "host", "--after", 5, "--by", "front", "--ledger", recorded)
    assert done.code == 1 and "only an agent itself, or the log's steward" in done.err


def test_sealed_keys_sign_for_whoever_has_the_passphrase(
    agentmesh: Agentmesh, recorded: Path, ledger: Path, keys: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = agentmesh("keys", recorded).out
    done = agentmesh("ledger", "seal-keys", "--ledger", recorded)
    assert done.code == 2 and "--passphrase-file" in done.err
    monkeypatch.setenv("AGENTMESH_PASSPHRASE", WORD)
    (told,) = agentmesh("ledger", "seal-keys", "--json", "--ledger", recorded).lines
    assert told == {"keys": str(keys.directory), "sealed": 3}
    assert agentmesh("ledger", "rotate-key", "front", "--ledger", recorded).code == 0

    monkeypatch.setenv("AGENTMESH_PASSPHRASE", "a wrong one")
    done = agentmesh("ledger", "erase", 6, "--yes", "--ledger", recorded)
    assert done.code == 1 and "does not open this key" in done.err
    monkeypatch.delenv("AGENTMESH_PASSPHRASE")
    done = agentmesh("ledger", "erase", 6, "--yes", "--ledger", recorded)
    assert done.code == 1 and "AGENTMESH_PASSPHRASE" in done.err

    # What needs no secret needs no passphrase.
    for words in (("verify", recorded), ("log", "--ledger", recorded), ("show", "--ledger", recorded)):
        assert agentmesh(*words).code == 0
    assert agentmesh("ledger", "prove", 6, "--ledger", recorded).code == 0
    listed = agentmesh("keys", recorded)
    assert listed.code == 0 and listed.out.splitlines()[-2:] == ids.splitlines()[-2:]

    file = recorded / "word"
    file.write_text(f"{WORD}\n")
    file.chmod(0o600)
    done = agentmesh("ledger", "unseal-keys", "--passphrase-file", file, "--ledger", recorded)
    assert done.code == 0 and "4 keys unsealed" in done.out
    assert agentmesh("ledger", "erase", 6, "--yes", "--ledger", recorded).code == 0


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_a_passphrase_file_that_others_can_read_is_refused(
    agentmesh: Agentmesh, recorded: Path, keys: KeyStore
) -> None:
    file = recorded / "word"
    file.write_text(WORD)
    file.chmod(0o644)
    done = agentmesh("ledger", "seal-keys", "--passphrase-file", file, "--ledger", recorded)
    assert done.code == 3 and "open to others" in done.err
    assert not keys.sealed()


def test_a_folder_without_keys_has_nothing_to_seal(
    agentmesh: Agentmesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTMESH_PASSPHRASE", WORD)
    done = agentmesh("ledger", "seal-keys", "--keys", tmp_path)
    assert done.code == 3 and "there are no keys" in done.err


def test_a_first_run_under_a_passphrase_makes_sealed_keys(
    agentmesh: Agentmesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mesh.toml").write_text(
        '[mesh]\nname = "desk"\n[dialogue]\ntask = "Say it."\n'
        '[agents.ada]\nmodel = "scripted:steps.json"\nrole = "You speak."\n'
    )
    (tmp_path / "steps.json").write_text('[{"say": "It."}]')
    monkeypatch.setenv("AGENTMESH_PASSPHRASE", WORD)
    assert agentmesh("run", tmp_path).code == 0
    assert KeyStore(tmp_path / ".agentmesh" / "keys").sealed()
    monkeypatch.delenv("AGENTMESH_PASSPHRASE")
    done = agentmesh("run", tmp_path)
    assert done.code == 1 and "AGENTMESH_PASSPHRASE" in done.err
    assert agentmesh("verify", tmp_path).code == 0
