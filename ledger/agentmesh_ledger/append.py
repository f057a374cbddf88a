"""One commit: messages get their places, are signed, stored, read back, and covered by a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.checks import first_link
from agentmesh_ledger.draft import Draft, Ports, Prepared, Receipt, prepare, timestamp
from agentmesh_ledger.envelope import seal, unseal
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.frontier import Frontier
from agentmesh_ledger.keys import AgentKey, LogKey
from agentmesh_ledger.message import LOG_DIALOGUE, REGISTER, parse_message
from agentmesh_ledger.note import parse_vkey
from agentmesh_ledger.standing import Standing
from agentmesh_ledger.store.columns import HeadRow
from agentmesh_ledger.store.nodes import load_frontier
from agentmesh_ledger.store.rows import EntryValues, PartValues, Rows
from agentmesh_ledger.store.schema import whole_blocks
from agentmesh_ledger.tree import Edge, LeafHash, leaf_hash

_MAX_SEQS: Final = 100_000  # dialogues whose next seq is kept between batches


@dataclass(slots=True, kw_only=True)
class Tip:
    """What the next append continues. Thrown away, and read anew, after anything went wrong."""

    head: HeadRow
    link: bytes
    edge: Edge
    frontier: Frontier
    standing: Standing
    seqs: dict[str, int] = field(default_factory=dict)  # also of all that is said behind the last whole block


class Request(NamedTuple):
    """What one caller wants appended, all of it or nothing; and content to be erased with it: entry, hashes."""

    prepared: tuple[Prepared, ...]
    erase: tuple[int, tuple[bytes, ...]] | None = None


@dataclass(slots=True, kw_only=True)
class Batch:
    """The rows of one commit as they are placed; for each request where its messages stand, or why it was refused."""

    entries: list[EntryValues] = field(default_factory=list)
    parts: list[PartValues] = field(default_factory=list)
    outcomes: list[list[tuple[int, LeafHash]] | LedgerError] = field(default_factory=list)

    def receipts(self, size: int) -> list[tuple[Receipt, ...] | LedgerError]:
        """What each request has come to, under the checkpoint of this size."""
        return [
            each
            if isinstance(each, LedgerError)
            else tuple(Receipt(index=index, leaf_hash=leaf, size=size) for index, leaf in each)
            for each in self.outcomes
        ]


def load_tip(rows: Rows, head: HeadRow, before: Tip | None = None) -> Tip:
    """The tip of a log as it stands, its last entry's link and its authors' standing read from the signed bytes.

    With `before`, a tip that the log is known to continue, only the key entries that it has gained are read.
    Raises: LedgerError where the stored log does not bear out its head.
    """
    _require_placed(rows, head)
    standing, start = Standing(log=head.origin, log_key=parse_vkey(head.vkey).public), 0
    if before is not None and LOG_DIALOGUE in before.seqs:
        standing, start = before.standing, before.seqs[LOG_DIALOGUE]
    for row in rows.key_entries(head.log, start):
        message = parse_message(unseal(row.entry).payload)
        standing.enter(message.index, message.author, message.kind, message.facts)
    frontier = load_frontier(rows, head)
    seqs = _newest(rows, head)
    seqs.setdefault(LOG_DIALOGUE, rows.last_placed(head.log, LOG_DIALOGUE) + 1)
    link = last_link(rows, head)
    return Tip(head=head, link=link, edge=head.tree(), frontier=frontier, standing=standing, seqs=seqs)


def append_all(rows: Rows, tip: Tip, key: LogKey, requests: Sequence[Request], ports: Ports) -> Batch:
    """Writes the messages into the open transaction and moves the tip; they count once it is committed.

    A request that cannot be placed is refused alone, the others go on. Raises: LedgerError, after which the
    transaction must be rolled back and the tip thrown away.
    """
    batch = Batch()
    if len(tip.seqs) > _MAX_SEQS:
        # Only here, where the tables know them all: those of a batch under way stand nowhere else.
        tip.seqs = _newest(rows, tip.head)
    time = timestamp(ports.now()).encode()
    for request in requests:
        try:
            batch.outcomes.append(_place(rows, tip, batch, request, time, ports))
        except LedgerError as error:
            batch.outcomes.append(error)
    if not batch.entries:
        return batch
    head = tip.head
    rows.add_entries(batch.entries)
    rows.add_parts(batch.parts)
    for request, outcome in zip(requests, batch.outcomes, strict=True):
        if request.erase is not None and not isinstance(outcome, LedgerError):
            rows.erase_parts(head.log, *request.erase)
    _cover(rows, tip, batch.entries)
    rows.put_tiles(head.log, tip.frontier.take())
    rows.put_places(head.log, whole_blocks(head.size), whole_blocks(tip.edge.size))
    note = Checkpoint(origin=head.origin, size=tip.edge.size, root=tip.edge.root()).sign(key)
    edge = b"".join(tip.edge.hashes)
    if not rows.swap_head(head, size=tip.edge.size, checkpoint=note, edge=edge):
        raise LedgerError("failed", "another writer moved the log; nothing was written")
    tip.head = HeadRow(
        log=head.log, origin=head.origin, vkey=head.vkey, size=tip.edge.size, checkpoint=note, edge=edge
    )
    return batch


def _place(
    rows: Rows, tip: Tip, batch: Batch, request: Request, time: bytes, ports: Ports
) -> list[tuple[int, LeafHash]]:
    """Gives each message of a request its index, link and seq, and signs it; nothing stays of one that fails."""
    head, link = tip.head, tip.link
    known = tip.standing
    standing = known if _changes_nothing(request, known) else known.copy()
    seqs: dict[str, int] = {}
    entries: list[EntryValues] = []
    parts: list[PartValues] = []
    asked_for: list[tuple[int, LeafHash]] = []
    start = head.size + len(batch.entries)
    for each, asked in _with_registrations(request, standing, ports, head.origin):
        index = start + len(entries)
        if each.reply_to is not None and each.reply_to >= index:
            raise LedgerError("refused", "reply_to names a message that is not before this one")
        # What is said in a dialogue by a key that is in use leaves everything as it is; that is nearly everything.
        if each.dialogue == LOG_DIALOGUE or each.author.id in standing.retired:
            _enter(standing, index, each)
        dialogue = each.dialogue
        if dialogue not in seqs:
            seqs[dialogue] = _next_seq(rows, tip, dialogue)
        seq = seqs[dialogue]
        entry = seal(each.author, each.payload(index=index, prev=link, seq=seq, time=time))
        link = leaf = leaf_hash(entry)
        seqs[dialogue] = seq + 1
        entries.append((head.log, index, entry, leaf, dialogue, seq, each.kind, each.author.id))
        for digest, salt, data in each.content:
            parts.append((head.log, index, digest, salt, data))
        if asked:
            asked_for.append((index, leaf))
    batch.entries += entries
    batch.parts += parts
    tip.link, tip.standing = link, standing
    tip.seqs.update(seqs)
    return asked_for


def _enter(standing: Standing, index: int, each: Prepared) -> None:
    try:
        standing.enter(index, each.author.id, each.kind, each.facts)
    except LedgerError as error:
        raise LedgerError(
            "refused",
            f"the message cannot be recorded: {error.message}",
            expected=error.expected,
            found=error.found,
        ) from error


def _changes_nothing(request: Request, standing: Standing) -> bool:
    """Whether the request leaves everybody's standing as it is, so that it need not be copied."""
    for each in request.prepared:
        if each.author.id not in standing.names or (
            each.dialogue == LOG_DIALOGUE and each.kind[:4] == "key."
        ):
            return False
    return True


def _next_seq(rows: Rows, tip: Tip, dialogue: str) -> int:
    known = tip.seqs.get(dialogue)
    if known is not None:
        return known
    return rows.last_placed(tip.head.log, dialogue) + 1


def _require_placed(rows: Rows, head: HeadRow) -> None:
    """Refuses to go on where the last whole block has no places: who is registered and what was said would be unknown.

    So it is where a process of an older version, which knows no places, had the log open and went on writing.
    """
    stop = whole_blocks(head.size)
    if stop and not rows.count_placed(head.log, stop - 1, stop):
        raise LedgerError(
            "store",
            "the newest messages do not stand in their places in their dialogues",
            index=stop - 1,
            hint="End every process of an older version that still writes this ledger, and verify it",
        )


def _newest(rows: Rows, head: HeadRow) -> dict[str, int]:
    """The next seqs behind the last whole block: read once, because each look at these entries reads them whole."""
    return {dialogue: seq + 1 for dialogue, seq in rows.newest_seqs(head.log).items()}


def _with_registrations(
    request: Request, standing: Standing, ports: Ports, log: str
) -> Iterator[tuple[Prepared, bool]]:
    """The messages, each author's first one behind its registration; whether the caller asked for it."""
    for each in request.prepared:
        author = each.author
        if each.kind != REGISTER and author.id not in standing.names:
            yield registration(author, ports, log), False
        yield each, True


def registration(author: AgentKey, ports: Ports, log: str) -> Prepared:
    """The message by which an agent makes its key and name known to a log."""
    facts: Mapping[str, str] = {"name": author.name}
    return prepare(Draft(author=author, kind=REGISTER, dialogue=LOG_DIALOGUE, facts=facts), ports, log)


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


def _cover(rows: Rows, tip: Tip, placed: Sequence[EntryValues]) -> None:
    """Grows the tree over the bytes as stored. One wrong leaf under a signature would end the log for ever."""
    start = tip.head.size
    stored = rows.stored(tip.head.log, start, start + len(placed))
    if stored != [values[2] for values in placed]:
        raise LedgerError("failed", "the database did not store what was written; nothing was signed")
    for entry in stored:
        leaf = leaf_hash(entry)
        tip.edge.append(leaf)
        tip.frontier.append(leaf)
