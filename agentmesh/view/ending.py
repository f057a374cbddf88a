"""How a run ended, and how whoever reads it can check it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from agentmesh.events import Ended
from agentmesh.view.text import clean, count


def ending_text(ended: Ended) -> str:
    """How it ended, where the record is, and the two commands that verify it and hand it on."""
    where = near(Path(ended.ledger))
    lines = [
        (
            f"{_how(ended)} {count(ended.messages, 'message')}, {count(ended.tool_calls, 'tool call')}, "
            f"{count(ended.tokens, 'token')}, {ended.seconds:.1f} s."
        ),
        f"Record: {where} (dialogue {clean(ended.dialogue)}). Verify it, or hand it to someone who will:",
        f"  agentmesh verify {shlex.quote(where)}",
        (
            f"  agentmesh export {shlex.quote(ended.dialogue)} --ledger {shlex.quote(where)} "
            f"-o {shlex.quote(ended.dialogue)}.transcript.jsonl"
        ),
    ]
    return "\n".join(lines)


def near(path: Path) -> str:
    """The path as one would type it here: relative where it lies below the current folder."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return os.fspath(path)


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
