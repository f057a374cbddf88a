"""What can go wrong in a ledger, as one exception with a reason a program can read."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

Check: TypeAlias = Literal[
    "line",  # a transcript line is not one canonical JSON line, or too long
    "header",  # the first line is not a header of this format
    "canonical",  # an entry or payload is not the canonical form of what it says
    "envelope",  # an entry is not a DSSE envelope of this format
    "message",  # a payload field is missing, unknown, or out of bounds
    "signature",  # the author's signature does not hold
    "author",  # the author's key is not registered, or registered twice
    "identity",  # a key or an agent id is malformed, or a key that no verifier should accept
    "chain",  # `prev` is not the leaf hash of the entry before
    "index",  # an entry does not stand at its index
    "sequence",  # a message is missing from its dialogue, or stands twice
    "root",  # the tree's root is not the checkpoint's
    "checkpoint",  # the checkpoint is malformed or its signature does not hold
    "log_key",  # the key that signed the checkpoint is not the one named or pinned
    "part",  # content does not match its commitment
    "selection",  # an entry does not belong to what the header says is shown
    "inclusion",  # an entry is not in the tree of the checkpoint
    "consistency",  # the log is not a continuation of the auditor's checkpoint
    "count",  # fewer or more entries than the checkpoint or the end line says
    "digest",  # the end line's digest is not that of the lines before
    "truncated",  # the file ends before its end line
    "trailing",  # bytes after the end line
    "store",  # a column or row of the database disagrees with the signed bytes
    "rollback",  # the database is older than, or another branch than, what the log's key has signed
    "forked",  # someone outside holds another branch of this log than the one at hand
    "corrupt",  # the file is no database, or a damaged one
    "tile",  # a tile or an entry bundle is missing, malformed, or not that of the tree
    "proof",  # a proof file is not of its format
    "policy",  # too few of the witnesses that a policy asks for have signed, or the policy is malformed
    "anchor",  # what was published on a chain is malformed, does not prove it, or is not this log's
    "fork",  # two records of a log are no proof that it was forked, or a proof of it is malformed
    "usage",  # a usage receipt, a binding to an account, or a balance is malformed, or a signature of it does not hold
]

Fault: TypeAlias = Literal[
    "not_found",
    "origin",
    "permissions",
    "unreadable",
    "key",
    "refused",  # nothing was written: the request itself is at fault
    "too_large",
    "failed",  # nothing was written: disk full, read-only, locked; try again
    "unknown",  # it cannot be told whether it was written: reopen and look
    "closed",
    "worker",  # a process that helped to verify ended; nothing is shown
    "no_store",  # the `store` extra is not installed
    "no_extra",  # another extra is not installed; the hint names it
    "node",  # a chain's node, or a calendar, cannot be reached, refuses, or answers nonsense; nothing is lost, try again
    "witness",  # a witness cannot be reached, refuses, or answers nonsense
]

Reason: TypeAlias = Check | Fault

CHECKS: Final[frozenset[str]] = frozenset(get_args(Check))


class LedgerError(Exception):
    """The one error of this package.

    `reason` is either a check of SPEC.md that failed (then `is_check` is true: the content is not what it
    claims to be) or a fault of the surroundings. `index` is the entry's place in the log, `line` the line of
    a transcript counted from 1; `expected` and `found` are short texts, safe to print. A verification that went
    on behind its first failure has the further ones in `others`; `more` says that it stopped at its limit.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        index: int | None = None,
        line: int | None = None,
        expected: str | None = None,
        found: str | None = None,
        path: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(reason, message)
        self.reason: Reason = reason
        self.message = message
        self.index = index
        self.line = line
        self.expected = expected
        self.found = found
        self.path = path
        self.hint = hint
        self.others: tuple[LedgerError, ...] = ()
        self.more = False

    @property
    def is_check(self) -> bool:
        """Whether the content failed a check, rather than the surroundings the operation."""
        return self.reason in CHECKS

    @property
    def where(self) -> str:
        """The place, as in `line 7, entry 5`; empty where there is none."""
        places = []
        if self.line is not None:
            places.append(f"line {self.line}")
        if self.index is not None:
            places.append(f"entry {self.index}")
        return ", ".join(places)

    def locate(self, *, index: int | None = None, line: int | None = None) -> None:
        """Fills in the place where it was not known yet."""
        self.index = index if self.index is None else self.index
        self.line = line if self.line is None else self.line

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        if self.expected is not None and self.found is not None:
            text += f" (expected {self.expected}, found {self.found})"
        if self.path is not None:
            text += f" [{self.path}]"
        return f"{text}. {self.hint}" if self.hint else text
