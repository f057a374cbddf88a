"""What the format lets anybody do with a transcript, without a key: show less of it. The evidence must tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from agentmesh_ledger import Verified
from agentmesh_ledger.jcs import canonical
from tampering.sample import STRANGER, WITHHELD, Case, note, sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Another showing of the same log, and what of the evidence differs; None where it keeps silent."""

    name: str
    case: Literal["log", "dialogue"]
    make: Callable[[Case], bytes]
    says: Callable[[Verified, Verified], str | None]


def _withhold(case: Case) -> bytes:
    fields = case.fields()
    parts = next(
        line["parts"] for line in fields[1:] if WITHHELD not in line["parts"].values() and line["parts"]
    )
    parts[next(iter(parts))] = WITHHELD
    return sealed([canonical(each) for each in fields])


def _says_withheld(before: Verified, after: Verified) -> str | None:
    return f"withheld: {after.withheld}" if after.withheld == before.withheld + 1 else None


def _end_early(case: Case) -> bytes:
    return sealed(case.lines()[:-2])


def _says_open(before: Verified, after: Verified) -> str | None:
    told = after.entries == before.entries - 2 and "no close" in after.complete
    return f"entries: {after.entries}; {after.complete.split(';')[0]}" if told else None


def _leave_out(case: Case) -> bytes:
    """Without what the log says beside the dialogue: a tombstone, a revocation."""
    kept = [
        line
        for line, fields in zip(case.lines(), case.fields(), strict=True)
        if "index" not in fields or case.log.payloads[fields["index"]]["kind"] not in ("erase", "key.revoke")
    ]
    return sealed(kept)


def _says_rest(before: Verified, after: Verified) -> str | None:
    told = after.entries == before.entries - 2 and "the rest of the log is not" in after.complete
    return f"entries: {after.entries}; the rest of the log is not shown" if told else None


def _cosign(case: Case) -> bytes:
    """A signature line by a key nobody named; C2SP wants it ignored."""
    fields = case.fields()
    fields[0]["checkpoint"] += note(case.entries, STRANGER).split("\n\n")[1]
    return sealed([canonical(each) for each in fields])


def _says_nothing_of_it(before: Verified, after: Verified) -> str | None:
    return "evidence is the same, the line is ignored" if after == before else None


ALLOWED: Final = (
    Allowed(name="a part withheld, log", case="log", make=_withhold, says=_says_withheld),
    Allowed(name="a part withheld, dialogue", case="dialogue", make=_withhold, says=_says_withheld),
    Allowed(name="a dialogue shown without its end", case="dialogue", make=_end_early, says=_says_open),
    Allowed(
        name="a dialogue without tombstones, revocations", case="dialogue", make=_leave_out, says=_says_rest
    ),
    Allowed(name="a signature by an unknown key added", case="log", make=_cosign, says=_says_nothing_of_it),
)
