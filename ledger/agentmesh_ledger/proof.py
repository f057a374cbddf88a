"""`.tlog-proof` files, https://c2sp.org/tlog-proof: one entry shown to be in a log, offline.

The `extra` line carries the entry itself where the maker wants one file to hold all. Nobody signed that
line; it is believed only because its leaf hash leads to the root that the log signed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agentmesh_ledger.checkpoint import open_checkpoint, parse_checkpoint
from agentmesh_ledger.encoding import decode64, encode64
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import MAX_INTEGER
from agentmesh_ledger.note import parse_note, parse_vkey
from agentmesh_ledger.policy import Policy, PolicyEvidence, trusted_checkpoint
from agentmesh_ledger.record import Record, open_entry
from agentmesh_ledger.text import shown
from agentmesh_ledger.tree import HASH_SIZE, MAX_PROOF, LeafHash, leaf_hash, verify_inclusion

MAX_PROOF_FILE: Final = 512 * 1024  # bytes: a note of 64 Ki characters, an entry in base64, 63 hashes
_FIRST: Final = "c2sp.org/tlog-proof@v1"
_EXTRA: Final = "extra "
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,15})\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlogProof:
    """A proof file as read: nothing of it is believed yet. `note` is the checkpoint, verbatim."""

    index: int
    hashes: tuple[bytes, ...]
    note: str
    extra: bytes | None

    def __str__(self) -> str:
        lines = [_FIRST]
        if self.extra:
            lines.append(_EXTRA + encode64(self.extra))
        lines += [f"index {self.index}", *map(encode64, self.hashes), ""]
        return "\n".join(lines) + "\n" + self.note


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofEvidence:
    """An entry that stands at `index` of the tree of a checkpoint that a trusted key signed.

    `record` is the entry as a message, its author's signature checked, where the entry was at hand; with a bare
    leaf hash it is None. Parts in it are withheld. `policy` says which witnesses signed, where one was given.
    """

    index: int
    leaf: LeafHash
    origin: str
    tree_size: int
    root: str
    log_keys: tuple[str, ...]
    policy: PolicyEvidence | None
    record: Record | None


def make_proof(
    index: int,
    leaf: LeafHash,
    hashes: Sequence[bytes],
    *,
    note: str,
    keys: Sequence[str],
    extra: bytes | None = None,
) -> str:
    """The text of a proof file (SPEC L-39), verified before it is handed out.

    `hashes` is the inclusion proof in the tree of the note's checkpoint, `extra` the entry where the file shall
    carry it, `keys` the log's vkeys.
    Raises: LedgerError(inclusion, checkpoint, log_key).
    """
    head = open_checkpoint(note, tuple(map(parse_vkey, keys))).checkpoint
    verify_inclusion(index, head.size, leaf, hashes, head.root)
    text = str(TlogProof(index=index, hashes=tuple(hashes), note=note, extra=extra))
    if len(text.encode("utf-8")) > MAX_PROOF_FILE:
        raise LedgerError("too_large", f"the proof is larger than {MAX_PROOF_FILE} bytes")
    return text


def parse_proof(text: str) -> TlogProof:
    """A proof file taken apart (SPEC L-39).

    Raises: LedgerError(proof, checkpoint).
    """
    if len(text) > MAX_PROOF_FILE:
        raise LedgerError("proof", f"the proof is longer than {MAX_PROOF_FILE} characters")
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or lines.pop(0) != _FIRST:
        raise LedgerError("proof", f"the file is not a {_FIRST}", line=1)
    extra: bytes | None = None
    if lines and lines[0].startswith(_EXTRA):
        extra = decode64(lines.pop(0).removeprefix(_EXTRA), "proof", "the extra data")
        if not extra:
            raise LedgerError("proof", "there is an extra line with nothing in it", line=2)
    found = _INDEX.match(lines.pop(0)) if lines else None
    if found is None or int(found[1]) > MAX_INTEGER:
        raise LedgerError("proof", "the proof does not say its index")
    if len(lines) > MAX_PROOF:
        raise LedgerError("proof", f"the proof has more than {MAX_PROOF} hashes")
    hashes = tuple(decode64(line, "proof", "a hash of the proof") for line in lines)
    if any(len(each) != HASH_SIZE for each in hashes):
        raise LedgerError("proof", f"a hash of the proof is not {HASH_SIZE} bytes")
    parse_checkpoint(parse_note(note).text)
    return TlogProof(index=int(found[1]), hashes=hashes, note=note, extra=extra)


def verify_proof(
    text: str,
    *,
    entry: bytes | None = None,
    leaf: LeafHash | None = None,
    keys: Sequence[str] = (),
    policy: Policy | None = None,
) -> ProofEvidence:
    """The evidence that a proof file gives.

    What it is about: `entry`, an entry of a log of this format; or `leaf`, the leaf hash of whatever stands in
    any log; or, with neither, the entry in the proof's extra line. `keys` are vkeys of the log; without them the
    policy must name it.
    Raises: LedgerError.
    """
    proof = parse_proof(text)
    trusted = trusted_checkpoint(proof.note, tuple(map(parse_vkey, keys)), policy)
    head = trusted.signed.checkpoint
    if entry is None and leaf is None:
        entry = proof.extra
    if entry is not None and leaf is None:
        leaf = leaf_hash(entry)
    if leaf is None:
        raise LedgerError("proof", "the proof does not carry its entry", hint="Bring the entry")
    if entry is not None and leaf != leaf_hash(entry):
        raise LedgerError("inclusion", "the leaf hash is not that of the entry", index=proof.index)
    try:
        verify_inclusion(proof.index, head.size, leaf, proof.hashes, head.root)
    except LedgerError as error:
        error.locate(index=proof.index)
        raise
    return ProofEvidence(
        index=proof.index,
        leaf=leaf,
        origin=head.origin,
        tree_size=head.size,
        root=head.root.hex(),
        log_keys=tuple(str(key) for key in trusted.signed.keys),
        policy=trusted.policy,
        record=None if entry is None else _own_entry(proof.index, entry, head.origin),
    )


def _own_entry(index: int, entry: bytes, origin: str) -> Record:
    record = open_entry(index, entry, {})
    if record.message.log != origin:
        raise LedgerError(
            "chain",
            "the entry was signed for another log",
            index=index,
            expected=origin,
            found=shown(record.message.log),
        )
    return record
