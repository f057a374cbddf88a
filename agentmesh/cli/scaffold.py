"""`agentmesh init`: a mesh that runs as it is, to change from there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated, Final

import typer

from agentmesh.errors import AgentMeshError

_MESH: Final = """\
# A front desk: one agent takes the questions and asks two peers over MCP.
# Run it: agentmesh run {where}

[mesh]
name = "{name}"

[dialogue]
pattern = "orchestrator"             # or "chain", "round_robin"
lead = "front"
# The embedded model answers one question at a time; code, not the model, splits the task into its sentences.
plan = "sentences"
# The embedded model knows prompts laid out from one agent's side; larger models do better with "shared", the default.
layout = "agent"
task = "What do my notes say about the garden party? What is 24 * 17.50? How many kilometers are 26.2 miles?"

[dialogue.limits]
turns = 24
seconds = 300

[agents.front]
model = "nano"                       # or the path of any .gguf file with a chat template that knows tools
role = "You pass each question on to the peer who can answer it."
about = "Takes questions and asks its peers."
peers = ["math", "notes"]

[agents.math]
model = "nano"
role = "You calculate, convert units and tell the time."
about = "Calculates, converts units and tells the time."
tools = ["calculator", "units", "clock"]

[agents.notes]
model = "nano"
role = "You search and read the notes."
about = "Searches and reads the notes."
tools = ["notes"]

[servers.calculator]
builtin = "calculator"

[servers.units]
builtin = "units"

[servers.clock]
builtin = "clock"

[servers.notes]
builtin = "notes"
options = {{ folder = "notes" }}

# A server of someone else's: tools = ["files.read_text_file"] gives an agent one of its tools.
# [servers.files]
# command = ["npx", "-y", "@modelcontextprotocol/server-filesystem", "."]
"""
_NOTES: Final = {
    "garden-party.md": "# Garden Party\n\nThe garden party is on 12 June at 15:00. We need 24 chairs at 17.50 each.\n",
    "shopping-list.md": "# Shopping List\n\nBuy lemons, sugar, 3 pounds of strawberries and paper cups.\n",
}
_IGNORED: Final = ".agentmesh/"


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make it in.")] = Path(),
    name: Annotated[
        str | None, typer.Option("--name", help="The mesh's name. Default: the folder's.")
    ] = None,
) -> None:
    """Make a mesh that runs as it is: three agents and some notes."""
    files = _files(folder, _name(folder, name))
    taken = [path for path in files if path.exists()]
    if taken:
        shown = ", ".join(str(path) for path in taken)
        raise AgentMeshError(
            "exists", f"already there: {shown}", hint="nothing was written; name another folder"
        )
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    ignored = _ignore(folder)
    where = shlex.quote(str(folder))
    typer.echo(f"{folder / 'mesh.toml'}: a mesh of three agents, with notes to ask about", err=True)
    if ignored:
        typer.echo(ignored, err=True)
    typer.echo(f"agentmesh run {where}")


def _files(folder: Path, name: str) -> dict[Path, str]:
    notes = {folder / "notes" / file: text for file, text in _NOTES.items()}
    # A comment ends with its line, whatever a folder is called.
    shown = shlex.quote("".join(letter if letter.isprintable() else "?" for letter in str(folder)))
    return {folder / "mesh.toml": _MESH.format(name=name, where=shown)} | notes


def _name(folder: Path, given: str | None) -> str:
    if given is not None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", given):
            hint = "letters, digits, - and _ (at most 64)"
            raise AgentMeshError("usage", f"{given!r} cannot be a mesh's name", hint=hint)
        return given
    return re.sub(r"[^A-Za-z0-9_-]+", "-", folder.absolute().name).strip("-")[:64] or "mesh"


def _ignore(folder: Path) -> str | None:
    """Keep the record and its secret keys out of version control. Returns what a person must still do."""
    path = folder / ".gitignore"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(f"# The record and its secret keys.\n{_IGNORED}\n")
    except FileExistsError:
        if _IGNORED in path.read_text(encoding="utf-8", errors="replace").splitlines():
            return None
        return f"{path} is there already: add the line {_IGNORED} to it, for secret keys are kept there"
    return None
