"""What a verification has shown, or why it has shown nothing, for programs: the JSON of every `verify` command."""

from __future__ import annotations

from agentmesh_ledger.anchor.report import anchor_lines, anchors_json, claims_json
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.policy import PolicyEvidence
from agentmesh_ledger.text import moment, shown
from agentmesh_ledger.verify import Verified


def evidence_json(found: Verified, file: str) -> dict[str, object]:
    """The evidence for programs; `file` is what was verified, as it was named."""
    return {
        "verified": True,
        "file": file,
        "selection": found.selection,
        "origin": found.origin,
        "entries": found.entries,
        "tree_size": found.tree_size,
        "root": found.root,
        "log_keys": list(found.log_keys),
        "pinned": found.pinned,
        "signers": [{"id": each, "name": name, "entries": count} for each, name, count in found.signers],
        "withheld": found.withheld,
        "intact": True,
        "complete": found.complete,
        "expected_size": found.expected_size,
        "erased": found.erased,
        "rotated": [{"old": each.old, "new": each.new, "index": each.index} for each in found.rotated],
        "revoked": [
            {
                "id": each.agent,
                "after": each.after,
                "index": each.index,
                "last": each.last,
                "disowns": each.disowns,
            }
            for each in found.revoked
        ],
        "policy": found.policy,
        "witnesses": witnesses_json(found.witnessed),
        "witnessed_size": None if found.witnessed is None else found.witnessed.size,
        "anchors": anchors_json(found.anchors),
        "claimed": claims_json(found.claimed),
        "on_chain": dict(found.on_chain),
        "not_shown": list(found.not_shown),
    }


def evidence_lines(found: Verified) -> list[str]:
    """What the reports for people tell of keys, erasure, policy, anchors and the limits of it all; ids and names not yet
    cleaned."""
    lines = [f"rotated    {each.old} to {each.new} at entry {each.index}" for each in found.rotated]
    for each in found.revoked:
        disowned = f"; disowned: its entries from {each.after + 1} to {each.last}" if each.disowns else ""
        lines.append(f"revoked    {each.agent} at entry {each.index}, as of entry {each.after}{disowned}")
    if found.erased:
        lines.append(
            f"erased     {found.erased} {'part' if found.erased == 1 else 'parts'}, by tombstones that are shown"
        )
    lines += [f"policy     {found.policy}", *witness_lines(found.witnessed)]
    lines += anchor_lines(found.anchors, found.claimed, found.on_chain)
    return lines + [f"not shown  {each}" for each in found.not_shown]


def witness_lines(policy: PolicyEvidence | None) -> list[str]:
    """Who cosigned, and when by their own clocks, for people."""
    return [
        f"witness    {shown(each.witness)}  at {moment(each.time)}  {shown(each.vkey)}"
        for each in (() if policy is None else policy.witnesses)
    ]


def witnesses_json(policy: PolicyEvidence | None) -> list[dict[str, object]]:
    """Who cosigned, for programs."""
    return [
        {"name": shown(each.witness), "vkey": each.vkey, "time": each.time}
        for each in (() if policy is None else policy.witnesses)
    ]


def failure_json(error: LedgerError, file: str) -> dict[str, object]:
    """Why there is no evidence, for programs; `file` is what was to be verified, as it was named.

    `others` are the failures found after the first; `more` says that there are others still.
    """
    return {
        "verified": False,
        "file": file,
        **_failure(error),
        "others": [_failure(each) for each in error.others],
        "more": error.more,
    }


def _failure(error: LedgerError) -> dict[str, object]:
    return {
        "check": error.reason,
        "message": error.message,
        "index": error.index,
        "line": error.line,
        "expected": error.expected,
        "found": error.found,
    }
