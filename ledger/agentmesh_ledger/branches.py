"""Two records of one log held against one another: whether they prove that it was forked.

A record is a checkpoint's note, a transcript, or a proof that is ready. Only what the log's key signed counts, and hashes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from typing import Final

from agentmesh_ledger.checkpoint import Checkpoint, open_checkpoint
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.fork import MAX_FORK, Fork, Forked, fork_between, parse_fork, verify_fork
from agentmesh_ledger.note import MAX_NOTE, VerifierKey, parse_vkey
from agentmesh_ledger.source import is_ledger, opened
from agentmesh_ledger.transcript import TranscriptReader
from agentmesh_ledger.tree import (
    EMPTY_ROOT,
    collect,
    consistency_nodes,
    edge_nodes,
    fold,
    fold_proof,
    leaf_hash,
)

_FORK: Final = b'{"first":'
_TRANSCRIPT: Final = b'{"'
_PEEKED: Final = len(_FORK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """A log that was forked, and the proof of it. `pinned` says whether its key is one that the caller named."""

    forked: Forked
    fork: Fork
    pinned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Branch:
    """A record's checkpoint, signed; `reader` stands behind the header where the record is a transcript."""

    note: str
    checkpoint: Checkpoint
    reader: TranscriptReader | None


def prove_fork(first: str, second: str | None, keys: Sequence[str]) -> Proven:
    """The proof that the records in two files, or the one in a single file, give; `-` is standard input.

    `keys` are the log's vkeys. Without any, those that a proof or a transcript names are taken: then whoever made that
    may have made up the log. Beside a proof that is ready the other record must be one of the log that it is about.
    Raises: LedgerError(fork, log_key, checkpoint, root, index) where they prove nothing, and those of a transcript that is
        damaged; (not_found, unreadable).
    """
    with ExitStack() as stack:
        streams = [stack.enter_context(opened(path)) for path in (first, second) if path is not None]
        for path, stream in zip((first, second), streams, strict=False):
            if is_ledger(stream, str(path)):
                raise LedgerError(
                    "fork",
                    "this is a ledger file",
                    path=path,
                    hint="Export the whole log of it: agentmesh export all",
                )
        pins = tuple(map(parse_vkey, keys))
        ready = next((each for each in streams if _starts(each, _FORK)), None)
        if ready is None:
            fork = _compared(streams, pins)
            return Proven(forked=verify_fork(fork, pins), fork=fork, pinned=bool(keys))
        fork = parse_fork(ready.read(MAX_FORK + 1))
        forked = verify_fork(fork, pins)
        for each in streams:
            if each is not ready:
                # The proof needs no other record; but whoever names his own asks whether it is that log which was forked.
                open_checkpoint(_named_note(each), forked.keys)
        return Proven(forked=forked, fork=fork, pinned=bool(keys))


def _compared(streams: Sequence[BufferedReader], pins: tuple[VerifierKey, ...]) -> Fork:
    """What two records say of the log, not yet verified."""
    if len(streams) < 2:
        raise LedgerError(
            "fork", "one record alone contradicts nothing", hint="Name another one, or the proof of a fork"
        )
    readers = [TranscriptReader(each) if _starts(each, _TRANSCRIPT) else None for each in streams]
    notes = [
        reader.header.checkpoint if reader is not None else _note(stream)
        for reader, stream in zip(readers, streams, strict=True)
    ]
    if not pins:
        named = [vkey for reader in readers if reader is not None for vkey in reader.header.vkeys]
        pins = tuple(dict.fromkeys(map(parse_vkey, named)))
    branches = [
        _Branch(note=note, checkpoint=open_checkpoint(note, pins).checkpoint, reader=reader)
        for note, reader in zip(notes, readers, strict=True)
    ]
    old, new = sorted(branches, key=lambda branch: branch.checkpoint.size)
    return _fork(old, new, pins)


def _fork(old: _Branch, new: _Branch, keys: Sequence[VerifierKey]) -> Fork:
    size = old.checkpoint.size
    between = partial(fork_between, old.note, new.note, keys=keys)
    if size == new.checkpoint.size:
        return between(root=new.checkpoint.root, proof=())
    if new.reader is not None:
        shown_from = new.reader.header.consistency
        if shown_from is not None and shown_from.size == size:
            return between(root=shown_from.root, proof=shown_from.proof)
        if new.reader.header.dialogue is None:
            root, proof = _recomputed(new.reader, size, new.checkpoint)
            return between(root=root, proof=proof)
    raise LedgerError(
        "fork",
        f"checkpoints of {size} and of {new.checkpoint.size} entries do not contradict one another by themselves",
        hint="Bring the transcript of the whole log of the larger one, which shows what it begins with",
    )


def _recomputed(reader: TranscriptReader, size: int, head: Checkpoint) -> tuple[bytes, tuple[bytes, ...]]:
    """The root of a transcript's log at a size, and the proof from there, from all entries in it."""
    pieces = consistency_nodes(size, head.size)
    wanted = {node for piece in (edge_nodes(size), edge_nodes(head.size), *pieces) for node in piece}
    found = collect(wanted, _leaves(reader, head.size))
    if fold([found[node] for node in edge_nodes(head.size)]) != head.root:
        raise LedgerError("root", "the entries are not those that the checkpoint was signed for")
    root = fold([found[node] for node in edge_nodes(size)]) if size else EMPTY_ROOT
    return root, tuple(fold_proof(pieces, found))


def _leaves(reader: TranscriptReader, size: int) -> Iterator[bytes]:
    """The leaf hashes of all entries of a log, none missing."""
    for _ in reader.anchors():
        pass  # they stand before the entries, and prove nothing of these
    count = 0
    for line in reader:
        if line.index != count:
            raise LedgerError("index", "an entry is missing, repeated or out of order", index=line.index)
        yield leaf_hash(line.entry)
        count += 1
    if count != size:
        raise LedgerError("count", "entries are missing at the end", expected=str(size), found=str(count))


def _starts(stream: BufferedReader, start: bytes) -> bool:
    return stream.peek(_PEEKED)[: len(start)] == start


def _named_note(stream: BufferedReader) -> str:
    """The note in a record of any kind; of a proof the first."""
    if _starts(stream, _FORK):
        return parse_fork(stream.read(MAX_FORK + 1)).first
    return TranscriptReader(stream).header.checkpoint if _starts(stream, _TRANSCRIPT) else _note(stream)


def _note(stream: BufferedReader) -> str:
    data = stream.read(4 * MAX_NOTE + 1)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LedgerError("checkpoint", "the checkpoint is not UTF-8") from error
