"""What an auditor keeps of a log between visits: the checkpoints seen, and where its checks stood.

The file is the auditor's own word. It is what a log that shows other histories to other people is caught by.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import JsonValue, canonical, parse
from agentmesh_ledger.source import open_file, read_note

FORMAT: Final = "agentmesh-audit/v1"
MAX_STATE: Final = 512 * 1024 * 1024
_START: Final = b'{"checks":'
_AGAIN: Final = "Restore it from a copy, or remove it and verify the log from its start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An audit under way or done.

    `seen` is the note of the newest checkpoint that the log showed: what it must continue for ever after.
    `verified` is the note of the last one whose entries were verified to the end; None before the first.
    `checks` is where the checks of the entries stand (`LogChecks.state`), or None before the first entry.
    """

    seen: str
    verified: str | None
    checks: JsonValue


def read_kept(path: Path) -> Kept | None:
    """The audit in a state file; None where there is no file yet.

    Raises: LedgerError(unreadable).
    """
    try:
        with open_file(path) as stream:
            data = stream.read(MAX_STATE + 1)
    except LedgerError as error:
        if error.reason == "not_found":
            return None
        raise
    except OSError as error:
        raise LedgerError(
            "unreadable", f"the state file cannot be read: {error.strerror}", path=str(path)
        ) from error
    try:
        return _parse(data)
    except LedgerError as error:
        # Not a check of the log: a bit that fell over on the auditor's disk must accuse nobody.
        raise LedgerError(
            "unreadable", f"the state file is damaged: {error.message}", path=str(path), hint=_AGAIN
        ) from error


def write_kept(path: Path, kept: Kept) -> None:
    """Replaces the state file; a crash leaves the old one or the new one.

    Raises: LedgerError(failed).
    """
    body: dict[str, JsonValue] = {
        "checks": kept.checks,
        "format": FORMAT,
        "seen": kept.seen,
        "verified": kept.verified,
    }
    data = canonical({**body, "digest": _digest(body)}) + b"\n"
    target = path.resolve()  # a link stays one
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new")
    try:
        try:
            handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(handle)
            os.replace(draft, target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise LedgerError(
            "failed", f"the state file cannot be written: {error.strerror}", path=str(path)
        ) from error


def kept_note(path: str) -> str:
    """The note of a checkpoint that was kept: the text of a checkpoint file, or that in a state file.

    Raises: LedgerError(not_found, unreadable), and `consistency` where it is neither.
    """
    with open_file(path) as stream:
        start = stream.peek(len(_START))[: len(_START)]
    if start != _START:
        return read_note(path)
    kept = read_kept(Path(path))
    if kept is None:
        raise LedgerError("not_found", "there is no such file", path=path)
    if kept.verified is None:
        raise LedgerError("unreadable", "the state holds no checkpoint verified to its end", path=path)
    return kept.verified


def _parse(data: bytes) -> Kept:
    if len(data) > MAX_STATE or not data.endswith(b"\n"):
        raise LedgerError("canonical", "it is cut off or too long")
    value = parse(data[:-1])
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise LedgerError("canonical", f"its format is not {FORMAT}")
    if set(value) != {"checks", "digest", "format", "seen", "verified"}:
        raise LedgerError("canonical", "its fields are not those of a state")
    digest = value.pop("digest")
    seen, verified = value["seen"], value["verified"]
    if digest != _digest(value) or not isinstance(seen, str) or not isinstance(verified, str | None):
        raise LedgerError("canonical", "it was changed since it was written")
    return Kept(seen=seen, verified=verified, checks=value["checks"])


def _digest(body: dict[str, JsonValue]) -> str:
    return hashlib.sha256(canonical(body)).hexdigest()
