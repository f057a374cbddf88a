"""Cosignatures of witnesses, https://c2sp.org/tlog-cosignature: Ed25519 lines of type 0x04.

A cosignature says: at this time, this was the largest tree of the log that I saw, and each tree I saw before
is its beginning. Lines of other types (ML-DSA-44 among them) are signatures by unknown keys, and ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agentmesh_ledger.checkpoint import parse_checkpoint
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import is_signed, require_sound
from agentmesh_ledger.note import (
    MAX_SIGNATURES,
    Note,
    NoteSigner,
    key_hash,
    parse_note,
    signature_line,
    split_vkey,
    write_vkey,
)
from agentmesh_ledger.text import shown

COSIGNER: Final = 0x04
MAX_TIME: Final = 2**63 - 1
_TIME_BYTES: Final = 8
_SIGNATURE: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CosignerKey:
    """A witness's name and Ed25519 key. Another class than a log's key, so that none counts as the other."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The four bytes that a signature line carries to say whose it is."""
        return key_hash(self.name, COSIGNER, self.public)

    def __str__(self) -> str:
        return write_vkey(self.name, COSIGNER, self.public)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosignature:
    """A cosignature that holds; `time` is the witness's clock, in seconds since 1970."""

    key: CosignerKey
    time: int


def parse_cosigner(text: str) -> CosignerKey:
    """The key of a witness's vkey.

    Raises: LedgerError(log_key).
    """
    name, kind, material = split_vkey(text)
    if kind != COSIGNER or len(material) != 32:
        raise LedgerError("log_key", f"the vkey of {shown(name)} is not that of an Ed25519 cosigner")
    try:
        require_sound(material)
    except LedgerError as error:
        raise LedgerError("log_key", f"the vkey of {shown(name)}: {error.message}") from error
    return CosignerKey(name=name, public=material)


def cosign(note: str, signer: NoteSigner, time: int) -> str:
    """The checkpoint's note with one more line: the signer's cosignature at this time (SPEC L-47).

    The caller is the witness: it has verified that the checkpoint continues all it cosigned before.
    Raises: LedgerError(checkpoint) for what is no checkpoint, or has no place for another line.
    """
    parsed = parse_note(note)
    parse_checkpoint(parsed.text)
    if not 0 <= time <= MAX_TIME:
        raise LedgerError("checkpoint", f"{time} is not a time of a cosignature")
    if len(parsed.signatures) >= MAX_SIGNATURES:
        raise LedgerError("checkpoint", f"the note has {MAX_SIGNATURES} signatures already")
    return note + cosignature_line(parsed.text, signer, time)


def cosignature_line(text: str, signer: NoteSigner, time: int) -> str:
    """The signer's line under a checkpoint with this text, at a time that `MAX_TIME` bounds (SPEC L-47)."""
    key_id = key_hash(signer.name, COSIGNER, signer.public)
    signature = signer.sign(_cosigned(text, time))
    return signature_line(signer.name, key_id, time.to_bytes(_TIME_BYTES, "big") + signature)


def cosignatures(note: Note, keys: Sequence[CosignerKey]) -> tuple[Cosignature, ...]:
    """The cosignatures by these keys, in the order of the lines (SPEC L-47).

    A line that names one of the keys and does not hold condemns the note, whoever else signed it.
    Raises: LedgerError(checkpoint).
    """
    known = {(key.name, key.key_id): key for key in keys}
    found: list[Cosignature] = []
    for line in note.signatures:
        key = known.get((line.name, line.key_id))
        if key is None:
            continue
        time = int.from_bytes(line.signature[:_TIME_BYTES], "big")
        signature = line.signature[_TIME_BYTES:]
        if (
            len(signature) != _SIGNATURE
            or time > MAX_TIME
            or not is_signed(key.public, _cosigned(note.text, time), signature)
        ):
            raise LedgerError("checkpoint", f"the cosignature of {shown(key.name)} does not hold")
        found.append(Cosignature(key=key, time=time))
    return tuple(found)


def _cosigned(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()
