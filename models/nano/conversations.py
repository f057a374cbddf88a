"""One turn of a conversation, and conversations that begin alike as one tree."""

from __future__ import annotations

from typing import NamedTuple


class Turn(NamedTuple):
    """Who says what; `label` names what the turn trains, and is empty for turns nano does not write.

    With `fresh`, the turn follows the first one, as if nothing stood between: the list is then several conversations
    that share their beginning.
    """

    role: str
    text: str
    label: str = ""
    fresh: bool = False


def render(turns: list[Turn]) -> str:
    """The conversation in ChatML."""
    return "".join(f"<|im_start|>{turn.role}\n{turn.text}<|im_end|>\n" for turn in turns)
