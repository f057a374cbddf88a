"""What a verification has shown, or why it has shown nothing, for programs: the JSON of every `verify` command."""

from __future__ import annotations

from agentmesh_ledger.errors import LedgerError
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
    }


def failure_json(error: LedgerError, file: str) -> dict[str, object]:
    """Why there is no evidence, for programs; `file` is what was to be verified, as it was named."""
    return {
        "verified": False,
        "file": file,
        "check": error.reason,
        "message": error.message,
        "index": error.index,
        "line": error.line,
        "expected": error.expected,
        "found": error.found,
    }
