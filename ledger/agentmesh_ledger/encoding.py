"""Strict base64 and hex: every value has exactly one text, and every other text is refused."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from agentmesh_ledger.errors import Check, LedgerError

_DIGITS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
# What may stand before the last `=`: a digit whose low four bits are nothing and `=`, or two of which the last has none in two.
_SPARE: Final = frozenset(
    [bytes((one, 61)) for one in _DIGITS[::16]]
    + [bytes((one, two)) for one in _DIGITS for two in _DIGITS[::4]]
)


def encode64(data: bytes) -> str:
    """RFC 4648 section 4 base64, with padding."""
    return base64.b64encode(data).decode("ascii")


def decode64(text: str, check: Check, what: str) -> bytes:
    """The bytes of a base64 text that `encode64` would have written (SPEC L-03)."""
    try:
        return strict64(text.encode("ascii"))
    except ValueError as error:  # binascii's and the codec's own are among them
        raise LedgerError(check, f"{what} is not standard base64") from error


def strict64(text: bytes) -> bytes:
    """The bytes of a base64 text in its one form, without writing it again to compare.

    Raises: ValueError.
    """
    # Stray bits under the padding: two texts would carry one value. So would `AAAA=`, which binascii lets pass.
    if len(text) % 4 or (text[-1:] == b"=" and text[-3:-1] not in _SPARE):
        raise ValueError("stray bits")
    return binascii.a2b_base64(text, strict_mode=True)


def decode_hash(text: str, check: Check, what: str) -> bytes:
    """The 32 bytes of 64 lower-case hex digits (SPEC L-03)."""
    if len(text) != 64 or text.strip("0123456789abcdef"):
        raise LedgerError(check, f"{what} is not 64 lower-case hex digits")
    return bytes.fromhex(text)
