"""Receipts: whole numbers within bounds, one text for one receipt, and signatures that hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_ledger import JsonValue, KeyStore, LedgerError
from agentmesh_ledger.encoding import encode64
from agentmesh_ledger.envelope import pae
from agentmesh_ledger.jcs import canonical, parse
from agentmesh_ledger.usage.receipt import (
    MAX_AMOUNT,
    SignedReceipt,
    UsageReceipt,
    read_receipt,
    read_signed,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    return KeyStore(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def receipt(keys: KeyStore) -> UsageReceipt:
    return UsageReceipt(
        asker=keys.agent("ada").id,
        asker_log="example.org/here",
        provider=keys.agent("bob").id,
        provider_log="example.org/there",
        dialogue="d1",
        request="ab" * 32,
        tokens=12,
        milliseconds=340,
        price=7,
        unit="credit",
    )


@pytest.fixture(scope="module")
def signed(receipt: UsageReceipt, keys: KeyStore) -> SignedReceipt:
    return SignedReceipt(receipt=receipt).signed_by(keys.agent("bob")).signed_by(keys.agent("ada"))


@pytest.mark.spec("L-145", "L-146", "L-147")
def test_a_receipt_comes_back_from_the_facts_as_it_was_signed(signed: SignedReceipt) -> None:
    assert read_signed(parse(canonical(signed.to_json()))) == signed
    assert signed.receipt.statement() == pae(
        "application/vnd.agentmesh.usage.v1+json", canonical(signed.receipt.to_json())
    )


@pytest.mark.spec("L-145")
@pytest.mark.parametrize("name", ["tokens", "milliseconds", "price"])
@pytest.mark.parametrize("number", [-1, MAX_AMOUNT + 1, 2**63, 1.0, 0.5, True, None, "7"], ids=repr)
def test_an_amount_is_a_whole_number_within_bounds(receipt: UsageReceipt, name: str, number: object) -> None:
    with pytest.raises(LedgerError, match=f"{name} is not a whole number") as told:
        read_receipt({**receipt.to_json(), name: number})
    assert told.value.reason == "usage"
    with pytest.raises(LedgerError, match=f"{name} is not a whole number"):
        replace(receipt, **{name: number})  # type: ignore[arg-type]


@pytest.mark.spec("L-145")
@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": True},
        {"unit": ""},
        {"unit": "a b"},
        {"unit": "\u0435uro"},
        {"unit": "x" * 33},
        {"request": "AB" * 32},
        {"request": ""},
        {"dialogue": "a b"},
        {"asker_log": ""},
        {"provider_log": "a b"},
        {"asker": "ada"},
        {"provider": 5},
        {"tip": 1},
    ],
    ids=repr,
)
def test_whatever_is_out_of_shape_is_refused(receipt: UsageReceipt, change: Mapping[str, JsonValue]) -> None:
    with pytest.raises(LedgerError) as told:
        read_receipt({**receipt.to_json(), **change})
    assert told.value.reason in ("usage", "identity")


@pytest.mark.spec("L-145")
def test_nobody_gives_himself_a_receipt(receipt: UsageReceipt) -> None:
    with pytest.raises(LedgerError, match="to himself"):
        replace(receipt, provider=receipt.asker)


@pytest.mark.spec("L-146")
@pytest.mark.parametrize("name", ["asker_signature", "provider_signature"])
def test_a_signature_of_anybody_else_is_told_apart_from_a_malformed_one(
    signed: SignedReceipt, keys: KeyStore, name: str
) -> None:
    facts = signed.to_json()
    others = encode64(keys.agent("eve").sign(signed.receipt.statement()))
    with pytest.raises(LedgerError) as told:
        read_signed({**facts, name: others})
    assert told.value.reason == "signature"
    for wrong in ("", "x", 7, None, "A" * 200):
        with pytest.raises(LedgerError):
            read_signed({**facts, name: wrong})


@pytest.mark.spec("L-146")
@pytest.mark.parametrize("name", ["price", "tokens", "milliseconds"])
def test_no_number_changes_under_the_signatures(signed: SignedReceipt, name: str) -> None:
    facts = signed.to_json()
    receipt = facts["receipt"]
    assert isinstance(receipt, dict)
    with pytest.raises(LedgerError) as told:
        read_signed({**facts, "receipt": {**receipt, name: receipt[name] + 1}})
    assert told.value.reason == "signature"


def test_only_the_two_sides_sign(receipt: UsageReceipt, keys: KeyStore) -> None:
    with pytest.raises(LedgerError, match="neither"):
        SignedReceipt(receipt=receipt).signed_by(keys.agent("eve"))


@given(json_values)
def test_whatever_the_value_only_a_ledger_error_comes(value: object) -> None:
    for read in (read_receipt, read_signed):
        with pytest.raises(LedgerError):
            read(value)


@given(json_values, st.sampled_from(["receipt", "asker_signature", "provider_signature"]))
def test_nor_where_a_part_of_it_is_anything(signed: SignedReceipt, value: object, name: str) -> None:
    with pytest.raises(LedgerError):
        read_signed({**signed.to_json(), name: value})
