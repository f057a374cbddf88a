"""What a cross-check of two records has found, for people and for programs."""

from __future__ import annotations

from agentmesh.audit.crosscheck import CrossCheck, Finding
from agentmesh.view.text import clean, count

_VERDICTS = ("differs", "lacking", "contradicts")


def cross_check_text(found: CrossCheck, *, limit: int) -> str:
    """The comparison for people: what matches, then at most `limit` messages that do not."""
    lines = [f"with       {clean(found.theirs or '?')}"]
    matching = f"matching   {count(found.matching, 'message')}"
    if found.by_statement:
        matching += (
            f", {found.by_statement} of them by their statements alone: one side withholds the content"
        )
    lines.append(matching)
    for verdict in _VERDICTS:
        number = sum(each.verdict == verdict for each in found.findings)
        if number:
            lines.append(f"{verdict:<10} {count(number, 'message')}")
    lines += [f"  {_finding(each)}" for each in found.findings[:limit]]
    if len(found.findings) > limit:
        lines.append(f"  ... and {len(found.findings) - limit:,} more")
    if found.unsigned:
        lines.append(
            f"unsigned   {count(found.unsigned, 'message')}: nothing to compare them by, so they were not"
        )
    if found.readings:
        lines.append(
            f"readings   {count(found.readings, 'message')} of whoever read the record: one side alone keeps them"
        )
    lines.append(f"agree      {_agreement(found)}")
    return "\n".join(lines)


def cross_check_json(found: CrossCheck, *, limit: int) -> dict[str, object]:
    """The same for programs; `more` counts the findings that are not listed."""
    return {
        "agrees": found.agrees,
        "ours": found.ours,
        "theirs": found.theirs,
        "matching": found.matching,
        "by_statement": found.by_statement,
        **{verdict: sum(each.verdict == verdict for each in found.findings) for verdict in _VERDICTS},
        "unsigned": found.unsigned,
        "readings": found.readings,
        "findings": [_finding_json(each) for each in found.findings[:limit]],
        "more": max(0, len(found.findings) - limit),
    }


def _finding(each: Finding) -> str:
    places = [
        f"entry {index} {where}"
        for index, where in ((each.ours, "here"), (each.theirs, "there"))
        if index is not None
    ]
    what = " ".join(filter(None, (clean(each.method), clean(each.name), clean(each.type))))
    return f"{each.verdict}: {what} ({', '.join(places)}): {clean(each.why)}"


def _finding_json(each: Finding) -> dict[str, object]:
    return {
        "verdict": each.verdict,
        "why": each.why,
        "exchange": each.exchange,
        "type": each.type,
        "method": each.method,
        "name": each.name,
        "ours": each.ours,
        "theirs": each.theirs,
    }


def _agreement(found: CrossCheck) -> str:
    if found.agrees:
        return "yes: both sides hold the same signed statements of all that passed between them"
    if not found.findings:
        return "no: the two records have no exchange in common"
    return "no"
