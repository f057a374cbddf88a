"""Dialogues that run in the background of a server, found by their ids.

A host may cut the call that began a dialogue: the dialogue goes on, and another call finds it. None outlives the
server: on the way out those that run are cancelled, and closed in the ledger with the reason `cancelled`.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import anyio
import anyio.abc

from agentmesh.errors import AgentMeshError, RunError
from agentmesh.events import (
    Compacted,
    Ended,
    Event,
    MessageAdded,
    Opened,
    ToolCallAdded,
    ToolResultAdded,
)
from agentmesh.runtime import LiveMesh, Start, new_dialogue_id
from agentmesh.serving.progress import Progress, Tell
from agentmesh.serving.signing import Exchange
from agentmesh_ledger import JsonValue, LedgerError
from agentmesh_models import ModelError

MOST_RUNNING: Final = 256
MOST_ENDED: Final = 256
_PAUSE: Final = 0.1  # between two lines of progress: a host shows one at a time
_SILENCE: Final = 10.0  # hosts give up on calls that say nothing for long
_LOOK_BACK: Final = 3  # steps told to who begins to follow in the middle
_RECORDED = (Opened, MessageAdded, ToolCallAdded, ToolResultAdded, Compacted, Ended)


class Dialogue:
    """One dialogue, running or ended. `agent` is who was asked, None for the mesh's pattern; `asked_in` the signed call."""

    def __init__(self, dialogue: str, task: str, agent: str | None) -> None:
        self.id = dialogue
        self.task = task
        self.agent = agent
        self.begun = time.time()
        self.ended: Ended | None = None
        self.failure = ""
        self.progress = Progress()
        self.said = ""
        self.asked_in: Exchange | None = None
        self._over = anyio.Event()
        self._scope = anyio.CancelScope()
        self._started = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether it runs no longer; it is closed in the ledger then."""
        return self._over.is_set()

    @property
    def seconds(self) -> float:
        """How long it has run, or did."""
        return self.ended.seconds if self.ended else time.monotonic() - self._started

    def hear(self, event: Event) -> None:
        """Take note of an event of its own."""
        self.progress.hear(event)
        if isinstance(event, Ended):
            self.ended = event
        elif isinstance(event, MessageAdded) and event.kind == "say":
            self.said = event.text

    def stop(self) -> None:
        """Ask it to end; `wait` tells when it has."""
        self._scope.cancel()

    async def wait(self, seconds: float | None = None, tell: Tell | None = None) -> bool:
        """Wait until it is over, at most that many seconds. Returns whether it is.

        `tell` is given what happens meanwhile. Cancelling who waits does nothing to the dialogue.
        """
        with anyio.move_on_after(math.inf if seconds is None else seconds):
            if tell is None:
                await self._over.wait()
            else:
                await self._follow(tell)
        return self.over

    async def _follow(self, tell: Tell) -> None:
        seen = max(0, self.progress.last - _LOOK_BACK)
        draft, told = "", time.monotonic()
        news = [f"dialogue {self.id}"]
        while not await self._over_within(_PAUSE):
            news += self.progress.lines(seen)
            seen = self.progress.last
            if (now := self.progress.draft()) != draft:
                draft = now
                news += [now] if now else []
            if not news and time.monotonic() - told > _SILENCE:
                news = [f"still running, {self.seconds:.0f} s"]
            for line in news:
                await tell(line)
                told = time.monotonic()
            news = []

    async def _over_within(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            await self._over.wait()
        return self.over


class Dialogues:
    """The dialogues of one live mesh. Made by `open_dialogues`.

    What runs in `group` is cancelled when that is left.
    """

    def __init__(
        self, live: LiveMesh, group: anyio.abc.TaskGroup, *, most_running: int, most_ended: int
    ) -> None:
        self.live = live
        self.group = group
        self.till = live.till()
        self._watchers: list[Callable[[str, Event], None]] = []
        self._most_running = most_running
        self._most_ended = most_ended
        self._running: OrderedDict[str, Dialogue] = OrderedDict()
        self._ended: OrderedDict[str, Dialogue] = OrderedDict()

    @property
    def running(self) -> tuple[Dialogue, ...]:
        """Those that run, by their beginning."""
        return tuple(self._running.values())

    @property
    def ended(self) -> tuple[Dialogue, ...]:
        """Those that ended last, by their end; older ones are in the ledger only."""
        return tuple(self._ended.values())

    def find(self, dialogue: str) -> Dialogue | None:
        """The dialogue of that id, unless this server never had it or has forgotten it."""
        return self._running.get(dialogue) or self._ended.get(dialogue)

    def start(
        self,
        task: str,
        *,
        agent: str | None = None,
        dialogue: str | None = None,
        facts: Mapping[str, JsonValue] | None = None,
    ) -> Dialogue:
        """Begin a dialogue: the mesh's pattern on `task`, or one `agent` asked alone. Returns at once.

        Raises:
            RunError: `busy`, too many are running.
        """
        if len(self._running) >= self._most_running:
            raise RunError(
                "busy",
                f"{len(self._running)} dialogues are running, and that is the most at a time",
                hint="wait for one of them to end, or stop one",
            )
        begun = Dialogue(dialogue or new_dialogue_id(), task, agent)
        self._running[begun.id] = begun
        self.group.start_soon(self._play, begun, dict(facts or {}), name=f"dialogue {begun.id}")
        return begun

    def on_change(self, watch: Callable[[str, Event], None]) -> None:
        """Have `watch` called with the id of a dialogue whose record has grown, and the event that tells of it."""
        self._watchers.append(watch)

    async def _play(self, dialogue: Dialogue, facts: Mapping[str, JsonValue]) -> None:
        def listen(event: Event) -> None:
            dialogue.hear(event)
            if isinstance(event, _RECORDED):
                for watch in self._watchers:
                    watch(dialogue.id, event)

        start = Start(dialogue=dialogue.id, listen=listen, facts=facts)
        try:
            with dialogue._scope:
                if dialogue.agent is None:
                    await self.live.run(dialogue.task, start)
                else:
                    await self.live.ask(dialogue.agent, dialogue.task, start)
        except Exception as error:  # noqa: BLE001  # whoever asked is told; the other dialogues and the server go on
            dialogue.failure = _words(error)
        finally:
            self._settle(dialogue)

    def _settle(self, dialogue: Dialogue) -> None:
        self._running.pop(dialogue.id, None)
        self._ended[dialogue.id] = dialogue
        while len(self._ended) > self._most_ended:
            self._ended.popitem(last=False)
        dialogue._over.set()


@asynccontextmanager
async def open_dialogues(
    live: LiveMesh, *, most_running: int = MOST_RUNNING, most_ended: int = MOST_ENDED
) -> AsyncIterator[Dialogues]:
    """Dialogues in the background of `live`, until the context is left.

    `most_ended` is how many of those that ended are remembered here. What the body raises comes out as it is.
    """
    failed: Exception | None = None
    async with anyio.create_task_group() as group:
        try:
            yield Dialogues(live, group, most_running=most_running, most_ended=most_ended)
        except Exception as error:  # noqa: BLE001  # raised below, where no task group wraps it in another
            failed = error
        group.cancel_scope.cancel()
    if failed is not None:
        raise failed


def _words(error: Exception) -> str:
    """What is told of a failure; of one nobody foresaw no more than its kind."""
    if isinstance(error, AgentMeshError | LedgerError | ModelError):
        hint = getattr(error, "hint", None)
        return f"{error}: {hint}" if hint else str(error)
    return f"the dialogue failed ({type(error).__name__})"
