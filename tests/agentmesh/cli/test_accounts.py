"""`agentmesh accounts`: the same sums and the same root from a mesh, a ledger and a transcript; and one balance proved."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from agentmesh_ledger import Draft, KeyStore
from agentmesh_ledger.__main__ import main as verify
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.usage.receipt import SignedReceipt, UsageReceipt

ORIGIN = "agentmesh.local/desk"


@pytest.fixture
def used(recorded: Path) -> Path:
    """The recorded mesh, in which `front` then asked `back` twice: one receipt is good, of the other one signature is missing."""
    place = recorded / ".agentmesh"
    keys = KeyStore(place / "keys")
    front, back = keys.agent("front"), keys.agent("back")
    with Ledger.open(place / "ledger.db", origin=ORIGIN, keys=keys) as log:
        log.append([Draft(author=back, kind="say", dialogue="20261124-aa")])
        for price, signers in ((1_500_000, (front, back)), (9, (back,))):
            (asked,) = log.append([Draft(author=front, kind="call", dialogue="20261124-aa")])
            receipt = UsageReceipt(
                asker=front.id,
                asker_log=ORIGIN,
                provider=back.id,
                provider_log=ORIGIN,
                dialogue="20261124-aa",
                request=asked.leaf_hash.hex(),
                tokens=1,
                milliseconds=2,
                price=price,
                unit="credit",
            )
            signed = SignedReceipt(receipt=receipt)
            for key in signers:
                signed = signed.signed_by(key)
            log.append([Draft(author=back, kind="usage", dialogue="20261124-aa", facts=signed.to_json())])
    return recorded


def test_a_mesh_a_ledger_and_a_transcript_come_to_the_same_root(
    agentmesh: Callable[..., Any], used: Path, tmp_path: Path
) -> None:
    transcript = tmp_path / "all.transcript.jsonl"
    assert agentmesh("export", "all", "--ledger", used, "-o", transcript).code == 0
    found = []
    for record in (used, used / "mesh.toml", used / ".agentmesh" / "ledger.db", transcript):
        done = agentmesh("accounts", record, "--json")
        assert done.code == 0, done.err
        found += done.lines
    assert found[0] == found[1] == found[2] == found[3]
    assert found[0]["receipts"] == 1 and found[0]["not_counted"] == {"unsigned": 1}
    assert {each["name"]: each["balance"] for each in found[0]["balances"]} == {
        "front": -1_500_000,
        "back": 1_500_000,
    }
    assert len(found[0]["root"]) == 64


def test_people_read_who_owes_what_and_what_was_left_out(agentmesh: Callable[..., Any], used: Path) -> None:
    done = agentmesh("accounts", used)
    assert done.code == 0
    assert "back  1.500000 credit: 1.500000 earned, 0.000000 spent" in done.out
    assert "front  -1.500000 credit: 0.000000 earned, 1.500000 spent" in done.out
    assert "left out   1: unsigned" in done.out and "only one of the two sides" in done.out


def test_earlier_balances_can_be_asked_for(agentmesh: Callable[..., Any], used: Path, tmp_path: Path) -> None:
    transcript = tmp_path / "all.transcript.jsonl"
    agentmesh("export", "all", "--ledger", used, "-o", transcript)
    for record in (used, transcript):
        (told,) = agentmesh("accounts", record, "--at", 9, "--json").lines
        assert (told["size"], told["balances"]) == (9, [])
        done = agentmesh("accounts", record, "--at", 1000)
        assert done.code != 0 and "entries, not 1000" in done.err


def test_one_dialogue_is_no_whole_log_and_has_no_root(
    agentmesh: Callable[..., Any], used: Path, tmp_path: Path
) -> None:
    transcript = tmp_path / "one.transcript.jsonl"
    agentmesh("export", "20261124-aa", "--ledger", used, "-o", transcript)
    (told,) = agentmesh("accounts", transcript, "--json").lines
    assert told["root"] is None and told["receipts"] == 1
    done = agentmesh("accounts", transcript)
    assert "not the whole log" in done.out
    # Nobody has named a key: the name of the log is the file's own word.
    vkey = agentmesh("keys", used).out.split("log    ")[1].strip()
    assert vkey in done.err and "own word" in done.err and "own word" not in agentmesh("accounts", used).err


def test_a_damaged_transcript_gives_no_sums(
    agentmesh: Callable[..., Any], used: Path, tmp_path: Path
) -> None:
    transcript = tmp_path / "all.transcript.jsonl"
    agentmesh("export", "all", "--ledger", used, "-o", transcript)
    lines = transcript.read_bytes().splitlines(keepends=True)
    transcript.write_bytes(b"".join(lines[:-2] + lines[-1:]))
    done = agentmesh("accounts", transcript)
    assert (done.code, done.out) == (1, "")


def test_a_balance_is_proved_in_a_file_that_the_verifier_takes(
    agentmesh: Callable[..., Any], used: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "back.balance"
    done = agentmesh("accounts", "prove", "back", "-o", file, "--ledger", used)
    assert done.code == 0 and "agentmesh-verify balance" in done.err
    vkey = agentmesh("keys", used).out.split("log    ")[1].strip()
    assert verify(["balance", str(file), "--key", vkey]) == 0
    told = capfd.readouterr().out
    assert "1.500000 credit" in told and "the log's own word" in told
    (again,) = agentmesh("accounts", "prove", "back", "-o", file, "--ledger", used, "--json").lines
    assert (again["appended"], again["anchored"]) == (False, False)
    assert agentmesh("verify", used).code == 0


@pytest.mark.parametrize(
    "agent",
    ["host", "nobody", "did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH", "did:key:z6Mk"],
)
def test_who_has_no_balance_is_told(
    agentmesh: Callable[..., Any], used: Path, tmp_path: Path, agent: str
) -> None:
    done = agentmesh("accounts", "prove", agent, "-o", tmp_path / "x.balance", "--ledger", used)
    assert done.code == 2 and not (tmp_path / "x.balance").exists()


def test_a_mesh_without_receipts_has_no_balances(agentmesh: Callable[..., Any], recorded: Path) -> None:
    done = agentmesh("accounts", recorded)
    assert done.code == 0 and "no receipt that both sides signed" in done.out


def test_a_root_that_the_log_says_is_held_against_its_receipts(
    agentmesh: Callable[..., Any], used: Path, tmp_path: Path
) -> None:
    agentmesh("accounts", "prove", "back", "-o", tmp_path / "x.balance", "--ledger", used)
    done = agentmesh("accounts", used)
    assert done.code == 0 and "as it is" in done.out
    keys = KeyStore(used / ".agentmesh" / "keys")
    with Ledger.open(used / ".agentmesh" / "ledger.db", origin=ORIGIN, keys=keys) as log:
        facts = {"balances": "ab" * 32, "size": log.size}
        lied = log.append([Draft(author=keys.agent("host"), kind="settlement", dialogue="log", facts=facts)])
    transcript = tmp_path / "all.transcript.jsonl"
    agentmesh("export", "all", "--ledger", used, "-o", transcript)
    for record in (used, transcript):
        done = agentmesh("accounts", record)
        assert done.code == 1 and f"by entry {lied[0].index}: WRONG" in done.out
        (told,) = agentmesh("accounts", record, "--json").lines
        assert [each["agrees"] for each in told["said"]] == [True, False]


def test_a_root_put_on_a_chain_proves_a_balance(
    agentmesh: Callable[..., Any],
    anvil: Callable[..., AbstractContextManager[str]],
    used: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """`anchor push --settle`, then `accounts prove`, then the verifier; nothing more is recorded for it."""
    # Anvil's first well-known test key.
    monkeypatch.setenv("PAYER", "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
    file = tmp_path / "back.balance"
    with anvil("--block-time", "1") as url:
        node = ("--rpc", url, "--key-env", "PAYER")
        (made,) = agentmesh("anchor", "deploy", *node, "--json").lines
        where = (used, *node, "--contract", made["contract"], "--confirmations", "1", "--within", "60")
        pushed = agentmesh("anchor", "push", *where, "--settle", "--json")
        assert pushed.code == 0, pushed.err
    (told,) = agentmesh("accounts", "prove", "back", "-o", file, "--ledger", used, "--json").lines
    assert (told["anchored"], told["appended"]) == (True, False)
    (sums,) = agentmesh("accounts", used, "--at", told["size"], "--json").lines
    assert sums["root"] == told["root"]
    vkey = agentmesh("keys", used).out.split("log    ")[1].strip()
    assert verify(["balance", str(file), "--key", vkey]) == 0
    found = capfd.readouterr().out
    assert "1.500000 credit" in found and "name the block with --block" in found
    block = re.findall(r"0x[0-9a-f]{64}", found)[0]
    assert verify(["balance", str(file), "--key", vkey, "--block", block]) == 0
    assert "the block you named" in capfd.readouterr().out
    assert agentmesh("verify", used).code == 0
