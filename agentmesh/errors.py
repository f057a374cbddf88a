"""The trunk's errors: one root, each with a reason a program can tell apart and a message a person can act on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class AgentMeshError(Exception):
    """Something the trunk refuses or could not do. `reason` is for programs, `hint` says what to do about it."""

    def __init__(self, reason: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One mistake in a mesh file: the key it is at (dotted, empty for the file itself), its line where there is one."""

    reason: str
    key: str
    line: int | None
    text: str


class MeshFileError(AgentMeshError):
    """A mesh file that cannot be used. `mistakes` holds all that were found; `key` and `line` are the first one's."""

    def __init__(self, path: Path, mistakes: tuple[Mistake, ...], *, hint: str | None = None) -> None:
        first = mistakes[0]
        super().__init__(first.reason, _listed(path, mistakes), hint=hint)
        self.path = path
        self.mistakes = mistakes
        self.key = first.key
        self.line = first.line


class ToolboxError(AgentMeshError):
    """A tool server that did not start, or a tool that nobody serves. `server` is its name in the mesh file."""

    def __init__(
        self, reason: str, message: str, *, server: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(reason, message, hint=hint)
        self.server = server


class RunError(AgentMeshError):
    """A dialogue that could not go on."""


_SHOWN = 10
_LONGEST = 400


def _short(text: str) -> str:
    """On one line and of readable length: keys and values in a mesh file may be of any."""
    line = "".join(letter if letter.isprintable() else "?" for letter in text)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"


def _listed(path: Path, mistakes: tuple[Mistake, ...]) -> str:
    lines: list[str] = []
    for mistake in mistakes[:_SHOWN]:
        place = f"{path}:{mistake.line}" if mistake.line else f"{path}"
        told = f"{_short(mistake.key)}: {_short(mistake.text)}" if mistake.key else _short(mistake.text)
        lines.append(f"{place}: {told}")
    if len(mistakes) > _SHOWN:
        lines.append(f"and {len(mistakes) - _SHOWN} more")
    return "\n".join(lines)
