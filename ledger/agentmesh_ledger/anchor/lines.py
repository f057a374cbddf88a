"""The anchor lines of a transcript: that a checkpoint of the log was published, and the evidence of it (SPEC L-106 to L-119)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.fields import count_of, hash_of, hashes_of, parse_line
from agentmesh_ledger.jcs import JsonValue, canonical

MAX_ANCHORS: Final = 1024
MAX_ANCHOR_LINE: Final = 512 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorLine:
    """What one line says: the first `size` entries have this root, and the evidence shows where that was published.

    `proof` is the consistency proof to the checkpoint; None where the whole log is shown, whose root is recomputed.
    """

    size: int
    root: bytes
    evidence: Mapping[str, JsonValue]
    proof: tuple[bytes, ...] | None = None

    def encode(self) -> bytes:
        """The line, without its line feed."""
        fields: dict[str, JsonValue] = {
            "anchor": self.evidence,
            "root": self.root.hex(),
            "size": self.size,
        }
        if self.proof is not None:
            fields["proof"] = [each.hex() for each in self.proof]
        return canonical(fields)


def parse_anchor_line(data: bytes, *, proof: bool) -> AnchorLine:
    """An anchor line, given without its line feed; `proof` where the selection is a dialogue (SPEC L-107, L-108).

    Raises: LedgerError(line).
    """
    value = parse_line(data)
    wanted = {"anchor", "root", "size"} | ({"proof"} if proof else set())
    if set(value) != wanted:
        raise LedgerError("line", f"the anchor line's fields are not {', '.join(sorted(wanted))}")
    evidence = value["anchor"]
    if not isinstance(evidence, dict):
        raise LedgerError("line", "the evidence of an anchor is not an object")
    return AnchorLine(
        size=count_of(value["size"], "line", "the anchor's size"),
        root=hash_of(value["root"], "line", "the anchor's root"),
        evidence=evidence,
        proof=hashes_of(value["proof"], "line") if proof else None,
    )
