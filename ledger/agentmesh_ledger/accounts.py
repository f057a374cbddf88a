"""What is told of a published log, of a proof and of a fork that hold, for people and for programs."""

from __future__ import annotations

from agentmesh_ledger.branches import Proven
from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.mirror import TilesVerified
from agentmesh_ledger.proof import ProofEvidence
from agentmesh_ledger.report import witness_lines, witnesses_json
from agentmesh_ledger.text import shown
from agentmesh_ledger.verify import NO_POLICY


def tiles_lines(found: TilesVerified) -> list[str]:
    """What a report on a published log tells besides that on any log."""
    new = found.log.entries - found.since
    return [
        f"read       {new} new entries, {found.since} verified by earlier runs; {found.files} files, {found.bytes} bytes"
    ]


def proof_text(found: ProofEvidence, subject: str) -> str:
    """The report on a proof, for people."""
    lines = [f"verified   {shown(subject)}", f"log        {found.origin}"]
    lines += [f"log key    {key}" for key in found.log_keys]
    lines += [
        f"entry      {found.index} of {found.tree_size}",
        f"leaf       {found.leaf.hex()}",
        f"root       {found.root}",
    ]
    if found.record is not None:
        message = found.record.message
        lines.append(
            f"message    {shown(message.kind)} in dialogue {shown(message.dialogue)}, signed by {message.author}"
        )
        lines += [
            f"part       {shown(p.name)}  {shown(p.type)}  {p.size} bytes, withheld" for p in message.parts
        ]
    lines.append(f"policy     {NO_POLICY if found.policy is None else found.policy}")
    lines += witness_lines(found.policy)
    lines.append(
        "not shown  the rest of the log; that a statement is true; the time, which is the author's claim"
    )
    return "\n".join(lines)


def proof_json(found: ProofEvidence, subject: str) -> dict[str, object]:
    """The report on a proof, for programs."""
    message = None if found.record is None else found.record.message
    return {
        "verified": True,
        "file": subject,
        "origin": found.origin,
        "index": found.index,
        "tree_size": found.tree_size,
        "leaf": found.leaf.hex(),
        "root": found.root,
        "log_keys": list(found.log_keys),
        "policy": NO_POLICY if found.policy is None else str(found.policy),
        "witnesses": witnesses_json(found.policy),
        "message": None
        if message is None
        else {
            "kind": message.kind,
            "dialogue": message.dialogue,
            "author": message.author,
            "time": message.time,
        },
    }


def fork_text(found: Proven) -> str:
    """The report on a log that was forked, for people."""
    forked = found.forked
    first, second = forked.first, forked.second
    pinned = "the key you named" if found.pinned else "self-asserted: name it with --key to pin it"
    if first.size == second.size:
        why = f"two trees of {first.size} entries under one key"
    else:
        why = f"the first {first.size} entries of the second have the root {forked.root.hex()}"
    return "\n".join(
        [
            "forked: proven",
            f"log        {forked.origin}",
            *(f"log key    {key} ({pinned})" for key in forked.keys),
            f"first      {first.size} entries, root {first.root.hex()}",
            f"second     {second.size} entries, root {second.root.hex()}",
            f"why        {why}",
            "not shown  which of the two is the true one, or who did it: whoever had the log's key",
        ]
    )


def fork_json(found: Proven) -> dict[str, object]:
    """The report on a log that was forked, for programs."""
    forked = found.forked
    return {
        "verified": True,
        "forked": True,
        "origin": forked.origin,
        "log_keys": [str(key) for key in forked.keys],
        "pinned": found.pinned,
        "first": _checkpoint_json(forked.first),
        "second": _checkpoint_json(forked.second),
        "root": forked.root.hex(),
    }


def _checkpoint_json(checkpoint: Checkpoint) -> dict[str, object]:
    return {"size": checkpoint.size, "root": checkpoint.root.hex()}
