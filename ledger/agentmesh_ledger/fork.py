"""Proof that a log was forked: two checkpoints under one key, of which neither continues the other.

The file needs no word of whoever shows it: both notes are signed by the log, and the rest is hashes. Only which key is the log's
is its own word, until the reader names it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentmesh_ledger.checkpoint import Checkpoint, open_checkpoint
from agentmesh_ledger.durable import create_file
from agentmesh_ledger.encoding import decode_hash
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import canonical, parse
from agentmesh_ledger.note import MAX_NOTE, MAX_VKEY, VerifierKey, parse_note, parse_vkey
from agentmesh_ledger.text import shown
from agentmesh_ledger.tree import MAX_PROOF, parent, verify_consistency

FORMAT: Final = "agentmesh-fork/v1"
MOST_KEYS: Final = 16
# A character of a note takes at most six bytes of JSON.
MAX_FORK: Final = 2 * 6 * MAX_NOTE + 128 * MAX_PROOF + MOST_KEYS * MAX_VKEY
MOST_KEPT: Final = 16
_FIELDS: Final = frozenset({"first", "format", "proof", "root", "second", "vkeys"})
_DRAFT: Final = ".note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """What a proof file says; nothing of it is believed yet.

    `root` is that of the second tree at the first one's size, and `proof` the consistency proof from there to the
    second tree; between equal sizes it is the second root, and the proof is empty. `vkeys` are those that signed both; a file names one at least.
    """

    first: str
    second: str
    root: bytes
    proof: tuple[bytes, ...]
    vkeys: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The bytes of the proof file (SPEC L-120)."""
        return canonical(
            {
                "first": self.first,
                "format": FORMAT,
                "proof": [each.hex() for each in self.proof],
                "root": self.root.hex(),
                "second": self.second,
                "vkeys": list(self.vkeys),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked:
    """A log that was forked: `keys` signed both checkpoints, and the second tree begins with `root`, not the first's."""

    first: Checkpoint
    second: Checkpoint
    root: bytes
    keys: tuple[VerifierKey, ...]

    @property
    def origin(self) -> str:
        """The log's name."""
        return self.first.origin


def fork_between(
    first: str, second: str, *, root: bytes, proof: tuple[bytes, ...], keys: Sequence[VerifierKey]
) -> Fork:
    """The proof of these two notes, which names those of the keys that signed both.

    Raises: LedgerError(checkpoint) for a note that is malformed, or has a signature by one of the keys that does not hold.
    """
    again = parse_note(second).verified_by(keys)
    both = [str(key) for key in parse_note(first).verified_by(keys) if key in again]
    return Fork(first=first, second=second, root=root, proof=proof, vkeys=tuple(both[:MOST_KEYS]))


def parse_fork(data: bytes) -> Fork:
    """A proof file taken apart (SPEC L-120).

    Raises: LedgerError(fork), and nothing else, whatever the bytes.
    """
    if len(data) > MAX_FORK:
        raise LedgerError("fork", f"the proof is longer than {MAX_FORK} bytes")
    try:
        value = parse(data)
    except LedgerError as error:
        raise LedgerError("fork", f"the proof of a fork is malformed: {error.message}") from error
    if not isinstance(value, dict) or set(value) != _FIELDS or value["format"] != FORMAT:
        raise LedgerError("fork", f"this is no {FORMAT}")
    first, second, root, proof = (value[name] for name in ("first", "second", "root", "proof"))
    if not isinstance(first, str) or not isinstance(second, str) or not isinstance(root, str):
        raise LedgerError("fork", "a field of the proof is not a text")
    if not isinstance(proof, list) or len(proof) > MAX_PROOF:
        raise LedgerError("fork", f"the proof is not a list of at most {MAX_PROOF} hashes")
    vkeys = value["vkeys"]
    if (
        not isinstance(vkeys, list)
        or not 0 < len(vkeys) <= MOST_KEYS
        or len({str(each) for each in vkeys}) != len(vkeys)
    ):
        raise LedgerError("fork", f"the proof does not name 1 to {MOST_KEYS} different keys of the log")
    return Fork(
        first=first,
        second=second,
        vkeys=tuple(each if isinstance(each, str) else "" for each in vkeys),
        root=decode_hash(root, "fork", "the root"),
        proof=tuple(
            decode_hash(each if isinstance(each, str) else "", "fork", "a hash of the proof")
            for each in proof
        ),
    )


def verify_fork(fork: Fork, keys: Sequence[VerifierKey] = ()) -> Forked:
    """Shows that the log forked: that one key signed both, and that they contradict one another (SPEC L-121, L-122).

    It is one of `keys`; without any it is one that the proof names itself, which anybody can make up.
    Raises: LedgerError(fork, log_key, checkpoint) where they do not.
    """
    named = tuple(map(parse_vkey, fork.vkeys))
    known = tuple(dict.fromkeys((*named, *keys)))
    signed, again = open_checkpoint(fork.first, known), open_checkpoint(fork.second, known)
    first, second = signed.checkpoint, again.checkpoint
    both = tuple(key for key in signed.keys if key in again.keys and (not keys or key in keys))
    if first.origin != second.origin:
        raise LedgerError(
            "fork",
            "these are checkpoints of two logs",
            expected=first.origin,
            found=second.origin,
        )
    for key in named:
        if key not in signed.keys or key not in again.keys:
            raise LedgerError("log_key", f"the proof names a key of {shown(key.name)} that did not sign both")
    if not both:
        raise LedgerError(
            "log_key" if named else "fork",
            "no key that you named signed both checkpoints" if named else "no key signed both checkpoints",
        )
    if first == second:
        raise LedgerError("fork", "this is one checkpoint twice")
    if first.size > second.size:
        raise LedgerError("fork", "the first checkpoint is the larger one")
    try:
        verify_consistency(first.size, second.size, fork.proof, fork.root, second.root)
    except LedgerError as error:
        raise LedgerError(
            "fork", f"the root named is not that of the second tree at {first.size} entries: {error.message}"
        ) from error
    if fork.root == first.root:
        raise LedgerError("fork", "the second checkpoint continues the first one: nothing was forked")
    return Forked(first=first, second=second, root=fork.root, keys=both)


def shown_root(old: int, new: int, proof: Sequence[bytes], new_root: bytes) -> bytes | None:
    """The root at size `old` that a consistency proof to a tree of `new` shows, where it leads to `new_root`.

    None where it leads elsewhere, and where `old` is a power of two: such a proof leaves the old root out, and who has
    not got the tree cannot tell it. For a witness that was shown a proof which does not fit what it holds.
    """
    if not 0 < old < new or old & (old - 1) == 0 or not proof:
        return None
    low, high = old - 1, new - 1
    while low & 1:
        low, high = low >> 1, high >> 1
    first = second = proof[0]
    for node in proof[1:]:
        if high == 0:
            return None
        if low & 1 or low == high:
            first, second = parent(node, first), parent(node, second)
            while not low & 1 and low:
                low, high = low >> 1, high >> 1
        else:
            second = parent(second, node)
        low, high = low >> 1, high >> 1
    return first if high == 0 and second == new_root else None


def keep_fork(folder: Path, stem: str, fork: Fork, size: int) -> Path:
    """Writes a proof as `STEM-SIZE-DIGEST.fork` into the folder, whole or not at all, and gives its place.

    `stem` names the log as a file may, `size` is the first checkpoint's. The same proof is the same file. Of one log at
    most 16 are kept, for nobody needs another: then the place is that of the first.
    Raises: LedgerError(failed).
    """
    data = fork.encode()
    path = folder / f"{stem}-{size}-{hashlib.sha256(data).hexdigest()[:16]}.fork"
    try:
        # Not by a pattern of a shell's: it would count the proofs of `desk-2` as those of `desk`.
        own = re.compile(re.escape(stem) + r"-[0-9]+-[0-9a-f]{16}\.fork")
        kept = sorted(each for each in folder.iterdir() if own.fullmatch(each.name))
        if path not in kept:
            if len(kept) >= MOST_KEPT:
                return kept[0]
            create_file(path, data, draft_suffix=_DRAFT)
    except OSError as error:
        raise LedgerError(
            "failed", f"the proof of the fork cannot be written: {error.strerror}", path=str(path)
        ) from error
    return path
