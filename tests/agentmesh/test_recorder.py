"""What the record says of how a reply came about: the profile, the seed and its source, what the model thought."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from agentmesh.events import Draft, MessageAdded
from agentmesh.recorder import Recorder, Seed
from agentmesh_ledger import Receipt
from agentmesh_models import Reply, Request, Sampling

pytestmark = pytest.mark.anyio

Play = Callable[..., Awaitable[Any]]

PAIR = """
[mesh]
name = "pair"
[dialogue]
layout = "{layout}"
[agents.ada]
model = "nano"
role = "You draft."
temperature = 0.7
top_k = 5
top_p = 0.5
min_p = 0.1
repeat_penalty = 1.1
frequency_penalty = 0.2
presence_penalty = -0.3
penalty_window = 32
parallel_calls = false
[agents.ben]
model = "nano"
role = "You polish."
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_an_auditor_can_derive_each_seed_from_the_record(play: Play, read_part: Any) -> None:
    played = await play(PAIR.format(layout="shared"), lambda request: "Words.")
    by_index = {record.index: record for record in played.records}
    inferences = played.recorded("inference")
    assert len(inferences) == 2
    for record, request in zip(inferences, played.requests, strict=True):
        profile = read_part(record, "profile")
        source = profile["seed_from"]
        assert source.keys() == {"rule", "message", "author"}
        assert (source["message"], source["author"]) == (record.message.reply_to, record.message.author)
        answered = by_index[source["message"]]
        data = source["rule"].encode() + answered.leaf_hash + source["author"].encode()
        seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
        assert seed == profile["sampling"]["seed"] == request.sampling.seed
        assert profile["model_digest"] == record.message.facts["model"]
        assert record.message.facts["reused_tokens"] == profile["reused_tokens"]
    assert inferences[0].message.facts != inferences[1].message.facts


async def test_the_mesh_file_says_how_tokens_are_chosen(play: Play) -> None:
    played = await play(PAIR.format(layout="shared"), lambda request: "Words.")
    ada, ben = played.requests
    assert ada.sampling == Sampling(
        temperature=0.7,
        top_k=5,
        top_p=0.5,
        min_p=0.1,
        repeat_penalty=1.1,
        frequency_penalty=0.2,
        presence_penalty=-0.3,
        penalty_window=32,
        seed=ada.sampling.seed,
    )
    assert ben.sampling == Sampling(seed=ben.sampling.seed)
    assert (ada.parallel_calls, ben.parallel_calls) == (False, True)


@pytest.mark.parametrize("layout", ["shared", "agent"])
async def test_what_a_model_thinks_is_recorded_apart_and_read_by_no_one_else(
    play: Play, words: Any, read_part: Any, layout: str
) -> None:
    def answer(request: Request) -> Any:
        return words(text="Yes.", reasoning="Secretly I doubt it.")

    played = await play(PAIR.format(layout=layout), answer)
    for record in played.recorded("inference"):
        assert read_part(record, "reasoning") == "Secretly I doubt it."
        assert [part.name for part in record.parts] == ["profile", "reasoning"]
    assert [read_part(record, "text") for record in played.recorded("say")] == ["Yes.", "Yes."]
    assert not any("doubt" in message.content for request in played.requests for message in request.messages)
    drafts = [(draft.text, draft.reasoning) for draft in played.of(Draft)]
    assert drafts == [("Secretly I doubt it.", True), ("Yes.", False)] * 2
    assert all("doubt" not in event.text for event in played.of(MessageAdded))


async def test_a_reply_without_thoughts_has_no_such_part(play: Play) -> None:
    played = await play(PAIR.format(layout="shared"), lambda request: "Yes.")
    assert [[part.name for part in r.parts] for r in played.recorded("inference")] == [["profile"]] * 2


async def test_the_end_and_the_record_tell_what_was_evaluated_and_reused(play: Play) -> None:
    played = await play(PAIR.format(layout="shared"), lambda request: "Words.")
    sizes = [sum(len(message.content) for message in request.messages) for request in played.requests]
    ended, closed = played.ended, played.records[-1].message.facts
    assert ended.reused_tokens == sum(size // 2 for size in sizes) == closed["reused_tokens"]
    assert (
        ended.evaluated_tokens
        == sum(sizes) - ended.reused_tokens + 12 - len(sizes)
        == closed["evaluated_tokens"]
    )
    assert (ended.tokens, ended.decode_seconds, ended.tokens_per_second) == (12, 0.5, 24.0)


async def test_the_tokens_of_a_model_that_lists_none_are_counted_all_the_same(
    play: Play, read_part: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint tells how many tokens a reply took, not which."""
    whole = Recorder.inference

    async def unlisted(self: Recorder, agent: str, reply: Reply, *, seed: Seed) -> Receipt:
        profile = replace(reply.profile, prompt_tokens=(), output_tokens=())
        return await whole(self, agent, replace(reply, profile=profile), seed=seed)

    monkeypatch.setattr(Recorder, "inference", unlisted)
    played = await play(PAIR.format(layout="shared"), lambda request: "Words.")
    for record, request in zip(played.recorded("inference"), played.requests, strict=True):
        facts, size = record.message.facts, sum(len(each.content) for each in request.messages)
        assert (facts["prompt_tokens"], facts["reused_tokens"], facts["output_tokens"]) == (
            size,
            size // 2,
            6,
        )
        assert read_part(record, "profile")["prompt_tokens"] == []
