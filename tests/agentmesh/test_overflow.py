"""A transcript outgrows a model's context: the oldest turns go by a stated rule, told and recorded before the reply."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agentmesh.events import Compacted, MessageAdded, Notice
from agentmesh_ledger.store import verify_ledger
from agentmesh_models import ModelError, Request, ToolCall

pytestmark = pytest.mark.anyio

Play = Callable[..., Awaitable[Any]]
Whose = Callable[[Request], str]
N_CTX = 2000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def mesh(dialogue: str = "", *, rounds: int = 12, layout: str = "shared") -> str:
    return f"""
[mesh]
name = "table"
[dialogue]
pattern = "round_robin"
rounds = {rounds}
layout = "{layout}"
rules = "Be brief."
{dialogue}
[dialogue.limits]
turns = 100
[agents.ada]
model = "nano"
role = "You add."
[agents.ben]
model = "nano"
role = "You check."
"""


def speeches(whose: Whose) -> Callable[[Request], str]:
    """Speeches of 150 characters, each numbered one higher than the last that its speaker heard."""
    return lambda request: f"speech {max(spoken_in(request), default=-1) + 1:03} of {whose(request)} ".ljust(
        150, "."
    )


def spoken_in(request: Request) -> list[int]:
    """The numbers of the speeches that a request holds."""
    whole = "\n".join(message.content for message in request.messages)
    return [int(piece[:3]) for piece in whole.split("speech ")[1:]]


def answered(played: Any) -> list[Request]:
    """The requests that fitted."""
    return [r for r in played.requests if sum(len(m.content) for m in r.messages) < N_CTX]


@pytest.mark.parametrize("layout", ["shared", "agent"])
async def test_the_oldest_turns_go_and_the_dialogue_goes_on(
    play: Play, whose: Whose, layout: str, tmp_path: Path
) -> None:
    played = await play(mesh(layout=layout), speeches(whose), n_ctx=N_CTX)
    assert played.ended.reason == "done"
    assert len([e for e in played.of(MessageAdded) if e.kind == "say"]) == 24
    gone: set[int] = set()
    for request in answered(played):
        numbers = spoken_in(request)
        whole = "".join(message.content for message in request.messages)
        if not numbers:
            continue
        # What is there is the latest, whole and in order: only from the oldest on does anything go.
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert gone.isdisjoint(numbers)
        gone |= set(range(numbers[0]))
        assert (f"({numbers[0]} earlier turn" in whole) == ("left out here.)" in whole) == bool(gone)
    assert len(gone) > 10
    verify_ledger(tmp_path / ".agentmesh" / "ledger.db")


async def test_agents_of_one_model_go_on_sharing_what_is_left(play: Play, whose: Whose) -> None:
    played = await play(mesh(), speeches(whose), n_ctx=N_CTX)
    compactions = len(played.of(Compacted))
    before, broken = "", 0
    for request in answered(played):
        shared = request.messages[1].content.partition("Your turn. ")[0]
        broken += not shared.startswith(before)
        before = shared
    # Once for each compaction, and compactions are rare: one drops down to three quarters at most.
    assert 0 < broken == compactions <= 8


async def test_a_compaction_is_recorded_before_the_reply_and_names_what_went(
    play: Play, whose: Whose
) -> None:
    played = await play(mesh(), speeches(whose), n_ctx=N_CTX)
    events, records = played.of(Compacted), played.recorded("compaction")
    assert len(events) == len(records) >= 2
    says = [record.index for record in played.recorded("say")]
    gone: list[int] = []
    for event, record in zip(events, records, strict=True):
        facts = record.message.facts
        assert (facts["rule"], facts["dropped"], event.index) == ("drop", list(event.dropped), record.index)
        assert facts["tokens_available"] == N_CTX == event.available
        assert facts["tokens_needed"] == event.needed and event.needed > N_CTX
        assert facts["model"] == "ab" * 32 and record.parts == ()
        at = played.records.index(record)
        assert [r.message.kind for r in played.records[at : at + 3]] == ["compaction", "inference", "say"]
        assert record.message.reply_to == played.records[at + 1].message.reply_to
        gone += event.dropped
    assert gone == says[: len(gone)], "the oldest first, each once"
    host = played.records[0].message.author
    assert {record.message.author for record in records} == {host}


async def test_a_summary_takes_the_place_of_what_went(play: Play, whose: Whose, read_part: Any) -> None:
    speak = speeches(whose)

    def answer(request: Request) -> str:
        last = request.messages[-1].content
        if "Sum up" in last:
            return f"Summary to {max(spoken_in(request))}."
        return speak(request)

    played = await play(mesh('overflow = "summarise"'), answer, n_ctx=N_CTX)
    assert played.ended.reason == "done"
    records = played.recorded("compaction")
    assert len(records) >= 2
    for record in records:
        at = played.records.index(record)
        inference = played.records[at - 1]
        assert inference.message.kind == "inference"
        assert record.message.facts["inference"] == inference.index
        assert record.message.facts["rule"] == "summarise"
        assert read_part(record, "summary").startswith("Summary to ")
    last = answered(played)[-1].messages[1].content
    assert f"left out here. In short: {read_part(records[-1], 'summary')})\n" in last
    # The second summary is made of the first and of what went since.
    second = [r for r in played.requests if "Sum up" in r.messages[-1].content][1]
    assert read_part(records[0], "summary") in second.messages[-1].content
    assert second.tools == () and second.tool_choice == "none"


@pytest.mark.parametrize(
    ("summary", "why"), [("error", "the model is ill"), (" \n", "the model's summary is empty")]
)
async def test_where_there_is_no_summary_the_turns_go_all_the_same_and_that_is_said(
    play: Play, whose: Whose, summary: str, why: str
) -> None:
    speak = speeches(whose)

    def answer(request: Request) -> str:
        if "Sum up" not in request.messages[-1].content:
            return speak(request)
        if summary == "error":
            raise ModelError("decode_failed", "the model is ill")
        return summary

    played = await play(mesh('overflow = "summarise"'), answer, n_ctx=N_CTX)
    assert played.ended.reason == "done"
    assert {event.failed for event in played.of(Compacted)} == {why}
    assert {record.message.facts["failed"] for record in played.recorded("compaction")} == {"decode_failed"}
    assert "earlier turns are left out here.)" in answered(played)[-1].messages[1].content


async def test_stop_ends_the_dialogue_as_its_reason_says(play: Play, whose: Whose) -> None:
    played = await play(mesh('overflow = "stop"'), speeches(whose), n_ctx=N_CTX)
    assert played.ended.reason == "limit_context"
    assert "compaction" not in played.kinds and played.kinds[-1] == "close"
    assert max(map(len, map(spoken_in, answered(played)))) >= 10


async def test_the_last_turn_and_the_task_stay_and_the_dialogue_ends_where_they_do_not_fit(
    play: Play, whose: Whose
) -> None:
    def answer(request: Request) -> str:
        return f"speech 000 {whose(request)}".ljust(240, ".")

    played = await play(mesh(), answer, task="Why? " + "x" * (N_CTX - 200), n_ctx=N_CTX)
    assert played.ended.reason == "limit_context"
    assert "ben" in played.ended.detail and "compaction" not in played.kinds
    assert played.ended.answer.startswith("speech 000 ada")


async def test_a_tool_result_that_is_too_large_ends_the_dialogue_clearly(
    play: Play, words: Any, tmp_path: Path
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "long.md").write_text("# Long\n\n" + "x" * 1500)
    text = mesh(rounds=1).replace('role = "You add."', 'role = "You add."\ntools = ["notes"]')
    text += '[servers.notes]\nbuiltin = "notes"\noptions = { folder = "notes" }\n'
    call = ToolCall(name="read_note", arguments={"title": "Long"})

    def answer(request: Request) -> Any:
        return words(calls=(call,)) if len(request.messages) == 2 else "never"

    played = await play(text, answer, n_ctx=1000)
    assert played.ended.reason == "limit_context"
    assert played.kinds[-2:] == ["result", "close"]


async def test_a_reply_cut_for_want_of_room_is_made_again_with_more(play: Play, whose: Whose) -> None:
    played = await play(mesh(), speeches(whose), n_ctx=N_CTX)
    said = [event.text for event in played.of(MessageAdded) if event.kind == "say"]
    assert {len(text) for text in said} == {150}
    # Some reply did not fit although its prompt did: it was inferred, and not said.
    assert played.kinds.count("inference") > played.kinds.count("say")


async def test_a_reply_cut_for_want_of_room_is_told_where_nothing_may_go(play: Play, whose: Whose) -> None:
    played = await play(mesh(rounds=1), lambda request: "y" * 150, task="x" * 400, n_ctx=550)
    notices = [event.text for event in played.of(Notice)]
    assert any("the model's context is full, and nothing more may be left out" in text for text in notices)


async def test_an_engine_that_tells_no_numbers_is_believed_that_the_prompt_is_too_long(
    play: Play, whose: Whose
) -> None:
    speak = speeches(whose)

    def answer(request: Request) -> str:
        if sum(len(message.content) for message in request.messages) > 1000:
            raise ModelError("context_full", "too long")
        return speak(request)

    played = await play(mesh(), answer, n_ctx=100_000)
    assert played.ended.reason == "done"
    facts = [record.message.facts for record in played.recorded("compaction")]
    assert facts and all(f["tokens_needed"] is f["tokens_available"] is None for f in facts)
