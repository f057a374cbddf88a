"""How a run ended, and how whoever reads it can check it."""

from __future__ import annotations

import shlex
from pathlib import Path

from agentmesh.events import Ended
from agentmesh.locations import OWN_FOLDER
from agentmesh.view.text import clean, count
from agentmesh_ledger.source import is_database


def ending_text(ended: Ended, keys: Path) -> str:
    """How it ended, where the record is, and the two commands that verify it and hand it on.

    `keys` is the folder of the log's keys, where its cosignatures are too.
    """
    where = near(ended.ledger)
    log = ""
    if is_database(ended.ledger):
        # It may be shared by many logs, and has no folder for their keys: both are then to be said.
        folder = near(str(keys))
        log = f" --origin {shlex.quote(ended.origin)}"
        log += f" --keys {shlex.quote(folder)}" if Path(folder) != Path(OWN_FOLDER, "keys") else ""
    lines = [
        (
            f"{_how(ended)} {count(ended.messages, 'message')}, {count(ended.tool_calls, 'tool call')}, "
            f"{_tokens(ended)}, {ended.seconds:.1f} s."
        ),
        f"Record: {where} (dialogue {clean(ended.dialogue)}). Verify it, or hand it to someone who will:",
        f"  agentmesh verify {shlex.quote(where)}{log}",
        (
            f"  agentmesh export {shlex.quote(ended.dialogue)} --ledger {shlex.quote(where)}{log} "
            f"-o {shlex.quote(ended.dialogue)}.transcript.jsonl"
        ),
    ]
    return "\n".join(lines)


def _tokens(ended: Ended) -> str:
    """`391 tokens made at 45.2/s of decoding (1,204 evaluated, 3,310 reused)`."""
    made = f"{count(ended.tokens, 'token')} made"
    if ended.tokens_per_second:
        made += f" at {ended.tokens_per_second:,.1f}/s of decoding"
    return f"{made} ({ended.evaluated_tokens:,} evaluated, {ended.reused_tokens:,} reused)"


def near(place: str) -> str:
    """The place as one would type it here: a path that lies below the current folder is relative."""
    if is_database(place):
        return place
    try:
        return str(Path(place).absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return place


def _how(ended: Ended) -> str:
    detail = f": {clean(ended.detail)}" if ended.detail else ""
    match ended.reason:
        case "done":
            return "Done."
        case "cancelled":
            return "Cancelled; what was said until then is in the record."
        case "failed":
            return f"Failed{detail}."
        case reason:
            return f"Ended at a limit ({reason}){detail}."
