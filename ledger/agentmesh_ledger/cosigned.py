"""The file `logs/ORIGIN.cosigned`: the newest checkpoint of a log with the cosignatures gathered for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from agentmesh_ledger.checkpoint import Checkpoint, open_checkpoint
from agentmesh_ledger.cosignature import cosignatures
from agentmesh_ledger.durable import exclusive, open_plain, replace_file
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.note import MAX_NOTE, VerifierKey, parse_note
from agentmesh_ledger.policy import Policy

_DRAFT: Final = ".note"
_LIMIT: Final = 4 * MAX_NOTE  # bytes of a note, each character of which may take four


class CosignedNote:
    """A note beside the log's key, not in the database, whose tables have no place for what is not signed by its log.

    Nothing in it is believed: whoever reads it holds it to the log's key and the witnesses'. It is written only where
    each of its signatures held. A crash leaves the old note or the new one (SPEC L-127).
    """

    def __init__(self, path: Path, folder: Path) -> None:
        """`folder` is the key store's, under whose lock all files in it change."""
        self.path = path
        self._lock = folder / ".lock"

    def text(self) -> str | None:
        """The note as it stands there, damaged perhaps; None where nothing was gathered yet.

        Raises: LedgerError(key, unreadable).
        """
        try:
            handle = open_plain(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            with os.fdopen(handle, "rb") as file:
                data = file.read(_LIMIT + 1)
        except OSError as error:
            raise self._unreadable(error) from error
        # What is no UTF-8, or too long, is no note either way; whoever opens it says so.
        return data.decode("utf-8", "replace")

    def keep(
        self,
        note: str,
        keys: Sequence[VerifierKey],
        policy: Policy,
        *,
        is_ours: Callable[[Checkpoint], bool],
    ) -> bool:
        """Puts the note there, unless what stands there serves the policy better; whether it did.

        A note that meets the policy gives way only to one that does as well and is not smaller. `is_ours` says whether the
        log continues a checkpoint: one it does not continue gives way to any that does as well.
        Raises: LedgerError(checkpoint, log_key, refused) where a signature in the note is nobody's, or does not hold;
            (failed, key).
        """
        _require_sound(note, keys, policy)
        size = open_checkpoint(note, keys).checkpoint.size
        try:
            with exclusive(self._lock):
                found = self._standing(keys, policy)
                if found is not None:
                    met = _is_met(note, keys, policy)
                    # Also where the log does not continue it: then it is what shows here that the log was rolled back.
                    if found[1] and not met:
                        return False
                    if found[1] == met and found[0].size > size and is_ours(found[0]):
                        return False
                replace_file(self.path, note.encode("utf-8"), draft_suffix=_DRAFT)
        except OSError as error:
            raise LedgerError(
                "failed", f"the cosigned checkpoint cannot be written: {error.strerror}", path=str(self.path)
            ) from error
        return True

    def _standing(self, keys: Sequence[VerifierKey], policy: Policy) -> tuple[Checkpoint, bool] | None:
        """The checkpoint that stands there, and whether it meets the policy; None where there is none of this log."""
        try:
            note = self.text()
            if note is None:
                return None
            return open_checkpoint(note, keys).checkpoint, _is_met(note, keys, policy)
        except LedgerError as error:
            if error.is_check:
                return None  # damaged: whatever was gathered now is better
            raise

    def _unreadable(self, error: OSError) -> LedgerError:
        return LedgerError(
            "unreadable", f"the cosigned checkpoint cannot be read: {error.strerror}", path=str(self.path)
        )


def _is_met(note: str, keys: Sequence[VerifierKey], policy: Policy) -> bool:
    try:
        policy.judge(note, keys=keys)
    except LedgerError as error:
        if error.is_check:
            return False
        raise
    return True


def _require_sound(note: str, keys: Sequence[VerifierKey], policy: Policy) -> None:
    parsed = parse_note(note)
    witnesses = [each.key for each in policy.witnesses if each.key is not None]
    known = {(each.name, each.key_id) for each in open_checkpoint(note, keys).keys}
    known |= {(each.name, each.key_id) for each in witnesses}
    cosignatures(parsed, witnesses)
    if any((each.name, each.key_id) not in known for each in parsed.signatures):
        raise LedgerError(
            "refused", "the note has a signature of neither the log nor a witness of the policy"
        )
