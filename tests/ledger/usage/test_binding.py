"""Bindings: the hashes are eth_account's, and only both signatures make one."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_ledger import AgentKey, JsonValue, KeyStore, LedgerError
from agentmesh_ledger.anchor.keccak import keccak256
from agentmesh_ledger.encoding import encode64
from agentmesh_ledger.identity import AgentId
from agentmesh_ledger.usage.binding import Binding, binding_facts, read_binding, read_unbinding

LOG = "example.org/desk"
# The first two of anvil's well-known test keys.
FIRST = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
SECOND = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
ADDRESS = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    return KeyStore(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def ada(store: KeyStore) -> AgentKey:
    return store.agent("ada")


def signed(binding: Binding, secret: str = FIRST) -> bytes:
    return bytes(Account.sign_message(encode_typed_data(full_message=binding.typed_data()), secret).signature)


def facts_of(ada: AgentKey, secret: str = FIRST) -> dict[str, JsonValue]:
    binding = Binding(agent=ada.id, address=ADDRESS, log=LOG)
    return binding_facts(binding, ada, signed(binding, secret))


@pytest.mark.spec("L-141")
@given(
    address=st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex()),
    log=st.text("abcdefghijklmnopqrstuvwxyz./-~!0123456789", min_size=1, max_size=200),
)
def test_the_hash_that_the_account_signs_is_the_one_of_eip_712(
    store: KeyStore, address: str, log: str
) -> None:
    binding = Binding(agent=store.agent("ada").id, address=address, log=log)
    made = encode_typed_data(full_message=binding.typed_data())
    assert binding.digest() == keccak256(b"\x19" + made.version + made.header + made.body)


@pytest.mark.spec("L-140", "L-142")
def test_a_binding_that_both_have_signed_holds(ada: AgentKey) -> None:
    found = read_binding(facts_of(ada), log=LOG, author=ada.id)
    assert found == Binding(agent=ada.id, address=ADDRESS, log=LOG)


@pytest.mark.spec("L-143")
def test_another_accounts_signature_makes_none(ada: AgentKey) -> None:
    with pytest.raises(LedgerError, match=f"not signed by the account {ADDRESS}"):
        facts_of(ada, SECOND)


@pytest.mark.spec("L-143")
@pytest.mark.parametrize(
    "change",
    [
        {"address": "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"},
        {"address": ADDRESS.upper().replace("X", "x")},
        {"address": "f39f"},
        {"agent_signature": encode64(bytes(64))},
        {"agent_signature": "???"},
        {"agent_signature": encode64(bytes(63))},
        {"account_signature": "0x" + "00" * 65},
        {"account_signature": "00" * 65},
        {"account_signature": "0x"},
        {"account_signature": 5},
        {"agent": "did:key:z6Mk"},
        {"more": "x"},
    ],
    ids=repr,
)
def test_whatever_is_changed_in_it_ends_it(ada: AgentKey, change: Mapping[str, JsonValue]) -> None:
    with pytest.raises(LedgerError) as told:
        read_binding({**facts_of(ada), **change}, log=LOG, author=ada.id)
    assert told.value.reason in ("usage", "identity")


@pytest.mark.spec("L-140")
def test_it_holds_in_the_log_that_was_signed_and_in_no_other(ada: AgentKey) -> None:
    with pytest.raises(LedgerError, match="not signed by"):
        read_binding(facts_of(ada), log="example.org/other", author=ada.id)


@pytest.mark.spec("L-144")
def test_nobody_else_records_or_ends_it(ada: AgentKey, store: KeyStore) -> None:
    bob = store.agent("bob").id
    with pytest.raises(LedgerError, match="by its agent alone"):
        read_binding(facts_of(ada), log=LOG, author=bob)
    with pytest.raises(LedgerError, match="by its agent alone"):
        read_unbinding({"agent": ada.id}, author=bob)
    assert read_unbinding({"agent": ada.id}, author=ada.id) == ada.id


def test_a_key_binds_itself_only(ada: AgentKey, store: KeyStore) -> None:
    binding = Binding(agent=ada.id, address=ADDRESS, log=LOG)
    with pytest.raises(LedgerError, match="another agent than the key"):
        binding_facts(binding, store.agent("bob"), signed(binding))


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.lists(st.text())))
def test_whatever_stands_in_its_place_only_a_ledger_error_comes(facts: dict[str, JsonValue]) -> None:
    with pytest.raises(LedgerError):
        read_binding(facts, log=LOG, author=AgentId("did:key:z"))
