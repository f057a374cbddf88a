"""One balance in one file: proved offline in the bare install, and no byte of the file changes unseen."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from agentmesh_ledger import Draft, JsonValue, LedgerError, LogKey, parse_policy, verify_proof
from agentmesh_ledger.__main__ import main
from agentmesh_ledger.cosignature import CosignerKey, cosign
from agentmesh_ledger.jcs import canonical, parse
from agentmesh_ledger.note import parse_vkey
from agentmesh_ledger.usage.balance_proof import verify_balance, write_balance_proof
from agentmesh_ledger.usage.proving import Proved, prove_balance
from agentmesh_ledger.usage.report import amount, balance_json
from agentmesh_ledger.usage.settlement import settled

if TYPE_CHECKING:
    from tests.ledger.usage.conftest import Desk

BARE = """
import sys, socket
from importlib.abc import MetaPathFinder

BLOCKED = {"sqlalchemy", "web3", "eth_account", "eth_keys", "mcp", "typer", "pydantic", "anyio", "uvicorn", "agentmesh"}


class Blocker(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
        return None


def refused(*_, **__):
    raise OSError("no network here")


sys.meta_path.insert(0, Blocker())
socket.socket = socket.create_connection = socket.getaddrinfo = refused
from agentmesh_ledger.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def proved(desk: Desk, name: str = "bob", *, newest: bool = False) -> Proved:
    return prove_balance(desk.ledger, desk.key(name).id, None, author=desk.key("host"), newest=newest)


@pytest.mark.spec("L-157", "L-158", "L-159")
def test_a_balance_is_proved_by_the_logs_own_word(desk: Desk) -> None:
    desk.used(price=1_500_000)
    size = desk.ledger.size
    made = proved(desk)
    assert (made.appended, made.anchored, made.index) == (True, False, size)
    found = verify_balance(made.data, keys=[desk.ledger.vkey()])
    assert (found.balance.agent, found.balance.net, found.size) == (desk.key("bob").id, 1_500_000, size)
    assert found.anchored is None and found.proof.index == size
    assert found.root == settled(desk.accounts()).root().hex()


@pytest.mark.spec("L-157")
def test_a_root_that_the_log_has_said_is_not_said_again_until_a_balance_changes(desk: Desk) -> None:
    desk.used()
    first = proved(desk)
    desk.say("ada")
    again = proved(desk, "ada")
    assert (again.appended, again.index) == (False, first.index)
    desk.used()
    assert proved(desk).appended


def test_who_has_no_balance_makes_no_entry(desk: Desk) -> None:
    desk.used()
    size = desk.ledger.size
    for name, unit in (("host", None), ("bob", "minute")):
        with pytest.raises(LedgerError) as told:
            prove_balance(desk.ledger, desk.key(name).id, unit, author=desk.key("host"))
        assert told.value.reason == "not_found"
    desk.used(unit="minute")
    with pytest.raises(LedgerError, match="Name one: credit, minute"):
        proved(desk)
    with pytest.raises(LedgerError, match="no key is at hand"):
        prove_balance(desk.ledger, desk.key("bob").id, "credit", author=None)
    assert desk.ledger.size == size + 2  # the question and its receipt, and nothing of ours


@pytest.mark.spec("L-159")
def test_another_logs_key_proves_nothing(desk: Desk, desk_at: Callable[[str], Desk]) -> None:
    desk.used()
    data = proved(desk).data
    other = desk_at("example.org/other")
    with pytest.raises(LedgerError) as told:
        verify_balance(data, keys=[other.ledger.vkey()])
    assert told.value.reason in ("checkpoint", "log_key")


@pytest.mark.spec("L-159")
def test_an_entry_that_says_another_root_size_or_nothing_proves_nothing(desk: Desk) -> None:
    desk.used()
    size = desk.ledger.size
    settlement = settled(desk.accounts())
    keys = [desk.ledger.vkey()]
    root = settlement.root().hex()
    wrong: list[tuple[str, str, dict[str, JsonValue]]] = [
        ("settlement", "log", {"balances": "ab" * 32, "size": size}),
        ("settlement", "log", {"balances": root, "size": size + 50}),
        ("settlement", "log", {"balances": root, "size": size, "more": 1}),
        ("settlement", "d1", {"balances": root, "size": size}),
        ("note", "log", {"balances": root, "size": size}),
        ("settlement", "log", {"balances": root, "size": True}),
    ]
    for kind, dialogue, facts in wrong:
        draft = Draft(author=desk.key("host"), kind=kind, dialogue=dialogue, facts=facts)
        (receipt,) = desk.ledger.append([draft])
        claimed = replace(settlement, size=int(str(facts["size"]).replace("True", "1")))
        with pytest.raises(LedgerError) as told:
            write_balance_proof(claimed, 0, entry=desk.ledger.prove(receipt.index), keys=keys)
        assert told.value.reason == "usage"


@pytest.mark.spec("L-159")
def test_nothing_is_told_that_the_root_does_not_say(desk: Desk) -> None:
    """One path may lead to one root in trees of several sizes: whoever hands the file on chooses."""
    desk.say("eve")
    desk.used()
    desk.used("ada", "eve")
    value, keys = parse(proved(desk).data[:-1]), [desk.ledger.vkey()]
    assert isinstance(value, dict) and value["count"] == 3
    told = set()
    for count in range(1, 9):
        for index in range(count):
            try:
                data = canonical({**value, "count": count, "index": index}) + b"\n"
                told.add(str(balance_json(verify_balance(data, keys=keys), "-")))
            except LedgerError:
                continue
    assert len(told) == 1


@pytest.mark.spec("L-159")
def test_a_leaf_of_another_log_or_of_no_such_balance_is_refused(
    desk: Desk, desk_at: Callable[[str], Desk]
) -> None:
    desk.used()
    value = parse(proved(desk).data[:-1])
    assert isinstance(value, dict)
    leaf = value["leaf"]
    assert isinstance(leaf, dict)
    for change in (
        {"earned": "8", "balance": "8"},
        {"log": "example.org/other"},
        {"agent": desk.key("ada").id},
    ):
        with pytest.raises(LedgerError) as told:
            verify_balance(
                canonical({**value, "leaf": {**leaf, **change}}) + b"\n", keys=[desk.ledger.vkey()]
            )
        assert told.value.reason == "inclusion"
    # Another log's entry may say the same root: its balances are its own.
    other = desk_at("example.org/other")
    other.say("host")
    draft = Draft(
        author=other.key("host"),
        kind="settlement",
        dialogue="log",
        facts={"balances": value["settlement"], "size": 0},
    )
    (receipt,) = other.ledger.append([draft])
    foreign = canonical({**value, "size": 0, "entry": other.ledger.prove(receipt.index)}) + b"\n"
    with pytest.raises(LedgerError, match="of another log"):
        verify_balance(foreign, keys=[other.ledger.vkey()])


@pytest.mark.spec("L-158", "L-159")
def test_no_byte_of_the_file_changes_unseen(desk: Desk) -> None:
    desk.used()
    data, keys = proved(desk).data, [desk.ledger.vkey()]
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(LedgerError):
            verify_balance(changed, keys=keys)
    for cut in (b"", data[:-1], data + b"\n", data[: len(data) // 2], b" " + data):
        with pytest.raises(LedgerError):
            verify_balance(cut, keys=keys)


@given(
    st.binary(max_size=200) | st.dictionaries(st.text(), st.text()).map(lambda each: canonical(each) + b"\n")
)
def test_whatever_the_bytes_only_a_ledger_error_comes(data: bytes) -> None:
    with pytest.raises(LedgerError):
        verify_balance(data)


@given(
    st.sampled_from(["count", "entry", "index", "leaf", "proof", "settlement", "size", "format"]),
    st.none()
    | st.integers(-5, 2**53 - 1)
    | st.text()
    | st.lists(st.text())
    | st.dictionaries(st.text(), st.text()),
)
def test_nor_whatever_one_of_its_fields(field: str, value: JsonValue) -> None:
    whole: dict[str, JsonValue] = {
        "count": 1,
        "entry": "",
        "format": "agentmesh-balance-proof/v1",
        "index": 0,
        "leaf": {},
        "proof": [],
        "settlement": "ab" * 32,
        "size": 1,
        field: value,
    }
    with pytest.raises(LedgerError):
        verify_balance(canonical(whole) + b"\n")


@pytest.mark.spec("L-159")
def test_the_verifier_alone_tells_it_with_no_extra_and_no_network(
    desk: Desk, tmp_path: Path, python_environment: dict[str, str]
) -> None:
    desk.used(price=2_000_007)
    file = tmp_path / "ada.balance"
    file.write_bytes(proved(desk, "ada").data)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", BARE, "balance", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=python_environment)

    done = run(str(file), "--key", desk.ledger.vkey())
    assert (done.returncode, done.stderr) == (0, "")
    assert "balance    -2.000007 credit: 0.000000 earned, 2.000007 spent" in done.stdout
    assert "anchored   no: the root of the balances is the log's own word" in done.stdout
    told = json.loads(run(str(file), "--key", desk.ledger.vkey(), "--json").stdout)
    assert (told["balance"], told["spent"], told["anchored"]) == (-2_000_007, 2_000_007, None)
    file.write_bytes(file.read_bytes().replace(b'"-2000007"', b'"-1000007"'))
    done = run(str(file), "--key", desk.ledger.vkey())
    assert done.returncode == 1 and "check usage" in done.stderr


def test_without_a_key_it_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["balance", "some.balance"]) == 2
    assert "--key" in capsys.readouterr().err


def test_a_block_that_is_no_hash_is_wrong_usage_and_one_without_an_anchor_proves_nothing(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.used()
    file = tmp_path / "bob.balance"
    file.write_bytes(proved(desk, "bob").data)
    words = ["balance", str(file), "--key", desk.ledger.vkey(), "--block"]
    assert main([*words, "0x12"]) == 2
    assert main([*words, "17" * 32]) == 1
    assert "check anchor" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("micro", "text"),
    [(0, "0.000000"), (-1, "-0.000001"), (1_000_000, "1.000000"), (-2_500_000, "-2.500000")],
)
def test_amounts_are_told_to_the_last_digit(micro: int, text: str) -> None:
    assert amount(micro) == text


@pytest.mark.spec("L-159")
def test_a_cosigned_checkpoint_that_covers_the_root_stands_in_the_proof(desk: Desk) -> None:
    desk.used()
    first = proved(desk)
    secret, vkey = SigningKey(bytes(32)), desk.ledger.vkey()
    public = bytes(secret.verify_key)
    witness = CosignerKey(name="witness.example/one", public=public)
    policy = parse_policy(f"log {vkey}\nwitness one {witness}\nquorum one\n".encode())
    with pytest.raises(LedgerError) as told:
        verify_balance(first.data, policy=policy)
    assert told.value.reason == "policy"
    cosigned = cosign(
        desk.ledger.checkpoint(), LogKey(name=witness.name, public=public, _key=secret), 1_800_000_000
    )
    keys = (parse_vkey(vkey),)
    desk.keys.cosigned(desk.ledger.origin).keep(cosigned, keys, policy, is_ours=lambda _: True)
    again = proved(desk)
    assert (again.index, again.appended) == (first.index, False)
    found = verify_balance(again.data, policy=policy)
    assert found.proof.policy is not None
    assert [each.witness for each in found.proof.policy.witnesses] == ["one"]
    desk.used()  # what comes after it is not under it
    later = proved(desk)
    assert later.appended and verify_balance(later.data, keys=[vkey]).proof.tree_size == later.index + 1


def test_an_entry_is_proved_under_a_checkpoint_that_was_kept(desk: Desk) -> None:
    kept, size = desk.ledger.checkpoint(), desk.ledger.size
    desk.used()
    found = verify_proof(desk.ledger.prove(size - 1, under=kept), keys=[desk.ledger.vkey()])
    assert (found.index, found.tree_size) == (size - 1, size)
    with pytest.raises(LedgerError, match=f"no entry {size}"):
        desk.ledger.prove(size, under=kept)
