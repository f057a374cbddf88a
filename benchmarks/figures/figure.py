"""A measured ratio beside its bound, as every benchmark here prints it."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measured ratio and its bound. `said` is what it was made of; a value of None could not be measured."""

    name: str
    value: float | None
    least: float | None = None
    most: float | None = None
    said: str = ""

    @property
    def kept(self) -> bool:
        """Whether the bound is kept."""
        if self.value is None:
            return False
        return (self.least is None or self.value >= self.least) and (
            self.most is None or self.value <= self.most
        )

    def line(self) -> str:
        """For people."""
        wanted = f"at least {self.least}" if self.least is not None else f"at most {self.most}"
        value = "-" if self.value is None else f"{self.value:.{3 if self.value < 1000 else 7}g}"
        return f"{self.name:24} {value:>7}  {wanted:14} {'ok' if self.kept else 'MISSED':7} {self.said}"


def machine() -> str:
    """What the figures were taken on, in words."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def report(figures: Sequence[Figure], **more: object) -> dict[str, object]:
    """The figures for programs: each by its name, whether its bound is kept and what it was made of; and `more`."""
    return {
        **{each.name: each.value for each in figures},
        "kept": {each.name: each.kept for each in figures},
        "said": {each.name: each.said for each in figures},
        **more,
    }
