"""Where the passphrase of a mesh's keys comes from, and that nobody is asked who need not be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentmesh.keys import kept_passphrase, open_keys
from agentmesh_ledger import KeyStore, LedgerError
from agentmesh_ledger.keyfile import Cost

CHEAP = Cost(opslimit=1, memlimit=8192)
WORD = b"correct horse"


def nobody() -> bytes:
    raise AssertionError("nobody should be asked")


@pytest.fixture
def words() -> Iterator[dict[str, str]]:
    """What the system's keyring holds, by the path of the keys."""
    keyring = pytest.importorskip("keyring", reason="the package keyring is not installed")
    backend = pytest.importorskip("keyring.backend")
    before, held = keyring.get_keyring(), dict[str, str]()

    class Memory(backend.KeyringBackend):  # type: ignore[misc]  # the module came at run time
        priority = 1

        def get_password(self, service: str, username: str) -> str | None:
            return held.get(username)

        def set_password(self, service: str, username: str, password: str) -> None:
            held[username] = password

    keyring.set_keyring(Memory())
    yield held
    keyring.set_keyring(before)


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("AGENTMESH_PASSPHRASE", raising=False)
    KeyStore(tmp_path / "keys", lambda: WORD, cost=CHEAP).agent("ada")
    return tmp_path / "keys"


def opens(store: KeyStore) -> bool:
    return store.agent("ada", create=False).id == store.agent_id("ada")


def test_for_plain_keys_and_for_new_ones_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENTMESH_PASSPHRASE", raising=False)
    assert open_keys(tmp_path / "none", ask=nobody).agent("ada")
    assert opens(open_keys(tmp_path / "none", ask=nobody))
    assert not KeyStore(tmp_path / "none").sealed()


def test_the_environment_comes_first_then_the_keyring_then_a_person(
    sealed: Path, words: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def ask() -> bytes:
        asked.append(1)
        return WORD

    assert opens(open_keys(sealed, ask=ask)) and asked == [1]
    words[str(sealed.resolve())] = WORD.decode()
    assert kept_passphrase(sealed) == WORD
    assert opens(open_keys(sealed, ask=nobody))
    words[str(sealed.resolve())] = "not this one"
    monkeypatch.setenv("AGENTMESH_PASSPHRASE", WORD.decode())
    assert opens(open_keys(sealed, ask=nobody))


def test_with_none_of_them_the_key_store_names_the_ways(sealed: Path, words: dict[str, str]) -> None:
    store = open_keys(sealed)
    assert store.agent_id("ada") and store.sealed()
    with pytest.raises(LedgerError) as caught:
        store.agent("ada")
    assert caught.value.reason == "key" and "AGENTMESH_PASSPHRASE" in str(caught.value)


def test_a_person_is_asked_here_and_now(sealed: Path, words: dict[str, str]) -> None:
    def leave() -> bytes:
        raise KeyboardInterrupt

    opening: Callable[[], KeyStore] = lambda: open_keys(sealed, ask=leave)  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        opening()
