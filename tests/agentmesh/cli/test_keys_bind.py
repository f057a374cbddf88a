"""`agentmesh keys bind`: real keys on both sides, never an argument, and the log says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

# Anvil's first well-known test key.
SECRET = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
ADDRESS = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"

Agentmesh = Callable[..., Any]


def bindings(agentmesh: Agentmesh, mesh: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = agentmesh("accounts", mesh, "--json").lines[0]["bindings"]
    return found


def test_an_agent_is_bound_and_unbound(
    agentmesh: Agentmesh, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVM_KEY", SECRET)
    done = agentmesh("keys", "bind", "front", "--key-env", "EVM_KEY", "--ledger", recorded)
    assert done.code == 0 and f"is bound to {ADDRESS}" in done.out, done.err
    assert SECRET[2:] not in done.out + done.err
    (found,) = bindings(agentmesh, recorded)
    assert found["address"] == ADDRESS
    assert ADDRESS in agentmesh("accounts", recorded).out
    assert agentmesh("verify", recorded).code == 0
    (told,) = agentmesh("keys", "unbind", "front", "--ledger", recorded, "--json").lines
    assert told["address"] == ADDRESS and bindings(agentmesh, recorded) == []
    again = agentmesh("keys", "unbind", "front", "--ledger", recorded)
    assert again.code == 2 and "bound to no account" in again.err


def test_a_keystore_file_is_opened_with_its_passphrase(
    agentmesh: Agentmesh, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "account.json"
    file.write_text(json.dumps(Account.encrypt(SECRET, "open sesame", kdf="pbkdf2", iterations=2)))
    monkeypatch.setenv("WORD", "open sesame")
    monkeypatch.setenv("WRONG", "open barley")
    words = ("keys", "bind", "front", "--keystore", file, "--ledger", recorded)
    for more, told in (
        ((), "its passphrase is not given"),
        (("--passphrase-env", "NOBODY"), "NOBODY is not set"),
        (("--passphrase-env", "WRONG"), "not that of this keystore"),
    ):
        refused = agentmesh(*words, *more)
        assert refused.code != 0 and told in refused.err
    assert bindings(agentmesh, recorded) == []
    assert agentmesh(*words, "--passphrase-env", "WORD").code == 0
    assert [each["address"] for each in bindings(agentmesh, recorded)] == [ADDRESS]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ((), "Give one of --key-env and --keystore"),
        (("--key-env", "A", "--keystore", "b"), "not both"),
        (("--key-env", "NOBODY"), "NOBODY is not set"),
        (("--key-env", "BAD"), "is no private key"),
    ],
    ids=repr,
)
def test_without_an_account_nothing_is_bound(
    agentmesh: Agentmesh,
    recorded: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.setenv("BAD", "letmein")
    done = agentmesh("keys", "bind", "front", *more, "--ledger", recorded)
    assert done.code == 2 and told in done.err and "letmein" not in done.err
    assert bindings(agentmesh, recorded) == []


def test_keys_without_a_word_are_listed_as_before(agentmesh: Agentmesh, recorded: Path) -> None:
    plain = agentmesh("keys", recorded)
    assert plain.code == 0 and plain.out == agentmesh("keys", "list", recorded).out
    assert [each["role"] for each in agentmesh("keys", recorded, "--json").lines] == ["agent", "agent", "log"]
    assert agentmesh("keys", "--json", recorded).out == agentmesh("keys", recorded, "--json").out
