"""Failures gathered up to a limit, so that one damaged place does not hide another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from agentmesh_ledger.checks import LogChecks
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.judge import SOUND, Judged, verdict
from agentmesh_ledger.record import Outline
from agentmesh_ledger.run import Outcome, Run

Progress: TypeAlias = Callable[[int, int], None]

_STEP = 1000  # entries between two calls of progress, at least


class Findings:
    """The failures of one verification, in the order they were met."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise LedgerError("refused", "a verification lists at least one failure")
        self._limit = limit
        self._found: list[LedgerError] = []
        self.full = False

    @property
    def any(self) -> bool:
        """Whether anything failed."""
        return bool(self._found)

    def add(self, error: LedgerError) -> None:
        """Takes a failure; over the limit it is only told that there are more."""
        if len(self._found) < self._limit:
            self._found.append(error)
        else:
            self.full = True

    def settle(self) -> None:
        """Ends the verification.

        Raises: LedgerError, the first failure with the others in it, where there is one.
        """
        if self._found:
            first, *others = self._found
            first.others, first.more = tuple(others), self.full
            raise first


def examine(
    checks: LogChecks,
    judged: Iterable[Judged],
    findings: Findings,
    *,
    line: int | None = None,
    take: Callable[[Outline], None] | None = None,
    take_run: Callable[[Run], bool] | None = None,
    progress: Progress | None = None,
) -> bool:
    """Holds judged entries against one another, on behind each failure. `line` is the first one's in a transcript;
    `take` and `take_run` do what those of the checks do, and perhaps more: either both are given or none.

    True where the entries were taken to their end, so that it makes sense to ask what is wrong with the whole.
    """
    done = told = 0
    if take is None or take_run is None:
        take, take_run = checks.take, checks.take_run
    total = checks.checkpoint.size
    try:
        for chunk in judged:
            if chunk.run is None or not take_run(chunk.run):
                at = None if line is None else line + done
                _take_each(checks, take, chunk.outcomes(), findings, at)
            if findings.full:
                return False
            done += chunk.count
            if progress is not None and done - told >= _STEP:
                told = done
                progress(done, total)
    except LedgerError as error:
        findings.add(error)
        return False
    if progress is not None:
        progress(done, total)
    return True


def _take_each(
    checks: LogChecks,
    take: Callable[[Outline], None],
    outcomes: Iterable[Outcome],
    findings: Findings,
    line: int | None,
) -> None:
    """Takes entries one by one until there are no more, or too many that failed; `line` is the first one's."""
    for place, outcome in enumerate(outcomes):
        at = None if line is None else line + place
        if len(outcome) != SOUND or not _taken(take, outcome, findings, at):
            _pass_over(checks, outcome, findings, at)
            if findings.full:
                return


def _taken(take: Callable[[Outline], None], outcome: Outcome, findings: Findings, line: int | None) -> bool:
    seen = Outline._make(outcome)
    try:
        take(seen)
    except LedgerError as error:
        error.locate(index=seen.place, line=line)
        findings.add(error)
        return False
    return True


def _pass_over(checks: LogChecks, outcome: Outcome, findings: Findings, line: int | None) -> None:
    found = verdict(outcome)
    if isinstance(found, Outline):
        checks.pass_over(found.place, found.leaf_hash, found)
        return
    error = found.error
    try:
        if found.index is not None:
            checks.require_place(found.index)
    except LedgerError as misplaced:
        error = misplaced
    error.locate(index=found.index, line=line)
    findings.add(error)
    checks.pass_over(found.index, found.leaf, found.seen)
