"""Which tokens go into the next step: everybody who decodes, and a fair share of every prompt still to be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

N_BATCH: Final = 256
"""The most tokens of one step."""
MIXED: Final = 96
"""The most prompt tokens of a step in which somebody decodes: what a prompt adds to the time of others' next token."""


def shares(pending: Sequence[int], *, batch: int = N_BATCH, mixed: int = MIXED) -> list[int]:
    """How many of each request's pending tokens the next step evaluates, in the order given.

    Whoever has one pending token (it decodes, or its prompt's last) is always served. The others divide what is
    left evenly, each getting at least one, the first in the list what does not divide; so nobody waits at all
    as long as there are no more requests than `batch`, and no step has more than `batch` tokens. Where somebody
    decodes, the others have at most `mixed` tokens together, or one each.
    """
    out = [0] * len(pending)
    room = batch
    for at, count in enumerate(pending):
        if count == 1 and room:
            out[at], room = 1, room - 1
    readers = [at for at, count in enumerate(pending) if count > 1]
    if room < batch:  # somebody decodes
        room = min(room, max(mixed, len(readers)))
    while readers and room:
        each = max(1, room // len(readers))
        for at in list(readers):
            given = min(each, pending[at] - out[at], room)
            out[at] += given
            room -= given
            if out[at] == pending[at]:
                readers.remove(at)
            if not room:
                return out
        # The rest of an uneven division goes to the first.
    return out
