"""Arguments that several verbs share, and how help texts are written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

DESCRIBED: Final = "rich"

LedgerOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--ledger",
        metavar="WHERE",
        help="A ledger file, a mesh file or its folder. Default: the mesh in the current folder.",
    ),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
MeshArgument: TypeAlias = Annotated[
    Path, typer.Argument(metavar="MESH", help="A mesh file, or the folder it is in.")
]


def example(command: str) -> str:
    """The line under a verb's help that shows it at work."""
    return f"Example: {command}"
