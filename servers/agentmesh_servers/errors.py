"""The one error of this package."""

from __future__ import annotations

from typing import Literal, TypeAlias

Reason: TypeAlias = Literal[
    "unknown_server",
    "bad_option",
    "missing_extra",
    "bad_input",
    "too_large",
    "undefined",
    "not_found",
    "unreadable",
    "refused",
    "exists",
    "failed",
    "timed_out",
    "unavailable",
]


class ServersError(Exception):
    """A server could not be built, or a tool could not do what it was asked.

    The message is one line that says what was wrong and what to do; a tool hands it to the model as it is.
    """

    def __init__(self, reason: Reason, message: str, *, extra: str | None = None) -> None:
        """`extra` is the one that is not installed, with the reason `missing_extra`."""
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message
        self.extra = extra
