"""The scripted model: plays its steps, insists on them, and names what is wrong with a script."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from agentmesh_models import Engine, Message, ModelError, Reply, Request, TextDelta, ToolCall, open_model


def script(folder: Path, steps: object) -> Engine:
    (folder / "steps.json").write_text(json.dumps(steps))
    return open_model("scripted:steps.json", base=folder)


def asked(text: str = "hello", agent: str = "ada") -> Request:
    return Request(
        messages=(
            Message(role="system", content=f"You are {agent}. Kind."),
            Message(role="user", content=text),
        )
    )


async def play(model: Engine, request: Request) -> tuple[str, Reply]:
    items = [item async for item in model.generate(request)]
    last = items[-1]
    assert isinstance(last, Reply)
    return "".join(item.text for item in items if isinstance(item, TextDelta)), last


def test_steps_are_played_in_order_and_their_text_is_streamed(tmp_path: Path) -> None:
    async def main() -> None:
        model = script(
            tmp_path,
            [{"say": "one  two\n three"}, {"say": "", "call": {"name": "now", "arguments": {"a": 1}}}],
        )
        text, reply = await play(model, asked())
        assert text == reply.text == "one  two\n three" and reply.finish == "stop" and not reply.calls
        text, reply = await play(model, asked())
        assert (
            text == ""
            and reply.finish == "call"
            and reply.calls == (ToolCall(name="now", arguments={"a": 1}),)
        )
        json.dumps(reply.profile.to_json())
        await model.aclose()

    anyio.run(main)


def test_steps_left_over_are_an_error_once(tmp_path: Path) -> None:
    async def main() -> None:
        model = script(tmp_path, [{"say": "a"}, {"call": {"name": "now"}}])
        await play(model, asked())
        with pytest.raises(
            ModelError, match=r"1 of 2 steps were not used; the first is step 2: call now"
        ) as caught:
            await model.aclose()
        assert caught.value.reason == "script"
        await model.aclose()
        with pytest.raises(ModelError, match="closed"):
            await play(model, asked())

    anyio.run(main)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "0 steps are used up"),
        ([{"say": "a", "expect": "goodbye"}], "expects 'goodbye' in the last message, which is 'hello'"),
        ([{"say": "a", "agent": "ben"}], "is for the agent ben"),
    ],
)
def test_a_request_that_the_script_does_not_expect_is_told(
    tmp_path: Path, steps: list[object], message: str
) -> None:
    async def main() -> None:
        model = script(tmp_path, steps)
        with pytest.raises(ModelError, match=message) as caught:
            await play(model, asked())
        assert caught.value.reason == "script"
        await model.aclose()  # the cause was told already

    anyio.run(main)


def test_what_a_step_expects_is_looked_for(tmp_path: Path) -> None:
    async def main() -> None:
        model = script(tmp_path, [{"say": "a", "expect": "ell", "agent": "ada"}])
        assert (await play(model, asked()))[0] == "a"
        await model.aclose()

    anyio.run(main)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"say": "a"}, "expected a JSON list"),
        (["a"], "step 1: expected an object"),
        ([{"say": "a"}, {"speak": "b"}], "step 2: unknown key 'speak'; known are agent, call, expect, say"),
        ([{"expect": "a"}], "neither 'say' nor 'call'"),
        ([{"say": 3}], "'say' must be text"),
        ([{"call": "now"}], "'call' must be an object with a 'name'"),
        ([{"call": {"name": "now", "args": {}}}], "nothing else"),
        ([{"call": {"name": "now", "arguments": []}}], "nothing else"),
    ],
)
def test_a_mistake_in_a_script_is_named(tmp_path: Path, steps: object, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        script(tmp_path, steps)
    assert caught.value.reason == "script_file"


def test_a_script_that_is_missing_or_no_json_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        open_model("scripted:none.json", base=tmp_path)
    assert caught.value.reason == "not_found"
    (tmp_path / "steps.json").write_bytes(b"\xff")
    with pytest.raises(ModelError, match="not JSON"):
        open_model("scripted:steps.json", base=tmp_path)


def shared(last: str) -> Request:
    return Request(messages=(Message(role="system", content="Rules."), Message(role="user", content=last)))


@pytest.mark.parametrize(
    ("last", "agent", "is_asked"),
    [
        ("The task: x\nYour turn. You are ada. Kind.\nSay it.", "ada", True),
        ("The task: x\nYour turn. You are adam. Kind.", "ada", False),
        ("What was said:\nben: ok\n  Your turn. You are ada.\nYour turn. You are ben.", "ada", False),
        ("Your turn. You are ben.\nYou are asked:\nYour turn. You are ada.", "ada", False),
        ("You are ada.", "ada", False),
    ],
)
def test_a_step_for_an_agent_knows_the_shared_layout_too(
    tmp_path: Path, last: str, agent: str, is_asked: bool
) -> None:
    async def main() -> None:
        model = script(tmp_path, [{"say": "a", "agent": agent}])
        if is_asked:
            assert (await play(model, shared(last)))[0] == "a"
        else:
            says = f"step 1 is for the agent {agent}; the system message is 'Rules.'"
            with pytest.raises(ModelError, match=says):
                await play(model, shared(last))
        await model.aclose()

    anyio.run(main)
