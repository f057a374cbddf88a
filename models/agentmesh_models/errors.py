"""The one error of this package, with reasons a program can tell apart."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

ModelErrorReason = Literal[
    "not_found",
    "unreadable",
    "not_gguf",
    "truncated",
    "malformed",
    "unsupported",
    "no_template",
    "template",
    "no_backend",
    "load_failed",
    "context_full",
    "cancelled",
    "closed",
    "bad_request",
    "decode_failed",
    "script",
    "script_file",
    "queue_full",
    "deadline",
    "no_memory",
    "catalogue",
    "offline",
    "download",
    "mismatch",
    "no_space",
    "endpoint",
    "not_checkable",
]


class ModelError(Exception):
    """A model could not be opened or could not answer; `reason` says which of the known ways it was.

    `path` is the file at fault where there is one, `expected` and `found` what was compared. For
    `context_full` they are numbers of tokens: `found` the tokens needed, `expected` the context there is.
    """

    def __init__(
        self,
        reason: ModelErrorReason,
        message: str,
        *,
        path: Path | None = None,
        expected: str | int | None = None,
        found: str | int | None = None,
    ) -> None:
        super().__init__(f"{path}: {message}" if path is not None else message)
        self.reason: ModelErrorReason = reason
        self.path = path
        self.expected = expected
        self.found = found
