"""Agent ids: an Ed25519 key written as did:key, and the keys that no verifier may accept."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NewType

from nacl.bindings import crypto_core_ed25519_add, crypto_core_ed25519_is_valid_point, crypto_sign_open
from nacl.exceptions import BadSignatureError

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.text import shown

AgentId = NewType("AgentId", str)

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_PREFIX: Final = "did:key:z"
_MULTICODEC: Final = b"\xed\x01"

_FIELD: Final = 2**255 - 19
_BASE: Final = b"\x58" + b"\x66" * 31
# The canonical encodings of the eight points whose order divides the cofactor 8, each with its order.
_SMALL_ORDER: Final = {
    bytes.fromhex(text): order
    for text, order in (
        ("0100000000000000000000000000000000000000000000000000000000000000", 1),
        ("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", 2),
        ("0000000000000000000000000000000000000000000000000000000000000000", 4),
        ("0000000000000000000000000000000000000000000000000000000000000080", 4),
        ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", 8),
        ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85", 8),
        ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", 8),
        ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa", 8),
    )
}
# Only y = 1 and y = -1 have x = 0, which has no sign.
_ZERO_SIGNED: Final = frozenset(
    bytes.fromhex(text)
    for text in (
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    )
)


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
    """Refuses a key on which two Ed25519 verifiers could disagree, and says why (SPEC L-06).

    Small-order keys make one signature fit many messages; mixed-order and non-canonical ones are valid for
    some libraries and invalid for others. So: a canonical point of the prime-order group, or nothing.

    Raises: LedgerError(identity).
    """
    # libsodium's word is final; what follows only finds out why it said no.
    if len(key) != 32 or not crypto_core_ed25519_is_valid_point(key):
        raise LedgerError("identity", f"the public key {_flaw(key)}")


def _flaw(key: bytes) -> str:
    """What is wrong with a key that libsodium refused. In the order of the checks: one flaw may hide others."""
    if len(key) != 32:
        return f"has {len(key)} bytes, not 32"
    if _y(key) >= _FIELD:
        return "is not a canonical encoding: its y is not below the field's prime"
    if key in _ZERO_SIGNED:
        return "is not a canonical encoding: its x is 0 and its sign bit is set"
    if key in _SMALL_ORDER:
        return f"has small order ({_SMALL_ORDER[key]}): one signature would fit many messages"
    try:
        crypto_core_ed25519_add(key, _BASE)  # which takes any point of the curve, and nothing else
    except RuntimeError:
        return "is not a point on the curve"
    return "has mixed order: it is not in the prime-order group"


def _y(key: bytes) -> int:
    return int.from_bytes(key, "little") & (1 << 255) - 1


def is_signed(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the Ed25519 signature holds as libsodium sees it, which is normative (SPEC L-07)."""
    if len(signature) != 64:
        return False
    try:
        crypto_sign_open(signature + message, key)
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
