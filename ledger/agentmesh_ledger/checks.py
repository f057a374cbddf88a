"""What entries must be to one another: chained, in one tree, by registered authors, none missing.

Bytes in, records out; knows no file and no database, so a transcript and a ledger are held to one rule.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from agentmesh_ledger.checkpoint import Checkpoint, SignedCheckpoint
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import AgentId, public_key
from agentmesh_ledger.message import LOG_DIALOGUE, REGISTER, Message
from agentmesh_ledger.record import Opening, Record, open_entry
from agentmesh_ledger.text import shown
from agentmesh_ledger.tree import Edge, verify_inclusion

MAX_DIALOGUES: Final = 4_000_000  # bounds memory against a log made to exhaust it


def first_link(origin: str) -> bytes:
    """What `prev` is at index 0: SHA-256 of the origin, so that two logs never share a first entry."""
    return hashlib.sha256(origin.encode("utf-8")).digest()


class LogChecks:
    """Takes the shown entries in order, lets the sound ones through, and raises at the first that is not.

    `dialogue` None means that every entry of the checkpoint is shown. Memory grows with the number of
    authors and dialogues, not with that of entries.
    """

    def __init__(
        self, signed: SignedCheckpoint, *, dialogue: str | None = None, expect: Checkpoint | None = None
    ) -> None:
        checkpoint = signed.checkpoint
        self.checkpoint = checkpoint
        self._log_keys = {key.public for key in signed.keys}
        self.dialogue = dialogue
        self.expect = expect
        self.entries = 0
        self.withheld = 0
        self.names: dict[AgentId, str] = {}
        self.counts: Counter[AgentId] = Counter()
        self.last: Message | None = None  # of the selected dialogue, or of the log
        self._edge = Edge()
        self._previous: Record | None = None
        self._sequence: dict[bytes, int] = {}
        self._guests: dict[AgentId, int] = {}  # who only stands here for a registration, and where
        if expect is not None and expect.size > checkpoint.size:
            raise LedgerError(
                "consistency",
                "the log is shorter than your checkpoint says: it was cut, rolled back or forked",
                expected=f"at least {expect.size} entries",
                found=str(checkpoint.size),
            )
        self._meet_expectation()

    def entry(
        self,
        index: int,
        entry: bytes,
        openings: Mapping[bytes, Opening | None],
        proof: Sequence[bytes] | None = None,
    ) -> Record:
        """The record of the next shown entry, all checks of SPEC section 7 passed.

        Raises: LedgerError with `index` set.
        """
        try:
            self._require_place(index)
            record = open_entry(index, entry, openings)
            self._require_link(record)
            if self.dialogue is None:
                self._edge.append(record.leaf_hash)
            elif proof is None:
                raise LedgerError("inclusion", "the entry has no inclusion proof")
            else:
                size, root = self.checkpoint.size, self.checkpoint.root
                verify_inclusion(index, size, record.leaf_hash, proof, root)
            self._require_author(record.message)
            self._require_selected(record.message)
        except LedgerError as error:
            error.locate(index=index)
            raise
        self.entries += 1
        self.withheld += sum(part.data is None for part in record.parts)
        self.counts[record.message.author] += 1
        self._previous = record
        self._meet_expectation()
        return record

    def finish(self) -> None:
        """Whether what was shown is all that was announced.

        Raises: LedgerError(count, root, selection).
        """
        if self.dialogue is not None:
            for author, index in self._guests.items():
                raise LedgerError(
                    "selection", f"{author} is registered here but says nothing in the dialogue", index=index
                )
            if self.last is None:
                raise LedgerError("selection", f"nothing of the dialogue {shown(self.dialogue)} is shown")
            return
        if self.entries != self.checkpoint.size:
            raise LedgerError(
                "count",
                "entries are missing at the end",
                expected=str(self.checkpoint.size),
                found=str(self.entries),
            )
        root = self._edge.root()
        if root != self.checkpoint.root:
            raise LedgerError(
                "root",
                "the entries are not those that the checkpoint was signed for",
                expected=self.checkpoint.root.hex(),
                found=root.hex(),
            )

    def _require_place(self, index: int) -> None:
        if index >= self.checkpoint.size:
            raise LedgerError(
                "index",
                "the entry is beyond the checkpoint",
                expected=f"below {self.checkpoint.size}",
                found=str(index),
            )
        before = -1 if self._previous is None else self._previous.index
        if index <= before or (self.dialogue is None and index != before + 1):
            wanted = f"{'' if self.dialogue is None else 'at least '}{before + 1}"
            raise LedgerError(
                "index", "an entry is missing, repeated or out of order", expected=wanted, found=str(index)
            )

    def _require_link(self, record: Record) -> None:
        message = record.message
        if message.log != self.checkpoint.origin:
            raise LedgerError(
                "chain",
                "the entry was signed for another log",
                expected=self.checkpoint.origin,
                found=message.log,
            )
        if message.index == 0:
            link: bytes = first_link(self.checkpoint.origin)
        elif self._previous is not None and self._previous.index == message.index - 1:
            link = self._previous.leaf_hash
        else:
            return  # the entry before is not shown; the inclusion proof holds this one in its place
        if message.prev != link:
            raise LedgerError(
                "chain",
                "prev is not the leaf hash of the entry before",
                expected=link.hex(),
                found=message.prev.hex(),
            )

    def _require_author(self, message: Message) -> None:
        known = message.author in self.names
        if message.kind == REGISTER:
            if known:
                raise LedgerError("author", f"{message.author} is registered a second time")
            if public_key(message.author) in self._log_keys:
                raise LedgerError("author", f"{message.author} is the log's own key")
            self.names[message.author] = str(message.facts["name"])
        elif not known:
            raise LedgerError("author", f"{message.author} is not registered before this entry")

    def _require_selected(self, message: Message) -> None:
        if self.dialogue is not None and message.dialogue != self.dialogue:
            if message.dialogue != LOG_DIALOGUE or not message.kind.startswith("key."):
                raise LedgerError(
                    "selection",
                    "the entry belongs to another dialogue",
                    expected=self.dialogue,
                    found=message.dialogue,
                )
            if self.counts[message.author] == 0:
                self._guests[message.author] = message.index
            return
        self._guests.pop(message.author, None)
        # A digest as key: 33 bytes whatever the length of the id a stranger chose.
        key = hashlib.sha256(message.dialogue.encode("utf-8")).digest()[:16]
        wanted = self._sequence.get(key, 0)
        if message.seq != wanted:
            raise LedgerError(
                "sequence",
                f"a message of the dialogue {message.dialogue} is missing or stands twice",
                expected=f"seq {wanted}",
                found=f"seq {message.seq}",
            )
        if wanted == 0 and len(self._sequence) >= MAX_DIALOGUES:
            raise LedgerError("sequence", f"the log has more than {MAX_DIALOGUES} dialogues")
        self._sequence[key] = wanted + 1
        self.last = message

    def _meet_expectation(self) -> None:
        if self.expect is None or self.dialogue is not None or self.expect.size != self._edge.size:
            return
        if self._edge.root() != self.expect.root:
            raise LedgerError(
                "consistency",
                f"the first {self.expect.size} entries are not those of your checkpoint: history was rewritten",
                expected=self.expect.root.hex(),
                found=self._edge.root().hex(),
            )
