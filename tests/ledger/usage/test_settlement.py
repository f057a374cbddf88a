"""The tree of balances: the same root from the ledger and from its transcript, and a proof of each leaf."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_ledger import Draft, JsonValue, LedgerError, read_transcript
from agentmesh_ledger.identity import agent_id
from agentmesh_ledger.jcs import parse
from agentmesh_ledger.tree import leaf_hash, verify_inclusion
from agentmesh_ledger.usage.balances import Accounting, Balance, accounts_of
from agentmesh_ledger.usage.settlement import (
    Audit,
    balance_leaf,
    ledger_accounts,
    read_leaf,
    settled,
    settlement_root,
)

if TYPE_CHECKING:
    from tests.ledger.usage.conftest import Desk

ORIGIN = "example.org/desk"

# The public key of RFC 8032, section 7.1, test 1.
_SOMEBODY = agent_id(bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"))


@pytest.mark.spec("L-154", "L-156")
def test_whoever_recomputes_it_from_a_transcript_comes_to_the_same_root(desk: Desk) -> None:
    for price in (7, 5, 3):
        desk.used(price=price)
    desk.used("bob", "ada", price=2)
    out = io.BytesIO()
    desk.ledger.export(out)
    out.seek(0)
    theirs = settled(accounts_of(ORIGIN, read_transcript(out)))
    assert theirs.root() == settlement_root(desk.ledger)
    assert theirs.size == desk.ledger.size


@pytest.mark.spec("L-156")
def test_each_leaf_is_proved_to_the_root_and_stands_in_order(desk: Desk) -> None:
    desk.say("cid")
    for asker, provider, unit in (("ada", "bob", "b"), ("cid", "bob", "a"), ("cid", "ada", "b")):
        desk.used(asker, provider, unit=unit)
    found = settled(desk.accounts())
    assert len(found.leaves) == 5
    assert [(each.agent, each.unit) for each in found.balances] == sorted(
        (each.agent, each.unit) for each in found.balances
    )
    for index, leaf in enumerate(found.leaves):
        verify_inclusion(index, len(found.leaves), leaf_hash(leaf), found.proof(index), found.root())
        origin, balance = read_leaf(parse(leaf))
        assert (origin, balance) == (ORIGIN, found.balances[index])
        assert found.place(balance.agent, balance.unit) == index
    with pytest.raises(LedgerError, match="no balance in c"):
        found.place(desk.key("ada").id, "c")


@pytest.mark.spec("L-155")
@given(st.integers(0, 10**35), st.integers(0, 10**35))
def test_a_leaf_carries_sums_of_any_size(earned: int, spent: int) -> None:
    balance = Balance(agent=_SOMEBODY, unit="credit", earned=earned, spent=spent)
    assert read_leaf(parse(balance_leaf(ORIGIN, balance))) == (ORIGIN, balance)


@pytest.mark.spec("L-155")
@pytest.mark.parametrize(
    "change",
    [
        {"balance": "6"},
        {"balance": 7},
        {"earned": "07"},
        {"earned": "-0"},
        {"earned": "+7"},
        {"earned": "7.0"},
        {"earned": "9" * 60},
        {"earned": "-1", "balance": "-1"},
        {"spent": "\u0667"},
        {"unit": ""},
        {"log": "a b"},
        {"format": "agentmesh-balance/v2"},
        {"agent": "ada"},
        {"more": "1"},
    ],
    ids=repr,
)
def test_a_leaf_out_of_shape_is_refused(change: dict[str, str]) -> None:
    leaf = parse(balance_leaf(ORIGIN, Balance(agent=_SOMEBODY, unit="credit", earned=7, spent=0)))
    assert isinstance(leaf, dict)
    with pytest.raises(LedgerError) as told:
        read_leaf({**leaf, **change})
    assert told.value.reason in ("usage", "identity")


def test_more_entries_than_there_are_cannot_be_settled(desk: Desk) -> None:
    with pytest.raises(LedgerError, match="entries, not 1000") as told:
        ledger_accounts(desk.ledger, 1000)
    assert told.value.reason == "refused"


def test_a_changed_balance_is_another_root(desk: Desk) -> None:
    desk.used()
    found = desk.accounts()
    more = replace(found.balances[0], earned=found.balances[0].earned + 1)
    changed = replace(found, balances=(more, *found.balances[1:]))
    assert settled(changed).root() != settled(found).root()


def test_what_the_log_says_of_a_size_is_looked_at_where_no_balance_can_have_changed_since(desk: Desk) -> None:
    desk.used()
    for size, root in ((desk.ledger.size, settlement_root(desk.ledger)), (desk.ledger.size, bytes(32))):
        facts: dict[str, JsonValue] = {"balances": root.hex(), "size": size}
        desk.ledger.append([Draft(author=desk.key("host"), kind="settlement", dialogue="log", facts=facts)])
    first = settlement_root(desk.ledger)
    size = desk.ledger.size
    desk.used()
    facts = {"balances": first.hex(), "size": size}
    desk.ledger.append([Draft(author=desk.key("host"), kind="settlement", dialogue="log", facts=facts)])
    audit = Audit(Accounting(ORIGIN))
    for record in desk.ledger.read():
        audit.take(record)
    assert [each.agrees for each in audit.said] == [True, False, None]
    assert audit.accounting.accounts() == desk.accounts()
