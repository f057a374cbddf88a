"""What a host is told while a dialogue runs: short lines, made of the dialogue's events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Final, TypeAlias

from agentmesh.events import (
    Compacted,
    Draft,
    Event,
    MessageAdded,
    Notice,
    ToolCallAdded,
    ToolResultAdded,
    TurnStarted,
)
from agentmesh.floor import PEERS
from agentmesh.toolbox.results import one_line

Tell: TypeAlias = Callable[[str], Coroutine[object, object, None]]
"""Takes one line of progress."""

MAX_LINE: Final = 200
"""Claude Code shows about as much on a tool's row."""
_KEPT: Final = 64
_ASK: Final = "ask_"


class Progress:
    """What has happened in one dialogue, for whoever follows it; the oldest of it is forgotten.

    Lines are made only when somebody wants them: most dialogues end before anyone asks.
    """

    def __init__(self) -> None:
        self._steps: deque[tuple[int, Event]] = deque(maxlen=_KEPT)
        self._count = 0
        self._pieces: dict[int, int] = {}
        self._draft: Draft | None = None

    @property
    def last(self) -> int:
        """The number of the last step so far."""
        return self._count

    def hear(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, Draft):
            self._pieces[event.turn] = self._pieces.get(event.turn, 0) + 1
            self._draft = event
            return
        if isinstance(event, MessageAdded | ToolCallAdded):
            self._pieces.pop(event.turn, None)
            if self._draft is not None and self._draft.turn == event.turn:
                self._draft = None
        self._count += 1
        self._steps.append((self._count, event))

    def lines(self, after: int) -> list[str]:
        """What there is to tell of the steps after that number, the newest last."""
        told = (step_line(event) for number, event in self._steps if number > after)
        return [line for line in told if line]

    def draft(self) -> str:
        """What is being written now: `math: 24 tokens`; empty where nothing is."""
        draft = self._draft
        if draft is None:
            return ""
        thinks = " (thinking)" if draft.reasoning else ""
        return one_line(f"{draft.agent}: {self._pieces.get(draft.turn, 0)} tokens{thinks}", limit=MAX_LINE)


def step_line(event: Event) -> str:
    """One line on an event, safe to show; empty where there is nothing to say."""
    return one_line(_told(event), limit=MAX_LINE)


def _told(event: Event) -> str:
    match event:
        case TurnStarted():
            return f"{event.agent} begins"
        case ToolCallAdded():
            if event.server == PEERS and event.tool.startswith(_ASK):
                return f"{event.agent} asks {event.tool.removeprefix(_ASK)}"
            return f"{event.agent} calls {event.server}.{event.tool}"
        case ToolResultAdded():
            return "" if event.server == PEERS else f"{event.tool} {'fails' if event.is_error else 'answers'}"
        case MessageAdded(kind="say"):
            return f"{event.agent}: {event.text}"
        case Compacted():
            return f"{event.agent} is shown less of what was said"
        case Notice():
            return event.text
        case _:
            return ""
