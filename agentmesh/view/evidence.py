"""What a verification has shown, and what it has not. The JSON is that of `agentmesh-verify --json`."""

from __future__ import annotations

from pathlib import Path

from agentmesh.view.text import clean, count
from agentmesh_ledger import LedgerError, Verified


def evidence_text(found: Verified) -> str:
    """The evidence for people. Intact and complete are two verdicts, told apart."""
    own = "the key you named" if found.pinned else "self-asserted: name it with --key to pin it"
    lines = [
        f"verified   {count(found.entries, 'message')} of {clean(found.origin)} ({clean(found.selection)})"
    ]
    lines.append(f"root       {found.root} (tree of {found.tree_size})")
    lines += [f"log key    {clean(key)} ({own})" for key in found.log_keys]
    lines += [
        f"signer     {clean(author)}  {clean(name or '?')}  {count(number, 'message')}"
        for author, name, number in found.signers
    ]
    if found.withheld:
        lines.append(
            f"withheld   the content of {count(found.withheld, 'part')}: only what is signed about it holds"
        )
    lines.append(
        "intact     yes: every shown message is signed, in its place, and in the tree of the signed checkpoint"
    )
    lines.append(f"complete   {clean(found.complete)}")
    return "\n".join(lines)


def evidence_json(found: Verified, file: Path) -> dict[str, object]:
    """The evidence for programs."""
    return {
        "verified": True,
        "file": str(file),
        "selection": found.selection,
        "origin": found.origin,
        "entries": found.entries,
        "tree_size": found.tree_size,
        "root": found.root,
        "log_keys": list(found.log_keys),
        "pinned": found.pinned,
        "signers": [
            {"id": author, "name": name, "entries": number} for author, name, number in found.signers
        ],
        "withheld": found.withheld,
        "intact": True,
        "complete": found.complete,
        "expected_size": found.expected_size,
    }


def failure_json(error: LedgerError, file: Path) -> dict[str, object]:
    """Why there is no evidence, for programs."""
    return {
        "verified": False,
        "file": str(file),
        "check": error.reason,
        "message": error.message,
        "index": error.index,
        "line": error.line,
        "expected": error.expected,
        "found": error.found,
    }
