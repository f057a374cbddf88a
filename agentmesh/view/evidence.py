"""What a verification has shown, and what it has not."""

from __future__ import annotations

from agentmesh.view.text import clean, count
from agentmesh_ledger import LedgerError, Verified


def evidence_text(found: Verified) -> str:
    """The evidence for people. Intact and complete are two verdicts, told apart."""
    own = "pinned by you" if found.pinned else "self-asserted; --key pins it"
    lines = [
        f"verified: {count(found.entries, 'message')} of {clean(found.origin)} ({clean(found.selection)})",
        f"  root      {found.root} (tree of {found.tree_size})",
    ]
    lines += [f"  log key   {clean(key)} ({own})" for key in found.log_keys]
    for author, name, number in found.signers:
        lines.append(f"  signer    {clean(author)} {clean(name or '(no name)')}, {count(number, 'message')}")
    if found.withheld:
        lines.append(
            f"  withheld  the content of {count(found.withheld, 'part')}; only what was signed about it holds"
        )
    lines.append(f"  complete  {clean(found.complete)}")
    return "\n".join(lines)


def evidence_json(found: Verified) -> dict[str, object]:
    """The evidence for programs."""
    return {
        "verified": True,
        "entries": found.entries,
        "tree_size": found.tree_size,
        "root": found.root,
        "origin": found.origin,
        "selection": found.selection,
        "log_keys": list(found.log_keys),
        "pinned": found.pinned,
        "signers": [
            {"id": author, "name": name, "messages": number} for author, name, number in found.signers
        ],
        "withheld": found.withheld,
        "complete": found.complete,
    }


def failure_json(error: LedgerError) -> dict[str, object]:
    """Why there is no evidence, for programs."""
    return {
        "verified": False,
        "reason": error.reason,
        "message": error.message,
        "index": error.index,
        "line": error.line,
        "expected": error.expected,
        "found": error.found,
    }
