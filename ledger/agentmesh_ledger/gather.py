"""Cosignatures gathered for a log's newest checkpoint: all witnesses at once, within a time that none can stretch."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import Final, TypeAlias

from agentmesh_ledger.checkpoint import open_checkpoint
from agentmesh_ledger.cosignature import CosignerKey, cosignatures
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.note import MAX_SIGNATURES, Note, NoteSignature, parse_note, signature_line
from agentmesh_ledger.policy import Policy, PolicyEvidence, Witness
from agentmesh_ledger.visit import CheckpointSource, Head, Outpaced, Refusal, Refused, Visit

__all__ = ["CheckpointSource", "Gathered", "WitnessFailure", "gather", "held_lines"]

GRACE: Final = (
    1.0  # seconds that the others still have once the quorum is met: a witness that hangs holds nobody up
)
_ROUNDS: Final = 5
_Lines: TypeAlias = dict[CosignerKey, NoteSignature]


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessFailure:
    """A witness of the policy that did not cosign, and why. Nothing follows of that for the log."""

    name: str
    reason: Refusal
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """A checkpoint's note with the log's own signatures and the cosignatures at hand, each of which holds.

    `size` is the checkpoint's. `evidence` is None where the policy is not met, and `unmet` then says what is missing.
    """

    note: str
    size: int
    evidence: PolicyEvidence | None
    unmet: str | None
    failures: tuple[WitnessFailure, ...]


def gather(
    source: CheckpointSource,
    policy: Policy,
    *,
    within: float,
    seen: dict[str, int] | None = None,
    held: str | None = None,
    patient: bool = False,
) -> Gathered:
    """The newest checkpoint, cosigned by those witnesses of the policy that answer within so many seconds (SPEC L-124).

    All are asked at once. Once the policy is met the others have a second more, unless `patient`. `seen` has the size that each
    witness, by its vkey, is thought to hold, and is brought up to date. `held` is a note gathered before: where it is of the same
    checkpoint, its cosignatures are kept for witnesses that do not answer.
    Raises: LedgerError(rollback) where a witness holds more of the log than there is, (forked) where it holds another branch
        (SPEC L-125, L-126); what the source raises.
    """
    deadline = time.monotonic() + within
    known: dict[str, int] = {} if seen is None else seen
    places = {each.name: at for at, each in enumerate(policy.witnesses)}
    for left in reversed(range(_ROUNDS)):
        head = _head(source)
        asked, failures = _askable(policy)
        lines = {} if held is None else held_lines(held, head.checkpoint.text, policy)
        found, outpaced = _round(source, policy, head, asked, known, lines, deadline, patient)
        failures += found
        note = _noted(head, lines, policy)
        evidence, unmet = _judged(policy, note, head)
        # One that has seen more takes nothing from what others have signed; but before anything is signed it must be heard.
        if outpaced and (patient or evidence is None):
            if left:
                continue
            if patient:
                break
        return Gathered(
            note=note,
            size=head.checkpoint.size,
            evidence=evidence,
            unmet=unmet,
            failures=tuple(sorted(failures, key=lambda each: places[each.name])),
        )
    raise LedgerError("witness", "the log grows, and is submitted by others, faster than it can be cosigned")


def held_lines(note: str, text: str, policy: Policy) -> _Lines:
    """The cosignatures by witnesses of the policy in a note of just this checkpoint; none where it is another's, or damaged."""
    try:
        parsed = parse_note(note)
        keys = [each.key for each in policy.witnesses if each.key is not None]
        held = {each.key for each in cosignatures(parsed, keys)}
    except LedgerError:
        return {}
    if parsed.text != text:
        return {}
    return {key: _line_of(parsed, key) for key in keys if key in held}


def _line_of(note: Note, key: CosignerKey) -> NoteSignature:
    # The time stands first in the signature: of several lines the newest.
    return max(
        (each for each in note.signatures if (each.name, each.key_id) == (key.name, key.key_id)),
        key=lambda line: line.signature,
    )


def _head(source: CheckpointSource) -> Head:
    note, keys = source.checkpoint(), source.keys
    signed = open_checkpoint(note, keys)
    parsed = parse_note(note)
    known = {(key.name, key.key_id) for key in signed.keys}
    own = dict.fromkeys(each for each in parsed.signatures if (each.name, each.key_id) in known)
    lines = "".join(signature_line(each.name, each.key_id, each.signature) for each in own)
    return Head(note=f"{parsed.text}\n{lines}", checkpoint=signed.checkpoint, keys=signed.keys)


def _noted(head: Head, lines: _Lines, policy: Policy) -> str:
    """The note with the cosignatures in the policy's order; never more lines than a note may have."""
    room = MAX_SIGNATURES - len(parse_note(head.note).signatures)
    kept = [lines[each.key] for each in policy.witnesses if each.key in lines][:room]
    return head.note + "".join(signature_line(each.name, each.key_id, each.signature) for each in kept)


def _judged(policy: Policy, note: str, head: Head) -> tuple[PolicyEvidence | None, str | None]:
    try:
        return policy.judge(note, keys=head.keys), None
    except LedgerError as error:
        if error.reason != "policy":
            raise
        return None, error.message


def _askable(policy: Policy) -> tuple[list[Witness], list[WitnessFailure]]:
    asked: list[Witness] = []
    failures: list[WitnessFailure] = []
    for each in policy.witnesses:
        if each.key is None:
            why = "its key is of ML-DSA-44, which is not checked here"
        elif each.url is None:
            why = "the policy has no URL for it"
        elif len(asked) >= MAX_SIGNATURES:
            why = f"a note has no place for more than {MAX_SIGNATURES} signatures"
        else:
            asked.append(each)
            continue
        failures.append(WitnessFailure(name=each.name, reason="not_asked", message=why))
    return asked, failures


_Outcome: TypeAlias = NoteSignature | BaseException


def _round(
    source: CheckpointSource,
    policy: Policy,
    head: Head,
    asked: list[Witness],
    known: dict[str, int],
    lines: _Lines,
    deadline: float,
    patient: bool,
) -> tuple[list[WitnessFailure], bool]:
    """Asks the witnesses about one checkpoint, and puts what they sign into `lines`.

    Gives back who did not, and whether one of them has seen a larger one, which the log has by now; the others then have a
    second more. Raises: LedgerError as `gather`.
    """
    answers: queue.SimpleQueue[tuple[Witness, _Outcome]] = queue.SimpleQueue()
    over = threading.Event()
    for witness in asked:
        _ask(source, head, witness, known, deadline, over, answers)
    waiting = {each.name for each in asked}
    failures: list[WitnessFailure] = []
    end = deadline
    outpaced = False
    try:
        while waiting:
            if (
                not patient
                and end == deadline
                and _judged(policy, _noted(head, lines, policy), head)[0] is not None
            ):
                end = min(deadline, time.monotonic() + GRACE)
            left = end - time.monotonic()
            try:
                witness, outcome = answers.get(timeout=max(left, 0))
            except queue.Empty:
                break
            waiting.discard(witness.name)
            if isinstance(outcome, Outpaced):
                outpaced, end = True, min(end, time.monotonic() + GRACE)
                message = "it has seen more of the log already"
                failures.append(WitnessFailure(name=witness.name, reason="refused", message=message))
            else:
                failures += _taken(witness, outcome, head, known, lines)
    finally:
        over.set()
    late = [each.name for each in asked if each.name in waiting]
    failures += [
        WitnessFailure(name=name, reason="slow", message="it gave no answer in time") for name in late
    ]
    return failures, outpaced


def _ask(
    source: CheckpointSource,
    head: Head,
    witness: Witness,
    known: dict[str, int],
    deadline: float,
    over: threading.Event,
    answers: queue.SimpleQueue[tuple[Witness, _Outcome]],
) -> None:
    """Asks one witness in a thread of its own."""
    assert witness.key is not None and witness.url is not None
    visit = Visit(
        name=witness.name,
        key=witness.key,
        url=witness.url,
        source=source,
        head=head,
        deadline=deadline,
        over=over.is_set,
    )
    old = known.get(str(witness.key), 0)

    def ask() -> None:
        try:
            answers.put((witness, visit.cosignature(old)))
        except BaseException as error:  # noqa: BLE001  # raised again by whoever waits
            answers.put((witness, error))

    # A daemon: a name server that hangs knows no timeout, and must not keep the process.
    threading.Thread(target=ask, name=f"witness {witness.name}", daemon=True).start()


def _taken(
    witness: Witness, outcome: _Outcome, head: Head, known: dict[str, int], lines: _Lines
) -> list[WitnessFailure]:
    assert witness.key is not None
    if isinstance(outcome, Refused):
        return [WitnessFailure(name=witness.name, reason=outcome.reason, message=outcome.message)]
    if isinstance(outcome, BaseException):
        raise outcome
    lines[witness.key] = outcome
    known[str(witness.key)] = head.checkpoint.size
    return []
