"""Whether what a record says beside its exchanges agrees with them.

The two sides of an exchange hold the same statements. But the caller's record also says what its agent was answered, and
the other's what its agent said: messages that each signs alone, and may sign anew with other words.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mcp.types import CallToolResult
from pydantic import ValidationError

from agentmesh.exchanges import Exchanged, Side, read_object
from agentmesh.toolbox.handles import WAIT_TOOL
from agentmesh.toolbox.results import MAX_TEXT, read_result
from agentmesh_ledger import JsonValue, LedgerError, Record
from agentmesh_ledger.jcs import canonical

_CALL = "tools/call"


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
    """A call that was sent: its place, tool and arguments, and what came of it, handles followed."""

    index: int
    exchange: str
    tool: str
    arguments: JsonValue
    answers: tuple[Exchanged, ...]


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
        opened = {each.message.dialogue for each in self._records if each.message.kind == "open"}
        by_dialogue: dict[str, list[Record]] = defaultdict(list)
        for record in self._records:
            if record.message.dialogue in opened:
                by_dialogue[record.message.dialogue].append(record)
        for dialogue, records in by_dialogue.items():
            yield from self._of_dialogue(records, [each for each in self._sent if each.dialogue == dialogue])

    def _of_dialogue(self, records: Sequence[Record], sent: Sequence[Exchanged]) -> Iterator[Contradiction]:
        calls = {each.index: each for each in records if each.message.kind == "call"}
        asked = [each for one in sent if (each := self._asked(one, sent)) is not None]
        for record in records:
            if record.message.kind == "result" and record.message.reply_to in calls:
                call = calls[record.message.reply_to]
                matching = [each for each in asked if _is_of(each, call)]
                if matching and (why := _unlike(record, matching)):
                    yield _contradiction(record, matching[-1], why)
        waiting = {each.index for each in asked if any(_is_of(each, call) for call in calls.values())}
        # Of a call whose arguments are withheld nobody can say what it asked.
        for each in asked:
            if each.index not in waiting and all(_part(call, "arguments") for call in calls.values()):
                why = "a request was sent that none of its calls tells of"
                yield Contradiction(
                    index=each.index, kind="request", name=each.tool, exchange=each.exchange, why=why
                )

    def _asked(self, one: Exchanged, sent: Sequence[Exchanged]) -> _Asked | None:
        content = one.read()
        tool = content.get("name")
        if not isinstance(tool, str) or tool == WAIT_TOOL:
            return None
        answers = list(self._received[one.exchange])
        handles = {_handle(each) for each in answers} - {None}
        for other in sent:
            waits = other.read()
            arguments = waits.get("arguments")
            if waits.get("name") == WAIT_TOOL and isinstance(arguments, dict):
                if arguments.get("dialogue") in handles:
                    answers += self._received[other.exchange]
        return _Asked(
            index=one.index,
            exchange=one.exchange,
            tool=tool,
            arguments=content.get("arguments") or {},
            answers=tuple(answers),
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
        if not says or len(texts) != len(says):
            return
        answer = _plain(str(told.get("answer")))
        # A pattern's answer is the last words, or all answers of its lead, joined.
        if any(answer == _plain(" ".join(texts[start:])) for start in range(len(texts))):
            return
        by_lead = [_text(each) or "" for each in says if each.message.author == says[-1].message.author]
        if answer != _plain(" ".join(by_lead)):
            yield _contradiction(says[-1], sent, "it is not what was answered to who asked")


def _is_of(asked: _Asked, call: Record) -> bool:
    if call.index > asked.index or call.message.facts.get("tool") != asked.tool:
        return False
    arguments = _part(call, "arguments")
    return arguments is not None and _same(read_object(arguments), asked.arguments)


def _unlike(result: Record, asked: Sequence[_Asked]) -> str:
    """Why a result is none of the answers that came to its call; empty where it is, or nothing can be said."""
    text = _text(result)
    finals = [
        each
        for one in asked
        for each in one.answers
        if each.type == "result" and each.content is not None and _handle(each) is None
    ]
    if text is None or not finals or _is_local(result, text):
        return ""
    readable = 0
    for each in finals:
        try:
            answer = read_result(CallToolResult.model_validate(each.read()), seconds=0.0)
        except ValidationError:
            continue  # no answer to the call: a question back, or what the SDK would not have let in
        readable += 1
        structured = _part(result, "structured")
        same = structured is None or _same(read_object(structured), answer.structured)
        if same and _plain(text) == _plain(answer.text):
            return ""
    if not readable:
        return ""
    return "it is not what was received in answer to its call"


def _is_local(result: Record, text: str) -> bool:
    """Whether a result is an error of our own making: no answer came in time, or it could not be read."""
    facts = result.message.facts
    if facts.get("error") is not True:
        return False
    called = f"{facts.get('server')}.{facts.get('tool')}"
    return (
        text.startswith((f"Error: {called} did not answer", f"Error: {called} failed"))
        or " is gone (" in text
    )


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
    try:
        return canonical(one) == canonical(other)
    except (
        LedgerError
    ):  # no canonical form, as a number beyond 2**53 has none: then it was not signed like this
        return False


def _plain(text: str) -> str:
    """The letters of a text: how it is laid out, what was stripped for a screen and what was cut may change with versions."""
    letters = (each for each in text[:MAX_TEXT] if unicodedata.category(each)[0] not in "CZ")
    return "".join(letters)
