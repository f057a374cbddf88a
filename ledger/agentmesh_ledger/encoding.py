"""Strict base64 and hex: every value has exactly one text, and every other text is refused."""

from __future__ import annotations

import base64
import binascii

from agentmesh_ledger.errors import Check, LedgerError


def encode64(data: bytes) -> str:
    """RFC 4648 section 4 base64, with padding."""
    return base64.b64encode(data).decode("ascii")


def decode64(text: str, check: Check, what: str) -> bytes:
    """The bytes of a base64 text that `encode64` would have written (SPEC L-03)."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise LedgerError(check, f"{what} is not standard base64") from error
    if encode64(data) != text:  # stray bits under the padding: two texts would carry one value
        raise LedgerError(check, f"{what} is base64 with stray bits")
    return data


def decode_hash(text: str, check: Check, what: str) -> bytes:
    """The 32 bytes of 64 lower-case hex digits (SPEC L-03)."""
    if len(text) != 64 or text.strip("0123456789abcdef"):
        raise LedgerError(check, f"{what} is not 64 lower-case hex digits")
    return bytes.fromhex(text)
