"""The witness without a network: bytes of a request in, status and body of the answer out."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from agentmesh_ledger.checkpoint import parse_checkpoint
from agentmesh_ledger.cosignature import MAX_TIME, cosignature_line
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.note import Note, VerifierKey, parse_note, signature_line
from agentmesh_ledger.witness.evidence import Evidence
from agentmesh_ledger.witness.key import WitnessKey
from agentmesh_ledger.witness.request import parse_submission
from agentmesh_ledger.witness.state import WitnessState
from agentmesh_ledger.witness.verdict import Conflict, Granted, Proposal, Seen, Verdict

TEXT: Final = "text/plain; charset=utf-8"
SIZE: Final = "text/x.tlog.size"
REPEATED_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the witness says, as HTTP has it."""

    status: int
    content_type: str
    body: bytes


class Trusted(Protocol):
    """The logs that a witness cosigns for."""

    def keys(self, origin: str) -> Sequence[VerifierKey]:
        """The keys that may sign this log's checkpoints; none for a log that is not known."""
        ...


@dataclass(slots=True)
class _Waiting:
    proposal: Proposal
    answer: Answer | None = field(default=None)


class Witness:
    """Cosigns checkpoints of the trusted logs that continue all it cosigned of them before (SPEC L-131 to L-136).

    Safe for threads: those that wait together share one transaction. `clock` gives seconds since 1970; `told` is
    called with what the operator should know, from whichever thread meets it.
    """

    def __init__(
        self,
        state: WitnessState,
        key: WitnessKey,
        trusted: Trusted,
        clock: Callable[[], float] = time.time,
        *,
        evidence: Evidence | None = None,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._state = state
        self._key = key
        self._trusted = trusted
        self._clock = clock
        self._evidence = evidence
        self._told = told
        self._said: tuple[str, float] = ("", 0.0)
        self._turn = threading.Lock()
        self._waiting: deque[_Waiting] = deque()

    @property
    def key(self) -> WitnessKey:
        """What it cosigns with."""
        return self._key

    def add_checkpoint(self, body: bytes) -> Answer:
        """The answer to this body of a request; a cosignature in it is made after the checkpoint is on the disk."""
        read = self.read(body)
        return read if isinstance(read, Answer) else self._together(read)

    def read(self, body: bytes) -> Proposal | Answer:
        """What the body proposes, or the answer where it proposes nothing that the state must be asked about."""
        try:
            submission = parse_submission(body)
            note = parse_note(submission.note)
            checkpoint = parse_checkpoint(note.text)
        except LedgerError as error:
            return _refusal(400, error.message)
        keys = self._trusted.keys(checkpoint.origin)
        if not keys:
            return _refusal(404, "this witness does not know the log")
        try:
            kept = _signed_by(submission.note, note, keys)
        except LedgerError as error:
            return _refusal(403, error.message)
        if kept is None:
            return _refusal(403, "no key that this witness trusts for the log has signed the checkpoint")
        if submission.old > checkpoint.size:
            return _refusal(400, "the old size is larger than the checkpoint's")
        return Proposal(checkpoint=checkpoint, old=submission.old, proof=submission.proof, note=kept)

    def settle(self, proposals: Sequence[Proposal]) -> list[Answer]:
        """The answers to these, in their order, by one transaction."""
        now = int(self._clock())
        try:
            if now > MAX_TIME:
                raise LedgerError("failed", "the clock is beyond every time of a cosignature")
            verdicts = self._state.settle(proposals, now)
        except LedgerError as error:
            # Ours, not the client's; and not for strangers' eyes: it may name files.
            self._complain(f"nothing was cosigned: {error}")
            return [_refusal(503, "the witness cannot keep its record now; try again")] * len(proposals)
        return [self._answer(each, verdict) for each, verdict in zip(proposals, verdicts, strict=True)]

    def checkpoint(self, origin: str) -> Answer:
        """The newest cosigned checkpoint of a log, with the cosignature that was given for it."""
        try:
            seen = self._state.latest(origin) if self._trusted.keys(origin) else None
        except LedgerError as error:
            self._complain(f"the record cannot be read: {error}")
            return _refusal(503, "the witness cannot read its record now; try again")
        if seen is None:
            return _refusal(404, "nothing of this log was cosigned here")
        # Ed25519 signs the same bytes the same way: this is the line that was answered, not a new statement.
        return Answer(status=200, content_type=TEXT, body=(seen.note + self._cosigned(seen)).encode())

    def _together(self, proposal: Proposal) -> Answer:
        mine = _Waiting(proposal)
        self._waiting.append(mine)
        with self._turn:
            if mine.answer is not None:  # whoever had the turn before took us along
                return mine.answer
            taken: list[_Waiting] = []
            while self._waiting:
                taken.append(self._waiting.popleft())
            answers = [_refusal(503, "the witness was interrupted; try again")] * len(taken)
            try:
                answers = self.settle([each.proposal for each in taken])
            finally:  # also after a signal: the others must not wait for an answer that nobody makes
                for each, answer in zip(taken, answers, strict=True):
                    each.answer = answer
            assert mine.answer is not None
            return mine.answer

    def _answer(self, proposal: Proposal, verdict: Verdict) -> Answer:
        if isinstance(verdict, Granted):
            return Answer(status=200, content_type=TEXT, body=self._cosigned(verdict.seen).encode())
        self._keep(proposal, verdict.seen)
        if isinstance(verdict, Conflict):
            return Answer(status=409, content_type=SIZE, body=f"{verdict.size}\n".encode())
        if verdict.seen is None:
            return _refusal(422, verdict.message)
        # The log's own word on what it showed before: with its tiles it finds out whether it forked.
        return Answer(status=422, content_type=TEXT, body=verdict.seen.note.encode())

    def _keep(self, proposal: Proposal, seen: Seen | None) -> None:
        """Keeps the two checkpoints where they prove that the log forked."""
        if seen is None or self._evidence is None:
            return
        try:
            path = self._evidence.keep(seen, proposal, self._trusted.keys(proposal.checkpoint.origin))
        except LedgerError as error:
            self._complain(
                f"a proof that {proposal.checkpoint.origin} forked could not be kept: {error.message}"
            )
            return
        if path is not None:
            self._told(f"{proposal.checkpoint.origin} has forked: the proof is {path}")

    def _complain(self, message: str) -> None:
        """Tells the operator what is wrong, the same once a minute: callers must not be able to fill what it is written to."""
        said, when = self._said
        now = time.monotonic()
        if message != said or now - when > REPEATED_SECONDS:
            self._said = (message, now)
            self._told(message)

    def _cosigned(self, seen: Seen) -> str:
        return cosignature_line(seen.checkpoint.text, self._key, seen.time)


def _signed_by(written: str, note: Note, keys: Sequence[VerifierKey]) -> str | None:
    """The note with the lines of these keys alone; None where there is none (SPEC L-131).

    Raises: LedgerError(checkpoint) where a line of one of them does not hold.
    """
    known = {(key.name, key.key_id) for key in keys}
    # Each once: the same good line sixty-four times would cost as many verifications.
    lines = dict.fromkeys(each for each in note.signatures if (each.name, each.key_id) in known)
    if len(lines) == len(note.signatures):
        note.verified_by(keys)
        return written
    Note(text=note.text, signatures=tuple(lines)).verified_by(keys)
    if not lines:
        return None
    own = "".join(signature_line(each.name, each.key_id, each.signature) for each in lines)
    return f"{note.text}\n{own}"


def _refusal(status: int, message: str) -> Answer:
    return Answer(status=status, content_type=TEXT, body=f"{message}\n".encode("utf-8", "replace"))
