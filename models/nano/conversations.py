"""One turn of a conversation."""

from __future__ import annotations

from typing import NamedTuple


class Turn(NamedTuple):
    """Who says what; `label` names what the turn trains, and is empty for turns nano does not write."""

    role: str
    text: str
    label: str = ""


def render(turns: list[Turn]) -> str:
    """The conversation in ChatML."""
    return "".join(f"<|im_start|>{turn.role}\n{turn.text}<|im_end|>\n" for turn in turns)
