"""A transcript outgrows a model's context: which turns are left out, by a stated rule and never silently.

Whole turns go, the oldest first, until by an estimate the prompt takes three quarters of the context at most and leaves
room for the reply: so that it does not happen again with every turn, and the beginning that agents share changes rarely.
The task, the rules, the agent's own part and the last turn always stay. What goes is recorded before the reply is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agentmesh.events import Compacted
from agentmesh.floor import Turn
from agentmesh.inference import infer
from agentmesh.prompt import Omission, Said, lay_out, size_of, size_of_line, summary_page
from agentmesh.recorder import Summary
from agentmesh_models import ModelError

_SUMMARY_TOKENS: Final = 256
# The ledger places go into one entry, which has a size limit.
_MOST_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """A prompt that does not fit: the tokens it needs and those there are, None where the engine did not say."""

    needed: int | None
    available: int | None

    @classmethod
    def told_by(cls, error: ModelError) -> Lack:
        """What a `context_full` tells."""
        return cls(needed=_number(error.found), available=_number(error.expected))


async def make_room(turn: Turn, lack: Lack) -> bool:
    """Leave out the oldest turns of what the agent reads, and record it. False where none may be left out.

    Raises:
        LimitReached: no tokens are left for a summary.
    """
    floor, page, before = turn.floor, turn.asked.page, turn.left_out
    going = _going(turn, lack) if floor.overflow != "stop" else ()
    if not going:
        return False
    summary, failed = None, None
    if floor.overflow == "summarise":
        try:
            summary = await _summary(turn, going, lack)
        except ModelError as error:
            failed = error
    left_out = before.indices | {said.index for said in going}
    if summary is not None:
        turn.left_out = Omission(indices=left_out, summary=summary.text, summarised=len(left_out))
    else:
        turn.left_out = Omission(indices=left_out, summary=before.summary, summarised=before.summarised)
    dropped = tuple(said.index for said in going)
    receipt = await floor.recorder.compaction(
        floor.overflow,
        dropped,
        model=turn.agent.engine.info.digest,
        needed=lack.needed,
        available=lack.available,
        reply_to=turn.asked.reply_to,
        summary=summary,
        failed=failed.reason if failed else "",
    )
    floor.listen(
        Compacted(
            index=receipt.index,
            agent=page.name,
            rule=floor.overflow,
            dropped=dropped,
            needed=lack.needed,
            available=lack.available,
            summary=summary.text if summary else "",
            failed=str(failed) if failed else "",
        )
    )
    return True


def _going(turn: Turn, lack: Lack) -> tuple[Said, ...]:
    """The oldest turns that must go for the prompt to fit, at least one where one may go."""
    heard = [said for said in turn.asked.page.heard if said.index not in turn.left_out.indices]
    if lack.needed is not None and lack.available is not None:
        needed, available, reply = float(lack.needed), lack.available, turn.agent.spec.max_tokens
    else:  # the engine tells no numbers: the prompt is taken to need a third more than there is
        needed, available, reply = 4.0, 3, 0
    target = max(available / 4, min(available * 3 / 4, available - reply))
    per_character = needed / max(1, size_of(turn.messages, turn.agent.tools_shown))
    going: list[Said] = []
    for said in heard[:-1][:_MOST_AT_ONCE]:
        if going and needed <= target:
            break
        going.append(said)
        needed -= per_character * size_of_line(said)
    return tuple(going)


async def _summary(turn: Turn, going: Sequence[Said], lack: Lack) -> Summary:
    """What the agent's own model makes of the turns that go, and of the summary before. Raises `ModelError`."""
    page = summary_page(turn.asked.page, going, turn.left_out)
    room = lack.available // 8 if lack.available else _SUMMARY_TOKENS
    made = await infer(
        turn,
        lay_out(page, turn.left_out),
        max_tokens=max(1, min(_SUMMARY_TOKENS, room)),
        drafts=False,
    )
    text = made.reply.text.strip()
    if not text:
        raise ModelError("decode_failed", "the model's summary is empty")
    return Summary(text=text, inference=made.index)


def _number(value: str | int | None) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
