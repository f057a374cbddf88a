"""What an endpoint sends becomes words, thoughts, calls and counts, and what it is sent is OpenAI's own form."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from agentmesh_models import (
    Engine,
    Message,
    ModelError,
    Piece,
    ReasoningDelta,
    Reply,
    Request,
    Sampling,
    TextDelta,
    ToolCall,
    ToolSpec,
)

pytestmark = pytest.mark.anyio
Ask = Callable[[Engine, Request], Awaitable[tuple[list[Piece], Reply]]]

HELLO = Request(messages=(Message(role="user", content="Hello!"),))
ADD = ToolSpec(name="add", parameters={"type": "object", "properties": {"x": {"type": "integer"}}})
SUM = Request(messages=HELLO.messages, tools=(ADD, ToolSpec(name="now")))


def call(at: int | None, identity: str = "", name: str = "", arguments: Any = "") -> dict[str, Any]:
    made: dict[str, Any] = {"function": {"name": name, "arguments": arguments}}
    if identity:
        made["id"] = identity
    return made if at is None else made | {"index": at}


def shown(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, TextDelta))


def thought(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, ReasoningDelta))


async def test_text_streams_and_the_reply_says_who_made_it(stand_in: Any, ask: Ask, events: Any) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 5}}
    first = events.text("Hel") | {"system_fingerprint": "b1", "model": "m-32b"}
    stand_in.say(first, events.text("lo"), events.end(), {"choices": [], "usage": usage}, events.DONE)
    engine = await stand_in.open()
    pieces, reply = await ask(engine, HELLO)
    assert pieces == [TextDelta(text="Hel"), TextDelta(text="lo")]
    assert (reply.text, reply.calls, reply.finish) == ("Hello", (), "stop")
    assert (reply.usage.prompt_tokens, reply.usage.reused_tokens, reply.usage.output_tokens) == (9, 5, 2)
    told = json.loads(json.dumps(reply.profile.to_json()))
    assert (told["model"], told["model_digest"], told["template_digest"]) == ("m", "unknown", "unknown")
    assert (told["prompt_tokens"], told["output_tokens"], told["prompt_count"]) == ([], [], 9)
    assert (told["response_id"], told["request_id"], told["fingerprint"]) == ("r1", "q1", "b1")
    assert told["host"] == f"127.0.0.1:{stand_in.port}" and told["counts_told"] is True
    assert engine.info.digest == "unknown" and engine.info.name == "m"


async def test_what_is_sent_is_openais_form_and_holds_no_setting_left_at_its_default(
    stand_in: Any, ask: Ask, events: Any
) -> None:
    stand_in.say(events.text("ok"), events.end(), events.DONE)
    seed = (1 << 63) + 12345
    await ask(
        await stand_in.open(), Request(messages=HELLO.messages, max_tokens=7, sampling=Sampling(seed=seed))
    )
    assert stand_in.replies[0].body == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello!"}],
        "max_tokens": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.0,
        "top_p": 0.95,
        "seed": 12345,
    }
    assert "authorization" not in stand_in.replies[0].headers


async def test_settings_of_llama_servers_are_sent_where_they_were_set(
    stand_in: Any, ask: Ask, events: Any
) -> None:
    stand_in.say(events.text("ok"), events.end())
    sampling = Sampling(
        top_k=20,
        min_p=0.0,
        repeat_penalty=1.1,
        penalty_window=32,
        presence_penalty=0.5,
        frequency_penalty=0.25,
    )
    await ask(await stand_in.open(), Request(messages=HELLO.messages, sampling=sampling))
    body = stand_in.replies[0].body
    names = ("top_k", "min_p", "repeat_penalty", "repeat_last_n", "presence_penalty", "frequency_penalty")
    assert [body[name] for name in names] == [20, 0.0, 1.1, 32, 0.5, 0.25]


async def test_calls_and_their_answers_are_told_by_ids_that_every_template_takes(
    stand_in: Any, ask: Ask, events: Any
) -> None:
    stand_in.say(events.text("3 and noon"), events.end())
    calls = (ToolCall(name="add", arguments={"x": 1}), ToolCall(name="now"))
    messages = (
        *HELLO.messages,
        Message(role="assistant", calls=calls),
        Message(role="tool", name="now", content="noon"),
        Message(role="tool", name="add", content="3"),
    )
    await ask(await stand_in.open(), Request(messages=messages, tools=SUM.tools, tool_choice="required"))
    body = stand_in.replies[0].body
    made = body["messages"][1]["tool_calls"]
    assert [each["function"] for each in made] == [
        {"name": "add", "arguments": '{"x": 1}'},
        {"name": "now", "arguments": "{}"},
    ]
    ids = [each["id"] for each in made]
    assert all(len(each) == 9 and each.isalnum() for each in ids)
    assert [each["tool_call_id"] for each in body["messages"][2:]] == [ids[1], ids[0]]
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("required", True)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["add", "now"]


async def test_tools_that_may_not_be_called_are_not_sent(stand_in: Any, ask: Ask, events: Any) -> None:
    stand_in.say(events.text('{"name": "add", "arguments": {}}'), events.end())
    request = Request(messages=HELLO.messages, tools=SUM.tools, tool_choice="none")
    pieces, reply = await ask(await stand_in.open(), request)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & stand_in.replies[0].body.keys()
    assert reply.calls == () and shown(pieces) == reply.text == '{"name": "add", "arguments": {}}'


async def test_parallel_calls_are_put_together_from_their_pieces(
    stand_in: Any, ask: Ask, events: Any
) -> None:
    stand_in.say(
        events.text("Let me see."),
        events.delta(tool_calls=[call(0, "a", "add", '{"x"'), call(1, "b", "now")]),
        events.delta(tool_calls=[call(1, arguments="{}"), call(0, arguments=": 41}")]),
        events.end("tool_calls"),
        events.DONE,
    )
    pieces, reply = await ask(await stand_in.open(), SUM)
    assert reply.calls == (ToolCall(name="add", arguments={"x": 41}), ToolCall(name="now", arguments={}))
    assert (reply.finish, reply.text, shown(pieces)) == ("call", "Let me see.", "Let me see.")


async def test_where_one_call_is_asked_for_one_is_taken(stand_in: Any, ask: Ask, events: Any) -> None:
    stand_in.say(
        events.delta(tool_calls=[call(0, "a", "now"), call(1, "b", "now")]), events.end("tool_calls")
    )
    request = Request(messages=HELLO.messages, tools=SUM.tools, parallel_calls=False)
    _, reply = await ask(await stand_in.open(), request)
    assert reply.calls == (ToolCall(name="now"),)
    assert stand_in.replies[0].body["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    "pieces",
    [
        [call(0, "a", "add", '{"x": 1}'), call(0, "b", "now", "{}")],  # every call at place 0
        [call(None, "a", "add", {"x": 1}), call(None, "b", "now", {})],  # no place, arguments as an object
        [call(None, "a", "add", '{"x": '), call(None, arguments="1}"), call(None, "b", "now")],
    ],
)
async def test_calls_are_told_apart_where_servers_leave_out_their_places(
    stand_in: Any, ask: Ask, events: Any, pieces: list[Any]
) -> None:
    stand_in.say(*(events.delta(tool_calls=[each]) for each in pieces), events.end("stop"))
    _, reply = await ask(await stand_in.open(), SUM)
    assert reply.calls == (ToolCall(name="add", arguments={"x": 1}), ToolCall(name="now", arguments={}))
    assert reply.finish == "call"


@pytest.mark.parametrize(
    "written",
    [
        'I add.\n<tool_call>\n{"name": "add", "arguments": {"x": 1}}\n</tool_call>',
        'I add.\n```json\n{"name": "add", "arguments": {"x": 1}}\n```',
        'I add.\n{"name": "add", "parameters": {"x": "1"}}',
        "I add. add(x=1)",
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_a_call_written_as_text_is_a_call_and_never_shown(
    stand_in: Any, ask: Ask, events: Any, written: str, size: int
) -> None:
    cut = [written[at : at + size] for at in range(0, len(written), size)]
    stand_in.say(*map(events.text, cut), events.end())
    pieces, reply = await ask(await stand_in.open(), SUM)
    assert reply.calls == (ToolCall(name="add", arguments={"x": 1}),)
    assert (reply.finish, reply.text, shown(pieces).strip()) == ("call", "I add.", "I add.")


async def test_what_only_looked_like_a_call_is_shown_at_the_end(stand_in: Any, ask: Ask, events: Any) -> None:
    said = 'Use {"a": 1} or <tool'
    stand_in.say(*map(events.text, said), events.end())
    pieces, reply = await ask(await stand_in.open(), SUM)
    assert (shown(pieces), reply.text, reply.calls) == (said, said, ())
    assert pieces[0] == TextDelta(text="U")


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
async def test_thoughts_that_the_server_keeps_apart_stay_apart(
    stand_in: Any, ask: Ask, events: Any, key: str
) -> None:
    stand_in.say(
        events.delta(**{key: "Hm, "}), events.delta(**{key: "so."}), events.text("Yes."), events.end()
    )
    pieces, reply = await ask(await stand_in.open(), HELLO)
    assert (thought(pieces), reply.reasoning, reply.text, shown(pieces)) == (
        "Hm, so.",
        "Hm, so.",
        "Yes.",
        "Yes.",
    )


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
async def test_thoughts_between_marks_are_kept_apart_too(
    stand_in: Any, ask: Ask, events: Any, size: int
) -> None:
    said = "\n<think>add(x=1)? a < b.</think>\n\nYes </think>."
    stand_in.say(*(events.text(said[at : at + size]) for at in range(0, len(said), size)), events.end())
    pieces, reply = await ask(await stand_in.open(), SUM)
    assert thought(pieces) == reply.reasoning == "add(x=1)? a < b."
    assert shown(pieces).strip() == reply.text.strip() == "Yes </think>."
    assert reply.calls == ()


async def test_thoughts_cut_at_the_limit_are_thoughts(stand_in: Any, ask: Ask, events: Any) -> None:
    stand_in.say(events.text("<think>and so </thi"), events.end("length"))
    pieces, reply = await ask(await stand_in.open(), HELLO)
    assert (thought(pieces), reply.text, reply.finish) == ("and so </thi", "", "length")


async def test_a_call_cut_at_the_limit_is_no_call(stand_in: Any, ask: Ask, events: Any) -> None:
    stand_in.say(events.delta(tool_calls=[call(0, "a", "add", '{"x": 4')]), events.end("length"))
    _, reply = await ask(await stand_in.open(), SUM)
    assert (reply.calls, reply.finish) == ((), "length")


async def test_pieces_are_counted_where_the_server_tells_no_tokens(
    stand_in: Any, ask: Ask, events: Any
) -> None:
    stand_in.say(events.text("a"), events.text("b") | {"usage": {"completion_tokens": -3}}, events.end())
    _, reply = await ask(await stand_in.open(), HELLO)
    assert (reply.usage.prompt_tokens, reply.usage.output_tokens) == (0, 2)
    assert reply.profile.to_json()["counts_told"] is False


async def test_a_server_that_cannot_stream_is_asked_in_one_piece(
    stand_in: Any, ask: Ask, events: Any
) -> None:
    stand_in.say(cut=True)
    message = {"content": None, "tool_calls": [call(None, "a", "add", '{"x": 2}')]}
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    stand_in.refuse(
        200, {"id": "r", "choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": usage}
    )
    _, reply = await ask(await stand_in.open(), SUM)
    assert reply.calls == (ToolCall(name="add", arguments={"x": 2}),) and reply.usage.output_tokens == 4
    streamed, whole = (each.body for each in stand_in.replies)
    assert (streamed["stream"], whole["stream"], "stream_options" in whole) == (True, False, False)


async def test_an_option_that_the_server_refuses_is_left_out_and_that_is_recorded(
    stand_in: Any, ask: Ask, events: Any
) -> None:
    stand_in.refuse(422, {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs"}]})
    stand_in.refuse(400, {"error": {"message": "unsupported parameter: parallel_tool_calls"}})
    stand_in.say(events.text("ok"), events.end())
    _, reply = await ask(await stand_in.open(), SUM)
    told = reply.profile.to_json()
    assert told["left_out"] == ["stream_options", "parallel_tool_calls"]
    assert not {"stream_options", "parallel_tool_calls"} & set(told["sent"])  # type: ignore[arg-type]
    assert len(stand_in.replies) == 3


async def test_the_model_is_the_one_named_or_the_only_one(stand_in: Any) -> None:
    stand_in.models = {
        "data": [{"id": "a", "max_model_len": 4096}, {"id": "b", "meta": {"n_ctx": 512}, "aliases": ["bee"]}]
    }
    assert (await stand_in.open(f"{stand_in.spec}#a")).info.n_ctx == 4096
    assert (await stand_in.open(f"{stand_in.spec}#b")).info.n_ctx == 512
    assert (await stand_in.open(f"{stand_in.spec}#b", n_ctx=300)).info.n_ctx == 300
    assert (await stand_in.open(f"{stand_in.spec}#bee")).info.name == "bee"
    with pytest.raises(ModelError, match=r"serves 2 models \(a, b\): name one with #MODEL"):
        await stand_in.open()
    with pytest.raises(ModelError, match="has no model 'c'; it serves a, b"):
        await stand_in.open(f"{stand_in.spec}#c")


async def test_an_endpoint_without_a_list_is_asked_for_the_model_named(
    stand_in: Any, ask: Ask, events: Any
) -> None:
    stand_in.models_status = 404
    engine = await stand_in.open(f"{stand_in.spec}#x/y-32b")
    stand_in.say(events.text("ok"), events.end())
    await ask(engine, HELLO)
    assert stand_in.replies[0].body["model"] == "x/y-32b"
    with pytest.raises(ModelError, match="lists no models; most servers want /v1"):
        await stand_in.open()
