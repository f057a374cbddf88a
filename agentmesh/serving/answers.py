"""What a host is told of a dialogue: its state, its answer, what to do next; whole as text and whole as structure.

Some hosts show a model only the one, some only the other.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, ConfigDict, Field

from agentmesh.serving.dialogues import Dialogue
from agentmesh.toolbox.results import clean, one_line

State: TypeAlias = Literal["running", "ended", "open", "none"]
MAX_TASK: Final = 120


class Listed(BaseModel):
    """A dialogue in a list."""

    model_config = ConfigDict(title="Dialogue")

    dialogue: str = Field(description="Its id")
    state: State = Field(description="`running` or `ended`")
    asked: str = Field(description="The agent that was asked; empty where the mesh's own pattern runs")
    task: str = Field(description="The beginning of the task")
    begun: str = Field(description="When it began, in UTC")


class DialogueAnswer(BaseModel):
    """A dialogue's state and what came of it."""

    model_config = ConfigDict(title="Answer")

    answer: str = Field(
        default="", description="The answer, whole; of an unfinished dialogue what was said last"
    )
    state: State = Field(
        description="`running`; `ended`; `open` (recorded, never closed, and not running here); `none` (no id was given)"
    )
    dialogue: str = Field(default="", description="The dialogue's id, for wait_dialogue and stop_dialogue")
    reason: str = Field(default="", description="Why it ended: `done`, `limit_...`, `cancelled` or `failed`")
    note: str = Field(default="", description="What the reader must know of it, or what to do next")
    seconds: float = Field(default=0.0, description="How long it has run")
    dialogues: list[Listed] = Field(
        default_factory=list, description="Where no id was given: what runs and what ended last"
    )


def told(dialogue: Dialogue) -> CallToolResult:
    """What there is to tell of a dialogue now."""
    return result(state_of(dialogue))


def result(value: DialogueAnswer) -> CallToolResult:
    """The answer as a tool's result; an error where there is none and none will come."""
    gone = value.state in ("ended", "open") and value.reason != "done"
    lines = [value.answer] if value.answer else []
    if value.note:
        lines.append(f"[{value.note}]")
    lines += [_line(each) for each in value.dialogues]
    return CallToolResult(
        content=[TextContent(text="\n".join(lines))],
        structured_content=value.model_dump(mode="json"),
        is_error=value.reason == "failed" or (gone and not value.answer),
    )


def state_of(dialogue: Dialogue) -> DialogueAnswer:
    """A dialogue of this server as it stands."""
    if not dialogue.over:
        return DialogueAnswer(
            answer=clean(dialogue.said),
            state="running",
            dialogue=dialogue.id,
            seconds=round(dialogue.seconds, 1),
            note=f"Not finished: call wait_dialogue with dialogue {dialogue.id} for the answer",
        )
    ended = dialogue.ended
    if dialogue.failure:
        return ended_answer(
            dialogue.id, reason="failed", detail=dialogue.failure, answer="", seconds=dialogue.seconds
        )
    if ended is None:  # stopped before it was opened: the record knows nothing of it
        return ended_answer(dialogue.id, reason="cancelled", detail="", answer="")
    return ended_answer(
        dialogue.id, reason=ended.reason, detail=ended.detail, answer=ended.answer, seconds=ended.seconds
    )


def ended_answer(
    dialogue: str, *, reason: str, detail: str, answer: str, seconds: float = 0.0
) -> DialogueAnswer:
    """A dialogue that ended; anything but `done` is said in words."""
    told_detail = f": {one_line(detail)}" if detail else ""
    if reason == "done":
        note = ""
    elif reason.startswith("limit_"):
        note = f"Only a part: the dialogue ended at a limit, {reason}{told_detail}"
    elif reason == "cancelled":
        note = "Only a part: the dialogue was stopped before its end"
    else:
        note = f"The dialogue failed{told_detail}"
    return DialogueAnswer(
        answer=clean(answer),
        state="ended",
        dialogue=dialogue,
        reason=reason,
        note=note,
        seconds=round(seconds, 1),
    )


def listed(dialogue: Dialogue) -> Listed:
    """A dialogue of this server in a list."""
    begun = datetime.fromtimestamp(dialogue.begun, UTC).isoformat(timespec="seconds")
    return Listed(
        dialogue=dialogue.id,
        state="ended" if dialogue.over else "running",
        asked=dialogue.agent or "",
        task=one_line(dialogue.task, limit=MAX_TASK),
        begun=begun,
    )


def _line(each: Listed) -> str:
    asked = f" asked {each.asked}" if each.asked else ""
    return f"{each.dialogue}  {each.state}{asked}  {each.begun}  {each.task}"
