"""What a verified record holds of exchanges with others: each statement opened again, and held to its content.

A record that verifies is what its owner signed. Whether it is what passed on the wire is another matter: an owner may
sign their own record anew. So nothing that a message says of its statement is believed; it is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from agentmesh.serving.signing.record import WIRE, wire_dialogue
from agentmesh_ledger import AgentId, JsonValue, LedgerError, Record, Verified
from agentmesh_ledger.statement import SealedStatement, Statement, content_digest, open_statement

Kind: TypeAlias = Literal["sent", "received"]
Part: TypeAlias = Literal["request", "answer"]

_KINDS: Final[Mapping[str, Kind]] = {"sent": "sent", "received": "received"}
# What a record says of an exchange beside it: what an agent called and was answered, what was asked and said.
_RETOLD: Final = frozenset({"open", "task", "call", "result", "say", "close"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """One message of an exchange, as one side recorded it.

    `exchange` names the request; `statement` is the hex digest of the envelope, empty where nothing was signed. `sealed`
    and `content` are None where they are withheld (or were not kept). `called` is the caller's own name for the other, empty
    on the other side. `flaw` says what does not fit, in words.
    """

    index: int
    dialogue: str
    kind: Kind
    part: Part
    type: str
    method: str
    exchange: str
    statement: str
    peer: str
    sealed: SealedStatement | None
    content: bytes | None
    flaw: str
    refused: str
    called: str = ""

    @property
    def name(self) -> str:
        """The tool, prompt or resource that was asked for."""
        if self.sealed is not None:
            return self.sealed.statement.name
        return ""

    @property
    def is_unsigned(self) -> bool:
        """Whether the exchange has no name that both sides know it by: its request was not signed."""
        if self.part == "request":
            return not self.statement
        return self.sealed is not None and self.sealed.statement.request == ""

    @property
    def parties(self) -> frozenset[str]:
        """Who took part in it, by their keys."""
        found = {self.peer}
        if self.sealed is not None:
            found |= {self.sealed.statement.author, self.sealed.statement.audience}
        return frozenset(each for each in found if each.startswith("did:key:"))

    def read(self) -> dict[str, JsonValue]:
        """The content, where it is a JSON object and there; else empty."""
        return read_object(self.content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One verified record, or several of one owner's dialogues. `dialogues` are those shown, None for the whole log."""

    origin: str
    dialogues: frozenset[str] | None
    keys: frozenset[str]
    exchanged: tuple[Exchanged, ...]
    retold: tuple[Record, ...]
    entries: int

    def and_also(self, other: Side) -> Side:
        """Both together: more dialogues of the same log."""
        whole = self.dialogues is None or other.dialogues is None
        return Side(
            origin=self.origin,
            dialogues=None if whole else (self.dialogues or frozenset()) | (other.dialogues or frozenset()),
            keys=self.keys | other.keys,
            exchanged=(*self.exchanged, *other.exchanged),
            retold=(*self.retold, *other.retold),
            entries=self.entries + other.entries,
        )


class Reading:
    """Takes the records of an audit one by one, and keeps what matters here."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._exchanged: list[Exchanged] = []
        self._retold: list[Record] = []

    def take(self, records: Iterable[Record]) -> None:
        """Read to the end; what the records' audit raises goes through."""
        for record in records:
            message = record.message
            self._keys.add(message.author)
            kind = _KINDS.get(message.kind)
            if kind is not None:
                self._exchanged.append(exchanged(record, kind))
            elif message.kind in _RETOLD:
                self._retold.append(record)

    def side(self, found: Verified) -> Side:
        """The side, once its audit has found it sound."""
        signers = {
            each.sealed.statement.author
            for each in self._exchanged
            if each.kind == "sent" and each.sealed is not None and not each.flaw
        }
        selection = found.selection.removeprefix("dialogue ")
        return Side(
            origin=found.origin,
            dialogues=None if found.selection == "log" else frozenset({selection}),
            keys=frozenset(self._keys | signers),
            exchanged=tuple(self._exchanged),
            retold=tuple(self._retold),
            entries=found.entries,
        )


def exchanged(record: Record, kind: Kind) -> Exchanged:
    """A message `sent` or `received`, its statement opened and held to what the message says."""
    facts = record.message.facts
    parts = {part.name: part.data for part in record.parts}
    sealed, flaw = _opened(parts.get("statement"))
    type = _fact(facts, "type")
    made = Exchanged(
        index=record.index,
        dialogue=record.message.dialogue,
        kind=kind,
        part="request" if type == "request" else "answer",
        type=type,
        method=_fact(facts, "method"),
        exchange=_fact(facts, "exchange"),
        statement=_fact(facts, "statement"),
        peer=_fact(facts, "peer"),
        sealed=sealed,
        content=parts.get("content"),
        flaw=flaw,
        refused=_fact(facts, "refused"),
        called=_fact(facts, "called"),
    )
    if not flaw and (found := _flaw(made, has_statement="statement" in parts)):
        return replace(made, flaw=found)
    return made


def read_object(data: bytes | None) -> dict[str, JsonValue]:
    """The JSON object in a part's bytes; empty where they are none, which is for others to judge."""
    try:
        value = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _opened(envelope: bytes | None) -> tuple[SealedStatement | None, str]:
    if envelope is None:
        return None, ""
    try:
        return open_statement(envelope), ""
    except LedgerError as error:
        return None, f"its statement does not hold: {error.message}"


def _flaw(made: Exchanged, *, has_statement: bool) -> str:
    """What does not fit in a message whose statement, where it is there, holds by itself."""
    if made.sealed is None:
        if made.statement and not has_statement:
            return "its statement is not kept"
        return ""
    statement = made.sealed.statement
    if made.sealed.digest != made.statement:
        return "it names another statement than it has"
    if (statement.type, statement.method) != (made.type, made.method):
        return f"its statement is that of a {statement.type} of {statement.method}"
    named = made.sealed.digest if made.part == "request" else statement.request
    if named and named != made.exchange:
        return "its statement is about another exchange"
    if not made.refused and not _is_in_place(made, statement):
        return "it stands in another dialogue than its statement was signed for"
    if made.content is not None and not made.refused:
        if content_digest(statement.nonce, made.content) != statement.digest:
            return "its content is not what its statement was signed for"
    return ""


def _is_in_place(made: Exchanged, statement: Statement) -> bool:
    """Whether a message stands where its statement belongs: with the caller in its own dialogue, else in the wire's."""
    is_callers = (made.kind == "sent") == (made.part == "request")
    if statement.request == "":
        return True  # of an unsigned request only the caller knows the dialogue
    if not is_callers:
        caller = statement.author if made.part == "request" else AgentId(statement.audience)
        return made.dialogue == wire_dialogue(caller, statement.dialogue)
    return made.dialogue == statement.dialogue or (not statement.dialogue and made.dialogue.startswith(WIRE))


def _fact(facts: Mapping[str, JsonValue], name: str) -> str:
    value = facts.get(name)
    return value if isinstance(value, str) else ""
