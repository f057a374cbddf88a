"""Answers within a mesh: each leaves a receipt with both signatures, and without [accounts] nothing changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agentmesh_ledger.log import Ledger
from agentmesh_ledger.store import verify_ledger
from agentmesh_ledger.usage.receipt import read_signed
from agentmesh_ledger.usage.settlement import ledger_accounts
from agentmesh_models import Request, ToolCall

pytestmark = pytest.mark.anyio

Play = Callable[..., Awaitable[Any]]
Whose = Callable[[Request], str]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def mesh(accounts: str = '[accounts]\nunit = "minute"', price: str = "") -> str:
    return f"""
[mesh]
name = "desk"
[dialogue]
pattern = "orchestrator"
lead = "front"
[agents.front]
model = "nano"
role = "You ask."
peers = ["math", "notes"]
[agents.math]
model = "nano"
role = "You calculate."
{price}
[agents.notes]
model = "nano"
role = "You read."
{accounts}
"""


PRICE = "price = {call = 10, thousand_tokens = 1000}"


def asking(whose: Whose, words: Any, *peers: str, answer: str = "12345") -> Callable[[Request], Any]:
    """The lead asks all of them at once; each answers with five characters, which are its tokens."""
    calls = tuple(ToolCall(name=f"ask_{peer}", arguments={"question": peer}) for peer in peers)

    def reply(request: Request) -> Any:
        if whose(request) != "front":
            return answer
        return words(calls=calls) if len(request.messages) == 2 else "done"

    return reply


def opened(folder: Path) -> Ledger:
    return Ledger.open(folder / ".agentmesh" / "ledger.db", read_only=True)


async def test_each_answer_leaves_one_receipt_that_both_have_signed(
    play: Play, whose: Whose, words: Any, tmp_path: Path
) -> None:
    played = await play(mesh(price=PRICE), asking(whose, words, "math", "notes"))
    called = {each.leaf_hash.hex(): each for each in played.recorded("call")}
    usages = played.recorded("usage")
    assert len(usages) == 2
    for each in usages:
        signed = read_signed(each.message.facts)
        assert signed.asker_signature is not None and signed.provider_signature is not None
        asked = called[signed.receipt.request]
        assert (asked.message.author, asked.index) == (signed.receipt.asker, each.message.reply_to)
        assert asked.message.to == (signed.receipt.provider,)
        assert (signed.receipt.unit, signed.receipt.dialogue) == ("minute", played.ended.dialogue)
        assert signed.receipt.tokens == 5
    with opened(tmp_path) as ledger:
        found = ledger_accounts(ledger)
    assert (found.receipts, dict(found.uncounted)) == (2, {})
    sums = {found.names[each.agent]: (each.earned, each.spent) for each in found.balances}
    assert sums == {"front": (0, 15), "math": (15, 0), "notes": (0, 0)}
    verify_ledger(tmp_path / ".agentmesh" / "ledger.db")


async def test_an_answer_that_never_came_costs_nothing(play: Play, whose: Whose, words: Any) -> None:
    played = await play(mesh(price=PRICE), asking(whose, words, "math", answer=""))
    assert played.recorded("result")[0].message.facts["error"] is True
    assert played.recorded("usage") == []


async def test_without_accounts_nothing_new_is_recorded(play: Play, whose: Whose, words: Any) -> None:
    played = await play(mesh(accounts=""), asking(whose, words, "math"))
    assert played.kinds == [
        "open", "task", "inference", "call", "inference", "say", "result", "inference", "say", "close",
    ]  # fmt: skip


async def test_the_tokens_of_all_that_an_agent_thought_for_an_answer_are_counted(
    play: Play, whose: Whose, words: Any
) -> None:
    """A peer that asks another pays for that one itself: in each receipt stand its own tokens."""
    text = mesh(price='peers = ["notes"]\n' + PRICE).replace('peers = ["math", "notes"]', 'peers = ["math"]')

    def reply(request: Request) -> Any:
        name, asked = whose(request), len(request.messages) == 2
        peer = {"front": "math", "math": "notes"}.get(name)
        if peer is None:
            return "123"
        if asked:
            return words(text="four", calls=(ToolCall(name=f"ask_{peer}", arguments={"question": "q"}),))
        return "sixsix"

    played = await play(text, reply)
    receipts = [read_signed(each.message.facts).receipt for each in played.recorded("usage")]
    assert [each.tokens for each in receipts] == [3, 10]
    assert receipts[0].asker == receipts[1].provider
