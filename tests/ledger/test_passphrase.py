"""Where a passphrase comes from, and that each source that has none says what to do."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from agentmesh_ledger import KeyStore, LedgerError
from agentmesh_ledger.keyfile import Cost
from agentmesh_ledger.passphrase import (
    from_descriptor,
    from_environment,
    from_file,
    from_keyring,
    to_keyring,
)

CHEAP = Cost(opslimit=1, memlimit=8192)


def refusal(attempt: Callable[[], object]) -> LedgerError:
    with pytest.raises(LedgerError) as caught:
        attempt()
    return caught.value


def private(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def test_the_environment_gives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTMESH_PASSPHRASE", "correct hörse")
    assert from_environment() == "correct hörse".encode()
    ada = KeyStore(tmp_path / "keys", from_environment, cost=CHEAP).agent("ada")
    assert KeyStore(tmp_path / "keys", from_environment, cost=CHEAP).agent("ada") == ada
    monkeypatch.setenv("AGENTMESH_PASSPHRASE", "")
    assert refusal(from_environment).reason == "key"
    monkeypatch.delenv("AGENTMESH_PASSPHRASE")
    error = refusal(lambda: KeyStore(tmp_path / "keys", from_environment).agent("ada"))
    assert error.reason == "key" and "AGENTMESH_PASSPHRASE" in str(error)


@pytest.mark.parametrize("data", [b"a b\xff", b"a b\xff\n", b"a b\xff\r\n", b"a b\xff\nmore\n"])
def test_a_files_first_line_is_it(tmp_path: Path, data: bytes) -> None:
    path = private(tmp_path / "word", data)
    assert from_file(path) == b"a b\xff"
    (tmp_path / "link").symlink_to(path)
    assert from_file(tmp_path / "link") == b"a b\xff"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "word", b"word\n")
    path.chmod(mode)
    error = refusal(lambda: from_file(path))
    assert error.reason == "permissions" and error.path == str(path)
    with path.open("rb") as file:
        assert refusal(lambda: from_descriptor(file.fileno())).reason == "permissions"


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n", b"x" * 1025, b"x" * 5000 + b"\n"])
def test_an_empty_or_endless_line_is_refused(tmp_path: Path, data: bytes) -> None:
    assert refusal(lambda: from_file(private(tmp_path / "word", data))).reason == "key"


def test_a_missing_file_and_a_folder_are_faults(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        error = refusal(lambda path=path: from_file(path))  # type: ignore[misc]
        assert error.reason == "unreadable" and error.path == str(path)
    assert refusal(lambda: from_descriptor(987654)).reason == "unreadable"


def test_a_pipe_gives_its_first_line_and_keeps_the_rest() -> None:
    reading, writing = os.pipe()
    try:
        thread = threading.Thread(target=os.write, args=(writing, b"word\nrest"))
        thread.start()
        assert from_descriptor(reading) == b"word"
        thread.join(60)
        assert os.read(reading, 10) == b"rest"
    finally:
        os.close(reading)
        os.close(writing)


def test_a_source_is_asked_once_however_often_the_store_needs_it(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"word\n")
    os.close(writing)
    try:
        store = KeyStore(tmp_path / "keys", partial(from_descriptor, reading), cost=CHEAP)
        ada = store.agent("ada")
        store.log("example.org/desk")
        assert store.agent("ada") == ada
    finally:
        os.close(reading)


@pytest.fixture
def keyring_in_use() -> Iterator[Callable[..., dict[tuple[str, str], str]]]:
    """Sets a real backend of the keyring package that keeps its words in a dict, or fails when asked to."""
    keyring = pytest.importorskip("keyring", reason="the package keyring is not installed")
    backend = pytest.importorskip("keyring.backend")
    before = keyring.get_keyring()

    def use(failure: Exception | None = None) -> dict[tuple[str, str], str]:
        words: dict[tuple[str, str], str] = {}

        class Memory(backend.KeyringBackend):  # type: ignore[misc]  # the module came at run time
            priority = 1

            def get_password(self, service: str, username: str) -> str | None:
                if failure is not None:
                    raise failure
                return words.get((service, username))

            def set_password(self, service: str, username: str, password: str) -> None:
                if failure is not None:
                    raise failure
                words[service, username] = password

        keyring.set_keyring(Memory())
        return words

    yield use
    keyring.set_keyring(before)


def test_the_keyring_keeps_it_by_the_stores_path(
    keyring_in_use: Callable[..., dict[tuple[str, str], str]], tmp_path: Path
) -> None:
    words = keyring_in_use()
    folder = tmp_path / "keys"
    (tmp_path / "link").symlink_to(tmp_path)
    error = refusal(lambda: from_keyring(folder))
    assert error.reason == "key" and error.path == str(folder.resolve()) and error.hint
    to_keyring(tmp_path / "link" / "keys", "wörd".encode())
    assert words == {("agentmesh", str(folder.resolve())): "wörd"}
    assert from_keyring(folder) == "wörd".encode()
    ada = KeyStore(folder, partial(from_keyring, folder), cost=CHEAP).agent("ada")
    assert KeyStore(folder, lambda: "wörd".encode(), cost=CHEAP).agent("ada") == ada
    to_keyring(folder, b"other")
    assert from_keyring(folder) == b"other"


def test_a_keyring_takes_text_only(
    keyring_in_use: Callable[..., dict[tuple[str, str], str]], tmp_path: Path
) -> None:
    words = keyring_in_use()
    for word in (b"", b"\xff", b"x" * 1025):
        assert refusal(lambda word=word: to_keyring(tmp_path, word)).reason == "refused"  # type: ignore[misc]
    assert words == {}


def test_a_keyring_that_fails_is_a_fault_that_does_not_quote_it(
    keyring_in_use: Callable[..., dict[tuple[str, str], str]], tmp_path: Path
) -> None:
    import keyring.errors

    for failure in (
        keyring.errors.KeyringLocked("word"),
        keyring.errors.NoKeyringError("word"),
        OSError("word"),
    ):
        keyring_in_use(failure)
        for attempt in (lambda: from_keyring(tmp_path), lambda: to_keyring(tmp_path, b"word")):
            error = refusal(attempt)
            assert error.reason == "failed" and error.hint and "word" not in error.message
            assert type(failure).__name__ in error.message


def test_without_a_backend_the_keyring_package_says_so(tmp_path: Path) -> None:
    keyring = pytest.importorskip("keyring", reason="the package keyring is not installed")
    fail = pytest.importorskip("keyring.backends.fail")
    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())
    try:
        assert "NoKeyringError" in refusal(lambda: from_keyring(tmp_path)).message
    finally:
        keyring.set_keyring(before)


def test_without_the_package_a_keyring_is_a_fault_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    for attempt in (lambda: from_keyring(tmp_path), lambda: to_keyring(tmp_path, b"word")):
        error = refusal(attempt)
        assert error.reason == "failed" and "pip install keyring" in str(error)
