"""Where the checks of a whole log stood, as JSON that an auditor keeps to go on later."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agentmesh_ledger.authors import Revocation, Rotation
from agentmesh_ledger.encoding import decode_hash
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import MAX_INTEGER, JsonValue, canonical
from agentmesh_ledger.text import is_origin

FORMAT: Final = "agentmesh-checks/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The checks after `size` entries. `sequence` has the next seq by digest of the dialogue's id."""

    origin: str
    size: int
    leaf: bytes | None
    edge: Sequence[bytes]
    withheld: int
    erased: frozenset[bytes]
    erased_more: int
    last_kind: str | None
    sequence: Mapping[bytes, int]
    names: Mapping[str, str]
    counts: Mapping[str, int]
    lasts: Mapping[str, int]
    rotated: Mapping[str, Rotation]
    revoked: Mapping[str, Revocation]
    steward: str | None

    def encode(self) -> dict[str, JsonValue]:
        """The JSON, with a digest over it: against a slip, not against who can write the file."""
        body: dict[str, JsonValue] = {
            "format": FORMAT,
            "origin": self.origin,
            "size": self.size,
            "leaf": None if self.leaf is None else self.leaf.hex(),
            "edge": [each.hex() for each in self.edge],
            "withheld": self.withheld,
            "erased": sorted(each.hex() for each in self.erased),
            "erased_more": self.erased_more,
            "last_kind": self.last_kind,
            "sequence": {key.hex(): seq for key, seq in self.sequence.items()},
            "names": dict(self.names),
            "counts": dict(self.counts),
            "lasts": dict(self.lasts),
            "rotated": [[each.old, each.new, each.index] for each in self.rotated.values()],
            "revoked": [[each.agent, each.after, each.index, each.last] for each in self.revoked.values()],
            "steward": self.steward,
        }
        return {**body, "digest": _digest(body)}


def parse_standing(value: JsonValue) -> Standing:
    """The standing that `encode` wrote.

    Raises: LedgerError(header) for anything else.
    """
    if not isinstance(value, Mapping) or value.get("format") != FORMAT:
        raise LedgerError("header", f"the state is not one of {FORMAT}")
    body = {key: item for key, item in value.items() if key != "digest"}
    try:
        digest = _digest(body)
    except LedgerError as error:
        raise LedgerError("header", "the state is not JSON") from error
    if value.get("digest") != digest:
        raise LedgerError("header", "the state was changed since it was written")
    try:
        return _standing(body)
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerError("header", "the state is malformed") from error


def _standing(body: Mapping[str, JsonValue]) -> Standing:
    origin, size, leaf = _text(body["origin"]), _count(body["size"]), body["leaf"]
    edge = tuple(decode_hash(_text(each), "header", "a hash of the state") for each in _items(body["edge"]))
    if not is_origin(origin) or len(edge) != size.bit_count() or (leaf is None) != (size == 0):
        raise ValueError(origin)
    rotated = [_items(each) for each in _items(body["rotated"])]
    revoked = [_items(each) for each in _items(body["revoked"])]
    rotations = [Rotation(old=_text(a), new=_text(b), index=_count(c)) for a, b, c in rotated]
    revocations = [
        Revocation(agent=_text(a), after=_count(b), index=_count(c), last=None if d is None else _count(d))
        for a, b, c, d in revoked
    ]
    last_kind, steward = body["last_kind"], body["steward"]
    return Standing(
        origin=origin,
        size=size,
        leaf=None if leaf is None else decode_hash(_text(leaf), "header", "the leaf hash of the state"),
        edge=edge,
        withheld=_count(body["withheld"]),
        erased=frozenset(bytes.fromhex(_text(each)) for each in _items(body["erased"])),
        erased_more=_count(body["erased_more"]),
        last_kind=None if last_kind is None else _text(last_kind),
        sequence={bytes.fromhex(key): seq for key, seq in _counts(body["sequence"]).items()},
        names={key: _text(name) for key, name in _members(body["names"]).items()},
        counts=_counts(body["counts"]),
        lasts=_counts(body["lasts"]),
        rotated={each.old: each for each in rotations},
        revoked={each.agent: each for each in revocations},
        steward=None if steward is None else _text(steward),
    )


def _digest(body: Mapping[str, JsonValue]) -> str:
    return hashlib.sha256(canonical(body)).hexdigest()


def _text(value: JsonValue) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _count(value: JsonValue) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_INTEGER:
        raise TypeError
    return value


def _items(value: JsonValue) -> Sequence[JsonValue]:
    if not isinstance(value, list | tuple):
        raise TypeError
    return value


def _members(value: JsonValue) -> Mapping[str, JsonValue]:
    if not isinstance(value, Mapping):
        raise TypeError
    return value


def _counts(value: JsonValue) -> dict[str, int]:
    return {key: _count(item) for key, item in _members(value).items()}
