"""A run: sound entries that follow one another, told in one.

Whoever judges entries sees that they are chained and how they continue their dialogues; then the checks of the whole
log need not look at each of them again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias, cast

from agentmesh_ledger.tree import HASH_SIZE, cover_roots

Outcome: TypeAlias = tuple[object, ...]
_Texts: TypeAlias = tuple[str, ...]
_Hashes: TypeAlias = tuple[bytes, ...]
_Counts: TypeAlias = tuple[int, ...]
# The fields of sound entries, each field of all of them: place, leaf hash, log, prev, author, dialogue, seq, kind, ...
_Columns: TypeAlias = tuple[
    _Counts, _Hashes, _Texts, _Hashes, _Texts, _Texts, _Counts, _Texts, _Counts, tuple[object, ...]
]
_LEAST: Final = 2  # one entry is told as shortly by itself


class Run(NamedTuple):
    """Entries from `first` on, each sound by itself and chained to the one before, none of them the log's own affair.

    `roots` are those of `tree.cover_roots` for `leaves`, the leaf hashes one behind another. `dialogues` has for each
    by its digest the first seq and how many follow without a gap, itself included; `authors` for each how many
    entries are its own, and the index of its last: both in the order in which they come first.
    A plain tuple of plain values: it crosses processes.
    """

    first: int
    size: int
    log: str
    prev: bytes
    leaves: bytes
    roots: list[bytes]
    dialogues: list[tuple[bytes, int, int]]
    authors: list[tuple[str, int, int]]
    withheld: int
    kind: str

    @property
    def stop(self) -> int:
        """The index behind the last one."""
        return self.first + self.size

    @property
    def leaf(self) -> bytes:
        """The leaf hash of the last entry."""
        return self.leaves[-HASH_SIZE:]

    def leaf_hashes(self) -> list[bytes]:
        """The leaf hashes one by one."""
        return [self.leaves[at : at + HASH_SIZE] for at in range(0, len(self.leaves), HASH_SIZE)]


def run_of(outcomes: Sequence[Outcome]) -> Run | None:
    """The run that these entries make, given as the fields of their outlines or as failures; None where they make none."""
    if len(outcomes) < _LEAST:
        return None
    try:
        places, leaves, logs, prevs, authors, dialogues, seqs, kinds, withheld, facts = cast(
            _Columns, tuple(zip(*outcomes, strict=True))
        )
    except ValueError:  # a failure has other fields
        return None
    first, count = places[0], len(outcomes)
    if (
        places != tuple(range(first, first + count))
        or prevs[1:] != leaves[:-1]
        or logs.count(logs[0]) != count
        or facts.count(None) != count
    ):
        return None
    spoken = _spoken(map(thread, dialogues), seqs)
    if spoken is None:
        return None
    counts, lasts = Counter(authors), dict(zip(authors, places, strict=True))
    return Run(
        first=first,
        size=count,
        log=logs[0],
        prev=prevs[0],
        leaves=b"".join(leaves),
        roots=cover_roots(first, leaves),
        dialogues=spoken,
        authors=[(author, counts[author], last) for author, last in lasts.items()],
        withheld=sum(withheld),
        kind=kinds[-1],
    )


def _spoken(threads: Iterable[bytes], seqs: Sequence[int]) -> list[tuple[bytes, int, int]] | None:
    """How each dialogue goes on; None where one of them has a gap or says a seq twice."""
    firsts: dict[bytes, int] = {}
    wanted: dict[bytes, int] = {}
    for digest, seq in zip(threads, seqs, strict=True):
        if wanted.get(digest) != seq:
            if digest in wanted:
                return None
            firsts[digest] = seq
        wanted[digest] = seq + 1
    return [(digest, first, wanted[digest] - first) for digest, first in firsts.items()]


@lru_cache(maxsize=4096)
def thread(dialogue: str) -> bytes:
    """A digest that stands for a dialogue: 33 bytes of memory whatever the length of the id a stranger chose."""
    return hashlib.sha256(dialogue.encode("utf-8")).digest()[:16]
