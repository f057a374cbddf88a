"""What one side demands of the statements that reach it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from agentmesh.serving.signing.known import KnownKeys
from agentmesh.serving.signing.nonces import NonceStore

MAX_AGE: Final = 120.0
Mode: TypeAlias = Literal["require", "prefer", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """`require`: everything is signed. `prefer`: unsigned is let through, a bad signature never. `off`: nothing is done.

    `audiences` are names that a server answers to beside its key; `max_age` is how many seconds a statement's time may
    be away from ours, before or after; `clock` gives the seconds since 1970, for both sides' statements.
    """

    mode: Mode
    known: KnownKeys
    audiences: frozenset[str] = frozenset()
    max_age: float = MAX_AGE
    nonces: NonceStore = field(default_factory=NonceStore)
    clock: Callable[[], float] = time.time
