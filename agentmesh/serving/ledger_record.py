"""What the ledger holds, for hosts: dialogues that ended before this process began, entries, transcripts, evidence.

Everything here reads the disk and is to be called in a thread.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

from agentmesh.recorder import HOST
from agentmesh.serving.answers import DialogueAnswer, ended_answer
from agentmesh.serving.verification import Evidence, damaged, shown_evidence
from agentmesh.toolbox.results import clean
from agentmesh.view.dialogue import entry_text
from agentmesh.view.record import agent_name, dialogue_entries
from agentmesh_ledger import LedgerError, Record, verify_transcript
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.text import is_dialogue, shown

# How a reply was made is for auditors: the transcript and the single entry have it.
_BEHIND_THE_SCENES = frozenset({"inference", "key.register"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The evidence, or the failures that stand in its place; `text` is all of it for people."""

    evidence: Evidence
    text: str


def past_answer(log: Ledger, dialogue: str) -> DialogueAnswer:
    """What became of a dialogue that only the ledger knows.

    Raises:
        LedgerError: `not_found`, or it is not as it was signed.
    """
    require_id(dialogue)
    names = log.names()
    says: list[tuple[str, bool]] = []
    last: Record | None = None
    for record in log.read(dialogue=dialogue):
        last = record
        if record.message.kind == "say":
            to = [agent_name(names, agent) for agent in record.message.to]
            says.append((_part(record, "text"), HOST in to))
    if last is None or last.message.kind != "close":
        return DialogueAnswer(
            answer=clean(says[-1][0]) if says else "",
            state="open",
            dialogue=dialogue,
            note="This dialogue was never closed, and it does not run here",
        )
    reason = str(last.message.facts.get("reason"))
    final = [text for text, to_host in says if to_host] if reason == "done" else []
    answer = " ".join(final) or (says[-1][0] if says else "")
    return ended_answer(dialogue, reason=reason, detail=_part(last, "detail"), answer=answer)


def dialogue_text(log: Ledger, dialogue: str) -> str:
    """A dialogue as people read it. Raises: LedgerError."""
    require_id(dialogue)
    entries = dialogue_entries(log, dialogue)
    return "\n".join(entry_text(each) for each in entries if each.kind not in _BEHIND_THE_SCENES)


def transcript(log: Ledger, dialogue: str) -> str:
    """A dialogue as the file that an auditor verifies alone. Raises: LedgerError."""
    require_id(dialogue)
    out = BytesIO()
    log.export(out, dialogue=dialogue)
    return out.getvalue().decode()


def entry_json(log: Ledger, index: int) -> str:
    """One entry with its proof: what was signed, what content there still is. Raises: LedgerError."""
    if not 0 <= index < log.size:
        raise LedgerError("not_found", f"the log has no entry {index}")
    record = next(log.read(index, index + 1))
    message, names = record.message, log.names()
    value = {
        "index": index,
        "kind": message.kind,
        "dialogue": message.dialogue,
        "author": {"id": message.author, "name": agent_name(names, message.author)},
        "to": [{"id": each, "name": agent_name(names, each)} for each in message.to],
        "reply_to": message.reply_to,
        "time": message.time,
        "facts": dict(message.facts),
        "parts": [
            {
                "name": part.name,
                "type": part.type,
                "size": part.size,
                "hash": part.hash.hex(),
                "text": None if part.data is None else part.data.decode("utf-8", "replace"),
            }
            for part in record.parts
        ],
        "leaf_hash": record.leaf_hash.hex(),
        "entry": base64.b64encode(record.entry).decode(),
        "proof": log.prove(index, with_entry=False),
    }
    return json.dumps(value, ensure_ascii=False, indent=1)


def verify(log: Ledger, dialogue: str, progress: Callable[[int, int], None]) -> Found:
    """The evidence that the whole log gives, or one dialogue of it; damage is a finding and no exception.

    Raises:
        LedgerError: there is no such dialogue, or the ledger cannot be read.
    """
    try:
        if not dialogue:
            found, what = log.verify(progress=progress), "the whole ledger"
        else:
            what = f"dialogue {dialogue}"
            found = verify_transcript(BytesIO(transcript(log, dialogue).encode()), progress=progress)
    except LedgerError as error:
        if not error.is_check:
            raise
        what = f"dialogue {shown(dialogue)}" if dialogue else "the whole ledger"
        return Found(evidence=damaged(error, what), text=_failure_text(error, what))
    evidence, text = shown_evidence(found, what)
    return Found(evidence=evidence, text=text)


def require_id(dialogue: str) -> None:
    """Refuses what cannot be a dialogue's id.

    Raises:
        LedgerError: `not_found`.
    """
    if not is_dialogue(dialogue):
        raise LedgerError("not_found", f"there is no dialogue {shown(dialogue, 80)}")


def _part(record: Record, name: str) -> str:
    for part in record.parts:
        if part.name == name:
            return "(withheld)" if part.data is None else part.data.decode("utf-8", "replace")
    return ""


def _failure_text(error: LedgerError, what: str) -> str:
    lines = [f"NOT VERIFIED: {what} is damaged or was altered."]
    lines += [f"{each.reason}: {each}" for each in (error, *error.others)]
    if error.more:
        lines.append("There are more failures.")
    lines.append("complete: nothing can be said while it is not intact")
    return clean("\n".join(lines))
