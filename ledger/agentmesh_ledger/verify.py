"""Verification of a transcript: evidence, or a LedgerError that says which check failed and where."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from agentmesh_ledger.anchor.report import anchor_limits
from agentmesh_ledger.anchor.shown import AnchorChecks, AnchorClaim, ShownAnchors
from agentmesh_ledger.authors import Revocation, Rotation
from agentmesh_ledger.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from agentmesh_ledger.checks import LogChecks
from agentmesh_ledger.crew import CHUNK_BYTES, CHUNK_ENTRIES, Crew
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.findings import Findings, Progress, examine
from agentmesh_ledger.identity import AgentId
from agentmesh_ledger.judge import Terms, require_shown
from agentmesh_ledger.note import VerifierKey, parse_vkey
from agentmesh_ledger.policy import Policy, PolicyEvidence
from agentmesh_ledger.record import Record
from agentmesh_ledger.source import open_file
from agentmesh_ledger.text import shown
from agentmesh_ledger.transcript import Header, TranscriptReader
from agentmesh_ledger.tree import verify_consistency

if TYPE_CHECKING:
    from agentmesh_ledger.anchor.evidence import Anchored

NO_POLICY: Final = "no policy was asked for"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was shown to hold, and what was not looked at.

    `intact` is meant by getting this value at all: every shown entry is as signed, in its place, in the tree
    of the signed checkpoint. `complete` is another matter, in words. `pinned` says whether the log's key is one
    the caller named; otherwise the key is the log's own word. Names of signers are the signers' own claims.
    `erased` counts the parts that tombstones name. `policy` says in words which policy was met, `witnessed` by whom.
    `anchors` is what evidence shows of where checkpoints were published, each block the record's own word unless the
    caller named it, or a chain was asked: `on_chain` has by its hash what a node said of it. `claimed` are anchors without
    evidence that was looked at. `not_shown`, in plain sentences, is what
    must not be concluded.
    """

    entries: int
    tree_size: int
    root: str
    origin: str
    signers: tuple[tuple[AgentId, str | None, int], ...]
    withheld: int
    pinned: bool
    complete: str
    selection: str
    log_keys: tuple[str, ...]
    expected_size: int | None
    erased: int
    rotated: tuple[Rotation, ...]
    revoked: tuple[Revocation, ...]
    policy: str
    witnessed: PolicyEvidence | None
    anchors: tuple[Anchored, ...]
    claimed: tuple[AnchorClaim, ...]
    on_chain: Mapping[str, str]
    not_shown: tuple[str, ...]


def verify_transcript(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    keys: Sequence[str] = (),
    expect: str | None = None,
    policy: Policy | None = None,
    blocks: Sequence[str] = (),
    limit: int = 20,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Verified:
    """The evidence that a transcript gives. Reads it once, as a stream, in memory that does not grow with it.

    `keys` pins the log's key (vkeys), and so do the logs of a `policy`, which the checkpoint must meet; `expect` is
    the text of a checkpoint the caller holds; `blocks` are hashes of blocks of a chain that the caller knows, in each of
    which an anchor must then stand. After a failure the rest is looked at all the same, until `limit` failures are found. `jobs` is how many processes may work, None
    for one a core; a short transcript needs none. `progress` is told entries done and of how many, every 1000 or so
    (of a dialogue the number is not known: then it is that of the log).
    Raises: LedgerError, the first failure, with the `others`; `is_check` tells damaged content from a file that
        cannot be read.
    """
    with _opened(source) as stream:
        audit = TranscriptAudit(stream, keys=keys, expect=expect, policy=policy, blocks=blocks)
        return audit.examined(limit=limit, jobs=jobs, progress=progress)


def read_transcript(
    source: str | os.PathLike[str] | BinaryIO, *, keys: Sequence[str] = (), expect: str | None = None
) -> Iterator[Record]:
    """The records of a transcript, each given out once its own checks have passed.

    What follows a record may still be damaged: only a full run without an error is a verification.
    Raises: LedgerError.
    """
    with _opened(source) as stream:
        yield from TranscriptAudit(stream, keys=keys, expect=expect)


class TranscriptAudit:
    """A transcript being verified: iterate over its records, then ask for the evidence."""

    def __init__(
        self,
        source: BinaryIO,
        *,
        keys: Sequence[str] = (),
        expect: str | None = None,
        policy: Policy | None = None,
        blocks: Sequence[str] = (),
    ) -> None:
        pins = pinned_keys(keys, policy)
        self._reader = TranscriptReader(source)
        self.header = self._reader.header
        try:
            self._signed = _require_header(self.header, pins)
            self._witnessed = witnessed(self.header.checkpoint, self._signed, policy)
            self._expect = open_expected(expect, self._signed.keys)
            self._checks = LogChecks(self._signed, dialogue=self.header.dialogue, expect=self._expect)
            _require_consistency(self.header, self._signed.checkpoint, self._expect)
            self._anchors = AnchorChecks(self.header.origin, blocks)
        except LedgerError as error:
            error.locate(line=1)
            raise
        self._pinned = bool(pins)
        self._finished = False

    def __iter__(self) -> Iterator[Record]:
        anchors = ShownAnchors(self._checks, self._anchors)
        for anchor in self._reader.anchors():
            anchors.take(anchor, self._reader.line)
        for line in self._reader:
            try:
                record = self._checks.entry(line.index, line.entry, line.openings, line.proof)
                require_shown(line, record)
            except LedgerError as error:
                error.locate(line=self._reader.line)
                raise
            yield record
        for fault in self._endings():
            raise fault
        self._finished = True

    def examined(self, *, limit: int, jobs: int | None, progress: Progress | None) -> Verified:
        """Reads all there is, on behind failures, and gives the evidence; instead of iterating.

        Raises: LedgerError, as `verify_transcript` says.
        """
        findings, reader, checks = Findings(limit), self._reader, self._checks
        self._examine_anchors(findings)
        terms = Terms(checkpoint=checks.checkpoint, proof=checks.dialogue is not None)
        with Crew(terms, "lines", jobs) as crew:
            known = checks.checkpoint.size if checks.dialogue is None else 0
            judged = crew.judged(reader.chunks(CHUNK_ENTRIES, CHUNK_BYTES), known)
            if examine(checks, judged, findings, line=reader.line + 1, progress=progress):
                for error in (*reader.endings, *self._endings()):
                    findings.add(error)
        findings.settle()
        self._finished = True
        return self.verified()

    def _examine_anchors(self, findings: Findings) -> None:
        """Reads the anchor lines, on behind each whose evidence fails.

        Raises: LedgerError, with what was found before, where a line is no anchor line, or too many failed.
        """
        anchors = ShownAnchors(self._checks, self._anchors)
        shown_lines = self._reader.anchors()
        while not findings.full:
            try:
                line = next(shown_lines, None)
            except LedgerError as error:
                findings.add(error)
                break
            if line is None:
                return
            try:
                anchors.take(line, self._reader.line)
            except LedgerError as error:
                findings.add(error)
        findings.settle()

    def _endings(self) -> list[LedgerError]:
        found = self._checks.endings()
        for error in found:
            error.locate(line=self._reader.line)
        return [*found, *self._anchors.endings()]

    def verified(self) -> Verified:
        """The evidence.

        Raises: LedgerError(truncated) before the last record has been taken.
        """
        if not self._finished:
            raise LedgerError("truncated", "the transcript has not been read to its end")
        return evidence(
            self._checks, self._signed, pinned=self._pinned, policy=self._witnessed, anchors=self._anchors
        )


def evidence(
    checks: LogChecks,
    signed: SignedCheckpoint,
    *,
    pinned: bool,
    policy: PolicyEvidence | None,
    anchors: AnchorChecks | None = None,
) -> Verified:
    """The finished checks as a value."""
    anchored = () if anchors is None else tuple(anchors.anchored)
    authors = checks.authors
    return Verified(
        entries=checks.entries,
        tree_size=signed.checkpoint.size,
        root=signed.checkpoint.root.hex(),
        origin=signed.checkpoint.origin,
        signers=tuple(
            (AgentId(author), authors.names.get(author), count) for author, count in authors.counts.items()
        ),
        withheld=checks.withheld,
        pinned=pinned,
        complete=_completeness(checks, policy),
        selection="log" if checks.dialogue is None else f"dialogue {checks.dialogue}",
        log_keys=tuple(str(key) for key in signed.keys),
        expected_size=None if checks.expect is None else checks.expect.size,
        erased=checks.erased,
        rotated=tuple(authors.rotated.values()),
        revoked=tuple(authors.revoked.values()),
        policy=NO_POLICY if policy is None else f"{policy}{_reach(policy, signed.checkpoint.size)}",
        witnessed=policy,
        anchors=anchored,
        claimed=() if anchors is None else tuple(anchors.claims),
        on_chain={},
        not_shown=(
            *_not_shown(checks, pinned=pinned, policy=policy),
            *_beyond_anchors(checks, anchored),
            *anchor_limits(anchored),
        ),
    )


def require_origin(found: Verified, origin: str | None) -> None:
    """Refuses the evidence of another log than the one the auditor named, if any.

    Raises: LedgerError(origin).
    """
    if origin is not None and origin != found.origin:
        raise LedgerError(
            "origin", "this is the transcript of another log", expected=shown(origin), found=found.origin
        )


def pinned_keys(keys: Sequence[str], policy: Policy | None) -> tuple[VerifierKey, ...]:
    """The log keys that the auditor named: one by one, else through a policy.

    Raises: LedgerError(log_key).
    """
    return tuple(parse_vkey(key) for key in keys) or (() if policy is None else policy.logs)


def witnessed(note: str, signed: SignedCheckpoint, policy: Policy | None) -> PolicyEvidence | None:
    """Who witnessed the checkpoint of this note, where a policy asks for it; it is then met (SPEC L-49).

    Raises: LedgerError(policy, checkpoint).
    """
    return None if policy is None else policy.judge(note, keys=signed.keys)


def open_expected(note: str | None, keys: Sequence[VerifierKey]) -> Checkpoint | None:
    """The checkpoint that an auditor brought, signed by the log's key (SPEC L-78).

    Raises: LedgerError(consistency).
    """
    if note is None:
        return None
    try:
        return open_checkpoint(note, keys).checkpoint
    except LedgerError as error:
        raise LedgerError("consistency", f"the checkpoint you brought: {error.message}") from error


def require_pinned(signed: SignedCheckpoint, pins: Sequence[VerifierKey]) -> SignedCheckpoint:
    """The checkpoint with the pinned keys that signed it, all where none is pinned; refused where none of them did (SPEC L-77).

    Raises: LedgerError(log_key).
    """
    if not pins:
        return signed
    # Anybody can put a line of their own beneath a note, under the log's name: that key is none that the auditor named.
    good = tuple(key for key in signed.keys if key in pins)
    if not good:
        raise LedgerError(
            "log_key",
            "the log's key is not one of those you named",
            expected=", ".join(shown(str(pin)) for pin in pins),
            found=", ".join(str(key) for key in signed.keys),
        )
    return SignedCheckpoint(checkpoint=signed.checkpoint, keys=good)


def _require_header(header: Header, pins: Sequence[VerifierKey]) -> SignedCheckpoint:
    named = tuple(parse_vkey(text) for text in header.vkeys)
    signed = open_checkpoint(header.checkpoint, tuple(dict.fromkeys((*named, *pins))))
    checkpoint = signed.checkpoint
    for key in named:
        if key not in signed.keys:
            raise LedgerError("log_key", f"the header names a key of {shown(key.name)} that did not sign")
    signed = require_pinned(signed, pins)
    if header.origin != checkpoint.origin:
        raise LedgerError(
            "header",
            "the header's origin is not the checkpoint's",
            expected=checkpoint.origin,
            found=header.origin,
        )
    if header.tree_size != checkpoint.size:
        raise LedgerError(
            "header",
            "the header's tree size is not the checkpoint's",
            expected=str(checkpoint.size),
            found=str(header.tree_size),
        )
    return signed


def _require_consistency(header: Header, checkpoint: Checkpoint, expect: Checkpoint | None) -> None:
    if header.dialogue is None:
        return  # the root at the auditor's size is recomputed from the entries
    shown_from = header.consistency
    if shown_from is not None:
        verify_consistency(
            shown_from.size, checkpoint.size, shown_from.proof, shown_from.root, checkpoint.root
        )
    if expect is None:
        return
    if expect.size == checkpoint.size:
        verify_consistency(expect.size, checkpoint.size, (), expect.root, checkpoint.root)
    elif shown_from is None or shown_from.size != expect.size:
        raise LedgerError(
            "consistency",
            f"this transcript carries no proof from your checkpoint of {expect.size} entries",
            hint="Ask for the whole log, or for an export made with your checkpoint",
        )
    elif shown_from.root != expect.root:
        raise LedgerError(
            "consistency",
            "the log does not continue your checkpoint: history was rewritten",
            expected=expect.root.hex(),
            found=shown_from.root.hex(),
        )


def beyond(policy: PolicyEvidence | None) -> str:
    """What the evidence says of a log that may have gone on after its checkpoint."""
    if policy is not None and policy.witnesses:
        names = ", ".join(sorted({shown(each.witness, 60) for each in policy.witnesses}))
        return f"; nothing larger was shown to the witnesses {names} when they signed"
    return "; nothing here shows whether the log went on after this checkpoint (no witness signed it)"


def _reach(policy: PolicyEvidence, size: int) -> str:
    """How much of a log of this size the witnesses have signed for, where that is not all of it (SPEC L-128)."""
    left = size - policy.size
    if not left:
        return ""
    return f", for the first {policy.size} entries; {left} after them {'is' if left == 1 else 'are'} not witnessed yet"


def _completeness(checks: LogChecks, policy: PolicyEvidence | None) -> str:
    size = checks.checkpoint.size
    if checks.dialogue is None:
        text = f"all {size} entries under the checkpoint are shown"
    else:
        closed = checks.last_kind == "close"
        tail = "up to its close" if closed else "but no close is: it may go on after what is shown"
        text = f"every message of the dialogue from its first on is shown, {tail}; the rest of the log is not"
    if checks.expect is not None:
        text += f"; the log still holds all {checks.expect.size} entries of your checkpoint"
    return text + beyond(policy)


def _not_shown(checks: LogChecks, *, pinned: bool, policy: PolicyEvidence | None) -> tuple[str, ...]:
    found = [
        "that any statement is true",
        "when anything was said: the times are the authors' claims",
        "who holds the keys: the names are the signers' own",
        "whether the log went on after this checkpoint",
    ]
    if policy is not None and policy.size < checks.checkpoint.size:
        found.append(f"that a witness saw the entries from {policy.size} on: they are not cosigned yet")
    if not pinned:
        found.append("that this is the log you mean: its key is self-asserted, as you named none")
    if checks.dialogue is not None:
        found.append("the rest of the log, and any revocation in it of a key that signs here")
    if checks.withheld:
        found.append(f"the content of {_parts(checks.withheld)} withheld: what is signed about it holds")
    if checks.erased:
        found.append(f"the content of {_parts(checks.erased)} that a tombstone names")
    found += [
        f"that {each.agent} itself signed its entries from {each.after + 1} to {each.last}: they are disowned,"
        f" its key was revoked at entry {each.index} as of entry {each.after}"
        for each in checks.authors.revoked.values()
        if each.disowns
    ]
    return tuple(found)


def _beyond_anchors(checks: LogChecks, anchored: Sequence[Anchored]) -> list[str]:
    """Which of the entries shown no anchor covers: of a dialogue that may be all of them."""
    reach = max((each.size for each in anchored), default=0)
    if not 0 < reach <= checks.last:
        return []
    return [
        f"that the entries shown from {reach} on existed before a block: no anchor whose evidence holds covers them"
    ]


def _parts(count: int) -> str:
    return "1 part" if count == 1 else f"{count} parts"


@contextmanager
def _opened(source: str | os.PathLike[str] | BinaryIO) -> Iterator[BinaryIO]:
    if not isinstance(source, str | os.PathLike):
        yield source
        return
    with open_file(source) as stream:
        yield stream
