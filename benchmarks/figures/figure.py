"""A measured ratio beside its bound, as every benchmark here prints it."""

from __future__ import annotations

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
