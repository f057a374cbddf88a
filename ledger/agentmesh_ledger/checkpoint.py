"""A tree head as C2SP tlog-checkpoint: origin, size and root, under the log key's signature."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agentmesh_ledger.encoding import decode64, encode64
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import MAX_INTEGER
from agentmesh_ledger.note import NoteSigner, VerifierKey, parse_note, sign_note
from agentmesh_ledger.text import is_origin, shown

_SIZE: Final = re.compile(r"(0|[1-9][0-9]{0,15})\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The log's word that its first `size` entries have this root."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The note's text (SPEC L-43)."""
        return f"{self.origin}\n{self.size}\n{encode64(self.root)}\n"

    def sign(self, signer: NoteSigner) -> str:
        """The signed note; the signer's name is the origin."""
        return sign_note(self.text, signer)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A checkpoint whose note carries a good signature of each of `keys`."""

    checkpoint: Checkpoint
    keys: tuple[VerifierKey, ...]


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint of a note's text, which has exactly three lines (SPEC L-43).

    Raises: LedgerError(checkpoint).
    """
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        raise LedgerError("checkpoint", "a checkpoint has exactly three lines: origin, size and root")
    origin, size, root = lines[:3]
    if not is_origin(origin):
        raise LedgerError("checkpoint", f"{shown(origin)!r} is not an origin")
    if not _SIZE.match(size) or int(size) > MAX_INTEGER:
        raise LedgerError("checkpoint", f"{shown(size)!r} is not a tree size")
    data = decode64(root, "checkpoint", "the checkpoint's root")
    if len(data) != 32:
        raise LedgerError("checkpoint", "the checkpoint's root is not 32 bytes")
    return Checkpoint(origin=origin, size=int(size), root=data)


def open_checkpoint(note: str, keys: Sequence[VerifierKey]) -> SignedCheckpoint:
    """The checkpoint of a note signed by at least one of these log keys (SPEC L-42, L-44).

    Raises: LedgerError(checkpoint, log_key).
    """
    parsed = parse_note(note)
    checkpoint = parse_checkpoint(parsed.text)
    good = tuple(key for key in parsed.verified_by(keys) if key.name == checkpoint.origin)
    if not good:
        raise LedgerError(
            "log_key",
            f"no key at hand signed the checkpoint of {checkpoint.origin}",
            expected=", ".join(shown(f"{key.name}+{key.key_id.hex()}") for key in keys) or "a key",
            found=", ".join(shown(f"{each.name}+{each.key_id.hex()}") for each in parsed.signatures[:4]),
        )
    return SignedCheckpoint(checkpoint=checkpoint, keys=good)
