"""Two sides' records of what passed between them, held against each other.

Pure: it takes two records that were verified in full, each by itself. What it shows is that both sides hold the same
statements, signed by their authors, about the same content; and where they do not, which message it is and on whose side.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from agentmesh.audit.exchanges import Exchanged, Part, Side
from agentmesh.audit.retold import Contradiction, contradictions
from agentmesh.serving.signing.record import wire_dialogue
from agentmesh_ledger import AgentId, LedgerError
from agentmesh_ledger.identity import public_key

Verdict: TypeAlias = Literal["lacking", "differs", "contradicts"]
_Key: TypeAlias = tuple[str, Part]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A message that is not the same on both sides. `ours` and `theirs` are its places, None where it is not there."""

    verdict: Verdict
    why: str
    exchange: str
    type: str
    method: str
    name: str
    ours: int | None
    theirs: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossCheck:
    """What was found. `matching` counts messages that both sides hold alike.

    `by_statement` are those of them whose content one side withholds: their statements are the same. `unsigned` counts
    messages that carry no name which both sides know, and so were not compared; `readings` those of readers of the
    record, in no dialogue: whoever fetches a transcript to verify it keeps no record of that.
    """

    ours: str
    theirs: str
    matching: int
    by_statement: int
    unsigned: int
    readings: int
    findings: tuple[Finding, ...]

    @property
    def agrees(self) -> bool:
        """Whether something was compared, and all of it is alike."""
        return self.matching > 0 and not self.findings


def cross_check(ours: Side, theirs: Side) -> CrossCheck:
    """Compare the exchanges between the two sides; those with others do not count.

    Where a record shows some dialogues only, no more than the exchanges of these are expected in the other.
    """
    mine, yours = _between(ours, theirs), _between(theirs, ours)
    left, right = _grouped(mine), _grouped(yours)
    pairing = _Pairing()
    for key in dict.fromkeys((*left, *right)):
        pairing.compare(left.get(key, []), right.get(key, []))
    retold = [
        *_retold(contradictions(ours, _filled(mine, yours)), is_ours=True),
        *_retold(contradictions(theirs, _filled(yours, mine)), is_ours=False),
    ]
    # What is told of an exchange that is not the same on both sides is not looked into beside.
    told = {each.exchange for each in pairing.findings}
    findings = [*pairing.findings, *(each for each in retold if each.exchange not in told)]
    return CrossCheck(
        ours=ours.origin,
        theirs=theirs.origin,
        matching=pairing.matching,
        by_statement=pairing.by_statement,
        unsigned=sum(each.is_unsigned for side in (ours, theirs) for each in side.exchanged),
        readings=pairing.readings,
        findings=tuple(sorted(findings, key=_place)),
    )


class _Pairing:
    def __init__(self) -> None:
        self.matching = 0
        self.by_statement = 0
        self.readings = 0
        self.findings: list[Finding] = []

    def compare(self, ours: list[Exchanged], theirs: list[Exchanged]) -> None:
        """The messages of one exchange and part. A side should hold one; one that holds two said two things."""
        left: list[Exchanged] = []
        rest: dict[str, deque[Exchanged]] = defaultdict(deque)
        for yours in theirs:
            rest[yours.statement].append(yours)
        for mine in ours:
            if rest[mine.statement]:
                self._alike(mine, rest[mine.statement].popleft())
            else:
                left.append(mine)
        right = sorted((each for others in rest.values() for each in others), key=lambda each: each.index)
        for mine, yours in zip(left, right, strict=False):
            self._found("differs", _why(mine, yours), mine, yours)
        shorter = min(len(left), len(right))
        for mine in left[shorter:]:
            self._lacking(mine, is_ours=True)
        for yours in right[shorter:]:
            self._lacking(yours, is_ours=False)

    def _alike(self, mine: Exchanged, yours: Exchanged) -> None:
        """Two messages under the same statement, or both under none."""
        if mine.kind == yours.kind:
            self._found("differs", f"both sides say that they {mine.kind} it", mine, yours)
        elif mine.refused or yours.refused or mine.flaw or yours.flaw:
            self._found("differs", _why(mine, yours), mine, yours)
        elif mine.content is not None and yours.content is not None:
            if mine.content != yours.content:
                self._found("differs", "the content is not the same", mine, yours)
            else:
                self.matching += 1
        else:
            self.matching += 1
            self.by_statement += 1

    def _lacking(self, each: Exchanged, *, is_ours: bool) -> None:
        if _is_reading(each):
            self.readings += 1
            return
        where = "their record" if is_ours else "our record"
        why = f"{where} has no such {each.type}"
        if each.flaw:
            why = f"{why}, and {each.flaw}"
        elif each.refused:
            why = f"{why}; it was refused when it came ({each.refused})"
        self._found("lacking", why, each if is_ours else None, None if is_ours else each)

    def _found(self, verdict: Verdict, why: str, mine: Exchanged | None, yours: Exchanged | None) -> None:
        one = mine or yours
        assert one is not None
        self.findings.append(
            Finding(
                verdict=verdict,
                why=why,
                exchange=one.exchange,
                type=one.type,
                method=one.method,
                name=one.name or (yours.name if yours else ""),
                ours=None if mine is None else mine.index,
                theirs=None if yours is None else yours.index,
            )
        )


def _is_reading(each: Exchanged) -> bool:
    """Whether it was a resource that was read, in no dialogue, as an auditor does."""
    return each.method == "resources/read" and each.sealed is not None and not each.sealed.statement.dialogue


def _why(mine: Exchanged, yours: Exchanged) -> str:
    """Why two messages of one exchange do not count as the same."""
    if mine.refused or yours.refused:
        return f"{'we' if mine.refused else 'they'} refused what came ({mine.refused or yours.refused})"
    if mine.flaw or yours.flaw:
        return f"{'on our side' if mine.flaw else 'on theirs'} {mine.flaw or yours.flaw}"
    if not mine.statement or not yours.statement:
        return f"only {'their' if yours.statement else 'our'} record has a statement"
    if mine.sealed is None or yours.sealed is None:
        return "the statements are not the same"
    one, other = mine.sealed.statement.author, yours.sealed.statement.author
    if one == other:
        return f"two statements about it, both signed by {one}"
    return f"ours is signed by {one}, theirs by {other}"


def _filled(side: Sequence[Exchanged], other: Sequence[Exchanged]) -> list[Exchanged]:
    """A side's messages, with what it withholds taken from the other's of the same statement, where that holds."""
    known = {
        each.statement: each
        for each in other
        if each.statement and each.sealed and each.content and not each.flaw
    }
    found: list[Exchanged] = []
    for each in side:
        same = known.get(each.statement)
        if same is None:
            found.append(each)
        else:
            content, sealed = each.content or same.content, each.sealed or same.sealed
            found.append(replace(each, content=content, sealed=sealed))
    return found


def _retold(found: Iterator[Contradiction], *, is_ours: bool) -> Iterator[Finding]:
    for each in found:
        yield Finding(
            verdict="contradicts",
            why=f"{'our' if is_ours else 'their'} record contradicts itself: {each.why}",
            exchange=each.exchange,
            type=each.kind,
            method="",
            name=each.name,
            ours=each.index if is_ours else None,
            theirs=None if is_ours else each.index,
        )


def _between(side: Side, other: Side) -> list[Exchanged]:
    """The messages of a side's exchanges with the other, as far as the other's record should show them."""
    known = {each.exchange for each in other.exchanged}
    whole: dict[str, list[Exchanged]] = defaultdict(list)
    for each in side.exchanged:
        if not each.is_unsigned:
            whole[each.exchange].append(each)
    # A key may be changed, and all that it signed be left out: whom we called by one name is one and the same.
    called = frozenset(each.called for each in side.exchanged if each.called and each.parties & other.keys)
    found: list[Exchanged] = []
    for exchange, messages in whole.items():
        if exchange in known or (_is_with(messages, other, called) and _is_shown(messages, other)):
            found += messages
    return found


def _is_with(messages: Sequence[Exchanged], other: Side, called: frozenset[str]) -> bool:
    return any(each.parties & other.keys or (each.called in called and _is_answer(each)) for each in messages)


def _is_answer(each: Exchanged) -> bool:
    """Whether it is an answer that came to us signed and held."""
    is_good = each.sealed is not None and not each.flaw and not each.refused
    return is_good and (each.kind, each.part) == ("received", "answer")


def _is_shown(messages: Sequence[Exchanged], other: Side) -> bool:
    """Whether the other's record, where it shows some dialogues only, is of the one that these messages are in."""
    if other.dialogues is None:
        return True
    return any(_dialogues_of(each) & other.dialogues for each in messages)


def _dialogues_of(each: Exchanged) -> frozenset[str]:
    """Where the two sides of an exchange record it: the caller under its own dialogue, the other under the wire's."""
    if each.sealed is None:
        return frozenset({each.dialogue})
    statement = each.sealed.statement
    caller = statement.author if each.part == "request" else statement.audience
    answering = statement.audience if each.part == "request" else statement.author
    found = {each.dialogue, wire_dialogue(_agent(caller), statement.dialogue)}
    found.add(statement.dialogue or wire_dialogue(_agent(answering), ""))
    return frozenset(found)


def _agent(key: str) -> AgentId | None:
    try:
        public_key(key)
    except LedgerError:
        return None
    return AgentId(key)


def _grouped(messages: Sequence[Exchanged]) -> dict[_Key, list[Exchanged]]:
    groups: dict[_Key, list[Exchanged]] = defaultdict(list)
    for each in messages:
        groups[each.exchange, each.part].append(each)
    return groups


def _place(finding: Finding) -> tuple[int, int]:
    last = 1 << 62
    return (
        last if finding.ours is None else finding.ours,
        last if finding.theirs is None else finding.theirs,
    )
