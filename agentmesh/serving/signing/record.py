"""Both sides' statements in one's own ledger: who keeps it can show later what the other side said."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final, Literal

from agentmesh.serving.signing.failures import SigningError, SigningReason
from agentmesh.serving.signing.statements import Asked
from agentmesh_ledger import AgentId, AgentKey, Draft, DraftPart, JsonValue, LedgerError, Receipt
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.message import MAX_PART
from agentmesh_ledger.statement import SealedStatement, StatementType

RECORDED: Final = frozenset({"tools/call", "prompts/get", "resources/read"})
UNSIGNED: Final = "unsigned"
_ENVELOPE: Final = "application/vnd.dsse.envelope.v1+json"
_JSON: Final = "application/json"
_MAX_DIALOGUE: Final = 128

logger = logging.getLogger(__name__)


def wire_dialogue(author: AgentId | None, dialogue: str) -> str:
    """Where the answering side records: apart from every dialogue of its own, whatever the caller calls his."""
    peer = UNSIGNED if author is None else author[-12:]
    whole = f"wire:{peer}:{dialogue}" if dialogue else f"wire:{peer}"
    if len(whole) <= _MAX_DIALOGUE:
        return whole
    return f"wire:{peer}:sha256-{hashlib.sha256(dialogue.encode()).hexdigest()[:32]}"


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
) -> Draft:
    """One statement as a message of the ledger. Content that no part can hold is left out, and a fact says so."""
    facts: dict[str, JsonValue] = {
        "exchange": asked.exchange,
        "statement": "" if sealed is None else sealed.digest,
        "type": type,
        "method": asked.method,
        "peer": UNSIGNED if peer is None else peer,
    }
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


async def append(ledger: Ledger, drafts: Sequence[Draft]) -> tuple[Receipt, ...]:
    """Appends, and waits until that is durable.

    Raises: SigningError(unrecorded).
    """
    try:
        return await ledger.append_async(drafts)
    except LedgerError as error:
        raise _unrecorded(error) from error


def submit(ledger: Ledger, drafts: Sequence[Draft]) -> Future[tuple[Receipt, ...]]:
    """Appends without waiting: for what must be written although nobody can wait any more.

    Raises: SigningError(unrecorded) at once; LedgerError through the future, which is logged as well.
    """
    try:
        future = ledger.submit(drafts)
    except LedgerError as error:
        raise _unrecorded(error) from error
    future.add_done_callback(_log_failure)
    return future


def _unrecorded(error: LedgerError) -> SigningError:
    logger.error("an exchange was not recorded: %s", error)
    return SigningError("unrecorded", "the exchange could not be recorded, so it does not count")


def _log_failure(future: Future[tuple[Receipt, ...]]) -> None:
    error = future.exception()
    if error is not None:
        logger.error("an exchange was not recorded: %s", error)
