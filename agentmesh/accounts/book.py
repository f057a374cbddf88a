"""The asker's book with one peer of another owner: receipts that the peer offers are held to what was agreed.

A good one is signed in turn and recorded, and goes back to the peer with a later call; any other is recorded as refused.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from agentmesh.accounts.price import price_of
from agentmesh.mesh.spec import AgreedSpec
from agentmesh.serving.signing import USAGE_KEY
from agentmesh.serving.signing.record import UNSIGNED, wire_dialogue
from agentmesh.serving.signing.statements import Asked, plain_content
from agentmesh.toolbox.handles import WAIT_TOOL, handle_in
from agentmesh.toolbox.targets import ASK
from agentmesh_ledger import AgentId, AgentKey, Draft, DraftPart, JsonValue, LedgerError
from agentmesh_ledger.statement import Statement
from agentmesh_ledger.text import shown
from agentmesh_ledger.usage.receipt import USAGE, SignedReceipt, UsageReceipt, read_signed

_T = TypeVar("_T")

MAX_OPEN: Final = 4_096
"""So many answered calls are remembered, for each of which one receipt may come."""
MAX_GIVEN_BACK: Final = 8
"""So many receipts go with one call."""
RECEIPTS: Final = "receipts"
_MAX_OFFERED: Final = 65_536
_JSON: Final = "application/json"


class _Refused(Exception):
    """Why a receipt is not signed, in words."""


@dataclass(slots=True, kw_only=True)
class _Open:
    """A call for which no receipt has come: who signed it, and when it left.

    `asks` is whether an agent is asked by it; `handle` the peer's dialogue in which the answer is still to come.
    """

    key: AgentKey
    dialogue: str
    since: float
    asks: bool
    handle: str | None = None


class Book:
    """One peer's receipts, over all connections to it. It is the `Bookkeeper` of their signing.

    `agreed` is the most that is paid for an answer; `unit` what our log counts in; `origin` our log. `patience` is the
    seconds after which a question is given up. `signed` are receipts
    of before that the peer may not have yet: it is told of them once more.
    """

    def __init__(
        self,
        *,
        origin: str,
        unit: str,
        agreed: AgreedSpec,
        patience: float,
        signed: Sequence[SignedReceipt] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._origin = origin
        self._unit = unit
        self._agreed = agreed
        self._patience = patience
        self._clock = clock
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._signed = OrderedDict((each.receipt.request, each) for each in signed[-MAX_GIVEN_BACK:])
        self._given: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    def sent(self, asked: Asked, key: AgentKey) -> JsonValue:
        """Notes a call; the receipts that we have signed and that the peer may not have yet."""
        asks = asked.name.startswith(ASK)
        _put(
            self._open,
            asked.exchange,
            _Open(key=key, dialogue=asked.dialogue, since=self._clock(), asks=asks),
        )
        due = tuple(self._signed)[:MAX_GIVEN_BACK]
        if not due:
            return None
        _put(self._given, asked.exchange, due)
        return {RECEIPTS: [self._signed[each].to_json() for each in due]}

    def received(
        self, asked: Asked, statement: Statement | None, result: Mapping[str, object]
    ) -> Sequence[Draft]:
        """Notes an answer; the entry of the receipt that came with it, signed by us or refused."""
        # The call that carried them was answered, so the peer has them: until then they are sent again.
        for each in self._given.pop(asked.exchange, ()):
            self._signed.pop(each, None)
        meta = result.get("_meta")
        offered: object = meta.get(USAGE_KEY) if isinstance(meta, Mapping) else None
        try:
            return self._entered(asked, statement, result, offered)
        finally:
            self._answered(asked, result)

    def _entered(
        self, asked: Asked, statement: Statement | None, result: Mapping[str, object], offered: object
    ) -> Sequence[Draft]:
        if offered is None:
            return ()
        if statement is None:
            return self._refusal(asked, None, offered, "unsigned: nor is the answer that it came with")
        try:
            signed = self._countersigned(asked, statement, result, offered)
        except _Refused as refused:
            return self._refusal(asked, statement.author, offered, str(refused))
        request = signed.receipt.request
        _put(self._signed, request, signed)
        call = self._open.pop(request)
        return (self._draft(call, statement.author, signed.to_json()),)

    def _answered(self, asked: Asked, result: Mapping[str, object]) -> None:
        """A receipt comes with its answer: one kept back for an hour would bill the hour."""
        call = self._open.get(asked.exchange)
        handle = handle_in(result)
        if call is not None and call.asks and handle is not None:
            call.handle = handle
        else:
            self._open.pop(asked.exchange, None)

    def _countersigned(
        self, asked: Asked, statement: Statement, result: Mapping[str, object], offered: object
    ) -> SignedReceipt:
        """Raises: _Refused."""
        try:
            signed = read_signed(offered)
        except LedgerError as error:
            kind = "a bad signature" if error.reason == "signature" else "malformed"
            raise _Refused(f"{kind}: {error.message}") from error
        receipt = signed.receipt
        if signed.provider_signature is None:
            raise _Refused("unsigned: the peer has not signed it")
        call = self._open.get(receipt.request)
        if call is None or not call.asks or (receipt.asker, receipt.dialogue) != (call.key.id, call.dialogue):
            raise _Refused("wrong: it is for no question of ours, or for one that has a receipt")
        if result.get("isError") or handle_in(result) is not None:
            raise _Refused("wrong: no answer came with it")
        if receipt.request != asked.exchange and not (
            call.handle is not None and _waited_for(asked) == call.handle == _ended(result)
        ):
            raise _Refused("wrong: it came with the answer to something else")
        if receipt.provider != statement.author:
            raise _Refused("wrong: it is of another key than that which signs the answers")
        if receipt.asker_log != self._origin or receipt.provider_log != log_named(statement.subject):
            raise _Refused("wrong: it names other logs than ours and the peer's")
        if receipt.provider_log == self._origin:
            raise _Refused("wrong: the peer takes our log for its own")
        self._require_agreed(receipt, self._clock() - call.since)
        return signed.signed_by(call.key)

    def _require_agreed(self, receipt: UsageReceipt, seconds: float) -> None:
        """Holds what is asked for to what was agreed; the time to our own clock, for the peer's is its word.

        Raises: _Refused.
        """
        if receipt.unit != self._unit:
            raise _Refused(f"wrong: it is in {receipt.unit}, and agreed is {self._unit}")
        if seconds > self._patience:
            raise _Refused("wrong: we had given that question up")
        longest = int(seconds * 1000) + 1
        if receipt.milliseconds > longest:
            raise _Refused(
                f"wrong: it says {receipt.milliseconds} ms, and our own clock no more than {longest}"
            )
        most = price_of(self._agreed, tokens=receipt.tokens, milliseconds=receipt.milliseconds)
        if self._agreed.answer is not None:
            most = min(most, self._agreed.answer)
        if receipt.price > most:
            raise _Refused(f"dearer: it asks for {receipt.price}, and agreed is {most} at the most")

    def _refusal(self, asked: Asked, peer: AgentId | None, offered: object, why: str) -> Sequence[Draft]:
        """Told once for a call: a peer that offers bad receipts without end must not fill our disk."""
        call = self._open.pop(asked.exchange, None)
        if call is None:
            return ()
        content = plain_content(offered)  # type: ignore[arg-type]  # it came as JSON
        part = DraftPart(name="offered", type=_JSON, data=content)
        parts = (part,) if len(content) <= _MAX_OFFERED else ()
        facts: dict[str, JsonValue] = {
            "refused": shown(why),
            "request": asked.exchange,
            "peer": peer or UNSIGNED,
        }
        return (self._draft(call, peer, facts, parts),)

    def _draft(
        self,
        call: _Open,
        peer: AgentId | None,
        facts: dict[str, JsonValue],
        parts: tuple[DraftPart, ...] = (),
    ) -> Draft:
        dialogue = call.dialogue or wire_dialogue(peer, "")
        return Draft(author=call.key, kind=USAGE, dialogue=dialogue, parts=parts, facts=facts)


def log_named(subject: str) -> str:
    """The log that a side's own name for itself tells of, `agent@origin`; empty where it names none."""
    _, at, origin = subject.rpartition("@")
    return origin if at else ""


def _waited_for(asked: Asked) -> object:
    """The peer's dialogue that we waited for by this call: it cannot answer it with another one's end."""
    if asked.name != WAIT_TOOL:
        return None
    params = json.loads(asked.content)  # our own
    arguments = params.get("arguments") if isinstance(params, Mapping) else None
    return arguments.get("dialogue") if isinstance(arguments, Mapping) else None


def _ended(result: Mapping[str, object]) -> object:
    """The peer's dialogue whose answer this is; None, or whatever the peer put there, where it is of none."""
    told = result.get("structuredContent")
    return told.get("dialogue") if isinstance(told, Mapping) else None


def _put(kept: OrderedDict[str, _T], key: str, value: _T) -> None:
    kept[key] = value
    while len(kept) > MAX_OPEN:
        kept.popitem(last=False)
