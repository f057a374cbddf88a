"""An anchor's entry in the ledger: what was published where, with the proof as its content, and once only."""

from __future__ import annotations

import threading
from typing import Final

from agentmesh_ledger.affairs import LOG_DIALOGUE, REGISTER
from agentmesh_ledger.anchor.evidence import Anchored
from agentmesh_ledger.draft import Draft, DraftPart
from agentmesh_ledger.jcs import JsonValue, canonical
from agentmesh_ledger.keys import AgentKey
from agentmesh_ledger.log import Ledger

ANCHOR: Final = "anchor"
EVIDENCE_TYPE: Final = "application/vnd.agentmesh.anchor.v1+json"


def record(
    ledger: Ledger, author: AgentKey, anchored: Anchored, *, chain: int, tx: str, evidence: JsonValue
) -> int:
    """Appends the anchor's entry, unless it stands there; its index.

    The same transaction in another block is another anchor: after a reorg the first is not so any more.
    Raises: LedgerError as `Ledger.append`.
    """
    facts: dict[str, JsonValue] = {
        "type": "evm",
        "chain": chain,
        "contract": anchored.contract,
        "sender": anchored.sender,
        "size": anchored.size,
        "root": anchored.root.hex(),
        "block": anchored.block,
        "block_hash": anchored.block_hash,
        "tx": tx,
    }
    found = _recorded(ledger, facts)
    if found is not None:
        return found
    part = DraftPart(name="evidence", type=EVIDENCE_TYPE, data=canonical(evidence))
    draft = Draft(author=author, kind=ANCHOR, dialogue=LOG_DIALOGUE, facts=facts, parts=(part,))
    return ledger.append([draft])[0].index


def is_recorded(ledger: Ledger, *, size: int, tx: str) -> bool:
    """Whether an entry records that this transaction anchored this size."""
    return any(
        record.message.kind == ANCHOR
        and record.message.facts.get("tx") == tx
        and record.message.facts.get("size") == size
        for record in ledger.read(size)
    )


class Fresh:
    """How many entries are new to a chain: all but anchors, and the registration of who records them."""

    def __init__(self, ledger: Ledger, author: AgentKey) -> None:
        self._ledger = ledger
        self._author = author
        self._mutex = threading.Lock()
        self._since = self._next = self._count = 0

    def count(self, since: int, enough: int) -> int:
        """The new entries from index `since` on; no more are read than make `enough`."""
        with self._mutex:
            if since != self._since:
                self._since, self._next, self._count = since, since, 0
            if self._count < enough:
                for each in self._ledger.read(self._next):
                    message = each.message
                    own = message.kind == REGISTER and message.author == self._author.id
                    self._next = each.index + 1
                    self._count += message.kind != ANCHOR and not own
                    if self._count >= enough:
                        break
            return min(self._count, enough)


def _recorded(ledger: Ledger, facts: dict[str, JsonValue]) -> int | None:
    # What records an anchor stands behind what it anchors.
    size = facts["size"]
    for record in ledger.read(size if isinstance(size, int) else 0):
        message = record.message
        if message.kind == ANCHOR and all(
            message.facts.get(name) == facts[name] for name in ("tx", "size", "block_hash")
        ):
            return record.index
    return None
