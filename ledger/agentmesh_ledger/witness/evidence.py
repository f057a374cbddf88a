"""What a witness keeps of a log that forked: two checkpoints the log signed, and the proof that they exclude one another."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Final
from urllib.parse import quote

from agentmesh_ledger.durable import create_file
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import JsonValue, canonical
from agentmesh_ledger.witness.verdict import Proposal, Seen, shown_root

FORMAT: Final = "agentmesh-fork/v1"
MOST: Final = 16
_DRAFT: Final = ".proof"


class Evidence:
    """A folder of fork proofs, at most 16 of each log: one proves it, and who forks may do so without end (SPEC L-136)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = threading.Lock()

    def keep(self, seen: Seen, proposal: Proposal) -> Path | None:
        """Writes the proof that the log forked; None where the two prove nothing, or nothing more is kept.

        Raises: LedgerError(failed).
        """
        found = fork_proof(seen, proposal)
        if found is None:
            return None
        data = canonical(found)
        origin = proposal.checkpoint.origin
        # The digest keeps apart origins that are equal as far as a file name goes, in the count as well.
        beginning = f"{quote(origin, safe='')[:80]}-{hashlib.sha256(origin.encode()).hexdigest()[:8]}-"
        path = self._folder / f"{beginning}{hashlib.sha256(data).hexdigest()[:16]}.fork"
        try:
            with self._turn:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if sum(each.name.startswith(beginning) for each in self._folder.iterdir()) >= MOST:
                    return None
                return path if create_file(path, data, draft_suffix=_DRAFT) else None
        except OSError as error:
            raise LedgerError(
                "failed", f"the proof cannot be written: {error.strerror}", path=str(path)
            ) from error


def fork_proof(seen: Seen, proposal: Proposal) -> JsonValue | None:
    """The proof as JSON; None where the two checkpoints may both be of one log, or nothing at hand shows otherwise."""
    old, new = seen.checkpoint, proposal.checkpoint
    root: bytes | None = None
    proof: tuple[bytes, ...] = ()
    if new.size == old.size:
        root = new.root
    elif proposal.old == old.size:
        proof = proposal.proof
        root = shown_root(old.size, new.size, proof, new.root)
    if root is None or root == old.root:
        return None
    return {
        "first": seen.note,
        "format": FORMAT,
        "proof": [each.hex() for each in proof],
        "root": root.hex(),
        "second": proposal.note,
    }
