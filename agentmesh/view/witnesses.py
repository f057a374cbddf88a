"""Who cosigned a log's checkpoints, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass

from agentmesh_ledger import LedgerError, Policy
from agentmesh_ledger.checkpoint import open_checkpoint
from agentmesh_ledger.cosignature import cosignatures
from agentmesh_ledger.gather import Gathered
from agentmesh_ledger.note import parse_note, parse_vkey
from agentmesh_ledger.report import witness_lines, witnesses_json
from agentmesh_ledger.text import moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A log of `size` entries, of which the first `seen` are under a cosigned checkpoint; None: nothing is.

    `times` has, for each witness of the policy, when it signed by its own clock, or None. `unmet` says what the policy misses.
    """

    origin: str
    size: int
    seen: int | None
    unmet: str | None
    times: tuple[tuple[str, int | None], ...]


def standing(origin: str, size: int, vkey: str, note: str | None, policy: Policy) -> Standing:
    """What a kept note says by a policy.

    Raises: LedgerError(checkpoint, log_key) where the note is none of this log.
    """
    if note is None:
        nobody = tuple((each.name, None) for each in policy.witnesses)
        return Standing(origin=origin, size=size, seen=None, unmet="nothing was cosigned yet", times=nobody)
    keys = [parse_vkey(vkey)]
    unmet: str | None = None
    try:
        policy.judge(note, keys=keys)
    except LedgerError as error:
        if error.reason != "policy":
            raise
        unmet = error.message
    witnesses = [each.key for each in policy.witnesses if each.key is not None]
    signed = {each.key: each.time for each in cosignatures(parse_note(note), witnesses)}
    return Standing(
        origin=origin,
        size=size,
        seen=open_checkpoint(note, keys).checkpoint.size,
        unmet=unmet,
        times=tuple(
            (each.name, None if each.key is None else signed.get(each.key)) for each in policy.witnesses
        ),
    )


def standing_json(found: Standing) -> dict[str, object]:
    """For programs."""
    return {
        "origin": found.origin,
        "size": found.size,
        "cosigned_size": found.seen,
        "met": found.unmet is None,
        "unmet": found.unmet,
        "witnesses": [{"name": name, "time": time} for name, time in found.times],
    }


def standing_text(found: Standing) -> str:
    """For people."""
    seen = "none of them" if found.seen is None else f"the first {found.seen:,}"
    if found.seen == found.size:
        seen = "all of them"
    return "\n".join(
        [
            f"log       {found.origin}: {found.size:,} entries, {seen} under a cosigned checkpoint",
            f"policy    {'met' if found.unmet is None else found.unmet}",
            *(
                f"witness   {name}  {'has not cosigned it' if time is None else f'at {moment(time)}'}"
                for name, time in found.times
            ),
        ]
    )


def gathered_json(found: Gathered) -> dict[str, object]:
    """What was gathered, for programs."""
    evidence = found.evidence
    return {
        "size": found.size,
        "met": evidence is not None,
        "policy": None if evidence is None else str(evidence),
        "unmet": found.unmet,
        "witnesses": witnesses_json(evidence),
        "failures": [
            {"name": each.name, "reason": each.reason, "message": each.message} for each in found.failures
        ],
        "note": found.note,
    }


def gathered_text(found: Gathered) -> str:
    """What was gathered, for people."""
    verdict = found.unmet if found.evidence is None else f"policy {found.evidence}"
    return "\n".join([f"checkpoint of {found.size:,} entries: {verdict}", *witness_lines(found.evidence)])
