"""Agent ids: an Ed25519 key written as did:key, and the keys that no verifier may accept."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NewType

from nacl.bindings import crypto_core_ed25519_is_valid_point
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.text import shown

AgentId = NewType("AgentId", str)

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_PREFIX: Final = "did:key:z"
_MULTICODEC: Final = b"\xed\x01"


def agent_id(key: bytes) -> AgentId:
    """The did:key of a 32-byte Ed25519 public key (SPEC L-05)."""
    require_sound(key)
    return AgentId(_PREFIX + _base58(_MULTICODEC + key))


@lru_cache(maxsize=4096)
def public_key(text: str) -> bytes:
    """The 32-byte key of an agent id; the id is the only text of that key (SPEC L-05, L-06).

    Raises: LedgerError(identity) for anything that is not exactly the did:key of a sound Ed25519 key.
    """
    if not text.startswith(_PREFIX) or len(text) > 64 or not text.isascii():
        raise LedgerError("identity", f"{shown(text, 80)!r} is not an agent id (did:key:z6Mk...)")
    number = 0
    for character in text[len(_PREFIX) :]:
        digit = _ALPHABET.find(character)
        if digit < 0:
            raise LedgerError("identity", f"{shown(text, 80)!r} is not base58")
        number = number * 58 + digit
    data = number.to_bytes(64, "big").lstrip(b"\0")
    if len(data) != 34 or data[:2] != _MULTICODEC or _PREFIX + _base58(data) != text:
        raise LedgerError("identity", f"{shown(text, 80)!r} is not the id of an Ed25519 key")
    require_sound(data[2:])
    return data[2:]


def require_sound(key: bytes) -> None:
    """Refuses a key on which two Ed25519 verifiers could disagree (SPEC L-06).

    Small-order keys make one signature fit many messages; mixed-order and non-canonical ones are valid for
    some libraries and invalid for others. So: a canonical point of the prime-order group, or nothing.
    """
    if len(key) != 32 or not crypto_core_ed25519_is_valid_point(key):
        raise LedgerError("identity", "the public key is not a canonical point of the prime-order group")


def is_signed(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the Ed25519 signature holds as libsodium sees it, which is normative (SPEC L-07)."""
    try:
        VerifyKey(key).verify(message, signature)
    except (BadSignatureError, ValueError, TypeError):
        return False
    return True


def _base58(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
