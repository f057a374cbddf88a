"""What cannot be undone is done only where a person agrees."""

from __future__ import annotations

from agentmesh.cli.passphrase import is_terminal
from agentmesh.errors import AgentMeshError


def require_agreement(question: str, *, yes: bool) -> None:
    """Asks on a terminal, unless `--yes` has agreed beforehand; without a terminal nothing else will do.

    Raises: AgentMeshError.
    """
    import typer

    if yes:
        return
    if not is_terminal():
        raise AgentMeshError(
            "usage",
            "this cannot be undone, and there is no terminal to ask on",
            hint="--yes agrees beforehand",
        )
    if not typer.confirm(question, err=True):
        raise AgentMeshError("declined", "nothing was changed")
