"""Arguments that several verbs share, and how help texts are written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

DESCRIBED: Final = "rich"

LedgerOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        metavar="WHERE",
        help="A ledger file, a mesh file or its folder, or a PostgreSQL URL. Default: the mesh in the current folder.",
    ),
]
OriginOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--origin",
        metavar="ORIGIN",
        help="The log's name, where a ledger holds several. Default: the mesh's.",
    ),
]
KeysOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        metavar="DIR",
        help="The folder of keys. Default: beside the ledger file; of a database, the mesh's .agentmesh/keys.",
    ),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
YesOption: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
MeshArgument: TypeAlias = Annotated[
    Path, typer.Argument(metavar="MESH", help="A mesh file, or the folder it is in.")
]


def example(command: str) -> str:
    """The line under a verb's help that shows it at work."""
    return f"Example: {command}"
