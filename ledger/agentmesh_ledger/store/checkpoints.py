"""A stored log as its witnesses are shown it, and what they sign kept beside its key."""

from __future__ import annotations

from collections.abc import Sequence

from agentmesh_ledger.checkpoint import Checkpoint, open_checkpoint
from agentmesh_ledger.cosigned import CosignedNote
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.fork import Fork
from agentmesh_ledger.gather import Gathered, gather, held_lines
from agentmesh_ledger.keys import KeyStore
from agentmesh_ledger.note import VerifierKey, parse_note, parse_vkey
from agentmesh_ledger.policy import Policy
from agentmesh_ledger.store.audit import choose_head, open_head, require_continued
from agentmesh_ledger.store.contract import Store
from agentmesh_ledger.store.nodes import tree_of


class StoredCheckpoints:
    """A source of checkpoints and proofs for `gather`: a log in a database, as it stands at each call."""

    def __init__(self, store: Store, origin: str, vkey: str, keys: KeyStore) -> None:
        self._store = store
        self._origin = origin
        self._keys = keys
        self.keys: tuple[VerifierKey, ...] = (parse_vkey(vkey),)

    def checkpoint(self) -> str:
        """The newest note, held against the other columns of its row."""
        with self._store.reading() as rows:
            head = choose_head(rows.heads(), self._origin, self._store.place)
        open_head(head)
        return head.checkpoint

    def root(self, size: int) -> bytes:
        """The root of the log's first `size` entries, from its tiles."""
        with self._store.reading() as rows:
            return tree_of(rows, choose_head(rows.heads(), self._origin, self._store.place)).root(size)

    def consistency(self, old: int, new: int) -> Sequence[bytes]:
        """The proof between two sizes, from the log's tiles."""
        with self._store.reading() as rows:
            head = choose_head(rows.heads(), self._origin, self._store.place)
            return tree_of(rows, head).consistency(old, new)

    def keep(self, fork: Fork, size: int) -> str:
        """Puts the proof beside the log's key."""
        return str(self._keys.keep_fork(self._origin, fork, size))

    def continues(self, old: Checkpoint) -> bool:
        """Whether the log begins with the tree of this checkpoint."""
        with self._store.reading() as rows:
            head = choose_head(rows.heads(), self._origin, self._store.place)
            return old.size <= head.size and tree_of(rows, head).root(old.size) == old.root

    def own(self, cosigned: CosignedNote, *, strict: bool = False) -> str | None:
        """The note that was kept, where it is of this log as it stands.

        Raises: where `strict`, LedgerError(rollback, consistency) for one that is not; (key, unreadable, store).
        """
        try:
            note = cosigned.text()
            if note is None:
                return None
            if not self.continues(open_checkpoint(note, self.keys).checkpoint):
                if strict:
                    with self._store.reading() as rows:
                        head = choose_head(rows.heads(), self._origin, self._store.place)
                        require_continued(rows, head, note, self.keys)
                return None
        except LedgerError as error:
            if error.reason in ("checkpoint", "log_key"):
                return None
            raise
        return note


def gather_and_keep(
    source: StoredCheckpoints,
    cosigned: CosignedNote,
    policy: Policy,
    *,
    within: float,
    seen: dict[str, int],
    patient: bool,
) -> Gathered:
    """Gathers for the newest checkpoint and keeps what was signed; `seen` as `gather` has it.

    Raises: LedgerError as `gather`, and (failed) where the note cannot be kept.
    """
    held = source.own(cosigned)
    if held is not None:
        _learn(held, source.keys, policy, seen)
    found = gather(source, policy, within=within, seen=seen, held=held, patient=patient)
    if len(parse_note(found.note).signatures) > len(source.keys):
        cosigned.keep(found.note, source.keys, policy, is_ours=source.continues)
    return found


def _learn(note: str, keys: Sequence[VerifierKey], policy: Policy, seen: dict[str, int]) -> None:
    """What the witnesses hold, by the note they signed last; so they need not be asked first."""
    checkpoint = open_checkpoint(note, keys).checkpoint
    for key in held_lines(note, checkpoint.text, policy):
        seen.setdefault(str(key), checkpoint.size)
