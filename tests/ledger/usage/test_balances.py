"""Sums from a log's entries alone: what counts, once, and why the rest does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh_ledger import AgentId, Draft, JsonValue, KeyStore, Ledger
from agentmesh_ledger.usage.balances import Accounting, _Key, accounts_json, accounts_of
from agentmesh_ledger.usage.binding import Binding, binding_facts
from agentmesh_ledger.usage.receipt import MAX_AMOUNT, SignedReceipt, UsageReceipt
from agentmesh_ledger.usage.settlement import settled

if TYPE_CHECKING:
    from tests.ledger.usage.conftest import Desk

ORIGIN = "example.org/desk"


@pytest.mark.spec("L-149", "L-153")
def test_what_both_signed_is_earned_by_one_and_spent_by_the_other(desk: Desk) -> None:
    desk.used(price=7)
    desk.used(price=5)
    desk.used("bob", "ada", price=3)
    assert desk.sums() == {"ada": (3, 12), "bob": (12, 3)}
    found = desk.accounts()
    assert (found.receipts, found.repeated, dict(found.uncounted)) == (3, 0, {})
    assert sorted(each.net for each in found.balances) == [-9, 9]


@pytest.mark.spec("L-153")
def test_units_are_never_added_up(desk: Desk) -> None:
    desk.used(price=7)
    desk.used(price=9, unit="minute")
    assert {(each.unit, each.net) for each in desk.accounts().balances} == {
        ("credit", 7),
        ("credit", -7),
        ("minute", 9),
        ("minute", -9),
    }


@pytest.mark.spec("L-151")
def test_a_receipt_counts_once_however_often_it_is_recorded(desk: Desk) -> None:
    receipt = desk.receipt()
    for _ in range(3):
        desk.record(receipt, desk.key("ada"), desk.key("bob"))
    found = desk.accounts()
    assert (found.receipts, found.repeated, dict(found.uncounted)) == (1, 2, {})
    assert desk.sums() == {"ada": (0, 7), "bob": (7, 0)}


@pytest.mark.spec("L-151")
def test_of_two_receipts_for_one_answer_the_first_counts(desk: Desk) -> None:
    receipt = desk.receipt(price=7)
    desk.record(receipt, desk.key("ada"), desk.key("bob"))
    desk.record(replace(receipt, price=700), desk.key("ada"), desk.key("bob"))
    found = desk.accounts()
    assert dict(found.uncounted) == {"conflict": 1}
    assert desk.sums() == {"ada": (0, 7), "bob": (7, 0)}


@pytest.mark.spec("L-149", "L-152")
@pytest.mark.parametrize("signer", ["ada", "bob"])
def test_one_signature_is_a_claim_until_the_other_comes(desk: Desk, signer: str) -> None:
    receipt = desk.receipt()
    index = desk.record(receipt, desk.key(signer)).index
    found = desk.accounts()
    assert (dict(found.uncounted), found.balances) == ({"unsigned": 1}, ())
    assert found.told[0].index == index
    desk.record(receipt, desk.key("ada"), desk.key("bob"))
    found = desk.accounts()
    assert (dict(found.uncounted), found.receipts) == ({}, 1)


@pytest.mark.spec("L-149", "L-152")
def test_a_bad_signature_is_told_and_not_counted(desk: Desk) -> None:
    receipt = desk.receipt()
    facts = SignedReceipt(receipt=receipt).signed_by(desk.key("ada")).signed_by(desk.key("bob")).to_json()
    facts["receipt"] = replace(receipt, price=8).to_json()
    index = desk.say("host", "usage", facts).index
    found = desk.accounts()
    assert (dict(found.uncounted), found.balances) == ({"signature": 1}, ())
    assert (found.told[0].index, found.told[0].why) == (index, "signature")


@pytest.mark.spec("L-152")
@pytest.mark.parametrize("price", [-5, MAX_AMOUNT + 1, 2**53 - 1, 0.5])
def test_a_negative_or_huge_number_is_told_and_not_counted(desk: Desk, price: int | float) -> None:
    receipt = desk.receipt().to_json() | {"price": price}
    desk.say("host", "usage", {"receipt": receipt})
    found = desk.accounts()
    assert (dict(found.uncounted), found.balances) == ({"malformed": 1}, ())
    assert "price is not a whole number" in found.told[0].message


@pytest.mark.spec("L-149")
def test_keys_that_are_not_registered_do_not_count(desk: Desk) -> None:
    receipt = replace(desk.receipt(), provider=desk.key("eve").id)
    desk.record(receipt, desk.key("ada"), desk.key("eve"))
    found = desk.accounts()
    assert (dict(found.uncounted), found.balances) == ({"unregistered": 1}, ())
    desk.say("eve")  # registered afterwards: what stood before does not count for it
    assert dict(desk.accounts().uncounted) == {"unregistered": 1}
    desk.record(receipt, desk.key("ada"), desk.key("eve"))
    assert desk.accounts().receipts == 1


@pytest.mark.spec("L-149")
def test_a_revoked_key_counts_up_to_where_it_was_disowned(desk: Desk) -> None:
    before = desk.used(price=7).index
    desk.used(price=5)
    desk.ledger.revoke(desk.key("bob").id, after=before, by=desk.key("host"))
    desk.record(desk.receipt("ada", "bob", price=3), desk.key("ada"), desk.key("bob"))
    found = desk.accounts()
    assert dict(found.uncounted) == {"revoked": 2}
    assert desk.sums() == {"ada": (0, 7), "bob": (7, 0)}


@pytest.mark.spec("L-149", "L-153")
def test_an_agent_keeps_its_balance_when_its_key_is_rotated_and_the_old_key_signs_no_more(desk: Desk) -> None:
    desk.used(price=7)
    old, new = desk.key("bob"), desk.keys.next_agent("bob")
    desk.ledger.rotate(old, new)
    desk.keys.promote("bob")
    desk.used(price=5)
    late = replace(desk.receipt(), provider=old.id)
    desk.record(late, desk.key("ada"), old)
    found = desk.accounts()
    assert dict(found.uncounted) == {"revoked": 1}
    assert {each.agent: each.net for each in found.balances} == {new.id: 12, desk.key("ada").id: -12}


class Looked(dict[AgentId, _Key]):
    """Counts how often a key is looked up."""

    times = 0

    def get(self, *arguments: Any) -> Any:
        self.times += 1
        return super().get(*arguments)


def test_a_key_that_is_rotated_without_end_is_followed_once(desk: Desk) -> None:
    """Else a log of so many rotations and receipts takes its square to sum up."""
    many = 40
    for _ in range(many):
        desk.used(price=1)
        desk.ledger.rotate(desk.key("bob"), desk.keys.next_agent("bob"))
        desk.keys.promote("bob")
    accounting = Accounting(ORIGIN)
    for record in desk.ledger.read():
        accounting.take(record)
    accounting._keys = keys = Looked(accounting._keys)
    found = accounting.accounts()
    assert {each.agent: each.net for each in found.balances} == {
        desk.key("bob").id: many,
        desk.key("ada").id: -many,
    }
    assert keys.times < 6 * many


def test_what_no_receipt_can_name_is_not_kept(desk: Desk) -> None:
    accounting = Accounting(ORIGIN)
    for facts in ({"exchange": "x" * 10_000, "peer": "y"}, {"exchange": "ab" * 32, "peer": "y" * 10_000}):
        desk.say("ada", "sent", facts)
    for record in desk.ledger.read():
        accounting.take(record)
    assert not accounting._exchanges


@pytest.mark.spec("L-150", "L-152")
def test_the_receipt_of_two_other_logs_is_foreign(desk: Desk) -> None:
    receipt = replace(desk.receipt(), asker_log="example.org/a", provider_log="example.org/b")
    desk.record(receipt, desk.key("ada"), desk.key("bob"))
    assert dict(desk.accounts().uncounted) == {"foreign": 1}


@pytest.mark.spec("L-148", "L-152")
def test_a_refused_one_is_told_as_refused(desk: Desk) -> None:
    desk.say("host", "usage", {"refused": "dearer\x1b[2J than agreed", "request": "ab" * 32})
    found = desk.accounts()
    assert dict(found.uncounted) == {"refused": 1}
    assert "dearer" in found.told[0].message and "\x1b" not in found.told[0].message


def exchange(desk: Desk, name: str, request: str, peer: str, **facts: JsonValue) -> None:
    more: dict[str, JsonValue] = {"exchange": request, "peer": peer, **facts}
    desk.say(name, "received", more)


def between(here: Desk, there: Desk, *, price: int = 7, request: str = "cd" * 32) -> UsageReceipt:
    return UsageReceipt(
        asker=here.key("ada").id,
        asker_log=here.ledger.origin,
        provider=there.key("host").id,
        provider_log=there.ledger.origin,
        dialogue="d1",
        request=request,
        tokens=1,
        milliseconds=2,
        price=price,
        unit="credit",
    )


@pytest.fixture
def there(desk_at: Callable[[str], Desk]) -> Desk:
    found = desk_at("example.org/there")
    found.say("host")
    return found


@pytest.mark.spec("L-150", "L-151")
def test_both_sides_ledgers_come_to_the_same_sums(desk: Desk, there: Desk) -> None:
    receipt = between(desk, there)
    signers = desk.key("ada"), there.key("host")
    exchange(desk, "ada", receipt.request, there.key("host").id)
    exchange(there, "host", receipt.request, desk.key("ada").id)
    for each in (desk, there):
        each.record(receipt, *signers)
        each.record(receipt, *signers)
    ours, theirs = desk.accounts(), there.accounts()
    assert ours.balances == theirs.balances and ours.receipts == theirs.receipts == 1
    assert {each.agent: each.net for each in ours.balances} == {signers[0].id: -7, signers[1].id: 7}


@pytest.mark.spec("L-150")
def test_a_strangers_key_counts_only_where_our_own_record_names_it(desk: Desk, there: Desk) -> None:
    """Else whoever made up a key could let a log owe him."""
    receipt = between(desk, there)
    signers = desk.key("ada"), there.key("host")
    desk.record(receipt, *signers)
    assert dict(desk.accounts().uncounted) == {"unregistered": 1}
    exchange(desk, "ada", receipt.request, there.key("other").id)
    exchange(desk, "ada", "ef" * 32, there.key("host").id)
    exchange(desk, "bob", receipt.request, there.key("host").id)
    exchange(desk, "ada", receipt.request, there.key("host").id, refused="bad_signature")
    assert dict(desk.accounts().uncounted) == {"unregistered": 1}
    exchange(desk, "ada", receipt.request, there.key("host").id)  # also where it is written after the receipt
    assert desk.accounts().receipts == 1


@pytest.mark.spec("L-150")
def test_no_stranger_passes_for_one_of_ours(desk: Desk, there: Desk) -> None:
    receipt = replace(between(desk, there), provider_log=ORIGIN)
    exchange(desk, "ada", receipt.request, there.key("host").id)
    desk.record(receipt, desk.key("ada"), there.key("host"))
    assert dict(desk.accounts().uncounted) == {"unregistered": 1}


@pytest.mark.spec("L-154")
def test_what_came_later_changes_no_earlier_balance(desk: Desk) -> None:
    first = desk.used(price=7).index
    then = settled(desk.accounts(first + 1)).root()
    desk.used(price=5)
    desk.ledger.revoke(desk.key("bob").id, after=0, by=desk.key("host"))
    assert desk.sums() == {}
    assert desk.sums(first + 1) == {"ada": (0, 7), "bob": (7, 0)}
    assert settled(desk.accounts(first + 1)).root() == then


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.permutations(["ada", "bob", "cid"]), st.integers(0, MAX_AMOUNT), st.integers(1, 3)),
        max_size=12,
    )
)
def test_what_is_spent_is_earned_in_any_order_and_however_often_recorded(
    tmp_path_factory: pytest.TempPathFactory, desk_of: type[Desk], uses: list[tuple[list[str], int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("desk")
    keys = KeyStore(folder / "keys")
    with Ledger.open(":memory:", origin=ORIGIN, keys=keys, create=True) as ledger:
        desk = desk_of(ledger=ledger, keys=keys)
        for name in ("ada", "bob", "cid"):
            desk.say(name)
        drafts: list[Draft] = []
        for (asker, provider, _), price, times in uses:
            receipt = desk.receipt(asker, provider, price=price)
            signed = SignedReceipt(receipt=receipt).signed_by(desk.key(asker)).signed_by(desk.key(provider))
            drafts += [
                Draft(author=desk.key("host"), kind="usage", dialogue="d1", facts=signed.to_json())
            ] * times
        ledger.append(drafts)
        found = desk.accounts()
    assert found.receipts == len(uses) and found.repeated == len(drafts) - len(uses)
    assert sum(each.net for each in found.balances) == 0
    assert sum(each.earned for each in found.balances) == sum(price for _, price, _ in uses)


def test_an_empty_log_has_no_balances() -> None:
    found = accounts_of(ORIGIN, ())
    assert (found.size, found.balances, accounts_json(found)["balances"]) == (0, (), [])
    assert settled(Accounting(ORIGIN).accounts()).root().hex().startswith("e3b0c442")


@pytest.fixture
def bind(desk: Desk) -> Callable[[str, int], int]:
    """Binds an agent to one of two accounts, and gives the entry's place."""

    def record(name: str, which: int) -> int:
        account = Account.from_key(which.to_bytes(32))
        key = desk.key(name)
        binding = Binding(agent=key.id, address=account.address.lower(), log=ORIGIN)
        signed = account.sign_message(encode_typed_data(full_message=binding.typed_data()))
        facts = binding_facts(binding, key, bytes(signed.signature))
        draft = Draft(author=key, kind="bind", dialogue="log", facts=facts)
        return desk.ledger.append([draft])[0].index

    return record


def bound(desk: Desk) -> dict[str, tuple[str, int]]:
    found = desk.accounts()
    return {found.names[each.agent]: (each.address, index) for each, index in found.bindings}


@pytest.mark.spec("L-144")
def test_a_later_binding_replaces_one_and_an_unbinding_ends_it(
    desk: Desk, bind: Callable[[str, int], int]
) -> None:
    first, second = (Account.from_key(each.to_bytes(32)).address.lower() for each in (1, 2))
    at = bind("ada", 1)
    assert bound(desk) == {"ada": (first, at)}
    old = desk.ledger.read(at, at + 1)
    at = bind("ada", 2)
    assert bound(desk) == {"ada": (second, at)}
    # Whoever kept the first one cannot put it back.
    facts = next(old).message.facts
    desk.ledger.append([Draft(author=desk.key("bob"), kind="bind", dialogue="log", facts=facts)])
    assert bound(desk) == {"ada": (second, at)} and dict(desk.accounts().uncounted) == {"malformed": 1}
    for name, expected in (("bob", {"ada": (second, at)}), ("ada", {})):
        unbind = Draft(
            author=desk.key(name), kind="unbind", dialogue="log", facts={"agent": desk.key("ada").id}
        )
        desk.ledger.append([unbind])
        assert bound(desk) == expected


@pytest.mark.spec("L-144")
def test_with_its_key_an_agent_loses_its_account(desk: Desk, bind: Callable[[str, int], int]) -> None:
    bind("ada", 1)
    at = bind("bob", 2)
    old, new = desk.key("ada"), desk.keys.next_agent("ada")
    desk.ledger.rotate(old, new)
    assert [index for _, index in desk.accounts().bindings] == [at]
    desk.ledger.revoke(desk.key("bob").id, after=at, by=desk.key("bob"))
    assert desk.accounts().bindings == ()
