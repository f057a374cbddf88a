"""What a witness keeps of a log that forked: two checkpoints the log signed, and the proof that they exclude one another."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.fork import Fork, fork_between, keep_fork, shown_root
from agentmesh_ledger.note import VerifierKey
from agentmesh_ledger.witness.verdict import Proposal, Seen


class Evidence:
    """A folder of fork proofs, a bounded number of each log: whoever forks may do so without end (SPEC L-136)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = threading.Lock()
        self._kept: set[Path] = set()

    def keep(self, seen: Seen, proposal: Proposal, keys: Sequence[VerifierKey]) -> Path | None:
        """Writes the proof that the log, which has these keys, forked; None where the two prove nothing, or nothing new.

        Raises: LedgerError(failed).
        """
        fork = proof_of_fork(seen, proposal, keys)
        if fork is None:
            return None
        stem = quote(proposal.checkpoint.origin, safe="")[:150]  # a file's name has 255 bytes
        with self._turn:
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise LedgerError(
                    "failed", f"the folder of proofs cannot be made: {error.strerror}", path=str(self._folder)
                ) from error
            path = keep_fork(self._folder, stem, fork, seen.checkpoint.size)
            is_new = path not in self._kept
            self._kept.add(path)
        return path if is_new else None


def proof_of_fork(seen: Seen, proposal: Proposal, keys: Sequence[VerifierKey]) -> Fork | None:
    """The proof that the log forked; None where both checkpoints may be of one log, or nothing at hand shows otherwise."""
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
    fork = fork_between(seen.note, proposal.note, root=root, proof=proof, keys=keys)
    return fork if fork.vkeys else None  # its keys may have changed in between
