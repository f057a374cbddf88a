"""What is wrong with a configuration that is not ours: told with its place, and never repaired by guessing."""

from __future__ import annotations

from agentmesh.errors import AgentMeshError

LEFT_ALONE = "the file was left as it is; mend it, or let --print show the entry and add it by hand"


class ConfigFault(AgentMeshError):
    """A host's configuration that cannot be read, or not be changed without touching what is not ours.

    `line` counts from 1 and is None where no line is to blame. The text layer knows no path: `at` adds it.
    """

    def __init__(self, message: str, *, line: int | None = None, hint: str = LEFT_ALONE) -> None:
        super().__init__("unreadable", message, hint=hint)
        self.line = line
        self.path: str | None = None

    def at(self, path: str) -> ConfigFault:
        """The same fault with the file it is in; one that is known to be in a file stays there."""
        if self.path is not None:
            return self
        place = path if self.line is None else f"{path}:{self.line}"
        told = ConfigFault(f"{place}: {self.message}", line=self.line, hint=self.hint or LEFT_ALONE)
        told.path = path
        return told


def fault_at(text: str, at: int, message: str) -> ConfigFault:
    """A fault at the character `at` of `text`, told with line and column."""
    line = text.count("\n", 0, at) + 1
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    return ConfigFault(f"{message} (column {column})", line=line)
