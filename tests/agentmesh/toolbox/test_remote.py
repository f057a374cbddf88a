"""Meshes elsewhere: a real uvicorn on the loopback interface plays them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
from mcp.server import MCPServer
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from starlette.types import Receive, Scope, Send

from agentmesh.errors import ToolboxError
from agentmesh.toolbox import PinFile, Remote, ToolsChanged, open_servers
from agentmesh.toolbox.backoff import Backoff
from agentmesh_servers.face import logging_left_alone

pytestmark = pytest.mark.anyio

QUICK = Backoff(tries=3, first=0.02, most=0.05)


@dataclass
class Lab:
    """A mesh elsewhere, with two agents and what any served mesh has beside them. It notes what reaches it."""

    asked: list[str] = field(default_factory=list)
    waited: int = 0
    headers: list[str] = field(default_factory=list)
    answers: list[dict[str, object]] = field(default_factory=list)
    more: tuple[str, ...] = ()

    def app(self) -> Any:
        with logging_left_alone():
            server = MCPServer("lab", version="1", instructions="Ask us.", log_level="CRITICAL")

        async def ask(question: str) -> CallToolResult:
            self.asked.append(question)
            if question == "wait":
                await anyio.sleep_forever()
            return self._told({"state": "ended", "answer": f"{question} is good"})

        async def ask_slowly(question: str) -> CallToolResult:
            return self._told({"state": "running", "dialogue": "d1", "answer": ""})

        async def wait_dialogue(dialogue: str) -> CallToolResult:
            self.waited += 1
            assert dialogue == "d1"
            return self._told(self.answers.pop(0) if self.answers else {"state": "running", "dialogue": "d1"})

        for name in ("ask_critic", "ask_editor", *self.more):
            server.add_tool(ask, name=name, annotations=ToolAnnotations(read_only_hint=True))
        server.add_tool(ask_slowly, name="ask_slow")
        server.add_tool(wait_dialogue, name="wait_dialogue")
        server.add_tool(ask, name="stop_dialogue")
        inner = server.streamable_http_app()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                self.headers += [v.decode() for k, v in scope["headers"] if k == b"authorization"]
            await inner(scope, receive, send)

        return app

    def _told(self, value: dict[str, object]) -> CallToolResult:
        text = str(value.get("answer") or value)
        return CallToolResult(content=[TextContent(text=text)], structured_content=value)


@contextmanager
def serving(lab: Lab, port: int = 0) -> Iterator[int]:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    config = uvicorn.Config(lab.app(), log_level="critical", lifespan="on", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listening.close()
        assert not thread.is_alive()


def at(port: int, **more: Any) -> Remote:
    return Remote(url=f"http://127.0.0.1:{port}/mcp", **more)


def nowhere() -> Remote:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return at(closed.getsockname()[1])


async def test_only_the_tools_that_ask_agents_appear(tmp_path: Path) -> None:
    with serving(Lab()) as port, anyio.fail_after(30):
        sources = {"all": at(port), "one": at(port, agents=("editor",))}
        async with open_servers(sources, base=tmp_path) as servers:
            names = {name: [tool.name for tool in each.tools] for name, each in servers.items()}
            assert names == {"all": ["ask_critic", "ask_editor", "ask_slow"], "one": ["ask_editor"]}
            assert (await servers["all"].call("ask_critic", {"question": "it"})).text == "it is good"
            assert (await servers["one"].call("ask_critic", {"question": "it"})).is_error
            assert (await servers["all"].call("stop_dialogue", {"question": "it"})).is_error


async def test_a_handle_is_followed_to_the_answer(tmp_path: Path) -> None:
    running: dict[str, object] = {"state": "running", "dialogue": "d1"}
    lab = Lab(answers=[running, {"state": "ended", "dialogue": "d1", "answer": "at last"}])
    with serving(lab) as port, anyio.fail_after(30):
        async with open_servers({"lab": at(port)}, base=tmp_path) as servers:
            result = await servers["lab"].call("ask_slow", {"question": "it"})
    assert (result.text, result.is_error, lab.waited) == ("at last", False, 2)


async def test_a_handle_without_an_end_is_given_up_at_the_timeout(tmp_path: Path) -> None:
    lab = Lab()
    with serving(lab) as port, anyio.fail_after(30):
        async with open_servers({"lab": at(port, timeout=1.5)}, base=tmp_path) as servers:
            result = await servers["lab"].call("ask_slow", {"question": "it"})
    assert result.is_error and "lab.ask_slow did not answer within 1.5 seconds" in result.text
    assert 1 <= lab.waited <= 5  # it does not keep both of us busy


async def test_a_peer_that_was_never_there_is_tried_a_few_times_and_told(tmp_path: Path) -> None:
    with anyio.fail_after(30), pytest.raises(ToolboxError) as caught:
        async with open_servers({"lab": nowhere()}, base=tmp_path, backoff=QUICK):
            pytest.fail("it should not have started")
    assert caught.value.reason == "not_started"
    assert "peer lab" in caught.value.message and "nothing answers at its address" in caught.value.message
    assert "peers.lab" in (caught.value.hint or "")


async def test_a_peer_that_comes_up_late_is_met(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    lab, tried = Lab(), threading.Event()

    def draw() -> float:
        tried.set()  # the first try has failed
        return 0.0

    up: list[Any] = []

    def come_up() -> None:
        assert tried.wait(20)
        context = serving(lab, port)
        context.__enter__()
        up.append(context)

    thread = threading.Thread(target=come_up)
    thread.start()
    try:
        with anyio.fail_after(40):
            patient = Backoff(tries=200, first=0.05, most=0.05, draw=draw)
            async with open_servers({"lab": at(port)}, base=tmp_path, backoff=patient) as servers:
                assert (await servers["lab"].call("ask_critic", {"question": "it"})).text == "it is good"
    finally:
        thread.join(timeout=20)
        for context in up:
            context.__exit__(None, None, None)


async def test_the_wait_between_tries_can_be_cancelled(tmp_path: Path) -> None:
    begin = time.monotonic()
    endless = Backoff(tries=1000, first=60.0, most=60.0)
    with anyio.move_on_after(1) as scope:
        async with open_servers({"lab": nowhere()}, base=tmp_path, backoff=endless):
            pytest.fail("it should not have started")
    assert scope.cancelled_caught and time.monotonic() - begin < 20


async def test_a_peer_that_is_known_may_be_away_and_its_calls_say_so_until_it_is_back(tmp_path: Path) -> None:
    pins, notices = PinFile(tmp_path / "pins.json"), list[str]()
    with serving(Lab()) as port:
        async with open_servers({"lab": at(port)}, base=tmp_path, pins=pins) as servers:
            digest = servers["lab"].digest
    with anyio.fail_after(60):
        sources = {"lab": at(port)}
        async with open_servers(
            sources, base=tmp_path, pins=pins, backoff=QUICK, notice=notices.append
        ) as servers:
            assert "peer lab is away" in notices[0]
            assert [tool.name for tool in servers["lab"].tools] == ["ask_critic", "ask_editor", "ask_slow"]
            assert servers["lab"].digest == digest
            result = await servers["lab"].call("ask_critic", {"question": "it"})
            assert result.is_error and "peer lab is gone" in result.text and "go on without it" in result.text
            with serving(Lab(), port):
                assert (await servers["lab"].call("ask_critic", {"question": "it"})).text == "it is good"


async def test_a_peer_that_dies_is_told_to_the_model_and_the_others_go_on(tmp_path: Path) -> None:
    first, second = Lab(), Lab()
    with serving(second) as other, anyio.fail_after(60):
        with serving(first) as port:
            sources = {"lab": at(port), "far": at(other)}
            opened = open_servers(sources, base=tmp_path, backoff=QUICK)
            servers = await opened.__aenter__()
            assert (await servers["lab"].call("ask_critic", {"question": "it"})).text == "it is good"
        for _ in range(2):
            result = await servers["lab"].call("ask_critic", {"question": "it"})
            assert result.is_error and "peer lab is gone" in result.text, result.text
            assert (await servers["far"].call("ask_critic", {"question": "all"})).text == "all is good"
        await opened.__aexit__(None, None, None)


async def test_a_silent_peer_ends_the_call_at_the_timeout(tmp_path: Path) -> None:
    with serving(Lab()) as port, anyio.fail_after(30):
        async with open_servers({"lab": at(port, timeout=0.5)}, base=tmp_path) as servers:
            result = await servers["lab"].call("ask_critic", {"question": "wait"})
            assert result.is_error and "did not answer within 0.5 seconds" in result.text


async def test_the_token_goes_with_every_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_TOKEN", "secret-1")
    lab = Lab()
    with serving(lab) as port, anyio.fail_after(30):
        async with open_servers({"lab": at(port, token_env="LAB_TOKEN")}, base=tmp_path) as servers:
            assert (await servers["lab"].call("ask_critic", {"question": "it"})).text == "it is good"
    assert len(lab.headers) >= 3 and set(lab.headers) == {"Bearer secret-1"}


@pytest.mark.parametrize("value", [None, "", "with\nline"])
async def test_a_token_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv("LAB_TOKEN", raising=False)
    else:
        monkeypatch.setenv("LAB_TOKEN", value)
    with pytest.raises(ToolboxError, match="the environment variable LAB_TOKEN holds no token") as caught:
        async with open_servers({"lab": at(1, token_env="LAB_TOKEN")}, base=tmp_path):
            pytest.fail("it should not have started")
    assert caught.value.reason == "no_token"


async def test_the_agents_of_a_peer_are_pinned_and_its_other_tools_are_not(tmp_path: Path) -> None:
    pins = PinFile(tmp_path / "pins.json")
    with serving(Lab()) as port, anyio.fail_after(30):
        async with open_servers({"lab": at(port)}, base=tmp_path, pins=pins):
            pass
    (pin,) = pins.pins()
    assert (pin.server, pin.source) == ("lab", f"http://127.0.0.1:{port}/mcp")
    assert [tool["name"] for tool in pin.tools.tools] == ["ask_critic", "ask_editor", "ask_slow"]
    with serving(Lab(more=("read_mail",)), port), anyio.fail_after(30):
        async with open_servers({"lab": at(port)}, base=tmp_path, pins=pins):
            pass
    with serving(Lab(more=("ask_spy",)), port), anyio.fail_after(30):
        with pytest.raises(ToolsChanged, match="tool ask_spy is new"):
            async with open_servers({"lab": at(port)}, base=tmp_path, pins=pins):
                pytest.fail("it should not have started")


async def test_a_name_and_password_in_an_address_are_not_told(tmp_path: Path) -> None:
    source = Remote(url="http://me:word@127.0.0.1:1/mcp")
    with pytest.raises(ToolboxError) as caught:
        async with open_servers({"lab": source}, base=tmp_path, backoff=QUICK):
            pytest.fail("it should not have started")
    assert "word" not in caught.value.message and "http://127.0.0.1:1/mcp" in caught.value.message
