"""What every secret key of the package can do: sign. Whose it is and what it may sign is for its kinds to say."""

from __future__ import annotations

from dataclasses import dataclass, field

from nacl.bindings import crypto_sign, crypto_sign_BYTES
from nacl.signing import SigningKey


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKey:
    """An Ed25519 key. Agents', logs' and witnesses' are classes of their own, so that none is taken for another."""

    _key: SigningKey = field(repr=False, compare=False)
    _secret: bytes = field(
        init=False, repr=False, compare=False
    )  # seed and public key, as libsodium takes them

    def __post_init__(self) -> None:
        object.__setattr__(self, "_secret", bytes(self._key) + bytes(self._key.verify_key))

    def sign(self, data: bytes) -> bytes:
        """The 64-byte Ed25519 signature."""
        return crypto_sign(data, self._secret)[:crypto_sign_BYTES]
