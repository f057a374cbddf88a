"""Transcripts and ledgers held to a policy: who signed the checkpoint that they stand under."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from agentmesh_ledger import LedgerError, parse_policy, verify_ledger, verify_transcript
from agentmesh_ledger.__main__ import main
from agentmesh_ledger.cosignature import CosignerKey, cosign
from agentmesh_ledger.keys import LogKey
from agentmesh_ledger.note import VerifierKey

TIME = 1_700_000_000


@pytest.fixture(scope="module")
def witness() -> LogKey:
    secret = SigningKey(b"w" * 32)
    return LogKey(name="w.example", public=bytes(secret.verify_key), _key=secret)


@pytest.fixture
def written(forge, witness: LogKey) -> str:
    """A policy that trusts the log and wants its one witness."""
    key = CosignerKey(name=witness.name, public=witness.public)
    return f"log {forge.key.vkey}\nwitness W {key}\nquorum W\n"


def reason(source: bytes, policy: str, **more: object) -> str:
    with pytest.raises(LedgerError) as caught:
        verify_transcript(io.BytesIO(source), policy=parse_policy(policy.encode()), **more)  # type: ignore[arg-type]
    return caught.value.reason


@pytest.mark.spec("L-49", "L-84")
def test_a_transcript_says_who_cosigned_its_checkpoint(forge, witness: LogKey, written: str) -> None:
    forge.begin().say(forge.ada, "391")
    plain = forge.transcript()
    assert reason(plain, written) == "policy"
    data = forge.transcript(note=cosign(forge.checkpoint().sign(forge.key), witness, TIME))
    found = verify_transcript(io.BytesIO(data), policy=parse_policy(written.encode()))
    assert found.pinned and found.policy == "met: quorum W, cosigned by W"
    assert found.witnessed is not None
    assert [(each.witness, each.time) for each in found.witnessed.witnesses] == [("W", TIME)]
    assert "nothing larger was shown to the witnesses W" in found.complete
    without = verify_transcript(io.BytesIO(data))
    assert without.witnessed is None and "no witness signed it" in without.complete


@pytest.mark.spec("L-49", "L-77")
def test_the_logs_of_a_policy_are_pins(forge, witness: LogKey, written: str) -> None:
    forge.begin()
    data = forge.transcript(note=cosign(forge.checkpoint().sign(forge.key), witness, TIME))
    other = VerifierKey(name=forge.key.name, public=bytes(SigningKey(b"o" * 32).verify_key))
    assert reason(data, written.replace(forge.key.vkey, str(other))) == "log_key"
    # A key that is named comes first, and the policy still wants a log of its own.
    elsewhere = VerifierKey(name="elsewhere", public=other.public)
    assert reason(data, written.replace(forge.key.vkey, str(elsewhere)), keys=[forge.key.vkey]) == "policy"
    # Without a log in it the witnesses vouch for what they saw; whose log it is stays open.
    open_policy = written.split("\n", 1)[1]
    found = verify_transcript(io.BytesIO(data), policy=parse_policy(open_policy.encode()))
    assert not found.pinned and found.witnessed is not None


@pytest.mark.spec("L-49")
def test_a_ledger_is_held_to_a_policy_too(file: Path, witness: LogKey) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        note, vkey = database.execute("SELECT checkpoint, vkey FROM head").fetchone()
        key = CosignerKey(name=witness.name, public=witness.public)
        policy = parse_policy(f"log {vkey}\nwitness W {key}\nquorum W\n".encode())
        with pytest.raises(LedgerError) as caught:
            verify_ledger(file, policy=policy)
        assert caught.value.reason == "policy"
        database.execute("UPDATE head SET checkpoint = ?", (cosign(note, witness, TIME),))
    found = verify_ledger(file, policy=policy)
    assert found.pinned and found.policy == "met: quorum W, cosigned by W"


def test_the_command_takes_a_policy(
    forge, witness: LogKey, written: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forge.begin()
    path, policy = tmp_path / "t", tmp_path / "policy"
    path.write_bytes(forge.transcript(note=cosign(forge.checkpoint().sign(forge.key), witness, TIME)))
    policy.write_text(written)
    assert main([str(path), "--policy", str(policy)]) == 0
    told = capsys.readouterr().out
    assert "policy     met: quorum W, cosigned by W" in told
    assert "witness    W  at 2023-11-14T22:13:20Z" in told and "the key you named" in told
    assert main([str(path), "--policy", str(policy), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["policy"].startswith("met: ") and value["witnesses"][0]["time"] == TIME
    path.write_bytes(forge.transcript())
    assert main([str(path), "--policy", str(policy)]) == 1
    assert "check policy: line 1: the quorum 'W' is not met" in capsys.readouterr().err
    policy.write_text("quorum nobody\n")
    assert main([str(path), "--policy", str(policy)]) == 2
    assert main([str(path), "--policy", str(tmp_path / "none")]) == 3
    assert main([str(path), "--origin", "agentmesh.local/other"]) == 2
    assert "expected agentmesh.local/other" in capsys.readouterr().err


@pytest.mark.spec("L-77")
def test_a_strangers_line_beneath_the_note_is_no_key_that_was_named(forge) -> None:
    forge.begin()
    secret = SigningKey(b"s" * 32)
    stranger = LogKey(name=forge.key.name, public=bytes(secret.verify_key), _key=secret)
    note = forge.checkpoint().sign(forge.key)
    both = note + forge.checkpoint().sign(stranger).split("\n\n")[1]
    data = forge.transcript(note=both, vkeys=(forge.key.vkey, stranger.vkey))
    assert len(verify_transcript(io.BytesIO(data)).log_keys) == 2
    found = verify_transcript(io.BytesIO(data), keys=[forge.key.vkey])
    assert found.pinned and found.log_keys == (forge.key.vkey,)
