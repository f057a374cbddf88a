"""A dialogue over a model whose replies a test gives, with real servers in memory and a real ledger."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from agentmesh.events import Ended, Event
from agentmesh.inside import open_peers
from agentmesh.keys import open_keys
from agentmesh.mesh import load_mesh
from agentmesh.runtime import LiveMesh
from agentmesh.toolbox import open_servers
from agentmesh_ledger import Record
from agentmesh_ledger.log import Ledger
from agentmesh_models import (
    ModelError,
    ModelInfo,
    Piece,
    Profile,
    ReasoningDelta,
    Reply,
    Request,
    TextDelta,
    ToolCall,
    Usage,
)


@dataclass(frozen=True)
class Words:
    """What a model replies."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""


Answer = Callable[[Request], "str | Words | Awaitable[str | Words]"]


class Puppet:
    """An engine that replies what `answer` says. Each character of a prompt and a reply is a token."""

    def __init__(self, answer: Answer, *, n_ctx: int) -> None:
        self.requests: list[Request] = []
        self.info = ModelInfo(
            name="puppet", path=None, digest="ab" * 32, n_ctx=n_ctx, tool_format="none", template_digest=""
        )
        self._answer = answer

    async def generate(self, request: Request) -> AsyncGenerator[Piece, None]:
        self.requests.append(request)
        size, n_ctx = sum(len(message.content) for message in request.messages), self.info.n_ctx
        if size >= n_ctx:
            raise ModelError("context_full", f"needs {size + 1}", expected=n_ctx, found=size + 1)
        answer = self._answer(request)
        made = answer if isinstance(answer, str | Words) else await answer
        words = Words(made) if isinstance(made, str) else made
        text = words.text[: min(request.max_tokens, n_ctx - size)]
        if words.reasoning:
            yield ReasoningDelta(text=words.reasoning)
        yield TextDelta(text=text)
        finish = "call" if words.calls else "stop" if text == words.text else "length"
        yield Reply(
            text=text,
            calls=words.calls,
            finish=finish,
            usage=Usage(
                prompt_tokens=size,
                reused_tokens=size // 2,
                output_tokens=len(text),
                prefill_seconds=0.5,
                decode_seconds=0.25,
            ),
            profile=Profile(
                model="puppet",
                model_digest=self.info.digest,
                template_digest="",
                library="puppet",
                n_ctx=n_ctx,
                prompt_tokens=(1,) * size,
                reused_tokens=size // 2,
                output_tokens=(1,) * len(text),
                sampling=request.sampling,
                grammar_digest=None,
                finish=finish,
            ),
            reasoning=words.reasoning,
        )

    async def aclose(self) -> None:
        pass


@dataclass
class Played:
    """A dialogue that was held: what was told, what the models were asked, what is in the ledger."""

    ended: Ended
    events: list[Event]
    requests: list[Request]
    records: list[Record]
    engines: list[Puppet] = field(default_factory=list)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def kinds(self) -> list[str]:
        return [record.message.kind for record in self.records]

    def recorded(self, kind: str) -> list[Record]:
        return [record for record in self.records if record.message.kind == kind]


def speaker(request: Request) -> str:
    """Whom the prompt of a request is for."""
    for message in (request.messages[1], request.messages[0]):
        found = re.findall(r"You are (\w+)\.", message.content)
        if found:
            return str(found[-1])
    raise AssertionError(request.messages)


def part(record: Record, name: str) -> Any:
    """The content of a part of a recorded message, read where it is JSON; None where there is none."""
    for each in record.parts:
        if each.name == name:
            assert each.data is not None
            return json.loads(each.data) if each.type == "application/json" else each.data.decode()
    return None


@pytest.fixture
def read_part() -> Callable[[Record, str], Any]:
    return part


@pytest.fixture
def whose() -> Callable[[Request], str]:
    return speaker


@pytest.fixture
def words() -> type[Words]:
    return Words


@pytest.fixture
def puppet() -> type[Puppet]:
    return Puppet


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., Awaitable[Played]]:
    """Hold a dialogue of a mesh; agents that name the same model share one engine."""

    async def hold(text: str, answer: Answer, *, task: str = "Go.", n_ctx: int = 8192) -> Played:
        (tmp_path / "mesh.toml").write_text(text)
        (tmp_path / "other.json").write_text("[]")
        mesh = load_mesh(tmp_path)
        models = {spec.model: Puppet(answer, n_ctx=n_ctx) for spec in mesh.agents.values()}
        events: list[Event] = []
        keys = open_keys(mesh.log_place.keys)
        with anyio.fail_after(60):
            async with open_servers(mesh.servers, base=mesh.folder) as servers, open_peers(mesh) as inside:
                with Ledger.open(mesh.log_place.ledger, origin=mesh.origin, keys=keys, create=True) as log:
                    live = LiveMesh(
                        mesh=mesh,
                        engines={name: models[spec.model] for name, spec in mesh.agents.items()},
                        servers=servers,
                        inside=inside,
                        log=log,
                        keys=keys,
                        where="here",
                        listen=events.append,
                    )
                    ended = await live.run(task)
                    records = list(log.read(dialogue=ended.dialogue))
        requests = [request for model in models.values() for request in model.requests]
        return Played(ended, events, requests, records, list(models.values()))

    return hold
