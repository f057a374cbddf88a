"""How often, and how long apart, a lost or absent server is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """`tries` in all, with waits in seconds between them that double from `first` up to `most`.

    Each wait is shortened at random by up to half, so that many who lost one server do not come back in step.
    """

    tries: int = 1
    first: float = 0.25
    most: float = 4.0
    draw: Callable[[], float] = random.random

    def waits(self) -> Iterator[float]:
        """The waits between the tries: one fewer than there are tries."""
        for number in range(self.tries - 1):
            yield min(self.most, self.first * 2**number) * (1 - self.draw() / 2)
