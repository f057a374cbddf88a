"""Keys that are known: listed, or the first one seen under a name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentmesh.serving.signing import KnownKeys, SigningError
from agentmesh_ledger import AgentId, KeyStore, LedgerError


@pytest.fixture
def keys(tmp_path: Path) -> list[AgentId]:
    store = KeyStore(tmp_path / "keys")
    return [store.agent(name).id for name in ("ada", "ben", "cleo")]


def reason(known: KnownKeys, name: str, key: AgentId, *, side: Any = "client") -> str:
    try:
        known.require(side, name, key)
        known.pin(side, name, key)
    except SigningError as error:
        return error.reason
    return "known"


def test_a_list_refuses_every_other_key_and_pins_nothing(keys: list[AgentId]) -> None:
    known = KnownKeys(listed=keys[:2])
    assert [reason(known, "any", key) for key in keys] == ["known", "known", "unknown_key"]
    assert known.pin_of("server", "lab") is None
    assert KnownKeys(listed=keys[:1]).pin_of("server", "lab") == keys[0]
    assert reason(KnownKeys(listed=[]), "any", keys[0]) == "unknown_key"


def test_a_list_of_what_is_no_key_is_refused() -> None:
    with pytest.raises(LedgerError) as caught:
        KnownKeys(listed=["did:key:zNone"])
    assert caught.value.reason == "identity"


@pytest.mark.parametrize("place", ["memory", "file"])
def test_the_first_key_under_a_name_stays_until_it_is_forgotten(
    keys: list[AgentId], tmp_path: Path, place: str
) -> None:
    known = KnownKeys(path=tmp_path / "more" / "known.json" if place == "file" else None)
    assert [reason(known, "ada", key) for key in (keys[0], keys[1], keys[0])] == [
        "known",
        "changed_key",
        "known",
    ]
    assert reason(known, "ben", keys[1]) == "known"
    # The same name on the other side is another one: no caller can take the name of a server that we call.
    assert reason(known, "ada", keys[1], side="server") == "known"
    assert (known.forget("client", "ada"), known.forget("client", "ada")) == (True, False)
    assert reason(known, "ada", keys[1]) == "known"


def test_pins_are_shared_between_processes_and_survive(keys: list[AgentId], tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    first, second = KnownKeys(path=path), KnownKeys(path=path)
    assert reason(first, "ada", keys[0]) == "known"
    assert second.pin_of("client", "ada") == keys[0]
    assert reason(second, "ada", keys[1]) == "changed_key"
    assert reason(second, "ben", keys[1]) == "known" and reason(first, "ben", keys[0]) == "changed_key"
    assert json.loads(path.read_text())["pins"]["client"] == {"ada": keys[0], "ben": keys[1]}
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_that_pin_at_once_do_not_both_win(keys: list[AgentId], tmp_path: Path) -> None:
    first, second = KnownKeys(path=tmp_path / "known.json"), KnownKeys(path=tmp_path / "known.json")
    first.require("client", "ada", keys[0])
    second.require("client", "ada", keys[1])
    second.pin("client", "ada", keys[1])
    with pytest.raises(SigningError) as caught:
        first.pin("client", "ada", keys[0])
    assert caught.value.reason == "changed_key"


def test_a_flood_of_names_does_not_fill_the_disk(keys: list[AgentId], tmp_path: Path) -> None:
    known = KnownKeys(path=tmp_path / "known.json", limit=2)
    assert [reason(known, name, keys[0]) for name in "abc"] == ["known", "known", "too_many"]
    assert reason(known, "a", keys[0]) == "known"
    assert reason(known, "lab", keys[0], side="server") == "known"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": "agentmesh-known-keys/v1", "pins": {}}', "[" * 100_000]
    + ['{"format": "agentmesh-known-keys/v1", "pins": {"client": {"a": "did:key:zNone"}, "server": {}}}']
    + ['{"format": "agentmesh-known-keys/v1", "pins": {"client": {"a": 1}, "server": {}}}'],
)
def test_a_damaged_file_is_refused_and_never_taken_for_an_empty_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "known.json"
    path.write_text(text)
    with pytest.raises(SigningError) as caught:
        KnownKeys(path=path)
    assert caught.value.reason == "malformed" and str(path) in str(caught.value.hint)
    assert path.read_text() == text


def test_a_pin_that_cannot_be_written_is_not_believed(
    keys: list[AgentId], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KnownKeys(path=tmp_path / "known.json")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("agentmesh.serving.signing.known.replace_file", full)
        assert reason(known, "ada", keys[0]) == "unrecorded"
    assert known.pin_of("client", "ada") is None
    assert reason(known, "ada", keys[1]) == "known"
