"""The body of `add-checkpoint`, https://c2sp.org/tlog-witness@v1.0.0: an old size, a proof, and the new checkpoint."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from agentmesh_ledger.encoding import encode64, strict64
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import MAX_INTEGER
from agentmesh_ledger.note import MAX_NOTE
from agentmesh_ledger.tree import HASH_SIZE, MAX_PROOF

MAX_BODY: Final = MAX_NOTE + MAX_PROOF * 45 + 64
"""Bytes of the longest body that may be one: the longest note, 63 lines of proof, and the old size."""

_HEAD: Final = re.compile(rb"old (0|[1-9][0-9]{0,15})\n((?:[A-Za-z0-9+/]{43}=\n){0,63})\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a log asks a witness to cosign: the note of a checkpoint, and that it continues the tree of size `old`.

    Nothing in it is believed yet; the note is not even parsed.
    """

    old: int
    proof: tuple[bytes, ...]
    note: str


def parse_submission(body: bytes) -> Submission:
    """The submission in these bytes, which have exactly one spelling of it (SPEC L-131).

    Raises: LedgerError(checkpoint), and nothing else, whatever the bytes.
    """
    if len(body) > MAX_BODY:
        raise LedgerError("checkpoint", f"the request is longer than {MAX_BODY} bytes")
    head = _HEAD.match(body)
    if head is None:
        raise LedgerError(
            "checkpoint",
            f"the request does not begin with `old SIZE`, at most {MAX_PROOF} hashes and an empty line",
        )
    old = int(head[1])
    if old > MAX_INTEGER:
        raise LedgerError("checkpoint", "the old size is too large")
    try:
        proof = tuple(map(strict64, head[2].split()))
        note = body[head.end() :].decode("utf-8")
    except ValueError as error:  # UnicodeDecodeError is one, and so is base64 with stray bits
        raise LedgerError(
            "checkpoint", "the request is not UTF-8, or a hash of its proof not base64"
        ) from error
    return Submission(old=old, proof=proof, note=note)


def write_submission(submission: Submission) -> bytes:
    """The bytes of the request.

    Raises: LedgerError(consistency) for what no witness would read.
    """
    if not 0 <= submission.old <= MAX_INTEGER or len(submission.proof) > MAX_PROOF:
        raise LedgerError("consistency", f"no request has an old size of {submission.old} and this proof")
    if any(len(each) != HASH_SIZE for each in submission.proof):
        raise LedgerError("consistency", "a hash of the proof is not 32 bytes")
    lines = [f"old {submission.old}", *map(encode64, submission.proof), "", submission.note]
    return "\n".join(lines).encode("utf-8", "surrogatepass")
