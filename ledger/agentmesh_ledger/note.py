"""C2SP signed notes, read strictly: https://c2sp.org/signed-note@v1.0.0."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from agentmesh_ledger.encoding import decode64, encode64
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import is_signed, require_sound
from agentmesh_ledger.text import shown

ED25519: Final = 0x01
MAX_NOTE: Final = 64 * 1024
MAX_SIGNATURES: Final = 64
MAX_VKEY: Final = 4096  # a post-quantum key of 1,312 bytes takes 1,752 characters
_MARK: Final = "\N{EM DASH} "
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")  # lone surrogates too: they have no UTF-8
_PLAIN_NAME: Final = re.compile(r"[!-*,-~]+\Z")


class NoteSigner(Protocol):
    """Whoever can sign a note: a name, a public key, and the signing itself."""

    @property
    def name(self) -> str: ...
    @property
    def public(self) -> bytes: ...
    def sign(self, data: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A name and an Ed25519 key that notes are checked with."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The four bytes that a signature line carries to say whose it is."""
        return key_hash(self.name, ED25519, self.public)

    def __str__(self) -> str:
        return write_vkey(self.name, ED25519, self.public)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """One signature line: who claims to have signed, and the signature."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A note as read. Its text is nobody's word until `verified_by` has named a key one trusts."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def verified_by(self, keys: Sequence[VerifierKey]) -> tuple[VerifierKey, ...]:
        """The keys whose signature on this note holds (SPEC L-42).

        A signature by a known key that does not hold condemns the note, whoever else signed it.
        Raises: LedgerError(checkpoint).
        """
        good: list[VerifierKey] = []
        for line in self.signatures:
            for key in keys:
                if (key.name, key.key_id) != (line.name, line.key_id):
                    continue
                if not is_signed(key.public, self.text.encode("utf-8"), line.signature):
                    raise LedgerError(
                        "checkpoint", f"the note's signature by {shown(key.name)} does not hold"
                    )
                if key not in good:
                    good.append(key)
        return tuple(good)


@lru_cache(maxsize=256)
def key_hash(name: str, kind: int, material: bytes) -> bytes:
    """The four bytes of a key id; `kind` is the signature type, so one key has another id for each."""
    return hashlib.sha256(name.encode("utf-8") + b"\n" + bytes([kind]) + material).digest()[:4]


def write_vkey(name: str, kind: int, material: bytes) -> str:
    """The vkey text of a key of any signature type."""
    return f"{name}+{key_hash(name, kind, material).hex()}+{encode64(bytes([kind]) + material)}"


def split_vkey(text: str) -> tuple[str, int, bytes]:
    """Name, signature type and key material of a vkey of any type, its hash checked.

    Raises: LedgerError(log_key).
    """
    name, _, rest = text.partition("+")
    digits, _, encoded = rest.partition("+")
    if not is_key_name(name) or len(text) > MAX_VKEY:
        raise LedgerError("log_key", f"{shown(text, 80)!r} is not a vkey (name+hash+base64)")
    data = decode64(encoded, "log_key", "the vkey's key")
    if not data:
        raise LedgerError("log_key", f"the vkey of {shown(name)} has no key")
    wanted = key_hash(name, data[0], data[1:]).hex()
    if digits != wanted:
        raise LedgerError(
            "log_key", "the vkey's hash is not its key's", expected=wanted, found=shown(digits, 20)
        )
    return name, data[0], data[1:]


def parse_vkey(text: str) -> VerifierKey:
    """The key that a vkey line (`name+hash+base64`) names (SPEC L-41).

    Raises: LedgerError(log_key) where it is malformed, of another algorithm, or its hash is not its own.
    """
    name, _, rest = text.partition("+")
    digits, _, encoded = rest.partition("+")
    if not is_key_name(name) or len(text) > 512:
        raise LedgerError("log_key", f"{shown(text, 80)!r} is not a vkey (name+hash+base64)")
    data = decode64(encoded, "log_key", "the vkey's key")
    if len(data) != 33 or data[0] != ED25519:
        raise LedgerError("log_key", f"the vkey of {shown(name)} is not an Ed25519 key")
    try:
        require_sound(data[1:])
    except LedgerError as error:
        raise LedgerError("log_key", f"the vkey of {shown(name)}: {error.message}") from error
    key = VerifierKey(name=name, public=data[1:])
    if digits != key.key_id.hex():
        raise LedgerError(
            "log_key", "the vkey's hash is not its key's", expected=key.key_id.hex(), found=shown(digits, 20)
        )
    return key


def is_key_name(name: str) -> bool:
    """Whether the name may stand in a signature line: no space of any script, no plus, no control."""
    if _PLAIN_NAME.match(name):  # as nearly all are: a witness reads thousands a second
        return True
    return bool(name) and not any(c == "+" or c.isspace() or unicodedata.category(c)[0] == "C" for c in name)


def sign_note(text: str, signer: NoteSigner) -> str:
    """The text with the signer's line under it."""
    key = VerifierKey(name=signer.name, public=signer.public)
    return f"{text}\n{signature_line(key.name, key.key_id, signer.sign(text.encode('utf-8')))}"


def signature_line(name: str, key_id: bytes, signature: bytes) -> str:
    """One signature line with its line feed."""
    return f"{_MARK}{name} {encode64(key_id + signature)}\n"


def parse_note(data: str) -> Note:
    """A signed note taken apart; nothing is believed yet (SPEC L-40).

    Raises: LedgerError(checkpoint).
    """
    if len(data) > MAX_NOTE:
        raise LedgerError("checkpoint", f"the note is longer than {MAX_NOTE} characters")
    if _CONTROL.search(data):
        raise LedgerError("checkpoint", "the note has control characters")
    cut = data.rfind("\n\n")  # the text may hold empty lines: the last one divides
    if cut < 0 or not data.endswith("\n"):
        raise LedgerError("checkpoint", "the note has no signature lines")
    text, lines = data[: cut + 1], data[cut + 2 : -1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise LedgerError("checkpoint", f"the note has more than {MAX_SIGNATURES} signatures")
    return Note(text=text, signatures=tuple(_signature(line) for line in lines))


def _signature(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_MARK).partition(" ")
    if not line.startswith(_MARK) or not is_key_name(name):
        raise LedgerError("checkpoint", "the note has a malformed signature line")
    data = decode64(encoded, "checkpoint", "a note signature")
    if len(data) < 5:
        raise LedgerError("checkpoint", "the note has a signature that is too short")
    return NoteSignature(name=name, key_id=data[:4], signature=data[4:])
