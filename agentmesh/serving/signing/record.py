"""Both sides' statements in one's own ledger: who keeps it can show later what the other side said."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final, Literal, TypeAlias

from agentmesh.serving.signing.failures import SigningError, SigningReason
from agentmesh.serving.signing.statements import Asked
from agentmesh_ledger import AgentId, AgentKey, Draft, DraftPart, JsonValue, LedgerError, Receipt
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.message import MAX_PART
from agentmesh_ledger.statement import SealedStatement, StatementType

RECORDED: Final = frozenset({"tools/call", "prompts/get", "resources/read"})
WIRE: Final = "wire:"
"""How the dialogues begin in which the answering side records."""
UNSIGNED: Final = "unsigned"
UNKNOWN: Final = "unknown"
_ENVELOPE: Final = "application/vnd.dsse.envelope.v1+json"
_JSON: Final = "application/json"
_MAX_DIALOGUE: Final = 128
_HOLD_SECONDS: Final = 0.05

Written: TypeAlias = "Future[tuple[Receipt, ...]]"
"""What was handed in to a ledger, and will be written whoever waits for it."""

logger = logging.getLogger(__name__)


def wire_dialogue(author: AgentId | None, dialogue: str) -> str:
    """Where the answering side records: apart from every dialogue of its own, whatever the caller calls his."""
    peer = UNSIGNED if author is None else author[-12:]
    whole = f"{WIRE}{peer}:{dialogue}" if dialogue else f"{WIRE}{peer}"
    if len(whole) <= _MAX_DIALOGUE:
        return whole
    return f"{WIRE}{peer}:sha256-{hashlib.sha256(dialogue.encode()).hexdigest()[:32]}"


def exchange_draft(
    kind: Literal["sent", "received"],
    asked: Asked,
    *,
    by: AgentKey,
    dialogue: str,
    peer: AgentId | None,
    type: StatementType = "request",
    sealed: SealedStatement | None,
    content: bytes,
    refused: SigningReason | None = None,
    called: str | None = None,
) -> Draft:
    """One statement as a message of the ledger. Content that no part can hold is left out, and a fact says so.

    `called` is the caller's own name for whom it calls, which stays the same when that one's key changes.
    """
    facts: dict[str, JsonValue] = {
        "exchange": asked.exchange,
        "statement": "" if sealed is None else sealed.digest,
        "type": type,
        "method": asked.method,
        "peer": peer or (UNSIGNED if sealed is None else UNKNOWN),
    }
    if called is not None:
        facts["called"] = called
    parts: list[DraftPart] = []
    if sealed is not None:
        parts.append(DraftPart(name="statement", type=_ENVELOPE, data=sealed.envelope))
    if len(content) <= MAX_PART:
        parts.append(DraftPart(name="content", type=_JSON, data=content))
    else:
        facts["omitted"] = len(content)
    if refused is not None:
        facts["refused"] = refused
    return Draft(
        author=by,
        kind=kind,
        dialogue=dialogue,
        to=(peer,) if kind == "sent" and peer is not None else (),
        parts=tuple(parts),
        facts=facts,
    )


class Journal:
    """Where one side writes its exchanges, and how far that may lag behind: `Signing.lag`, in seconds."""

    def __init__(self, ledger: Ledger, lag: float) -> None:
        self._ledger = ledger
        self._lag = lag
        self._failed = False

    @property
    def lag(self) -> float:
        """Seconds; none after a write that failed, so that whoever calls next is told."""
        return 0.0 if self._failed else self._lag

    def hand_in(self, drafts: Sequence[Draft], within: float) -> Written:
        """What is written within so many seconds. Never raises: whoever waits for it is told."""
        try:
            future = self._ledger.submit(drafts, within=within)
        except LedgerError as error:
            future = Future()
            future.set_exception(error)
        # It is told here as well: there may be nobody left who waits.
        future.add_done_callback(self._note)
        return future

    def _note(self, future: Written) -> None:
        error = future.exception()
        self._failed = error is not None
        if error is not None:
            logger.error("an exchange was not recorded: %s", error)


class Entry:
    """A request on its way into the ledger, and its answer after it.

    A request that is answered at once shares one commit with its answer; of one that is not, the ledger has it while
    somebody works on it. Needs an asyncio event loop, like the ledger's own waiting.
    """

    def __init__(self, journal: Journal, request: Draft) -> None:
        self._journal = journal
        self._request = request
        self._written: Written | None = None
        self._timer = asyncio.get_running_loop().call_later(_HOLD_SECONDS, self.write)

    def write(self) -> None:
        """Hands the request in by itself, where that was not done yet. Never raises: whoever waits for it is told."""
        if self._written is None:
            self._written = self._hand_in([self._request])

    def drop(self) -> None:
        """The request was never made: it is not written, unless it already was."""
        self._timer.cancel()

    async def index(self) -> int:
        """Where the request stands, once it is durable.

        Raises: SigningError(unrecorded).
        """
        self.write()
        assert self._written is not None
        return (await durable(self._written))[0].index

    def answer(self, *answer: Draft) -> tuple[Written, ...]:
        """Hands in the answer with what belongs to it, and the request where that was not done yet.

        Returns what is to be waited for.
        """
        lag = self._journal.lag
        if self._written is None:
            self._written = self._hand_in([self._request, *answer], lag)
            written: tuple[Written, ...] = (self._written,)
        else:
            written = self._written, self._hand_in(answer, lag)
        return () if self._journal.lag > 0 else written

    def _hand_in(self, drafts: Sequence[Draft], within: float = 0.0) -> Written:
        self._timer.cancel()
        return self._journal.hand_in(drafts, within)


async def durable(*written: Written) -> tuple[Receipt, ...]:
    """Where all of it stands, once it is durable.

    Raises: SigningError(unrecorded).
    """
    try:
        found: list[Receipt] = []
        for each in written:
            receipts = await asyncio.wrap_future(each)
            found += receipts
        return tuple(found)
    except LedgerError as error:
        raise SigningError(
            "unrecorded", "the exchange could not be recorded, so it does not count"
        ) from error
