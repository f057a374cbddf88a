"""The asker's book: a receipt is signed only for a question of ours, at what was agreed; any other is recorded as refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmesh.accounts.book import MAX_GIVEN_BACK, MAX_OPEN, Book
from agentmesh.mesh.spec import AgreedSpec
from agentmesh.serving.signing import USAGE_KEY
from agentmesh_ledger import Draft
from agentmesh_ledger.encoding import encode64
from agentmesh_ledger.usage.receipt import SignedReceipt, UsageReceipt, read_signed

if TYPE_CHECKING:
    from agentmesh.serving.signing.statements import Asked
    from tests.agentmesh.accounts.conftest import Owners

HERE = "desk.example/front"


@pytest.fixture
def book() -> Book:
    return Book(
        origin=HERE,
        unit="credit",
        agreed=AgreedSpec(call=10, thousand_tokens=1, answer=50),
        patience=60.0,
    )


def answer(offered: object = None, **more: object) -> dict[str, object]:
    """A result with what is offered in it."""
    return {"content": [], "_meta": {} if offered is None else {USAGE_KEY: offered}, **more}


def refusal(drafts: Any) -> str:
    (draft,) = drafts
    assert draft.kind == "usage" and "receipt" not in draft.facts
    return str(draft.facts["refused"])


def test_a_good_receipt_is_signed_and_recorded_by_who_asked(owners: Owners, book: Book) -> None:
    asked = owners.asked()
    assert book.sent(asked, owners.front) is None
    offered = SignedReceipt(receipt=owners.receipt(asked)).signed_by(owners.host)
    (draft,) = book.received(asked, owners.answer(asked), answer(offered.to_json()))
    assert isinstance(draft, Draft)
    assert (draft.author, draft.dialogue, draft.kind) == (owners.front, "d1", "usage")
    signed = read_signed(draft.facts)
    assert signed == offered.signed_by(owners.front)


def test_it_goes_back_with_each_call_until_one_is_answered(owners: Owners, book: Book) -> None:
    asked, later, last = owners.asked(), owners.asked(), owners.asked()
    book.sent(asked, owners.front)
    offered = SignedReceipt(receipt=owners.receipt(asked)).signed_by(owners.host)
    book.received(asked, owners.answer(asked), answer(offered.to_json()))
    signed = {"receipts": [offered.signed_by(owners.front).to_json()]}
    assert book.sent(later, owners.front) == signed  # and this call is lost
    assert book.sent(last, owners.front) == signed
    assert book.received(last, owners.answer(last), answer(None)) == ()
    assert book.sent(owners.asked(), owners.front) is None


def test_only_so_many_go_with_one_call(owners: Owners, book: Book) -> None:
    for _ in range(MAX_GIVEN_BACK + 3):
        asked = owners.asked()
        book.sent(asked, owners.front)
        # The answers come before the calls that carried receipts are looked at as answered.
        offered = SignedReceipt(receipt=owners.receipt(asked)).signed_by(owners.host)
        book._given.clear()
        book.received(asked, owners.answer(asked), answer(offered.to_json()))
    carrier = owners.asked()
    given_back = book.sent(carrier, owners.front)
    assert isinstance(given_back, dict) and len(given_back["receipts"]) == MAX_GIVEN_BACK
    book.received(carrier, owners.answer(carrier), answer(None))
    rest = book.sent(owners.asked(), owners.front)
    assert isinstance(rest, dict) and len(rest["receipts"]) == 3


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"price": 11}, "dearer: it asks for 11, and agreed is 11"),
        ({"price": 12}, "dearer: it asks for 12, and agreed is 11"),
        ({"price": 51, "tokens": 10**15}, "dearer: it asks for 51, and agreed is 50"),
        ({"unit": "minute"}, "it is in minute"),
        ({"milliseconds": 5_000}, "our own clock"),
        ({"request": "ab" * 32}, "for no question of ours"),
        ({"dialogue": "d2"}, "for no question of ours"),
        ({"asker_log": "other.example/x"}, "other logs"),
        ({"provider_log": "other.example/x"}, "other logs"),
        ({"provider_log": HERE}, "other logs"),
    ],
    ids=repr,
)
def test_what_was_not_agreed_is_refused(owners: Owners, book: Book, change: dict[str, Any], why: str) -> None:
    asked = owners.asked()
    book.sent(asked, owners.front)
    receipt = replace(owners.receipt(asked), **change)
    offered = SignedReceipt(receipt=receipt).signed_by(owners.host).to_json()
    found = book.received(asked, owners.answer(asked), answer(offered))
    if change == {"price": 11}:  # ten for the call, and what is begun of a thousand tokens
        assert read_signed(found[0].facts).receipt.price == 11
        return
    assert why in refusal(found)
    assert book.sent(owners.asked(), owners.front) is None


def test_one_that_is_not_signed_or_signed_by_another_is_refused(owners: Owners, book: Book) -> None:
    cases: list[tuple[Callable[[UsageReceipt], Any], str]] = [
        (lambda receipt: SignedReceipt(receipt=receipt).to_json(), "unsigned"),
        (
            lambda receipt: SignedReceipt(receipt=receipt).signed_by(owners.front).to_json(),
            "unsigned",
        ),
        (
            lambda receipt: (
                SignedReceipt(receipt=receipt).to_json()
                | {"provider_signature": encode64(owners.there.agent("eve").sign(receipt.statement()))}
            ),
            "a bad signature",
        ),
        (
            lambda receipt: (
                SignedReceipt(receipt=replace(receipt, provider=owners.there.agent("eve").id))
                .signed_by(owners.there.agent("eve"))
                .to_json()
            ),
            "another key than that which signs",
        ),
        (
            lambda receipt: (
                SignedReceipt(receipt=replace(receipt, asker=owners.here.agent("notes").id))
                .signed_by(owners.host)
                .to_json()
            ),
            "for no question of ours",
        ),
    ]
    for make, why in cases:
        asked = owners.asked()
        book.sent(asked, owners.front)
        told = refusal(book.received(asked, owners.answer(asked), answer(make(owners.receipt(asked)))))
        assert why in told


def test_one_that_comes_with_an_unsigned_answer_is_refused(owners: Owners, book: Book) -> None:
    asked = owners.asked()
    book.sent(asked, owners.front)
    offered = SignedReceipt(receipt=owners.receipt(asked)).signed_by(owners.host).to_json()
    found = book.received(asked, None, answer(offered))
    assert "nor is the answer" in refusal(found) and found[0].facts["peer"] == "unsigned"


def test_a_second_receipt_for_one_answer_is_refused(owners: Owners, book: Book) -> None:
    asked, again = owners.asked(), owners.asked()
    offered = SignedReceipt(receipt=owners.receipt(asked)).signed_by(owners.host).to_json()
    for each in (asked, again):
        book.sent(each, owners.front)
    assert "receipt" in book.received(asked, owners.answer(asked), answer(offered))[0].facts
    assert "one that has a receipt" in refusal(book.received(again, owners.answer(again), answer(offered)))
    # And an answer is told of once, however often something comes for it.
    assert book.received(again, owners.answer(again), answer(offered)) == ()


def running(dialogue: str) -> dict[str, object]:
    return {"structuredContent": {"state": "running", "dialogue": dialogue}}


def waiting(owners: Owners, dialogue: str = "x") -> Asked:
    """Our call that waits for the end of a dialogue there."""
    content = json.dumps({"arguments": {"dialogue": dialogue}, "name": "wait_dialogue"}).encode()
    return replace(owners.asked(), name="wait_dialogue", content=content)


def ended(dialogue: str) -> dict[str, object]:
    return {"structuredContent": {"state": "ended", "dialogue": dialogue}}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def by_time(clock: Clock) -> Book:
    """A book in which a second costs."""
    agreed = AgreedSpec(second=1_000)
    return Book(origin=HERE, unit="credit", agreed=agreed, patience=60.0, clock=clock)


def of_time(owners: Owners, asked: Asked, seconds: int) -> dict[str, Any]:
    receipt = replace(owners.receipt(asked, price=seconds * 1_000), milliseconds=seconds * 1_000)
    return SignedReceipt(receipt=receipt).signed_by(owners.host).to_json()


def test_a_receipt_kept_back_bills_no_time_since_its_answer(
    owners: Owners, by_time: Book, clock: Clock
) -> None:
    asked, later = owners.asked(), owners.asked()
    for each in (asked, later):
        by_time.sent(each, owners.front)
    clock.now = 1.0
    assert by_time.received(asked, owners.answer(asked), answer()) == ()
    clock.now = 50.0
    told = refusal(by_time.received(later, owners.answer(later), answer(of_time(owners, asked, 50))))
    assert "for no question of ours" in told


def test_one_that_comes_while_its_answer_is_waited_for_bills_something_else_in_no_case(
    owners: Owners, by_time: Book, clock: Clock
) -> None:
    other = waiting(owners, "y")
    for carrier, result, why in (
        (owners.asked(), ended("x"), "to something else"),
        (waiting(owners), ended("y"), "to something else"),
        (other, ended("x"), "to something else"),
        (waiting(owners), running("x"), "no answer came"),
        (waiting(owners), ended("x") | {"isError": True}, "no answer came"),
        (waiting(owners), ended("x"), ""),
    ):
        asked, wait = owners.asked(), carrier
        by_time.sent(asked, owners.front)
        assert by_time.received(asked, owners.answer(asked), answer(**running("x"))) == ()
        by_time.sent(wait, owners.front)
        clock.now += 5.0
        offered = of_time(owners, asked, 5)
        found = by_time.received(wait, owners.answer(wait), answer(offered, **result))
        assert why in refusal(found) if why else read_signed(found[0].facts).receipt.price == 5_000


@pytest.mark.parametrize("dialogue", [None, ""])
def test_what_nobody_waits_for_yet_is_not_billed_by_another_wait(
    owners: Owners, by_time: Book, clock: Clock, dialogue: str | None
) -> None:
    asked, wait = owners.asked(), waiting(owners)
    for each in (asked, wait):
        by_time.sent(each, owners.front)
    clock.now = 5.0
    offered = answer(of_time(owners, asked, 5), structuredContent={"state": "ended", "dialogue": dialogue})
    assert "to something else" in refusal(by_time.received(wait, owners.answer(wait), offered))


def test_a_question_that_was_given_up_costs_nothing(owners: Owners, by_time: Book, clock: Clock) -> None:
    asked, wait = owners.asked(), waiting(owners)
    by_time.sent(asked, owners.front)
    assert by_time.received(asked, owners.answer(asked), answer(**running("x"))) == ()
    clock.now = 61.0
    by_time.sent(wait, owners.front)
    offered = answer(of_time(owners, asked, 30), **ended("x"))
    assert "given that question up" in refusal(by_time.received(wait, owners.answer(wait), offered))


@pytest.mark.parametrize(
    ("name", "more"), [("ask_critic", {"isError": True}), ("verify_record", {}), ("start_dialogue", {})]
)
def test_what_is_no_answer_of_an_agent_costs_nothing(
    owners: Owners, book: Book, name: str, more: dict[str, object]
) -> None:
    asked = replace(owners.asked(), name=name)
    book.sent(asked, owners.front)
    offered = SignedReceipt(receipt=owners.receipt(asked)).signed_by(owners.host).to_json()
    refusal(book.received(asked, owners.answer(asked), answer(offered, **more)))


def test_a_refusal_takes_what_was_offered_along_unless_it_is_too_much(owners: Owners, book: Book) -> None:
    for offered, parts in (({"x": "y"}, [b'{"x":"y"}']), ({"x": "y" * 70_000}, [])):
        asked = owners.asked()
        book.sent(asked, owners.front)
        (draft,) = book.received(asked, owners.answer(asked), answer(offered))
        assert [part.data for part in draft.parts] == parts
        assert draft.facts["request"] == asked.exchange and draft.facts["peer"] == owners.host.id


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_whatever_is_offered_the_call_goes_on(owners: Owners, book: Book, offered: object) -> None:
    asked = owners.asked()
    book.sent(asked, owners.front)
    found = book.received(asked, owners.answer(asked), answer(offered))
    assert len(found) == (0 if offered is None else 1)


def test_the_book_does_not_grow_without_end(owners: Owners, book: Book) -> None:
    asked = owners.asked()
    for number in range(MAX_OPEN + 10):
        book.sent(replace(asked, exchange=f"{number:064x}"), owners.front)
    assert len(book._open) == MAX_OPEN
