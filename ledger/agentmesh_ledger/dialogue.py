"""The dialogues of a stored log at a glance, and that none of them lost a message at its ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import AgentId
from agentmesh_ledger.message import LOG_DIALOGUE
from agentmesh_ledger.record import Record, open_entry
from agentmesh_ledger.store.columns import DialogueRow, HeadRow
from agentmesh_ledger.store.rows import Rows
from agentmesh_ledger.text import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogueSummary:
    """A dialogue at a glance. `opened` is its first author's claim of the time; `closed` the stated reason."""

    id: str
    first: int
    last: int
    messages: int
    opened: str
    participants: tuple[AgentId, ...]
    closed: str | None


def summaries(rows: Rows, head: HeadRow) -> tuple[DialogueSummary, ...]:
    """Every dialogue of the log but its own affairs, by first message.

    Each entry of the log is in one of them, and the first and the last of each are those that were signed as
    such; what stands between is looked at when it is read.
    Raises: LedgerError(index, store, sequence, ...) where that is not so.
    """
    found = rows.dialogues(head.log)
    messages = sum(row.messages for row in found)
    if messages != head.size:
        raise LedgerError(
            "index",
            "the ledger has not as many entries as were signed for",
            expected=str(head.size),
            found=str(messages),
        )
    participants = rows.participants(head.log)
    if participants.keys() != {row.dialogue for row in found}:
        raise LedgerError("store", "the entries are said to be of other dialogues than their places are")
    told = [_summary(rows, head.log, row, participants) for row in found]
    return tuple(each for each in told if each.id != LOG_DIALOGUE)


def require_in_dialogue(record: Record, dialogue: str, seq: int) -> None:
    """Holds the columns by which an entry was found against what its author signed.

    Raises: LedgerError(store) with `index` set.
    """
    message = record.message
    if (message.dialogue, message.seq) != (dialogue, seq):
        raise LedgerError(
            "store",
            "the entry stands in another dialogue, or at another place in it, than was signed",
            index=record.index,
            expected=f"{message.dialogue} seq {message.seq}",
            found=f"{shown(dialogue)} seq {seq}",
        )


def _summary(
    rows: Rows, log: int, row: DialogueRow, participants: Mapping[str, Sequence[str]]
) -> DialogueSummary:
    first, last = _one(rows, log, row.first), _one(rows, log, row.last)
    require_in_dialogue(first, row.dialogue, 0)
    require_in_dialogue(last, row.dialogue, row.messages - 1)
    closed = None
    if last.message.kind == "close":
        reason = last.message.facts.get("reason")
        closed = reason if isinstance(reason, str) else "closed"
    return DialogueSummary(
        id=row.dialogue,
        first=row.first,
        last=row.last,
        messages=row.messages,
        opened=first.message.time,
        participants=tuple(AgentId(each) for each in participants[row.dialogue]),
        closed=closed,
    )


def _one(rows: Rows, log: int, index: int) -> Record:
    for row in rows.entries(log, index, index + 1):
        return open_entry(index, row.entry, {})
    raise LedgerError("index", "an entry is missing", index=index)
