"""RFC 8785 canonical JSON: one byte string for one value, and a parser that accepts nothing else."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn, TypeAlias

import rfc8785

from agentmesh_ledger.errors import LedgerError

JsonValue: TypeAlias = "None | bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue]"

MAX_DEPTH: Final = 32
MAX_INTEGER: Final = 2**53 - 1
_BRACKETS: Final = re.compile(
    rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL
)  # or a text, whose brackets are none


def canonical(value: JsonValue) -> bytes:
    """The RFC 8785 bytes of the value (SPEC L-01).

    Raises: LedgerError(canonical) for what I-JSON cannot carry: NaN, infinities, integers beyond 2^53-1, lone
    surrogates, keys that are no strings, nesting deeper than 32.
    """
    try:
        if _is_plain(value, 1):
            # Exactly RFC 8785 where no float occurs and no key leaves the BMP; C speed, and equality is tested.
            text = json.dumps(
                value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=_items
            )
            return text.encode("utf-8")
        return rfc8785.dumps(_with_dicts(value))
    except (rfc8785.CanonicalizationError, UnicodeError) as error:
        raise LedgerError("canonical", f"this value has no canonical JSON: {type(error).__name__}") from error


def parse(data: bytes) -> JsonValue:
    """The value of canonical bytes; `canonical` gives back these very bytes (SPEC L-01, L-02).

    Raises: LedgerError(canonical), and nothing else, whatever the bytes.
    """
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        _require_shallow(data)
    try:
        value: JsonValue = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_float,
        )
    except UnicodeDecodeError as error:
        raise LedgerError("canonical", f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise LedgerError("canonical", f"not JSON at character {error.pos}: {error.msg}") from error
    except RecursionError as error:
        raise LedgerError("canonical", f"JSON nested deeper than {MAX_DEPTH}") from error
    again = canonical(value)
    if again != data:
        place = next((i for i, (a, b) in enumerate(zip(again, data, strict=False)) if a != b), len(again))
        raise LedgerError("canonical", f"not canonical JSON: byte {place} differs from the canonical form")
    return value


def _require_shallow(data: bytes) -> None:
    """Refuses deep nesting before the standard library's parser meets it.

    Where another library has raised the recursion limit (py_ecc, which web3 brings, sets it to 100,000), that parser
    overflows the stack and ends the process.
    """
    depth = 0
    for found in _BRACKETS.finditer(data):
        mark = found.group()
        depth += (mark in b"[{") - (mark in b"]}")
        if depth > MAX_DEPTH:
            raise LedgerError("canonical", f"JSON nested deeper than {MAX_DEPTH}")


def _is_plain(value: JsonValue, depth: int) -> bool:
    """Whether json.dumps writes this value as RFC 8785 does; refuses what neither may write."""
    if value is None or isinstance(value, bool | str):
        return True
    if isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise LedgerError("canonical", "an integer beyond 2^53-1 is not the same number everywhere")
        return True
    if isinstance(value, float):
        # A whole float is written as an integer, so it must be one that reads back.
        if math.isfinite(value) and value.is_integer() and MAX_INTEGER < abs(value) < 1e21:
            raise LedgerError("canonical", "an integer beyond 2^53-1 is not the same number everywhere")
        return False
    if depth > MAX_DEPTH:
        raise LedgerError("canonical", f"JSON nested deeper than {MAX_DEPTH}")
    plain = True
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise LedgerError("canonical", "a key of a JSON object is not a string")
            # UTF-16 order, which RFC 8785 wants, is code point order only inside the BMP.
            plain &= key.isascii() or max(key) <= "\uffff"
            plain &= _is_plain(item, depth + 1)
        return plain
    if isinstance(value, list | tuple):
        for item in value:
            plain &= _is_plain(item, depth + 1)
        return plain
    raise LedgerError("canonical", f"a {type(value).__name__} is not JSON")


def _items(value: object) -> dict[str, JsonValue]:
    """A mapping that is no dict, for json.dumps."""
    if isinstance(value, Mapping):
        return dict(value)
    raise LedgerError("canonical", f"a {type(value).__name__} is not JSON")


def _with_dicts(value: JsonValue) -> JsonValue:
    """The value with a dict for each mapping that is none: rfc8785 takes no other."""
    if isinstance(value, Mapping):
        return {key: _with_dicts(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_dicts(item) for item in value]
    return value


def _object(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    result = dict(pairs)
    if len(result) != len(pairs):
        # Parsers differ in which one they keep: two readers would see two messages under one signature.
        raise LedgerError("canonical", "a JSON object has the same key twice")
    return result


def _integer(text: str) -> int:
    if len(text) > 17:
        raise LedgerError("canonical", "an integer beyond 2^53-1 is not the same number everywhere")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise LedgerError("canonical", "a number is too large for JSON")
    return number


def _refuse_constant(text: str) -> NoReturn:
    raise LedgerError("canonical", f"{text} is not JSON")
