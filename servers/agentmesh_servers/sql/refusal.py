"""How the process that holds the database says that something cannot be done."""

from __future__ import annotations

from agentmesh_servers.errors import Reason


class Refusal(Exception):
    """Carries the reason and the line that the tool hands to the model."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message


def too_slow(seconds: float) -> Refusal:
    """That a statement ran into its time limit."""
    return Refusal(
        "timed_out",
        f"the statement took longer than {seconds:g} seconds and was ended: ask for less, or use an index",
    )


def one_line(text: str) -> str:
    """A database's message in one line without control characters, at most 300 letters."""
    plain = "".join(each if each.isprintable() else " " for each in text[:2_000])
    return " ".join(plain.split())[:300]
