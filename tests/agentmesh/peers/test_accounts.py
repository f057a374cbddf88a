"""Answers between owners: the receipt comes with the answer, is held to what was agreed, signed, recorded, and given back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentmesh_ledger import Message
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.usage.balances import Accounts
from agentmesh_ledger.usage.receipt import read_signed
from agentmesh_ledger.usage.settlement import ledger_accounts

Make = Callable[..., Path]
Serve = Callable[..., Any]
Command = Callable[..., Any]

_ACCOUNTS = '\n[accounts]\nunit = "minute"\n'
_LAB = """\
[mesh]
name = "lab"
origin = "lab.example/critics"
[agents.critic]
model = "scripted:steps.json"
role = "You judge sentences."
price = {price}
"""


def ledger(mesh: Path) -> Ledger:
    return Ledger.open(mesh / ".agentmesh" / "ledger.db", read_only=True)


def usages(mesh: Path) -> list[Message]:
    with ledger(mesh) as log:
        return [each.message for each in log.read() if each.message.kind == "usage"]


def summed(mesh: Path) -> Accounts:
    with ledger(mesh) as log:
        return ledger_accounts(log)


def held(
    lab: Make,
    desk: Make,
    serve: Serve,
    process: Command,
    *,
    price: str = "{call = 10}",
    agreed: str = "price = {call = 10}",
    asked: tuple[str, ...] = ("one?",),
    unit: str = "minute",
    **variables: str,
) -> tuple[Path, Path]:
    """Both meshes after the desk's agent has asked the lab's so many questions."""
    answering = lab(*(f"answer to {each}" for each in asked), mesh=_LAB.format(price=price) + _ACCOUNTS)
    with serve(answering, **variables) as url:
        more = agreed + _ACCOUNTS.replace("minute", unit)
        asking = desk(url, *asked, more=more)
        done = process("run", asking)
        assert done.code == 0, done.err
    return asking, answering


def test_both_ledgers_have_the_receipt_and_come_to_the_same_sums(
    lab: Make, desk: Make, serve: Serve, process: Command
) -> None:
    asking, answering = held(lab, desk, serve, process, asked=("one?", "two?", "three?"))
    ours = [read_signed(each.facts) for each in usages(asking)]
    assert len(ours) == 3
    for each in ours:
        assert each.asker_signature is not None and each.provider_signature is not None
        assert (each.receipt.price, each.receipt.unit) == (10, "minute")
    here, there = summed(asking), summed(answering)
    assert (here.receipts, dict(here.uncounted)) == (3, {})
    assert sorted(each.net for each in here.balances) == [-30, 30]
    # Each later question took the receipt of the one before along; nothing was asked after the last.
    assert there.receipts == 2 and dict(there.uncounted) == {"unsigned": 1}
    assert {each.agent: each.net for each in there.balances} == {
        each.agent: each.net * 2 // 3 for each in here.balances
    }


def test_the_record_of_both_sides_verifies_and_agrees(
    lab: Make, desk: Make, serve: Serve, process: Command
) -> None:
    asking, answering = held(lab, desk, serve, process, asked=("one?", "two?"))
    for one, other in ((asking, answering), (answering, asking)):
        done = process("verify", one, "--with", other)
        assert done.code == 0, done.out + done.err


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"price": "{call = 11}"}, "dearer: it asks for 11, and agreed is 10"),
        ({"agreed": ""}, "dearer: it asks for 10, and agreed is 0"),
        ({"agreed": "price = {call = 20, answer = 9}"}, "dearer: it asks for 10, and agreed is 9"),
        ({"unit": "credit"}, "wrong: it is in minute, and agreed is credit"),
    ],
    ids=["dearer", "nothing agreed", "the most for an answer", "another unit"],
)
def test_a_receipt_that_was_not_agreed_to_is_refused_and_recorded_as_such(
    lab: Make, desk: Make, serve: Serve, process: Command, given: dict[str, str], why: str
) -> None:
    asking, answering = held(lab, desk, serve, process, **given)
    (refused,) = usages(asking)
    assert why in str(refused.facts["refused"]) and [part.name for part in refused.parts] == ["offered"]
    found = summed(asking)
    assert (found.balances, dict(found.uncounted)) == ((), {"refused": 1})
    assert dict(summed(answering).uncounted) == {"unsigned": 1}


def test_the_answer_itself_is_used_all_the_same(
    lab: Make, desk: Make, serve: Serve, process: Command
) -> None:
    """Who answers too dear has answered: the dispute is about the receipt."""
    asking, _ = held(lab, desk, serve, process, price="{call = 11}")
    with ledger(asking) as log:
        results = [each for each in log.read() if each.message.kind == "result"]
    assert [part.data for part in results[0].parts][0] == b"answer to one?"


def test_a_receipt_comes_with_an_answer_that_was_waited_for(
    lab: Make, desk: Make, serve: Serve, process: Command
) -> None:
    asking, _ = held(lab, desk, serve, process, PATIENCE="0")
    (recorded,) = usages(asking)
    receipt = read_signed(recorded.facts).receipt
    with ledger(asking) as log:
        sent = [each.message for each in log.read() if each.message.kind == "sent"]
    assert len(sent) > 1 and receipt.request == sent[0].facts["exchange"]
    assert summed(asking).receipts == 1


@pytest.mark.parametrize("who", ["here", "there"])
def test_nothing_is_billed_where_one_side_keeps_no_accounts(
    lab: Make, desk: Make, serve: Serve, process: Command, who: str
) -> None:
    mesh = _LAB.format(price="{call = 10}") + _ACCOUNTS
    if who == "there":
        mesh = mesh.replace("price = {call = 10}\n", "").replace(_ACCOUNTS, "")
    answering = lab("It is good.", mesh=mesh)
    with serve(answering) as url:
        asking = desk(url, "one?", more="" if who == "here" else "price = {call = 10}" + _ACCOUNTS)
        done = process("run", asking)
        assert done.code == 0, done.err
    assert usages(asking) == []
    assert len(usages(answering)) == (1 if who == "here" else 0)
    assert summed(answering).balances == ()


def test_what_one_run_has_signed_goes_back_with_the_next_although_both_were_started_anew(
    lab: Make, desk: Make, serve: Serve, process: Command
) -> None:
    answering = lab("answer", mesh=_LAB.format(price="{call = 10}") + _ACCOUNTS)
    for _ in range(2):
        with serve(answering) as url:
            asking = desk(url, "one?", more="price = {call = 10}" + _ACCOUNTS)
            done = process("run", asking)
            assert done.code == 0, done.err
    there = summed(answering)
    assert there.receipts == 1 and dict(there.uncounted) == {"unsigned": 1}
    signed = [read_signed(each.facts) for each in usages(answering)]
    assert [each.asker_signature is None for each in signed] == [True, False, True]
    assert summed(asking).receipts == 2
