"""Fields of a transcript's lines, held to their form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agentmesh_ledger.encoding import decode_hash
from agentmesh_ledger.errors import Check, LedgerError
from agentmesh_ledger.jcs import MAX_INTEGER, JsonValue, parse
from agentmesh_ledger.tree import MAX_PROOF

_MAX_COMMAS: Final = 512


def parse_line(data: bytes) -> Mapping[str, JsonValue]:
    """The object of any line but the header, given without its line feed.

    Raises: LedgerError(line).
    """
    # A good line has under 300; millions would become millions of objects before any check.
    if data.count(b",") > _MAX_COMMAS:
        raise LedgerError("line", "the line has more fields than an entry can have")
    return parse_object(data, "line")


def parse_object(data: bytes, check: Check) -> Mapping[str, JsonValue]:
    """The object that these canonical bytes are."""
    try:
        value = parse(data)
    except LedgerError as error:
        raise LedgerError(check, f"the line is not canonical JSON: {error.message}") from error
    if not isinstance(value, dict):
        raise LedgerError(check, "the line is not a JSON object")
    return value


def count_of(value: JsonValue, check: Check, what: str) -> int:
    """A whole number from 0 on."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_INTEGER:
        raise LedgerError(check, f"{what} is not a whole number")
    return value


def hash_of(value: JsonValue, check: Check, what: str) -> bytes:
    """The 32 bytes of a hash."""
    if not isinstance(value, str):
        raise LedgerError(check, f"{what} is not a text")
    return decode_hash(value, check, what)


def hashes_of(value: JsonValue, check: Check) -> tuple[bytes, ...]:
    """The hashes of a proof."""
    if not isinstance(value, list) or len(value) > MAX_PROOF:
        raise LedgerError(check, f"a proof is not a list of at most {MAX_PROOF} hashes")
    return tuple(hash_of(each, check, "a proof's hash") for each in value)
