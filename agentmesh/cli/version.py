"""Which version this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import typer

DISTRIBUTION = "agentmesh-runtime"


def own_version() -> str:
    """The version of the installed distribution, or `0` in a tree that was never installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0"


def show_version(wanted: bool) -> None:
    """Print the version where it was asked for, and stop."""
    if wanted:
        typer.echo(f"{DISTRIBUTION} {own_version()}")
        raise typer.Exit
