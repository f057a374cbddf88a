"""What a verification has shown, and what it has not, for people. For programs: `agentmesh_ledger.report`."""

from __future__ import annotations

from agentmesh.view.text import clean, count
from agentmesh_ledger import Verified
from agentmesh_ledger.report import evidence_lines


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
    lines += [clean(each) for each in evidence_lines(found)]
    return "\n".join(lines)
