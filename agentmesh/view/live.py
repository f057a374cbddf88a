"""A dialogue as it runs, on a terminal: what is in the record scrolls by, and below it stands what is still in motion.

The draft being generated is dim and called a draft. It disappears when the message itself, acknowledged by the
ledger, is printed above; so nothing on the screen looks said before it can be checked.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from agentmesh.events import (
    Anchored,
    Compacted,
    Draft,
    Ended,
    Event,
    MessageAdded,
    Notice,
    Opened,
    Prompted,
    ToolCallAdded,
    ToolResultAdded,
    TurnStarted,
    Witnessed,
)
from agentmesh.mesh.spec import Limits
from agentmesh.view.plain import anchored, compaction, speed, witnessed
from agentmesh.view.text import arguments_text, clean, one_line

_COLOURS: Final = ("cyan", "magenta", "green", "yellow", "blue", "bright_red")
_DRAFT_LINES: Final = 6
_RESULT_WIDTH: Final = 600


@dataclass(slots=True)
class _Motion:
    """What a turn is at now: thinking, writing, or waiting for a tool."""

    agent: str
    thought: str = ""
    draft: str = ""
    waiting: str = ""


class LiveDialogue:
    """Shows events on `console` while it is entered. Must be left before anything else writes there."""

    def __init__(self, console: Console, limits: Limits) -> None:
        self._console = console
        self._limits = limits
        self._started: float | None = None
        self._moving: dict[int, _Motion] = {}
        self._turns = self._calls = self._tokens = 0
        self._colours: dict[str, str] = {}
        self._live = Live(self, console=console, transient=True, refresh_per_second=8, redirect_stdout=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._moving.clear()
        self._live.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case TurnStarted():
                self._turns += 1
                self._moving[event.turn] = _Motion(event.agent)
            case Draft():
                motion = self._moving.setdefault(event.turn, _Motion(event.agent))
                if event.reasoning:
                    motion.thought += event.text
                else:
                    motion.draft += event.text
            case MessageAdded():
                self._tokens += event.tokens
                self._moving.pop(event.turn, None)
                self._message(event)
            case ToolCallAdded():
                self._calls += 1
                self._tokens += event.tokens
                self._waits(event)
                self._call(event)
            case ToolResultAdded():
                self._moving[event.turn] = _Motion(event.agent)
                self._result(event)
            case Compacted():
                text = f"{event.index:>4} {compaction(event)}"
                self._console.print(Text(text, style="yellow"))
            case Opened():
                self._started = time.monotonic()
                self._console.print(
                    Text(f"dialogue {clean(event.dialogue)}  {clean(event.mesh)}", style="dim"),
                    soft_wrap=True,
                )
            case Notice():
                self._console.print(Text(f"note: {clean(event.text)}", style="yellow"))
            case Witnessed():
                self._console.print(Text(witnessed(event), style="dim" if event.met else "yellow"))
            case Anchored():
                style = "yellow" if event.state in ("waiting", "blocked") else "dim"
                self._console.print(Text(anchored(event), style=style))
            case Prompted():  # what was written before, if anything, is thrown away
                self._moving[event.turn] = _Motion(event.agent)
            case Ended():
                pass

    def __rich__(self) -> RenderableType:
        """The part that is redrawn: the draft, and what the dialogue has used of its limits."""
        parts: list[RenderableType] = []
        for motion in self._moving.values():
            if motion.waiting:
                parts.append(Text(motion.waiting, style="dim"))
            else:
                parts += self._drafted(motion)
        parts.append(Text(self.used(), style="dim"))
        return Group(*parts)

    def used(self) -> str:
        """What is used of the limits."""
        if self._started is None:
            return "loading models, starting servers"
        limits, seconds = self._limits, time.monotonic() - self._started
        return (
            f"turn {self._turns} of {limits.turns} · tokens {self._tokens} of {limits.tokens} · "
            f"tool calls {self._calls} of {limits.tool_calls} · {seconds:.0f} of {limits.seconds:.0f} s"
        )

    def _drafted(self, motion: _Motion) -> list[RenderableType]:
        """What a model writes now, and above it, apart, what it thinks."""
        name = (clean(motion.agent), self._colour(motion.agent))
        parts: list[RenderableType] = []
        if motion.thought:
            parts.append(Text.assemble(name, (" thinks", "dim italic")))
            parts.append(Padding(Text(_tail(motion.thought), style="dim italic"), (0, 0, 0, 4)))
        if motion.draft or not motion.thought:
            parts.append(Text.assemble(name, (" draft", "dim italic")))
            parts.append(Padding(Text(_tail(motion.draft) or "...", style="dim"), (0, 0, 0, 4)))
        return parts

    def _waits(self, event: ToolCallAdded) -> None:
        tool = f"{clean(event.server)}.{clean(event.tool)}"
        motion = self._moving.get(event.turn)
        if motion and motion.waiting:  # one more of the same reply
            motion.waiting += f", {tool}"
        else:
            waiting = f"{clean(event.agent)} waits for {tool}"
            self._moving[event.turn] = _Motion(event.agent, waiting=waiting)

    def _message(self, event: MessageAdded) -> None:
        head = Text.assemble((f"{event.index:>4} ", "dim"))
        head.append(clean(event.agent), style=f"bold {self._colour(event.agent)}")
        for number, name in enumerate(event.to):
            head.append(" -> " if number == 0 else ", ", style="dim")
            head.append(clean(name), style=self._colour(name))
        head.append(" task" if event.kind == "task" else speed(event), style="dim")
        self._print(head, clean(event.text).strip())

    def _call(self, event: ToolCallAdded) -> None:
        head = Text.assemble((f"{event.index:>4} ", "dim"))
        head.append(clean(event.agent), style=self._colour(event.agent))
        head.append(" calls ", style="dim")
        head.append(f"{clean(event.server)}.{clean(event.tool)}", style="bold")
        head.append(f"({arguments_text(event.arguments)})")
        self._console.print(head)

    def _result(self, event: ToolResultAdded) -> None:
        head = Text.assemble((f"{event.index:>4} ", "dim"))
        head.append(f"{clean(event.server)}.{clean(event.tool)}", style="bold")
        head.append(" fails " if event.is_error else " answers ", style="red" if event.is_error else "dim")
        head.append(f"in {event.seconds:.2f} s: ", style="dim")
        head.append(one_line(event.text, _RESULT_WIDTH))
        self._console.print(head)

    def _print(self, head: Text, body: str) -> None:
        self._console.print(head)
        self._console.print(Padding(Text(body), (0, 0, 0, 5)))

    def _colour(self, name: str) -> str:
        return self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])


def _tail(text: str) -> str:
    return "\n".join(clean(text).splitlines()[-_DRAFT_LINES:])
