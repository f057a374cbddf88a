"""The ledger: appends that are durable and signed for when they return, and everything read back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO, Self

from agentmesh_ledger.affairs import ERASE, LOG_DIALOGUE, REGISTER, REVOKE, ROTATE, rotation_statement
from agentmesh_ledger.checkpoint import Checkpoint, open_checkpoint
from agentmesh_ledger.dialogue import DialogueSummary, require_in_dialogue, summaries
from agentmesh_ledger.draft import Draft, Ports, Prepared, Receipt, prepare
from agentmesh_ledger.encoding import encode64
from agentmesh_ledger.erasure import erasable
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.export import ExportSummary, export_transcript, last_selected
from agentmesh_ledger.fork import fork_between, verify_fork
from agentmesh_ledger.gather import Gathered
from agentmesh_ledger.group import MAX_MESSAGES
from agentmesh_ledger.identity import AgentId
from agentmesh_ledger.jcs import JsonValue
from agentmesh_ledger.keys import AgentKey, KeyStore
from agentmesh_ledger.policy import Policy
from agentmesh_ledger.proof import make_proof
from agentmesh_ledger.publish import PublishSummary, publish_tiles
from agentmesh_ledger.record import Record, open_entry
from agentmesh_ledger.source import is_database
from agentmesh_ledger.store.audit import LedgerAudit, choose_head, open_head
from agentmesh_ledger.store.checkpoints import StoredCheckpoints, gather_and_keep
from agentmesh_ledger.store.columns import HeadRow
from agentmesh_ledger.store.contract import Store
from agentmesh_ledger.store.nodes import StoredTiles, tree_of
from agentmesh_ledger.store.opening import open_store, sqlite_path
from agentmesh_ledger.store.rows import CHUNK
from agentmesh_ledger.text import is_origin, shown
from agentmesh_ledger.tree import EMPTY_ROOT, leaf_hash
from agentmesh_ledger.verify import Verified
from agentmesh_ledger.writer import Writer


class Ledger:
    """A signed, chained log in a database.

    Safe to share between threads; several processes may have the same database open, and their appends get one
    dense order. What `append` has returned survives a crash and is under a signed checkpoint.
    """

    def __init__(
        self, store: Store, head: HeadRow, writer: Writer | None, ports: Ports, keys: KeyStore | None
    ) -> None:
        self._store = store
        self._head = head
        self._writer = writer
        self._ports = ports
        self._keys = keys
        self._seen: dict[str, int] = {}  # of this log by each witness, as far as is known
        self._closed = False
        self._process = os.getpid()

    @classmethod
    def open(
        cls,
        path_or_url: str | os.PathLike[str],
        *,
        origin: str | None = None,
        keys: KeyStore | None = None,
        create: bool = False,
        read_only: bool = False,
        accept_rollback: bool = False,
        ports: Ports | None = None,
    ) -> Ledger:
        """The ledger at this path, `sqlite:///PATH`, `:memory:` or `postgresql+psycopg://USER@HOST/DATABASE`.

        With `keys` it can be appended to; without, only read. `create` makes a missing one, and a log of this
        origin in a database that has other logs; it needs `origin` and `keys`. Without `create` an `origin` that is
        not there is refused. A database that is older than the last checkpoint its key signed is refused, unless
        `accept_rollback` says that the entries after it are lost for good; that holds from the first append on.
        Raises: LedgerError(not_found, origin, key, permissions, refused, rollback, unreadable, corrupt, failed).
        """
        place = os.fspath(path_or_url)
        if read_only and create:
            raise LedgerError("refused", "a ledger cannot be made read-only", path=shown(place))
        if create and (keys is None or origin is None) and _is_missing(place):
            raise LedgerError("refused", "a new ledger needs an origin and a key store", path=shown(place))
        if create and origin is not None and not is_origin(origin):
            raise LedgerError("refused", f"{shown(origin)!r} cannot be an origin", path=shown(place))
        used = ports or Ports()
        store = open_store(path_or_url, create=create, read_only=read_only or keys is None)
        try:
            head = _open_head(store, origin, keys if create else None)
            writer = None
            if keys is not None and not read_only:
                writer = Writer.open(store, head, keys, used, accept_rollback=accept_rollback)
        except BaseException:  # also a cancellation: nobody else could close it
            store.close()
            raise
        return cls(store, head, writer, used, keys)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the database back, once what was appended or submitted is written. Closing twice is no error.

        Raises: LedgerError(failed) where the last checkpoint cannot be made durable beside the key;
        LedgerError(refused) from a callback of a future.
        """
        if self._process != os.getpid():
            return  # a fork's copy: what it would close is its parent's
        if self._writer is not None:
            self._writer.require_outside()
        self._closed = True
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            self._store.close()

    @property
    def place(self) -> str:
        """Where the ledger is: a path, or a URL without its password."""
        return self._store.place

    @property
    def path(self) -> Path:
        """The ledger's file, where it is one."""
        return Path(self._store.place)

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

    def root(self, size: int) -> bytes:
        """The root that the tree had at this size, from the stored tiles; the word of the database alone.

        Raises: LedgerError(not_found) beyond the log's size; LedgerError(index, store, tile).
        """
        self._require_open()
        with self._store.reading() as rows:
            head = choose_head(rows.heads(), self._head.origin, self.place)
            if not 0 <= size <= head.size:
                raise LedgerError("not_found", f"the log has {head.size} entries, not {size}")
            return tree_of(rows, head).root(size)

    def vkey(self) -> str:
        """The log's public key, for `--key`."""
        return self._head.vkey

    def append(self, drafts: Sequence[Draft]) -> tuple[Receipt, ...]:
        """Signs, chains and stores the drafts in one transaction under one new checkpoint, or none of them.

        An author the log has not seen is registered first, in the same transaction, under its own name.
        Returns when all of it is durable; what other threads append meanwhile shares the transaction. Blocks for
        the disk, and for other processes up to 30 seconds.
        Raises: LedgerError. `unknown` alone leaves open whether the messages were stored.
        """
        writer = self._require_writer()
        return writer.append(self._prepared(drafts)) if drafts else ()

    async def append_async(self, drafts: Sequence[Draft]) -> tuple[Receipt, ...]:
        """As `append`, for a task of an asyncio event loop: what other tasks append meanwhile shares the commit.

        A task that is cancelled while it waits leaves open whether its messages were written.
        Raises: LedgerError.
        """
        writer = self._require_writer()
        return await writer.wait(self._prepared(drafts)) if drafts else ()

    def submit(self, drafts: Sequence[Draft], *, within: float = 0.0) -> Future[tuple[Receipt, ...]]:
        """As `append`, without waiting; the future may be waited for in any thread.

        The future cannot be cancelled: what was submitted is written. It is written within so many seconds, at the
        latest with the next append: many small drafts then share a commit, and whatever is appended later stands after
        them. A crash before that loses them.
        Raises: LedgerError(refused, too_large, key, closed) at once; the rest through the future.
        """
        writer = self._require_writer()
        if not drafts:
            done: Future[tuple[Receipt, ...]] = Future()
            done.set_result(())
            return done
        return writer.submit(self._prepared(drafts), within)

    def rotate(self, old: AgentKey, new: AgentKey) -> Receipt:
        """Puts a new key in the place of an agent's old one, signed by both; the old one may write no more.

        Raises: LedgerError as `append`.
        """
        statement = rotation_statement(self.origin, old.id, new.id)
        facts = {"new": new.id, "consent": encode64(new.sign(statement))}
        return self.append([Draft(author=old, kind=ROTATE, dialogue=LOG_DIALOGUE, facts=facts)])[0]

    def revoke(self, agent: AgentId, *, after: int, by: AgentKey, reason: str | None = None) -> Receipt:
        """Ends what an agent's key may do; what it wrote after entry `after` is disowned.

        `by` is the key itself or that of the author of the log's first entry, as it is by now. Raises: LedgerError as `append`.
        """
        facts: dict[str, JsonValue] = {"agent": agent, "after": after}
        if reason is not None:
            facts["reason"] = reason
        return self.append([Draft(author=by, kind=REVOKE, dialogue=LOG_DIALOGUE, facts=facts)])[0]

    def erase(
        self, index: int, *, by: AgentKey, parts: Sequence[str] | None = None, reason: str | None = None
    ) -> Receipt:
        """Deletes content of an entry (all parts, or those named) for ever, and records that in the log.

        The entry itself and every proof stay as they are. When this returns the bytes are gone from the database's
        files; copies that were exported are not. Raises: LedgerError as `append`; not_found for an entry or part
        that is not there; `failed` also where another process keeps the bytes in the log file for a while.
        """
        writer = self._require_writer()
        with self._store.reading() as rows:
            head = choose_head(rows.heads(), self.origin, self.place)
            hashes = erasable(rows, head, index, parts)
        facts: dict[str, JsonValue] = {"entry": index, "hashes": [each.hex() for each in hashes]}
        if reason is not None:
            facts["reason"] = reason
        draft = Draft(author=by, kind=ERASE, dialogue=LOG_DIALOGUE, facts=facts)
        prepared = prepare(draft, self._ports, self.origin)
        (receipt,) = writer.append((prepared,), erase=(index, hashes))
        try:
            self._store.scrub()
        except LedgerError as error:
            raise LedgerError(
                "failed",
                f"the content is deleted, but its bytes may still stand in the database's files: {error.message}",
                path=self.place,
                hint="Erase again when what is in the way is gone; erasing twice is no error",
            ) from error
        return receipt

    def _prepared(self, drafts: Sequence[Draft]) -> tuple[Prepared, ...]:
        if len(drafts) > MAX_MESSAGES:
            raise LedgerError("too_large", f"at most {MAX_MESSAGES} messages can be appended at once")
        if any(draft.kind == ERASE for draft in drafts):
            raise LedgerError("refused", "a message `erase` is written by `Ledger.erase`, which also deletes")
        return tuple(prepare(draft, self._ports, self.origin) for draft in drafts)

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
            with self._store.reading() as rows:
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
            with self._store.reading() as rows:
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
        with self._store.reading() as rows:
            return summaries(rows, choose_head(rows.heads(), self._head.origin, self.place))

    def names(self) -> Mapping[AgentId, str]:
        """The name under which each agent registered itself, or took a rotated key's place; a claim, not unique."""
        head = self._now()
        found = [record.message for record in self._read_dialogue(head, LOG_DIALOGUE, 0, head.size)]
        if head.size and not found:
            raise LedgerError("author", "the registrations of the authors are missing", path=self.place)
        names: dict[AgentId, str] = {}
        for each in found:
            if each.kind == REGISTER:
                names[each.author] = str(each.facts["name"])
            elif each.kind == ROTATE:
                names[AgentId(str(each.facts["new"]))] = names.get(each.author, "")
        return names

    def export(
        self,
        out: BinaryIO,
        *,
        dialogue: str | None = None,
        since: str | None = None,
        under: str | None = None,
    ) -> ExportSummary:
        """Writes a transcript of the whole log, or of one dialogue with proofs, and with the anchors recorded of it.

        `since` is the text of a checkpoint that the receiver holds: a dialogue's transcript then also proves
        that the log continues it. `under` is a note that the log signed once, perhaps with the cosignatures of
        witnesses: the transcript is then that of the log as it stood at that time. What is written has passed the checks
        of its verifier: of an altered ledger there is no transcript. Raises: LedgerError; (consistency) where the log does
        not continue `under`.
        """
        head = self._now()
        if dialogue is not None:
            self._require_dialogue(head, dialogue)
            self.dialogues()  # raises where messages were taken out of this dialogue into another
        old = None if since is None else open_checkpoint(since, open_head(head).keys).checkpoint
        return export_transcript(self._store, head, out, dialogue=dialogue, since=old, under=under)

    def covers(self, note: str, *, dialogue: str | None = None) -> bool:
        """Whether a transcript under this note of the log would show all that one of today shows.

        Raises: LedgerError(checkpoint, log_key) where it is no checkpoint of this log.
        """
        head = self._now()
        size = open_checkpoint(note, open_head(head).keys).checkpoint.size
        return size > last_selected(self._store, head, dialogue)

    def gather(self, policy: Policy, *, within: float = 5.0) -> Gathered:
        """Has the newest checkpoint cosigned by the witnesses of the policy, within so many seconds, and keeps the note.

        The ledger must have been opened with its keys, for reading too; no secret is used. A witness that hangs holds
        nobody up once the others meet the policy. That it is not met is told, not raised.
        Raises: LedgerError(rollback) where a witness holds more of this log than there is, (forked) where it holds another
        branch, of which the proof then stands beside the log's key; (key, failed, store).
        """
        return self._gathered(policy, within, patient=False)

    def require_continued(self, policy: Policy, *, within: float = 5.0) -> Gathered:
        """As `gather`, before anything new is signed: every witness is waited for, as each may have seen more of the log.

        A folder that was put back from an older copy together with its keys is sound in itself; only others can tell.
        Raises: LedgerError as `gather`. Witnesses that cannot be reached are told in `failures`.
        """
        return self._gathered(policy, within, patient=True)

    def cosigned(self, *, strict: bool = False) -> str | None:
        """The newest checkpoint that was cosigned, as a note; None where there is none, or it is not one of this log.

        The ledger must have been opened with its keys, for reading too. Which witnesses signed it is for a policy to say.
        Raises: LedgerError(key, unreadable, store); where `strict`, (rollback, consistency) for one that this log does not
            continue, though its key has signed it.
        """
        keys = self._require_keys()
        source = StoredCheckpoints(self._store, self.origin, self.vkey(), keys)
        return source.own(keys.cosigned(self.origin), strict=strict)

    def contradict(self, note: str) -> Path:
        """Writes the proof that this log is another branch than that of a checkpoint its key signed; the file's place.

        The ledger must have been opened with its keys, beside whose log key the proof is put.
        Raises: LedgerError(fork) where the log continues it; (checkpoint, log_key, not_found, key, failed, store).
        """
        source = StoredCheckpoints(self._store, self.origin, self.vkey(), self._require_keys())
        now = source.checkpoint()
        old, new = (open_checkpoint(each, source.keys).checkpoint for each in (note, now))
        if old.size > new.size:
            raise LedgerError("not_found", f"the log has {new.size} entries, not {old.size}")
        proof = tuple(source.consistency(old.size, new.size)) if old.size < new.size else ()
        fork = fork_between(note, now, root=source.root(old.size), proof=proof, keys=source.keys)
        verify_fork(fork, source.keys)
        return Path(source.keep(fork, old.size))

    def _gathered(self, policy: Policy, within: float, *, patient: bool) -> Gathered:
        keys = self._require_keys()
        source = StoredCheckpoints(self._store, self.origin, self.vkey(), keys)
        kept = keys.cosigned(self.origin)
        return gather_and_keep(source, kept, policy, within=within, seen=self._seen, patient=patient)

    def _require_keys(self) -> KeyStore:
        self._require_open()
        if self._keys is None:
            raise LedgerError(
                "key",
                "this ledger was opened without its keys, beside which cosignatures stand",
                path=self.place,
            )
        return self._keys

    def verify(
        self,
        *,
        keys: Sequence[str] = (),
        expect: str | None = None,
        policy: Policy | None = None,
        blocks: Sequence[str] = (),
        limit: int = 20,
        jobs: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Verified:
        """The evidence that this log gives, as `verify_ledger`; the one way to verify a ledger in memory.

        Raises: LedgerError, the first failure, with the `others`.
        """
        self._require_open()
        kept = None if self._keys is None or policy is None else self._keys.cosigned(self.origin).text()
        audit = LedgerAudit(
            self.place,
            origin=self.origin,
            keys=keys,
            expect=expect,
            policy=policy,
            cosigned=None if kept is None else {self.origin: kept},
            blocks=blocks,
            store=self._store,
        )
        return audit.examined(limit=limit, jobs=jobs, progress=progress)

    def prove(self, index: int, *, with_entry: bool = True, under: str | None = None) -> str:
        """The text of a `.tlog-proof` file: that the entry stands in the log, for whoever has the log's key.

        With the entry itself in it, unless that is left out. `under` is a note that the log signed once, perhaps with
        cosignatures; otherwise it is under the newest checkpoint.
        Raises: LedgerError(not_found, inclusion, store, checkpoint).
        """
        self._require_open()
        with self._store.reading() as rows:
            head = choose_head(rows.heads(), self._head.origin, self.place)
            size = head.size
            if under is not None:
                size = min(size, open_checkpoint(under, open_head(head).keys).checkpoint.size)
            if not 0 <= index < size:
                raise LedgerError("not_found", f"the log has no entry {index}", hint=f"It has {size} entries")
            (entry,) = rows.stored(head.log, index, index + 1) or (b"",)
            hashes = tree_of(rows, head).inclusion(index, size)
        open_entry(index, entry, {})
        return make_proof(
            index,
            leaf_hash(entry),
            hashes,
            note=head.checkpoint if under is None else under,
            keys=[head.vkey],
            extra=entry if with_entry else None,
        )

    def publish(
        self, directory: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
    ) -> PublishSummary:
        """Brings a directory of static files up to the log, as tlog-tiles has it; content stays home.

        Any web server can serve it. Only what is missing is written, the checkpoint last.
        Raises: LedgerError(origin, consistency, root, tile, failed).
        """
        self._require_open()
        with self._store.reading() as rows:  # one snapshot: writers go on meanwhile
            head = choose_head(rows.heads(), self._head.origin, self.place)
            return publish_tiles(
                directory,
                head.checkpoint,
                [head.vkey],
                StoredTiles(rows, head),
                lambda start, stop: rows.stored(head.log, start, stop),
                progress=progress,
            )

    def _require_dialogue(self, head: HeadRow, dialogue: str) -> None:
        with self._store.reading() as rows:
            if rows.last_seq(head.log, dialogue) >= 0:
                return
            known = [row.dialogue for row in rows.dialogues(head.log) if row.dialogue != LOG_DIALOGUE]
        raise LedgerError(
            "not_found",
            f"there is no dialogue {shown(dialogue)}",
            path=self.place,
            hint=f"The last ones are: {', '.join(known[-5:])}" if known else "The log has no dialogue yet",
        )

    def _now(self) -> HeadRow:
        self._require_open()
        with self._store.reading() as rows:
            return choose_head(rows.heads(), self._head.origin, self.place)

    def _require_writer(self) -> Writer:
        self._require_open()
        if self._writer is None:
            raise LedgerError("key", "this ledger was opened for reading", path=self.place)
        return self._writer

    def _require_open(self) -> None:
        if self._closed:
            raise LedgerError("closed", "the ledger has been closed", path=self.place)
        if self._process != os.getpid():
            # A fork shares the parent's connections and has none of its threads.
            raise LedgerError(
                "closed",
                "the ledger was opened by another process: open it anew in this one",
                path=self.place,
            )


def _open_head(store: Store, origin: str | None, keys: KeyStore | None) -> HeadRow:
    """The head of the log meant, its checkpoint held against it; made first where `keys` are given and it is missing."""
    with store.reading() as rows:
        heads = rows.heads()
    if keys is not None and origin is not None and origin not in {head.origin for head in heads}:
        key = keys.log(origin)
        note = Checkpoint(origin=origin, size=0, root=EMPTY_ROOT).sign(key)
        with store.writing() as rows:
            rows.lock_heads()
            if origin not in {head.origin for head in rows.heads()}:  # another process may have been first
                rows.add_head(origin, key.vkey, note)
            heads = rows.heads()
    head = choose_head(heads, origin, store.place)
    open_head(head)
    return head


def _is_missing(place: str) -> bool:
    """Whether a new ledger would be made there; a server is asked later."""
    if is_database(place):
        return False
    path = sqlite_path(place)
    try:
        return path is None or path.stat().st_size == 0
    except FileNotFoundError:
        return True
    except OSError:
        return False  # opening it will say why
