"""Whether what a record says beside its exchanges agrees with them.

The two sides of an exchange hold the same statements. But the caller's record also says what its agent was answered, and
the other's what its agent said: messages that each signs alone, and may sign anew with other words.
"""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mcp.types import CallToolResult
from pydantic import ValidationError

from agentmesh.audit.exchanges import Exchanged, Side, read_object
from agentmesh.toolbox.handles import WAIT_TOOL
from agentmesh.toolbox.results import MAX_TEXT, ToolResult, read_result
from agentmesh_ledger import JsonValue, LedgerError, Record
from agentmesh_ledger.jcs import canonical

_CALL: Final = "tools/call"
# As many calls in the same words are looked at for each request: a record may have any number, all of them open.
_MOST_ALIKE: Final = 64
_LATE: Final = re.compile(r" did not answer within ([0-9]+(?:\.[0-9]+)?) seconds")
# How the SDK's client says that an answer does not fit the tool's output schema.
_UNFIT: Final = re.compile(
    r" failed: (?:Invalid structured content returned by|Invalid schema for|Tool .* has an output schema but)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """A message that does not agree with the exchange it tells of."""

    index: int
    kind: str
    name: str
    exchange: str
    why: str


def contradictions(side: Side, exchanged: Sequence[Exchanged]) -> Iterator[Contradiction]:
    """What one side's record says of these exchanges in other words than were exchanged; withheld content is passed over."""
    sound = [each for each in exchanged if not each.flaw and not each.refused and each.method == _CALL]
    yield from _Caller(side, sound).contradictions()
    yield from _Answerer(side, sound).contradictions()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A call that was sent: its place, tool and arguments, who signed it, and what came of it, handles followed."""

    index: int
    exchange: str
    tool: str
    arguments: bytes | None
    author: str
    time: str
    answers: tuple[Exchanged, ...]

    @property
    def finals(self) -> list[tuple[Exchanged, ToolResult]]:
        """The answers that could be read as results; handles and errors are none."""
        found: list[tuple[Exchanged, ToolResult]] = []
        for each in self.answers:
            if each.type == "result" and each.content is not None and _handle(each) is None:
                try:
                    answer = CallToolResult.model_validate(each.read())
                except ValidationError:
                    continue  # no answer to the call: a question back, or what the SDK would not have let in
                found.append((each, read_result(answer, seconds=0.0)))
        return found


class _Caller:
    """The side that asked: each call of its agents was sent as it is recorded, and its result is what was received."""

    def __init__(self, side: Side, exchanged: Sequence[Exchanged]) -> None:
        self._records = side.retold
        self._sent = [each for each in exchanged if each.kind == "sent" and each.part == "request"]
        self._received: dict[str, list[Exchanged]] = defaultdict(list)
        for each in exchanged:
            if each.kind == "received" and each.part == "answer":
                self._received[each.exchange].append(each)

    def contradictions(self) -> Iterator[Contradiction]:
        by_dialogue: dict[str, list[Record]] = defaultdict(list)
        for record in self._records:
            by_dialogue[record.message.dialogue].append(record)
        for dialogue, sent in _by_dialogue(self._sent).items():
            records = by_dialogue[dialogue]
            waits = self._waits(sent)
            asked = [each for one in sent if (each := self._asked(one, waits)) is not None]
            # Who uses the signed transport alone records no calls.
            if asked and any(each.message.kind in ("open", "call") for each in records):
                yield from _Calls(records, asked).contradictions()

    def _waits(self, sent: Sequence[Exchanged]) -> dict[str, list[Exchanged]]:
        """What came of waiting for each handle."""
        found: dict[str, list[Exchanged]] = defaultdict(list)
        for each in sent:
            asked = each.read()
            arguments = asked.get("arguments")
            if asked.get("name") == WAIT_TOOL and isinstance(arguments, dict):
                found[str(arguments.get("dialogue"))] += self._received[each.exchange]
        return found

    def _asked(self, one: Exchanged, waits: Mapping[str, list[Exchanged]]) -> _Asked | None:
        content = one.read()
        tool = content.get("name")
        if not isinstance(tool, str) or tool == WAIT_TOOL:
            return None
        answers = list(self._received[one.exchange])
        for handle in {_handle(each) for each in answers} - {None}:
            answers += waits.get(str(handle), ())
        statement = None if one.sealed is None else one.sealed.statement
        return _Asked(
            index=one.index,
            exchange=one.exchange,
            tool=tool,
            arguments=_form(content.get("arguments") or {}),
            author="" if statement is None else statement.author,
            time="" if statement is None else statement.time,
            answers=tuple(answers),
        )


class _Calls:
    """The calls of one dialogue, their results, and what was sent for them to the other side."""

    def __init__(self, records: Sequence[Record], asked: Sequence[_Asked]) -> None:
        self._calls = {each.index: each for each in records if each.message.kind == "call"}
        self._results = [each for each in records if each.message.kind == "result"]
        self._asked = asked
        self._ends: dict[int, int] = {}
        for each in self._results:
            if each.message.reply_to is not None:
                self._ends.setdefault(each.message.reply_to, each.index)
        self._alike: dict[tuple[str, bytes | None], list[Record]] = defaultdict(list)
        for each in self._calls.values():
            arguments = _part(each, "arguments")
            if arguments is not None:
                self._alike[str(each.message.facts.get("tool")), _form(read_object(arguments))].append(each)
        self._asked_for: dict[int, list[_Asked]] = defaultdict(list)
        self._may_be = {each.index: self._calls_of(each) for each in asked}
        for one in asked:
            for call in self._may_be[one.index]:
                self._asked_for[call.index].append(one)

    def contradictions(self) -> Iterator[Contradiction]:
        answered: set[int] = set()
        for result in self._results:
            call = self._calls.get(-1 if result.message.reply_to is None else result.message.reply_to)
            if call is None or call.index in answered:
                yield _contradiction(result, self._asked[-1], "it is the result of no call, or a second one")
                continue
            answered.add(call.index)
            asked = self._asked_for[call.index]
            if asked and not self._has_rivals(call, asked) and (why := _unlike(result, asked)):
                yield _contradiction(result, asked[-1], why)
        # Of a call whose arguments are withheld nobody can say what it asked.
        if all(_part(call, "arguments") is not None for call in self._calls.values()):
            for each in self._asked:
                if not self._may_be[each.index]:
                    why = "a request was sent that none of its calls tells of"
                    yield Contradiction(
                        index=each.index, kind="request", name=each.tool, exchange=each.exchange, why=why
                    )

    def _calls_of(self, asked: _Asked) -> list[Record]:
        """The calls that a request may have been sent for: the last alike before it, and those alike that were open then."""
        calls = self._alike[asked.tool, asked.arguments]
        before = bisect_left(calls, asked.index, key=lambda each: each.index)
        alike = calls[max(0, before - _MOST_ALIKE) : before]
        own = [each for each in alike if each.message.author == asked.author] or alike
        last = max((each.index for each in own), default=0)
        return [each for each in own if each.index == last or self._ends.get(each.index, last + 1) > last]

    def _has_rivals(self, call: Record, asked: Sequence[_Asked]) -> bool:
        """Whether the same was asked of several at once: then nobody can say which of the results is this side's."""
        server = call.message.facts.get("server")
        return any(
            each.message.facts.get("server") != server for one in asked for each in self._may_be[one.index]
        )


class _Answerer:
    """The side that was asked: what it sent is what its agents said, and what they were asked is what it received."""

    def __init__(self, side: Side, exchanged: Sequence[Exchanged]) -> None:
        self._side = side
        self._sent = [each for each in exchanged if each.kind == "sent" and each.part == "answer"]
        self._asked = {
            each.exchange: each for each in exchanged if each.kind == "received" and each.part == "request"
        }

    def contradictions(self) -> Iterator[Contradiction]:
        by_dialogue: dict[str, list[Record]] = defaultdict(list)
        for record in self._side.retold:
            by_dialogue[record.message.dialogue].append(record)
        for each in self._sent:
            told = each.read().get("structuredContent")
            if not isinstance(told, dict):
                continue
            records = by_dialogue.get(str(told.get("dialogue")), [])
            yield from self._unlike_question(each, records)
            if told.get("reason") == "done":
                yield from self._unlike_answer(each, told, records)

    def _unlike_question(self, sent: Exchanged, records: Sequence[Record]) -> Iterator[Contradiction]:
        task = next((each for each in records if each.message.kind == "task"), None)
        request = self._asked.get(sent.exchange)
        arguments = request.read().get("arguments") if request is not None else None
        if task is None or request is None or not isinstance(arguments, dict):
            return
        question, text = arguments.get("question", arguments.get("task")), _text(task)
        if isinstance(question, str) and text is not None and _plain(question) != _plain(text):
            yield _contradiction(task, request, "it is not what was asked in the request that it came from")

    def _unlike_answer(
        self, sent: Exchanged, told: Mapping[str, JsonValue], records: Sequence[Record]
    ) -> Iterator[Contradiction]:
        says = [each for each in records if each.message.kind == "say"]
        texts = [text for each in says if (text := _text(each)) is not None]
        answer = _plain(str(told.get("answer")))
        if records and not says and answer:
            why = "the answer that was sent is in nothing that its agents said"
            yield Contradiction(
                index=sent.index, kind=sent.type, name=sent.name, exchange=sent.exchange, why=why
            )
        if not says or len(texts) != len(says):
            return
        # A pattern's answer is the last words, or all answers of its lead, joined.
        if any(answer == _plain(" ".join(texts[start:])) for start in range(len(texts))):
            return
        by_lead = [_text(each) or "" for each in says if each.message.author == says[-1].message.author]
        if answer != _plain(" ".join(by_lead)):
            yield _contradiction(says[-1], sent, "it is not what was answered to who asked")


def _unlike(result: Record, asked: Sequence[_Asked]) -> str:
    """Why a result is none of the answers that came to its call; empty where it is, or nothing can be said."""
    text, is_error = _text(result), result.message.facts.get("error") is True
    if text is None or any(each.content is None for one in asked for each in one.answers):
        return ""
    finals = [answer for one in asked for _, answer in one.finals]
    structured = _part(result, "structured")
    for answer in finals:
        same = structured is None or _same(read_object(structured), answer.structured)
        if same and answer.is_error == is_error and _plain(text) == _plain(answer.text):
            return ""
    if not is_error:
        return (
            "it is not what was received in answer to its call"
            if finals
            else "no answer to its call was received"
        )
    if all(one.finals for one in asked) and not _is_excuse(result, text, asked):
        return "an answer to its call was received, and it tells of an error instead"
    return ""


def _is_excuse(result: Record, text: str, asked: Sequence[_Asked]) -> bool:
    """Whether an error of our own making may stand for an answer that was received: it came too late, or was no good."""
    facts = result.message.facts
    called = f"Error: {facts.get('server')}.{facts.get('tool')}"
    if not text.startswith(called):
        return False
    told = text.removeprefix(called)
    if told.startswith(" answered, but its tools have changed") or _UNFIT.match(told):
        return True
    limit = _LATE.match(told)
    if limit is None:
        return False
    # It may have come in just then. Both sides' clocks are their own: half of the time must have gone.
    return any(
        _seconds(one.time, each.sealed.statement.time) >= float(limit[1]) / 2
        for one in asked
        for each, _ in one.finals
        if each.sealed is not None
    )


def _seconds(begin: str, end: str) -> float:
    """From one statement's time to another's."""
    if not begin or not end:
        return math.inf
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def _handle(each: Exchanged) -> str | None:
    told = each.read().get("structuredContent")
    if isinstance(told, dict) and told.get("state") == "running" and isinstance(told.get("dialogue"), str):
        return str(told["dialogue"])
    return None


def _contradiction(record: Record, each: Exchanged | _Asked, why: str) -> Contradiction:
    name = each.tool if isinstance(each, _Asked) else each.name
    return Contradiction(
        index=record.index, kind=record.message.kind, name=name, exchange=each.exchange, why=why
    )


def _part(record: Record, name: str) -> bytes | None:
    return next((part.data for part in record.parts if part.name == name), None)


def _text(record: Record) -> str | None:
    data = _part(record, "text")
    return None if data is None else data.decode("utf-8", "replace")


def _same(one: JsonValue, other: JsonValue) -> bool:
    """Whether both say the same in canonical form, in which 0.0 is 0: the content of a statement has gone through it."""
    form = _form(one)
    return form is not None and form == _form(other)


def _form(value: JsonValue) -> bytes | None:
    """The canonical form; None where there is none, as of a number beyond 2**53: then it was not signed like this."""
    try:
        return canonical(value)
    except LedgerError:
        return None


def _by_dialogue(messages: Sequence[Exchanged]) -> dict[str, list[Exchanged]]:
    found: dict[str, list[Exchanged]] = defaultdict(list)
    for each in messages:
        found[each.dialogue].append(each)
    return found


def _plain(text: str) -> str:
    """The letters of a text: how it is laid out, what was stripped for a screen and what was cut may change with versions."""
    letters = (each for each in text[:MAX_TEXT] if unicodedata.category(each)[0] not in "CZ")
    return "".join(letters)
