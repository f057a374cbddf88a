"""One witness asked for its cosignature, as https://c2sp.org/tlog-witness has it; it may be slow, broken or hostile."""

from __future__ import annotations

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

from agentmesh_ledger.checkpoint import Checkpoint, open_checkpoint
from agentmesh_ledger.cosignature import CosignerKey, cosignatures
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.fork import Fork, fork_between, verify_fork
from agentmesh_ledger.jcs import MAX_INTEGER
from agentmesh_ledger.note import MAX_NOTE, NoteSignature, VerifierKey, parse_note
from agentmesh_ledger.text import shown
from agentmesh_ledger.tree import verify_consistency
from agentmesh_ledger.web import bounded_opener, is_prefix
from agentmesh_ledger.witness.request import Submission, write_submission

Refusal: TypeAlias = Literal["not_asked", "unreachable", "slow", "refused", "nonsense"]

MAX_ANSWER: Final = 4 * MAX_NOTE  # bytes of a note
TRIES: Final = 4  # a witness that others submit to as well may move on between its answer and ours
_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,15})\n?\Z")


class CheckpointSource(Protocol):
    """A log as it stands. Asked from several threads at once.

    `checkpoint` is the newest note, signed by `keys`; `root` and `consistency` are those of any sizes up to it;
    `keep` puts the proof of a fork where it lasts, and says where that is. Each raises LedgerError.
    """

    @property
    def keys(self) -> tuple[VerifierKey, ...]: ...
    def checkpoint(self) -> str: ...
    def root(self, size: int) -> bytes: ...
    def consistency(self, old: int, new: int) -> Sequence[bytes]: ...
    def keep(self, fork: Fork, size: int) -> str: ...


class Refused(Exception):
    """A witness gave no cosignature. Nothing follows of that for the log."""

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(message)
        self.reason: Refusal = reason
        self.message = message


class Outpaced(Exception):
    """The log has grown meanwhile, and the witness has seen that already: ask again for the newest checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The checkpoint that all witnesses are asked to cosign; `note` has the log's own signatures and no other."""

    note: str
    checkpoint: Checkpoint
    keys: tuple[VerifierKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    status: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One witness, asked about one checkpoint; `name` is the policy's for it. `over` says that nobody waits any more."""

    name: str
    key: CosignerKey
    url: str
    source: CheckpointSource
    head: Head
    deadline: float  # of time.monotonic
    over: Callable[[], bool]

    def cosignature(self, old: int) -> NoteSignature:
        """The witness's line for the checkpoint; `old` is the size that it is thought to hold of the log.

        Raises: Refused; Outpaced; LedgerError(rollback) where it holds more of the log than there is,
            LedgerError(forked) where it holds another branch.
        """
        size = self.head.checkpoint.size
        old = min(old, size)
        for _ in range(TRIES):
            reply = self._submit(old)
            if reply.status == 200:
                return self._line(reply.body)
            if reply.status == 422 and old:
                raise self._contradicted(old, reply.body)
            if reply.status != 409:
                raise Refused("refused", _why(reply.status))
            told = _told_size(reply.body)
            if told > size:
                raise self._behind(told)
            if told == old == size:
                # A witness of tlog-witness before 1.0.0: this is how it says that its root of that size is another.
                raise self._contradicted(old, b"")
            if told == old:
                raise Refused("nonsense", f"it wants a proof from the size {told} that it was given one from")
            old = told
        raise Refused("refused", "others submit checkpoints of this log faster than we do")

    def _submit(self, old: int) -> _Reply:
        head = self.head.checkpoint
        proof = tuple(self.source.consistency(old, head.size))
        # Never shown to anyone before it was held against what the log signed (SPEC L-88).
        verify_consistency(old, head.size, proof, self.source.root(old), head.root)
        return self._asked(
            "add-checkpoint", write_submission(Submission(old=old, proof=proof, note=self.head.note))
        )

    def _line(self, body: bytes) -> NoteSignature:
        """The cosignature in an answer; lines of others are ignored, one of this witness must hold."""
        try:
            parsed = parse_note(self.head.note + body.decode("utf-8"))
            held = cosignatures(parsed, [self.key])
        except (LedgerError, UnicodeDecodeError) as error:
            why = error.message if isinstance(error, LedgerError) else "it is not UTF-8"
            raise Refused("nonsense", f"its answer is no cosignature: {why}") from error
        if parsed.text != self.head.checkpoint.text:
            raise Refused("nonsense", "its answer is no cosignature")
        if not held or not all(each.time for each in held):
            raise Refused("nonsense", "its answer has no cosignature by its key, with a time")
        lines = [
            each for each in parsed.signatures if (each.name, each.key_id) == (self.key.name, self.key.key_id)
        ]
        return max(lines, key=lambda line: line.signature)  # the time stands first: the newest

    def _behind(self, told: int) -> Exception:
        """What it means that the witness holds more entries than the checkpoint has."""
        # Another process may have appended, and been here first.
        now = open_checkpoint(self.source.checkpoint(), self.source.keys).checkpoint
        if now.size >= told:
            return Outpaced()
        return LedgerError(
            "rollback",
            f"the witness {shown(self.name, 60)} holds a checkpoint of {told} entries of this log, which has {now.size}:"
            " it was cut, or put back from an older copy",
            expected=f"at least {told} entries",
            found=str(now.size),
            hint="Put the newest copy back, and append nothing to this one: that would fork the log",
        )

    def _contradicted(self, old: int, body: bytes) -> Exception:
        """What it means that the witness did not take a proof that holds for this log."""
        head = self.head.checkpoint
        found = self._signed(body) or self._signed(self._monitored())
        if found is None:
            return LedgerError(
                "forked",
                f"the witness {shown(self.name, 60)} says that its checkpoint of {old} entries is of another tree than this"
                " log's: one of two branches was put in the other's place",
                hint="It showed no checkpoint of the log, so there is no proof yet. Its operator has one: with it and"
                " an export of the whole log `agentmesh-verify fork` tells",
            )
        note, theirs = found
        if theirs.size > head.size:
            return self._behind(theirs.size)
        try:
            fork = fork_between(
                note,
                self.head.note,
                root=self.source.root(theirs.size),
                proof=tuple(self.source.consistency(theirs.size, head.size)),
                keys=self.head.keys,
            )
            verify_fork(fork, self.head.keys)
        except LedgerError as error:
            return Refused(
                "nonsense", f"it refuses the log by a checkpoint that proves nothing: {error.message}"
            )
        hint = "That file proves it to anyone: `agentmesh-verify fork FILE`"
        place: str | None = None
        try:
            place = self.source.keep(fork, theirs.size)
        except LedgerError as error:  # a full disk must not turn a fork into a passing fault
            hint = f"The proof could not be kept, and whoever asks again when it can will find it: {error.message}"
        return LedgerError(
            "forked",
            f"the log is forked: its key has signed another tree of {theirs.size} entries, which the witness"
            f" {shown(self.name, 60)} holds",
            expected=theirs.root.hex(),
            found=fork.root.hex(),
            path=place,
            hint=hint,
        )

    def _signed(self, body: bytes) -> tuple[str, Checkpoint] | None:
        """The checkpoint in these bytes, where the log signed it."""
        try:
            note = body.decode("utf-8")
            return note, open_checkpoint(note, self.head.keys).checkpoint
        except (LedgerError, UnicodeDecodeError):
            return None

    def _monitored(self) -> bytes:
        """The newest checkpoint of the log as a witness may serve it, for one that refuses without showing why."""
        digest = hashlib.sha256(self.head.checkpoint.origin.encode("utf-8")).hexdigest()
        try:
            reply = self._asked(f"{digest}/checkpoint", None)
        except Refused:
            return b""
        return reply.body if reply.status == 200 else b""

    def _asked(self, path: str, body: bytes | None) -> _Reply:
        """What the witness answers, within the time left and a bounded size. Redirects are not followed."""
        left = self.deadline - time.monotonic()
        if left <= 0 or self.over():
            raise Refused("slow", "it gave no answer in time")
        if not is_prefix(self.url) or urlsplit(self.url).scheme not in ("http", "https"):
            raise Refused("not_asked", "its URL in the policy is no http(s) URL")
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/{path}",
            data=body,
            headers={"Content-Type": "text/plain; charset=utf-8", "User-Agent": "agentmesh"},
        )
        try:
            with bounded_opener(left).open(request, timeout=left) as response:
                return _Reply(status=response.status, body=_bounded(response.read(MAX_ANSWER + 1)))
        except urllib.error.HTTPError as error:
            with error:
                return _Reply(status=error.code, body=_bounded(_rest(error)))
        except (http.client.HTTPException, OSError) as error:
            raise _unanswered(error) from error
        except ValueError as error:  # the standard library's own parsing of what a server sent
            raise Refused("nonsense", "its answer is malformed") from error


def _rest(error: urllib.error.HTTPError) -> bytes:
    try:
        return error.read(MAX_ANSWER + 1)
    except (http.client.HTTPException, OSError) as failure:
        raise _unanswered(failure) from failure


def _unanswered(error: Exception) -> Refused:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return Refused("slow", "it gave no answer in time")
    if isinstance(cause, http.client.HTTPException) and not isinstance(cause, http.client.RemoteDisconnected):
        return Refused("nonsense", f"its answer is no HTTP: {type(cause).__name__}")
    why = cause.strerror if isinstance(cause, OSError) and cause.strerror else type(cause).__name__
    return Refused("unreachable", f"it cannot be reached: {shown(str(why), 120)}")


def _bounded(body: bytes) -> bytes:
    if len(body) > MAX_ANSWER:
        raise Refused("nonsense", f"its answer is longer than {MAX_ANSWER} bytes")
    return body


def _told_size(body: bytes) -> int:
    found = _SIZE.match(body)
    if found is None or int(found[1]) > MAX_INTEGER:
        raise Refused("nonsense", "it says that it holds another size of the log, and not which")
    return int(found[1])


def _why(status: int) -> str:
    reasons = {
        400: "it takes the submission for malformed (400)",
        403: "it does not trust the log's key (403)",
        404: "it does not know the log (404): its operator has to trust the log's key",
        422: "it does not take the log's first checkpoint (422)",
        429: "it is asked too often (429)",
    }
    if 300 <= status < 400:
        return f"it redirects elsewhere ({status}), which is not followed: put the new URL into the policy"
    return reasons.get(status, f"it answers {status}")
