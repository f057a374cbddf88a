"""Several calls in one reply: recorded in order before any goes out, made side by side, answered in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from agentmesh.events import MessageAdded, ToolCallAdded, ToolResultAdded, TurnStarted
from agentmesh.floor import OpenCalls
from agentmesh.limits import Budget, LimitReached
from agentmesh.mesh import Limits
from agentmesh_ledger import Receipt
from agentmesh_ledger.store import verify_ledger
from agentmesh_models import Request, ToolCall, Usage

pytestmark = pytest.mark.anyio

Play = Callable[..., Awaitable[Any]]
Whose = Callable[[Request], str]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def mesh(limits: str = "") -> str:
    return f"""
[mesh]
name = "desk"
[dialogue]
pattern = "orchestrator"
lead = "front"
[dialogue.limits]
{limits}
[agents.front]
model = "nano"
role = "You ask."
peers = ["math", "notes"]
tools = ["clock.now"]
[agents.math]
model = "nano"
role = "You calculate."
[agents.notes]
model = "nano"
role = "You read."
[servers.clock]
builtin = "clock"
"""


def ask(peer: str, question: str) -> ToolCall:
    return ToolCall(name=f"ask_{peer}", arguments={"question": question})


class Meeting:
    """Peers that each answer only when the other has begun: one after the other they would wait for ever."""

    def __init__(self, whose: Whose, words: Any, calls: tuple[ToolCall, ...], first: str) -> None:
        self.whose, self.words, self.calls, self.first = whose, words, calls, first
        self.waiting: dict[str, anyio.Event] = {}
        self.all_here = anyio.Event()
        self.first_done = anyio.Event()

    async def __call__(self, request: Request) -> Any:
        if self.whose(request) == "front":
            if len(request.messages) == 2:
                return self.words(text="I ask.", calls=self.calls)
            return " | ".join(message.content for message in request.messages if message.role == "tool")
        question = request.messages[1].content.splitlines()[0].removeprefix("The task: ")
        self.waiting[question] = anyio.Event()
        if len(self.waiting) == len(self.calls):
            self.all_here.set()
        await self.all_here.wait()
        if question == self.first:
            self.first_done.set()
        else:
            await self.first_done.wait()
        return f"answer to {question}"


async def test_peers_asked_together_answer_together_and_are_heard_in_the_order_of_the_calls(
    play: Play, whose: Whose, words: Any, tmp_path: Path
) -> None:
    calls = (ask("math", "one"), ask("notes", "two"))
    played = await play(mesh(), Meeting(whose, words, calls, first="two"))
    assert played.ended.answer == "answer to one | answer to two"
    kinds = played.kinds
    assert (kinds[:5], kinds[9:]) == (
        ["open", "task", "inference", "call", "call"],
        ["result", "result", "inference", "say", "close"],
    )
    # Whichever is first: each says what its own inference made, in reply to the same call.
    middle = [(r.message.author, r.message.reply_to, r.message.kind) for r in played.records[5:9]]
    assert sorted(kind for _, _, kind in middle) == ["inference", "inference", "say", "say"]
    assert all(
        (author, to, "inference") in middle[:at]
        for at, (author, to, kind) in enumerate(middle)
        if kind == "say"
    )
    called, results = played.recorded("call"), played.recorded("result")
    assert [record.message.reply_to for record in results] == [record.index for record in called]
    # The one that answered first answers its own call all the same.
    peers = [record for record in played.recorded("say")[:2]]
    assert [record.message.reply_to for record in peers] == [called[1].index, called[0].index]
    assert [event.text for event in played.of(ToolResultAdded)] == ["answer to one", "answer to two"]
    verify_ledger(tmp_path / ".agentmesh" / "ledger.db")


async def test_one_peer_may_be_asked_two_questions_at_once(play: Play, whose: Whose, words: Any) -> None:
    calls = (ask("math", "one"), ask("math", "two"))
    played = await play(mesh(), Meeting(whose, words, calls, first="two"))
    assert played.ended.answer == "answer to one | answer to two"
    called, said = played.recorded("call"), played.recorded("say")
    assert [record.message.reply_to for record in said[:2]] == [called[1].index, called[0].index]
    turns = {event.turn for event in played.of(TurnStarted) if event.agent == "math"}
    assert len(turns) == 2
    assert turns == {event.turn for event in played.of(MessageAdded) if event.agent == "math"}


async def test_calls_of_different_kinds_go_out_together(play: Play, whose: Whose, words: Any) -> None:
    calls = (ToolCall(name="now", arguments={"timezone": "UTC"}), ask("math", "one"))

    def answer(request: Request) -> Any:
        if whose(request) == "math":
            return "1"
        return words(calls=calls) if len(request.messages) == 2 else "done"

    played = await play(mesh(), answer)
    assert [(e.server, e.tool) for e in played.of(ToolCallAdded)] == [("clock", "now"), ("peers", "ask_math")]
    assert [message.role for message in played.requests[-1].messages[2:]] == ["assistant", "tool", "tool"]


@pytest.mark.parametrize(
    ("limits", "reason"), [("turns = 2", "limit_turns"), ("tokens = 40", "limit_tokens")]
)
async def test_a_limit_reached_by_one_peer_ends_the_dialogue_and_stops_the_other(
    play: Play, whose: Whose, words: Any, limits: str, reason: str
) -> None:
    hanging = anyio.Event()

    async def answer(request: Request) -> Any:
        if whose(request) == "front":
            return words(text="x" * 9, calls=(ask("math", "one"), ask("notes", "two")))
        # The other peer never comes to speak, for want of turns or of tokens.
        await hanging.wait()

    played = await play(mesh(limits), answer)
    assert played.ended.reason == reason
    assert played.kinds[-1] == "close" and "result" not in played.kinds


async def test_seconds_end_a_dialogue_in_the_middle_of_several_calls(
    play: Play, whose: Whose, words: Any
) -> None:
    left: list[str] = []

    async def answer(request: Request) -> Any:
        if whose(request) == "front":
            return words(calls=(ask("math", "one"), ask("notes", "two")))
        try:
            await anyio.sleep_forever()
        finally:
            left.append(whose(request))

    played = await play(mesh("seconds = 1"), answer)
    assert played.ended.reason == "limit_seconds" and played.kinds[-1] == "close"
    assert sorted(left) == ["math", "notes"]


async def test_too_many_calls_in_one_reply_end_the_dialogue_before_any_goes_out(
    play: Play, whose: Whose, words: Any
) -> None:
    calls = (ask("math", "one"), ask("notes", "two"))
    played = await play(mesh("tool_calls = 1"), lambda request: words(calls=calls))
    assert played.ended.reason == "limit_tool_calls"
    assert {whose(request) for request in played.requests} == {"front"}
    assert played.ended.tool_calls == 1


async def test_a_call_of_a_tool_that_is_not_the_agents_is_an_error_that_its_model_reads(
    play: Play, whose: Whose, words: Any
) -> None:
    calls = (ask("math", "one"), ToolCall(name="no\ud800thing", arguments={}))

    def answer(request: Request) -> Any:
        if whose(request) == "math":
            return "1"
        return words(calls=calls) if len(request.messages) == 2 else request.messages[-1].content

    played = await play(mesh(), answer)
    assert played.ended.reason == "done" and "there is no tool" in played.ended.answer
    assert "ask_math" in played.ended.answer
    assert [event.is_error for event in played.of(ToolResultAdded)] == [False, True]
    facts = played.recorded("call")[1].message.facts
    assert (facts["server"], facts["tool"]) == ("?", "no?thing")


def receipt(index: int) -> Receipt:
    return Receipt(index=index, leaf_hash=bytes(32), size=index + 1)


def test_a_peer_takes_the_call_that_asks_its_question_and_the_same_again_after_a_loss() -> None:
    calls = OpenCalls()
    with calls.open("front", "math", "a", receipt(1)), calls.open("front", "math", "b", receipt(2)):
        assert calls.take("front", "math", "b") == receipt(2)
        assert calls.take("front", "math", "b") == receipt(2)
        with calls.open("front", "math", "a", receipt(3)):
            assert [calls.take("front", "math", "a").index for _ in range(2)] == [1, 3]


def test_two_replies_at_a_time_are_never_granted_the_same_tokens() -> None:
    budget = Budget(limits=Limits(tokens=100))
    with budget.grant(60) as one:
        with budget.grant(60) as two:
            assert (one, two) == (60, 40)
            with pytest.raises(LimitReached, match="100 tokens are used up"), budget.grant(1):
                pass
    budget = Budget(limits=Limits(tokens=100))
    with budget.grant(60):
        pass
    with budget.grant(100) as again:
        assert again == 100


def test_a_budget_adds_up_what_was_evaluated_and_what_was_still_in_memory() -> None:
    budget = Budget(limits=Limits())
    for reused in (0, 90):
        budget.spend(
            Usage(
                prompt_tokens=100,
                reused_tokens=reused,
                output_tokens=5,
                prefill_seconds=1.0,
                decode_seconds=0.5,
            )
        )
    assert (budget.tokens, budget.evaluated, budget.reused, budget.decode_seconds) == (10, 118, 90, 1.0)
