"""Keys come from a keystore file or the environment, sign what any wallet would, and are in no message."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from agentmesh_ledger import LedgerError
from agentmesh_ledger.anchor.account import (
    Account,
    account_from_environment,
    account_from_keystore,
    checksummed,
    parse_address,
)
from agentmesh_ledger.anchor.extra import chain_extra
from agentmesh_ledger.anchor.fees import Fees

from .conftest import KEY, VARIABLE

ADDRESS = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
PASSPHRASE = "correct horse"


@pytest.fixture
def keystore(tmp_path: Path, account: Account) -> Path:
    with chain_extra():
        from eth_account import Account as Accounts
    made = Accounts.encrypt(KEY, PASSPHRASE, kdf="pbkdf2", iterations=2)
    path = tmp_path / "keystore.json"
    path.write_text(json.dumps(made))
    return path


def chained(error: BaseException | None) -> str:
    """Everything that a traceback of the error would show."""
    told = ""
    while error is not None:
        told += f"{error!r} {error}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return told


@pytest.mark.parametrize("text", [KEY, f"0x{KEY}", f" {KEY.upper()}\n"])
def test_a_key_in_the_environment_is_its_account(
    account: Account, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(VARIABLE, text)
    found = account_from_environment(VARIABLE)
    assert found.address == ADDRESS and KEY not in repr(found).lower()


@pytest.mark.parametrize("name", [KEY, f"0x{KEY}", KEY.upper()])
def test_a_key_given_for_the_name_of_its_variable_is_not_quoted(account: Account, name: str) -> None:
    with pytest.raises(LedgerError) as caught:
        account_from_environment(name)
    assert caught.value.reason == "key" and KEY not in chained(caught.value).lower()


@pytest.mark.parametrize("text", ["", " ", "secret-4711", KEY[:-1], KEY + "0", "0x", "0" * 64, "f" * 64])
def test_what_is_no_key_is_refused_without_being_quoted(
    monkeypatch: pytest.MonkeyPatch, account: Account, text: str
) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(LedgerError) as caught:
        account_from_environment(VARIABLE)
    assert caught.value.reason == "key" and VARIABLE in str(caught.value)
    assert not text.strip() or text.strip() not in chained(caught.value)
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(LedgerError, match="holds no private key"):
        account_from_environment(VARIABLE)


def test_a_keystore_is_opened_with_its_passphrase(keystore: Path) -> None:
    assert account_from_keystore(keystore, PASSPHRASE.encode).address == ADDRESS


def test_a_wrong_passphrase_is_said_so_and_is_in_no_message(keystore: Path) -> None:
    with pytest.raises(LedgerError) as caught:
        account_from_keystore(keystore, lambda: b"wrong-4711")
    assert caught.value.reason == "key" and "not that of this keystore" in str(caught.value)
    assert "4711" not in chained(caught.value)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "{}", '{"version": 4}', "[" * 90_000, '{"version": 3}', '{"version": 3, "crypto": {}}',
     '{"version": 3, "crypto": {"kdf": "scrypt", "kdfparams": {"n": -1, "r": 8, "p": 1, "dklen": 32, "salt": "00"}}}',
     '{"version": 3, "crypto": []}', '{"version": 3, "crypto": {"kdf": 7}}', " " * 70_000],
)  # fmt: skip
def test_a_file_that_is_no_keystore_is_refused(tmp_path: Path, account: Account, content: str) -> None:
    path = tmp_path / "none.json"
    path.write_text(content)
    with pytest.raises(LedgerError) as caught:
        account_from_keystore(path, lambda: b"secret-4711")
    assert caught.value.reason == "key" and "4711" not in chained(caught.value)


def test_a_keystore_that_is_not_there_asks_for_no_passphrase(tmp_path: Path, account: Account) -> None:
    def asked() -> bytes:
        raise AssertionError("nobody is asked")

    with pytest.raises(LedgerError) as caught:
        account_from_keystore(tmp_path / "none", asked)
    assert caught.value.reason == "not_found"
    with pytest.raises(LedgerError) as caught:
        account_from_keystore(tmp_path, asked)
    assert caught.value.reason == "unreadable"


def test_the_same_values_give_the_same_bytes_and_the_library_reads_the_sender_back(account: Account) -> None:
    with chain_extra():
        from eth_account import Account as Accounts
    fees = Fees(max_fee=10**9, tip=1)
    one, two = (
        account.sign(chain=1, nonce=7, to="0x" + "11" * 20, data=b"\1\2", gas=50_000, fees=fees)
        for _ in range(2)
    )
    assert one == two and one.raw[0] == 2
    assert Accounts.recover_transaction(one.raw).lower() == ADDRESS
    other = account.sign(chain=1, nonce=8, to="0x" + "11" * 20, data=b"\1\2", gas=50_000, fees=fees)
    assert other.tx != one.tx


# The vectors of EIP-55.
@pytest.mark.parametrize(
    "address",
    [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0xde709f2102306220921060314715629080e2fb77",
    ],
)
def test_addresses_have_their_checksum(address: str) -> None:
    assert checksummed(address.lower()) == address
    assert parse_address(address) == parse_address(address.lower()) == address.lower()


def test_a_slip_in_an_address_is_found() -> None:
    with pytest.raises(LedgerError, match="has a slip in it"):
        parse_address("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAee")


def test_the_imports_leave_the_recursion_limit_as_it_was(account: Account) -> None:
    assert sys.getrecursionlimit() < 10_000
    with chain_extra():
        sys.setrecursionlimit(50_000)
    assert sys.getrecursionlimit() < 10_000


def test_a_missing_library_names_its_extra() -> None:
    with pytest.raises(LedgerError, match=r"agentmesh-runtime\[chain\]") as caught, chain_extra():
        raise ModuleNotFoundError("No module named 'web3'", name="web3")
    assert caught.value.reason == "no_extra"
