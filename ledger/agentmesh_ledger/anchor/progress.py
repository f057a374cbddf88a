"""How far an anchor is, and when the next one is due."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.text import shown

Stage: TypeAlias = Literal["idle", "pending", "waiting", "blocked", "recorded"]
"""`idle`: nothing new to anchor. `pending`: sent, not deep enough yet. `waiting`: the node is down or lags, the fee is above the
cap, or another process pushes; it goes on by itself. `blocked`: only the operator can mend it. `recorded`: deep enough, and in
the ledger."""

_EVERY: Final = re.compile(r"([1-9][0-9]{0,8})(s?)\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where the anchor of the log's first `size` entries stands; `message` says it, safe to print.

    `depth` is 1 for a transaction in the chain's newest block; `entry` is the one in the ledger that records it.
    """

    state: Stage
    message: str
    size: int | None = None
    tx: str | None = None
    block: int | None = None
    depth: int | None = None
    entry: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """When an anchor is due: after so many messages, or so many seconds after the last one. Exactly one is set."""

    messages: int | None = None
    seconds: float | None = None


def parse_every(text: str) -> Every:
    """`100` is messages, `60s` seconds.

    Raises: LedgerError(refused).
    """
    found = _EVERY.match(text)
    if found is None:
        raise LedgerError("refused", f"{shown(text)!r} says not how often: `100` is messages, `60s` seconds")
    number = int(found[1])
    return Every(seconds=float(number)) if found[2] else Every(messages=number)
