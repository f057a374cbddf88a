"""The ledger: appends that are durable and signed for when they return, and everything read back."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, Self

from agentmesh_ledger.append import append_all, last_link
from agentmesh_ledger.checkpoint import Checkpoint, open_checkpoint
from agentmesh_ledger.dialogue import DialogueSummary, require_in_dialogue, summaries
from agentmesh_ledger.draft import Draft, Ports, Receipt, prepare
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.export import ExportSummary, export_transcript
from agentmesh_ledger.identity import AgentId
from agentmesh_ledger.keys import KeyStore, LogKey
from agentmesh_ledger.message import LOG_DIALOGUE, REGISTER
from agentmesh_ledger.record import Record, open_entry
from agentmesh_ledger.store.audit import choose_head, open_head
from agentmesh_ledger.store.database import Database
from agentmesh_ledger.store.rows import CHUNK, HeadRow, Rows
from agentmesh_ledger.text import is_origin, shown
from agentmesh_ledger.tree import EMPTY_ROOT

_MAX_BATCH: Final = 4096


class Ledger:
    """A signed, chained log in a SQLite file.

    Safe to share between threads; several processes may have the same file open, and their appends get one
    dense order. What `append` has returned survives a crash and is under a signed checkpoint.
    """

    def __init__(
        self, database: Database, head: HeadRow, link: bytes, key: LogKey | None, ports: Ports
    ) -> None:
        self._database = database
        self._head = head
        self._link = link
        self._key = key
        self._ports = ports
        self._lock = threading.Lock()
        self._registered: set[str] = set()
        self._registered_size = 0
        self._closed = False

    @classmethod
    def open(
        cls,
        path_or_url: str | os.PathLike[str],
        *,
        origin: str | None = None,
        keys: KeyStore | None = None,
        create: bool = False,
        read_only: bool = False,
        ports: Ports | None = None,
    ) -> Ledger:
        """The ledger at this path (or `sqlite:///path`).

        With `keys` it can be appended to; without, only read. `create` makes a missing one, which needs `origin`
        and `keys`. An `origin` that is not the ledger's is refused.
        Raises: LedgerError(not_found, origin, key, permissions, refused, unreadable, corrupt, failed).
        """
        path = _path(path_or_url)
        if read_only and create:
            raise LedgerError("refused", "a ledger cannot be made read-only", path=str(path))
        writable = not read_only and keys is not None
        if create and _is_missing(path):
            if keys is None or origin is None:
                raise LedgerError("refused", "a new ledger needs an origin and a key store", path=str(path))
            if not is_origin(origin):
                raise LedgerError("refused", f"{shown(origin)!r} cannot be an origin", path=str(path))
        database = Database.open(path, create=create, read_only=not writable)
        try:
            head = cls._open_head(database, origin, keys if create else None, path)
            key = None if keys is None or read_only else _log_key(keys, head)
            link = b""  # a reader goes on even where the last entry is damaged
            if key is not None:
                with database.reading() as rows:
                    link = last_link(rows, head)
        except BaseException:  # also a cancellation: nobody else could close it
            database.close()
            raise
        return cls(database, head, link, key, ports or Ports())

    @staticmethod
    def _open_head(database: Database, origin: str | None, keys: KeyStore | None, path: Path) -> HeadRow:
        with database.reading() as rows:
            heads = rows.heads()
        if not heads and keys is not None and origin is not None:
            key = keys.log(origin)
            note = Checkpoint(origin=origin, size=0, root=EMPTY_ROOT).sign(key)
            with database.writing() as rows:
                if not rows.heads():  # another process may have been first
                    rows.add_head(origin, key.vkey, note)
                heads = rows.heads()
        head = choose_head(heads, origin, path)
        open_head(head)
        return head

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the file back. Closing twice is no error."""
        with self._lock:
            self._closed = True
            self._database.close()

    @property
    def path(self) -> Path:
        """Where the ledger is."""
        return self._database.path

    @property
    def origin(self) -> str:
        """The log's name."""
        return self._head.origin

    @property
    def size(self) -> int:
        """How many entries the log has, as last committed by anyone."""
        return self._now().size

    def checkpoint(self) -> str:
        """The last signed checkpoint, as a note. Kept by someone else, it shows later that nothing was cut."""
        return self._now().checkpoint

    def vkey(self) -> str:
        """The log's public key, for `--key`."""
        return self._head.vkey

    def append(self, drafts: Sequence[Draft]) -> tuple[Receipt, ...]:
        """Signs, chains and stores the drafts in one transaction under one new checkpoint, or none of them.

        An author the log has not seen is registered first, in the same transaction, under its own name.
        Returns when all of it is durable. Blocks for the disk, and for other writers up to 30 seconds.
        Raises: LedgerError. `unknown` alone leaves open whether the messages were stored.
        """
        if self._key is None:
            raise LedgerError("key", "this ledger was opened for reading", path=str(self.path))
        if len(drafts) > _MAX_BATCH:
            raise LedgerError("too_large", f"at most {_MAX_BATCH} messages can be appended at once")
        prepared = [prepare(draft, self._ports) for draft in drafts]
        with self._lock:
            self._require_open()
            if not prepared:
                return ()
            try:
                with self._database.writing() as rows:
                    head = self._continued(rows)
                    commit = append_all(
                        rows, head, self._key, prepared, frozenset(self._registered), self._ports.now()
                    )
            except (
                BaseException
            ):  # also a cancellation: nothing of a commit that may not have happened is remembered
                self._registered.clear()
                self._registered_size = 0
                raise
            self._head, self._link = commit.head, commit.link
            self._registered |= commit.registered
            self._registered_size = commit.head.size
            return commit.receipts

    def read(
        self, start: int = 0, stop: int | None = None, *, dialogue: str | None = None
    ) -> Iterator[Record]:
        """The records in order, of the log or of one dialogue; signatures and content are checked, the tree not.

        Reads in steps, so a writer is never held up; ends at the size the log had when reading began.
        Raises: LedgerError at the first entry that is not as signed, or where the dialogue is not there.
        """
        head = self._now()
        stop = head.size if stop is None else min(stop, head.size)
        if dialogue is not None:
            self._require_dialogue(head, dialogue)
            yield from self._read_dialogue(head, dialogue, start, stop)
            return
        place = max(start, 0)
        while place < stop:
            with self._database.reading() as rows:
                found = rows.entries(head.log, place, min(place + CHUNK, stop))
                pieces = rows.with_content(head.log, found)
            for row, openings in pieces:
                if row.index != place:
                    break
                yield open_entry(row.index, row.entry, openings)
                place += 1
            if not pieces or pieces[-1][0].index != place - 1:
                raise LedgerError("index", "the entry is missing", index=place)

    def _read_dialogue(self, head: HeadRow, dialogue: str, start: int, stop: int) -> Iterator[Record]:
        seq = 0
        while True:
            with self._database.reading() as rows:
                found = rows.dialogue_entries(head.log, dialogue, seq, CHUNK)
                pieces = rows.with_content(head.log, found)
            for row, openings in pieces:
                if row.seq != seq:
                    raise LedgerError(
                        "sequence",
                        f"a message of the dialogue {shown(dialogue)} is missing",
                        index=row.index,
                        expected=f"seq {seq}",
                        found=f"seq {row.seq}",
                    )
                seq += 1
                if row.index < start:
                    continue
                record = open_entry(row.index, row.entry, openings)
                require_in_dialogue(record, dialogue, row.seq)
                if row.index >= stop:
                    return
                yield record
            if not pieces:
                return

    def dialogues(self) -> tuple[DialogueSummary, ...]:
        """Every dialogue of the log but its own affairs, by first message.

        Raises: LedgerError where entries are missing, or the ends of a dialogue are not what was signed.
        """
        self._require_open()
        with self._database.reading() as rows:
            return summaries(rows, choose_head(rows.heads(), self._head.origin, self.path))

    def names(self) -> Mapping[AgentId, str]:
        """The name under which each agent registered itself; a claim, and not unique."""
        head = self._now()
        found = [record.message for record in self._read_dialogue(head, LOG_DIALOGUE, 0, head.size)]
        if head.size and not found:
            raise LedgerError("author", "the registrations of the authors are missing", path=str(self.path))
        return {each.author: str(each.facts["name"]) for each in found if each.kind == REGISTER}

    def export(
        self, out: BinaryIO, *, dialogue: str | None = None, since: str | None = None
    ) -> ExportSummary:
        """Writes a transcript of the whole log, or of one dialogue with proofs.

        `since` is the text of a checkpoint that the receiver holds: a dialogue's transcript then also proves
        that the log continues it. What is written has passed the checks of its verifier: of an altered ledger
        there is no transcript. Raises: LedgerError.
        """
        head = self._now()
        if dialogue is not None:
            self._require_dialogue(head, dialogue)
            self.dialogues()  # raises where messages were taken out of this dialogue into another
        old = None if since is None else open_checkpoint(since, open_head(head).keys).checkpoint
        return export_transcript(self._database, head, out, dialogue=dialogue, since=old)

    def _require_dialogue(self, head: HeadRow, dialogue: str) -> None:
        with self._database.reading() as rows:
            if rows.last_seq(head.log, dialogue) >= 0:
                return
            known = [row.dialogue for row in rows.dialogues(head.log) if row.dialogue != LOG_DIALOGUE]
        raise LedgerError(
            "not_found",
            f"there is no dialogue {shown(dialogue)}",
            path=str(self.path),
            hint=f"The last ones are: {', '.join(known[-5:])}" if known else "The log has no dialogue yet",
        )

    def _now(self) -> HeadRow:
        self._require_open()
        with self._database.reading() as rows:
            return choose_head(rows.heads(), self._head.origin, self.path)

    def _continued(self, rows: Rows) -> HeadRow:
        """The head to append to; where another process moved it, checked anew and its authors learnt."""
        head = choose_head(rows.heads(), self._head.origin, self.path)
        if head != self._head:
            open_head(head)
            if head.size < self._head.size:
                raise LedgerError(
                    "consistency",
                    "the ledger is shorter than it was: it was replaced by an older copy",
                    path=str(self.path),
                    expected=f"at least {self._head.size} entries",
                    found=str(head.size),
                )
            # One link speaks for all before it: each entry signs the hash of its predecessor.
            if last_link(rows, self._head) != self._link:
                raise LedgerError(
                    "consistency",
                    "the ledger does not continue what was last signed here: it was replaced by a fork",
                    path=str(self.path),
                    index=self._head.size - 1,
                )
        if head.size > self._registered_size:
            self._registered |= _authors(rows, head, self._registered_size)
            self._registered_size = head.size
        return head

    def _require_open(self) -> None:
        if self._closed:
            raise LedgerError("closed", "the ledger has been closed", path=str(self.path))


def _path(path_or_url: str | os.PathLike[str]) -> Path:
    text = os.fspath(path_or_url)
    if text.startswith("sqlite:///"):
        return Path(text.removeprefix("sqlite:///"))
    if "://" in text:
        scheme = text.partition("://")[0]
        raise LedgerError(
            "refused", f"there is no store for {shown(scheme)} URLs", hint="Give a path or sqlite:///path"
        )
    return Path(text)


def _is_missing(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True
    except OSError:
        return False  # opening it will say why


def _log_key(keys: KeyStore, head: HeadRow) -> LogKey:
    try:
        key = keys.log(head.origin, create=False)
    except LedgerError as error:
        if error.reason != "not_found":
            raise
        raise LedgerError(
            "key",
            f"the key of the log {shown(head.origin)} is not in the key store, so nothing can be appended",
            path=str(keys.directory),
            hint="Bring the folder of keys that stood beside the ledger, or open it for reading",
        ) from error
    if key.vkey != head.vkey:
        raise LedgerError(
            "key",
            "the key store holds another key for this log",
            path=str(keys.directory),
            expected=head.vkey,
            found=key.vkey,
        )
    return key


def _authors(rows: Rows, head: HeadRow, start: int) -> set[str]:
    found: set[str] = set()
    seq = 0
    while chunk := rows.dialogue_entries(head.log, LOG_DIALOGUE, seq, CHUNK):
        found |= {row.author for row in chunk if row.kind == REGISTER and row.index >= start}
        seq = chunk[-1].seq + 1
    return found
