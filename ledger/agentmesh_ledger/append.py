"""One commit: messages get their places, are signed, stored, read back, and covered by a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.checks import first_link
from agentmesh_ledger.draft import Draft, Prepared, Receipt, timestamp
from agentmesh_ledger.envelope import seal
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.keys import LogKey
from agentmesh_ledger.message import LOG_DIALOGUE, REGISTER, Message, parse_message
from agentmesh_ledger.record import Opening
from agentmesh_ledger.store.rows import EntryRow, HeadRow, Rows
from agentmesh_ledger.tree import Edge, LeafHash, leaf_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What a commit did: the new head, the last leaf hash, a receipt for each draft, whom it registered."""

    head: HeadRow
    link: bytes
    receipts: tuple[Receipt, ...]
    registered: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    message: Message
    entry: bytes
    leaf: LeafHash
    prepared: Prepared
    asked: bool  # by the caller, not a registration that came along


def append_all(
    rows: Rows,
    head: HeadRow,
    key: LogKey,
    prepared: Sequence[Prepared],
    registered: frozenset[str],
    now: datetime,
) -> Commit:
    """Writes the messages into the open transaction; they count once it is committed.

    Raises: LedgerError, after which the transaction must be rolled back.
    """
    placed, new = _place(rows, head, prepared, registered, now)
    rows.add_entries(head.log, [_row(each) for each in placed])
    rows.add_parts(head.log, [piece for each in placed for piece in _content(each)])
    tree = _reread(rows, head, placed)
    note = Checkpoint(origin=head.origin, size=tree.size, root=tree.root()).sign(key)
    edge = b"".join(tree.hashes)
    if not rows.swap_head(head, size=tree.size, checkpoint=note, edge=edge):
        raise LedgerError("failed", "another writer moved the log; nothing was written")
    receipts = tuple(
        Receipt(index=each.message.index, leaf_hash=each.leaf, size=tree.size)
        for each in placed
        if each.asked
    )
    return Commit(
        head=replace(head, size=tree.size, checkpoint=note, edge=edge),
        link=placed[-1].leaf,
        receipts=receipts,
        registered=new,
    )


def _place(
    rows: Rows, head: HeadRow, prepared: Sequence[Prepared], registered: frozenset[str], now: datetime
) -> tuple[list[_Placed], frozenset[str]]:
    """Gives each message its index, link and seq, and signs it."""
    placed: list[_Placed] = []
    new: set[str] = set()
    seqs: dict[str, int] = {}
    link = last_link(rows, head)
    time = timestamp(now)
    for each, asked in _with_registrations(prepared, registered, new):
        dialogue = each.draft.dialogue
        if dialogue not in seqs:
            seqs[dialogue] = rows.last_seq(head.log, dialogue) + 1
        message = each.message(
            log=head.origin, index=head.size + len(placed), prev=link, seq=seqs[dialogue], time=time
        )
        seqs[dialogue] += 1
        payload = _payload(message)
        entry = seal(each.draft.author, payload)
        leaf = leaf_hash(entry)
        placed.append(_Placed(message=message, entry=entry, leaf=leaf, prepared=each, asked=asked))
        link = leaf
    return placed, frozenset(new)


def _with_registrations(
    prepared: Sequence[Prepared], registered: frozenset[str], new: set[str]
) -> list[tuple[Prepared, bool]]:
    result: list[tuple[Prepared, bool]] = []
    for each in prepared:
        author = each.draft.author
        known = author.id in registered or author.id in new
        if each.draft.kind == REGISTER:
            if known:
                raise LedgerError("refused", f"{author.name} is registered already", found=author.id)
        elif not known:
            draft = Draft(author=author, kind=REGISTER, dialogue=LOG_DIALOGUE, facts={"name": author.name})
            result.append((Prepared(draft=draft, parts=(), openings=()), False))
        new.add(author.id)
        result.append((each, True))
    return result


def _payload(message: Message) -> bytes:
    """The payload, held to what every verifier will hold it to: nothing unverifiable is ever signed."""
    try:
        payload = message.payload()
        parse_message(payload)
    except LedgerError as error:
        raise LedgerError(
            "refused", f"the message cannot be recorded: {error.message}", hint=error.hint
        ) from error
    return payload


def last_link(rows: Rows, head: HeadRow) -> bytes:
    """What the next entry links to, recomputed from the stored bytes of the last."""
    if head.size == 0:
        return first_link(head.origin)
    for row in rows.entries(head.log, head.size - 1, head.size):
        leaf = leaf_hash(row.entry)
        if leaf != row.leaf:
            raise LedgerError(
                "store", "the last entry's stored hash is not that of its bytes", index=row.index
            )
        return leaf
    raise LedgerError("index", "the last entry is missing", index=head.size - 1)


def _reread(rows: Rows, head: HeadRow, placed: Sequence[_Placed]) -> Edge:
    """The tree over the bytes as stored. One wrong leaf under a signature would end the log for ever."""
    tree = head.tree()
    stored = rows.entries(head.log, head.size, head.size + len(placed))
    if [row.entry for row in stored] != [each.entry for each in placed]:
        raise LedgerError("failed", "the database did not store what was written; nothing was signed")
    for row in stored:
        tree.append(leaf_hash(row.entry))
    return tree


def _row(placed: _Placed) -> EntryRow:
    message = placed.message
    return EntryRow(
        index=message.index,
        entry=placed.entry,
        leaf=placed.leaf,
        dialogue=message.dialogue,
        seq=message.seq,
        kind=message.kind,
        author=message.author,
    )


def _content(placed: _Placed) -> list[tuple[int, bytes, Opening]]:
    pairs = zip(placed.prepared.parts, placed.prepared.openings, strict=True)
    return [(placed.message.index, part.hash, opening) for part, opening in pairs]
