"""An endpoint that is not there, refuses, breaks off, floods, lies or is slow: one error each that says what to do."""

from __future__ import annotations

import gc
import json
import logging
import socket
import traceback
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmesh_models import (
    Engine,
    Message,
    ModelError,
    Piece,
    Reply,
    Request,
    TextDelta,
    ToolSpec,
    open_model,
)
from agentmesh_models.endpoint import connection, parse_address
from agentmesh_models.endpoint.address import Key
from agentmesh_models.endpoint.failures import Failures
from agentmesh_models.endpoint.hearing import Hearing

pytestmark = pytest.mark.anyio
Ask = Callable[[Engine, Request], Awaitable[tuple[list[Piece], Reply]]]

HELLO = Request(messages=(Message(role="user", content="Hello!"),))
SUM = Request(messages=HELLO.messages, tools=(ToolSpec(name="add"),))
KEY = "sk-very-secret-1234567890"


async def failed(ask: Ask, engine: Engine, request: Request = HELLO) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await ask(engine, request)
    return caught.value


def unused_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def test_nobody_there_is_told_when_the_model_is_opened() -> None:
    with pytest.raises(ModelError, match="does not answer .* is the server running there") as caught:
        await anyio.to_thread.run_sync(open_model, f"openai:http://127.0.0.1:{unused_port()}/v1#m")
    assert caught.value.reason == "offline"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("openai:http://me:hunter2@gpu/v1", "must not hold a user or a password"),
        ("openai:http://hunter2@gpu/v1", "must not hold a user or a password"),
        ("openai:http://gpu/v1?key=hunter2", "must have no [?] part"),
        ("openai:ftp://gpu/v1", "begins with http:// or https://"),
        ("openai:gpu:8080/v1", "begins with http:// or https://"),
        ("openai:http://gpu:99999/v1", "begins with http:// or https://"),
        ("openai:http://[gpu/v1", "begins with http:// or https://"),
        ("openai:http://gpu /v1", "blanks or characters"),
        ("openai:http://gpu\\@evil/v1", "blanks or characters"),
        ("openai:", "begins with http:// or https://"),
    ],
)
async def test_an_address_that_is_none_is_refused_without_repeating_a_secret(spec: str, says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        open_model(spec)
    assert caught.value.reason == "bad_request" and "hunter2" not in str(caught.value)


async def test_the_key_goes_to_the_endpoint_and_nowhere_else(
    stand_in: Any, ask: Ask, events: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("BIG_KEY", f" {KEY}\n")
    engine = await stand_in.open(api_key_env="BIG_KEY")
    stand_in.say(events.text("ok"), events.end())
    _, reply = await ask(engine, HELLO)
    assert [each.headers["authorization"] for each in stand_in.asked] == [f"Bearer {KEY}"] * 2
    stand_in.refuse(
        401, {"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}}
    )
    error = await failed(ask, engine)
    assert "[key]" in str(error) and "api_key_env" in str(error)
    stand_in.say(events.text("ok"), {"error": {"message": f"no more for {KEY}"}})
    broken = await failed(ask, engine)
    texts = [
        json.dumps(reply.profile.to_json()),
        repr(reply),
        repr(engine.info),
        repr(vars(engine)),
        caplog.text,
    ]
    for each in (error, broken):
        texts += ["".join(traceback.format_exception(each)), repr(each.args)]
    assert [text for text in texts if KEY in text] == []


async def test_a_key_that_is_not_set_is_asked_for_by_its_name(
    stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BIG_KEY", raising=False)
    with pytest.raises(ModelError, match="put it into the environment as BIG_KEY"):
        await stand_in.open(api_key_env="BIG_KEY")
    monkeypatch.setenv("BIG_KEY", "sk-\u201cpasted\u201d")
    with pytest.raises(ModelError, match="BIG_KEY holds characters that no key"):
        await stand_in.open(api_key_env="BIG_KEY")
    assert stand_in.asked == []


async def test_the_default_key_is_sent_where_nobody_on_the_way_can_read_it(
    stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    await stand_in.open()
    headers = stand_in.asked[0].headers
    assert headers["authorization"] == f"Bearer {KEY}" and "openai-organization" not in headers
    private = {url: parse_address(f"openai:{url}").is_private for url in ("https://gpu/v1", "http://gpu/v1")}
    assert private == {"https://gpu/v1": True, "http://gpu/v1": False}


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504, 408])
async def test_what_may_pass_is_tried_again(stand_in: Any, ask: Ask, events: Any, code: int) -> None:
    stand_in.refuse(code, {"error": {"message": "not now"}}, retry_after="0")
    stand_in.refuse(code, {"error": {"message": "not now"}})
    stand_in.say(events.text("ok"), events.end())
    _, reply = await ask(await stand_in.open(), HELLO)
    assert reply.text == "ok" and len(stand_in.replies) == 3


async def test_three_attempts_are_made_and_then_it_is_told(stand_in: Any, ask: Ask) -> None:
    for _ in range(3):
        stand_in.refuse(503, {"error": {"message": "Loading model", "type": "unavailable_error"}})
    error = await failed(ask, await stand_in.open())
    assert error.reason == "endpoint" and "answers 503 (Loading model)" in str(error)
    assert len(stand_in.replies) == 3


async def test_a_long_pause_that_is_asked_for_is_an_error_not_a_wait(stand_in: Any, ask: Ask) -> None:
    engine = await stand_in.open()
    for asked in ("3600", "Fri, 31 Dec 2199 23:59:59 GMT"):
        stand_in.refuse(429, {"error": {"message": "slow down"}}, retry_after=asked)
        assert "asks for a pause of" in str(await failed(ask, engine))
    assert len(stand_in.replies) == 2


@pytest.mark.parametrize(
    ("code", "body", "says"),
    [
        (400, {"error": {"message": "no such field"}}, r"answers 400 \(no such field\)"),
        (403, {"error": "not yours"}, r"answers 403 \(not yours\); it refuses this key or this model"),
        (404, {"detail": "Not Found"}, r"answers 404 \(Not Found\); it has no such address or model"),
        (422, {"detail": [{"msg": "odd"}]}, r"answers 422 \(\[\{'msg': 'odd'\}\]\)"),
        (418, b"<html>teapot</html>", "answers 418"),
        (302, b"", "answers 302, a redirect; give the address that it leads to"),
    ],
)
async def test_a_refusal_is_told_with_what_to_do_and_not_tried_again(
    stand_in: Any, ask: Ask, code: int, body: Any, says: str
) -> None:
    stand_in.refuse(code, body, location="http://127.0.0.1:1/elsewhere")
    with pytest.raises(ModelError, match=says) as caught:
        await ask(await stand_in.open(), HELLO)
    assert caught.value.reason == "endpoint" and len(stand_in.replies) == 1


@pytest.mark.parametrize(
    ("body", "limit", "needed"),
    [
        (
            {
                "error": {
                    "code": 400,
                    "message": "request (1300 tokens) exceeds the available context size (512 tokens), try increasing it",
                    "type": "exceed_context_size_error",
                    "n_prompt_tokens": 1300,
                    "n_ctx": 512,
                }
            },
            512,
            1300,
        ),
        (
            {
                "object": "error",
                "message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens "
                "(4000 in the messages, 1000 in the completion). Please reduce the length of the messages or completion.",
            },
            4096,
            5000,
        ),
        (
            {"error": {"message": "Your input is too long.", "code": "context_length_exceeded"}},
            None,
            None,
        ),
        (
            {"error": {"message": "Requested tokens (600) exceed context window of 512"}},
            512,
            600,
        ),
    ],
    ids=["llama-server", "vllm", "openai", "llama-cpp-python"],
)
async def test_a_conversation_too_long_is_context_full_with_the_numbers(
    stand_in: Any, ask: Ask, events: Any, body: Any, limit: int | None, needed: int | None
) -> None:
    engine = await stand_in.open()
    stand_in.refuse(400, body)
    stand_in.say({"error": body.get("error", body)})
    for _ in range(2):  # as a status, and inside a stream
        error = await failed(ask, engine)
        assert (error.reason, error.expected, error.found) == ("context_full", limit, needed)


async def test_a_stream_that_breaks_off_is_told_and_not_begun_again(
    stand_in: Any, ask: Ask, events: Any
) -> None:
    engine = await stand_in.open()
    stand_in.say(events.text("Hel"), cut=True)
    stand_in.say(events.text("Hel"))  # ended properly, but nothing said that the reply has
    stand_in.say(events.text("Hel"), events.DONE)
    reasons = [(await failed(ask, engine)).reason for _ in range(3)]
    assert set(reasons) <= {"offline", "endpoint"} and len(stand_in.replies) == 3
    stand_in.say(events.text("ok"), events.end(), events.DONE)
    assert (await ask(engine, HELLO))[1].text == "ok"


@pytest.mark.parametrize(
    "event",
    [
        "{", "[1, 2]", "null", '"text"', "\ufeff{}", '{"choices": [7]}', "[" * 100_000, '{"a": ' * 5_000,
        '{"choices": [{"delta": {"tool_calls": [3]}}]}',
    ],
)  # fmt: skip
async def test_an_event_that_is_no_piece_of_a_reply_is_told(
    stand_in: Any, ask: Ask, event: str, events: Any
) -> None:
    stand_in.say(events.text("Hel"), event)
    error = await failed(ask, await stand_in.open())
    assert error.reason == "endpoint" and len(str(error)) < 1000


async def test_bytes_that_are_no_text_are_told(stand_in: Any, ask: Ask, events: Any) -> None:
    stand_in.say(events.text("Hel"), b"data: \xff\xfe\n\n")
    assert (await failed(ask, await stand_in.open())).reason == "endpoint"


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("add", '{"x": ', "whose arguments are no JSON object"),
        ("add", "[1]", "whose arguments are no JSON object"),
        ("add", '{"x": NaN}', "whose arguments are no JSON object"),
        ("add", "[" * 100_000, "whose arguments are no JSON object"),
        ("rm", "{}", "sends a call of 'rm', and there were offered add"),
    ],
)
async def test_a_call_that_nobody_could_make_is_told(
    stand_in: Any, ask: Ask, events: Any, name: str, arguments: str, says: str
) -> None:
    made = {"index": 0, "id": "a", "function": {"name": name, "arguments": arguments}}
    stand_in.say(events.delta(tool_calls=[made]), events.end("tool_calls"))
    assert says in str(await failed(ask, await stand_in.open(), SUM))


async def test_a_reply_that_is_withheld_is_told(stand_in: Any, ask: Ask, events: Any) -> None:
    stand_in.say(events.text("Well"), events.end("content_filter"))
    assert "withholds its reply" in str(await failed(ask, await stand_in.open()))


async def test_an_answer_without_end_is_cut_at_its_limit(
    stand_in: Any, ask: Ask, events: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MOST_BYTES", 1 << 20)
    engine = await stand_in.open()
    stand_in.say(events.text("Hel"), b"data: " + b"x" * (2 << 20))
    assert "sends more than 1 MiB" in str(await failed(ask, engine))
    stand_in.refuse(400, b"x" * (2 << 20))
    assert "sends more than 1 MiB" in str(await failed(ask, engine))
    stand_in.models = {"data": [{"id": "x" * (2 << 20)}]}
    with pytest.raises(ModelError, match="sends more than 1 MiB"):
        await stand_in.open()


async def test_a_packed_answer_is_refused(stand_in: Any, ask: Ask, events: Any) -> None:
    stand_in.say(events.text("ok"), packed="content-encoding: gzip\r\n")
    assert "packs its answer" in str(await failed(ask, await stand_in.open()))
    assert stand_in.replies[0].headers["accept-encoding"] == "identity"


async def test_silence_longer_than_the_timeout_is_told(stand_in: Any, ask: Ask, events: Any) -> None:
    engine = await stand_in.open(timeout=0.2)
    stand_in.hang(events.text("Hel"))
    error = await failed(ask, engine)
    assert error.reason == "offline" and "was silent for 0.2 seconds" in str(error)
    assert len(stand_in.replies) == 1


@pytest.mark.parametrize("begun", [True, False])
async def test_the_deadline_ends_a_request_and_its_connection(
    stand_in: Any, ask: Ask, events: Any, begun: bool
) -> None:
    engine = await stand_in.open()
    stand_in.hang(*([events.text("Hel")] if begun else []))
    error = await failed(ask, engine, Request(messages=HELLO.messages, deadline=0.1))
    assert error.reason == "deadline" and "after 0.1 seconds" in str(error)
    with anyio.fail_after(10):
        await stand_in.left.wait()


async def test_cancellation_closes_the_connection_at_once(stand_in: Any, events: Any) -> None:
    engine = await stand_in.open()
    stand_in.hang(events.text("Hel"))
    heard = anyio.Event()

    async def listen() -> None:
        async for piece in engine.generate(HELLO):
            assert piece == TextDelta(text="Hel")
            heard.set()

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        with anyio.fail_after(10):
            await heard.wait()
        group.cancel_scope.cancel()
    with anyio.fail_after(10):
        await stand_in.left.wait()


async def test_leaving_the_iterator_closes_the_connection_too(stand_in: Any, events: Any) -> None:
    engine = await stand_in.open()
    stand_in.hang(events.text("Hel"))
    async with aclosing(engine.generate(HELLO)) as pieces:
        assert await anext(pieces) == TextDelta(text="Hel")
    with anyio.fail_after(10):
        await stand_in.left.wait()
    gc.collect()


async def test_closing_the_engine_ends_what_is_under_way(stand_in: Any, ask: Ask, events: Any) -> None:
    engine = await stand_in.open()
    stand_in.hang(events.text("Hel"))
    reasons: list[str] = []

    async def listen() -> None:
        reasons.append((await failed(ask, engine)).reason)

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        with anyio.fail_after(10):
            while not stand_in.replies:
                await anyio.lowlevel.checkpoint()
        await engine.aclose()
        await engine.aclose()
    assert reasons == ["closed"]
    assert (await failed(ask, engine)).reason == "closed"


async def test_requests_at_the_same_time_are_under_way_at_the_same_time(
    stand_in: Any, ask: Ask, events: Any
) -> None:
    engine = await stand_in.open()
    stand_in.hang(events.text("slow"))
    stand_in.say(events.text("fast"), events.end())
    async with aclosing(engine.generate(HELLO)) as slow:
        assert await anext(slow) == TextDelta(text="slow")
        assert (await ask(engine, HELLO))[1].text == "fast"


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Request(messages=()), "no message"),
        (Request(messages=HELLO.messages, max_tokens=0), "max_tokens"),
        (Request(messages=HELLO.messages, tool_choice="required"), "there are no tools"),
    ],
)
async def test_a_request_that_makes_no_sense_is_not_sent(
    stand_in: Any, ask: Ask, request_: Request, says: str
) -> None:
    error = await failed(ask, await stand_in.open(), request_)
    assert error.reason == "bad_request" and says in str(error) and stand_in.replies == []


async def test_an_engine_serves_one_event_loop_after_another(stand_in: Any, events: Any) -> None:
    engine = await stand_in.open()

    async def one() -> str:
        return "".join([p.text async for p in engine.generate(HELLO) if isinstance(p, TextDelta)])

    for _ in range(2):
        stand_in.say(events.text("ok"), events.end())
        assert await anyio.to_thread.run_sync(partial(anyio.run, one)) == "ok"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(
            ["choices", "delta", "message", "content", "tool_calls", "function", "name", "arguments", "index", "id",
             "usage", "error", "model", "finish_reason", "reasoning", "completion_tokens", "prompt_tokens"]
        ), inner, max_size=5),
    max_leaves=30,
)  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(json_values, max_size=4), st.booleans())
def test_whatever_json_comes_only_a_model_error_comes_of_it(values: list[Any], wrapped: bool) -> None:
    address = parse_address("openai:http://gpu/v1")
    hearing = Hearing(SUM, Failures(address, Key(KEY)))
    try:
        for value in values:
            list(hearing.add({"choices": [{"delta": value, "finish_reason": "stop"}]} if wrapped else value))
        list(hearing.end())
    except ModelError:
        return
    assert isinstance(hearing.text, str) and hearing.counts[2] >= 0
