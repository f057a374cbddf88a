"""What an attack on a transcript is: a name, the bytes it leaves, and what the auditor holds against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias

from tampering.sample import Case

Make: TypeAlias = Callable[[Case, Random], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One row of the matrix.

    `expect` says which checkpoint the auditor brings: none (only the log's key), one of an earlier time, or the
    last. `weight` is how often it is drawn; `case` names the one transcript it makes sense for, None both that have no anchors.
    """

    name: str
    make: Make
    expect: Literal["none", "older", "latest"] = "none"
    weight: int = 1
    case: Literal["log", "dialogue", "anchored"] | None = None
